// The verbs of the fathom command: the options of each, and the function that does it. Flags are defined in cli.cc, one
// file per verb holds the work. A verb returns success or the one line that the user reads.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "apps/session.h"
#include "base/result.h"
#include "serve/server.h"

namespace fathom::apps {

struct ChatOptions {
  std::string model;
  std::string system;
  int64_t max_tokens = 0;  // of an answer; 0: to the end of the context
  ComputeOptions compute;
  SamplingFlags sampling;
};
Status chat(const ChatOptions& options);

struct GenerateOptions {
  std::string model;
  std::string prompt;
  std::string prompt_file;
  int64_t max_tokens = 256;
  std::vector<std::string> stop;
  bool json = false;
  ComputeOptions compute;
  SamplingFlags sampling;
};
Status generate(const GenerateOptions& options);

struct ServeOptions {
  std::string model;
  std::vector<std::string> names;  // that clients use; empty: the model's own
  std::string reasoning_parser = "auto";
  std::string tool_call_parser = "auto";
  bool always_on = false;                   // flags of other servers for what this one always does
  std::vector<std::string> metrics_compat;  // vllm, sglang
  std::string verify = "0%";                // share of the requests that is computed again
  std::string rate_limit = "0";
  std::string prefix_cache_dir;             // where pages of the prefix cache are kept too; empty: nowhere
  std::string prefix_cache_size = "10GB";   // of that directory at most
  std::optional<int64_t> weight_check_s;    // between two checks of all weights; 0: none; else 600, in place none
  int64_t least_client_priority = 0;        // that requests may ask for
  std::vector<std::string> without_effect;  // flags of other servers
  int64_t drain_timeout_s = 60;
  ComputeOptions compute{.num_sequences = 256, .cache_memory_share = 0.5};
  serve::ServerOptions server;
};
Status serve(const ServeOptions& options);

struct InspectOptions {
  std::string model;
  std::string quant;  // model/quant_policy.h: also what memory would hold
  bool json = false;
};
Status inspect(const InspectOptions& options);

struct PlanOptions {
  std::string model;                   // directory, ORG/NAME or a config.json
  std::string hardware;                // a preset, or "this" machine
  std::string config;                  // TOML
  std::string search;                  // training or serving: ranked layouts too
  std::string gpus;                    // of the search: "2048" or "1024,2048"
  std::string max_kw, max_kgco2;       // its bounds; empty: none
  std::string what_if;                 // instead: what a named change moves
  std::string emit;                    // and the best layout as TOML in this file
  std::vector<std::string> overrides;  // of its settings
  bool paper = false;                  // instead: published figures beside ours
  bool keys = false;                   // instead: what can be set, here or for the published figures
  bool timeline = false;               // instead: the pipeline as text
  std::string svg;                     // and, or instead, as a picture in this file
  std::string trace;                   // likewise as Chrome trace events
  std::string report;                  // and a page with the answers and drawings of them
  bool json = false;
};
Status plan(const PlanOptions& options);

struct SimulateOptions {
  std::string scenario;                // TOML
  std::vector<std::string> overrides;  // of its settings
  std::vector<std::string> sweep;      // "job.bytes=1e6,1e9": at each of these values
  std::string engine = "auto";
  bool check = false;  // a second engine must agree
  std::string report;  // and a page with drawings in this file
  bool json = false;
  bool csv = false;           // of a sweep
  bool print_config = false;  // instead
};
Status simulate(const SimulateOptions& options);

struct QuantizeVerbOptions {
  std::string model;
  std::string output;        // directory
  std::string quant;         // or the formats are chosen:
  std::string target_bytes;  // "4.5GB"
  std::optional<double> max_kl;
  std::string calibration;  // text
  std::string max_shard_bytes = "5GB";
  bool json = false;
  ComputeOptions compute;
};
Status quantize(const QuantizeVerbOptions& options);

struct EvalOptions {
  std::string model;
  std::string text;
  int64_t sums = 0;       // held-out sums to ask; 0: none
  uint64_t seed = 0;      // of the sums
  std::string task;       // engine/eval_task.h
  std::string task_file;  // its records; "-": standard input
  std::string output;     // answers, a JSON object a line; empty: nowhere
  int64_t limit = 0;      // questions at most; 0: all
  int64_t shots = 0;
  int64_t max_tokens = 512;  // of a generated answer
  int64_t window = 0;        // tokens of context; 0: the model's, 2048 at most; 512 for chunks
  int64_t chunks = 0;        // llama-perplexity's measure of so many chunks; -1: of all; 0: whole documents
  std::string kl_against;    // a model to compare with
  std::string kl_quant;      // its --quant
  bool json = false;
  ComputeOptions compute;
};
Status eval(const EvalOptions& options);

struct TokenizerTrainOptions {
  std::vector<std::string> inputs;
  std::string output;  // directory
  int64_t vocab_size = 4096;
  bool split_digits = true;
  bool json = false;
  std::string log_level = "info";
};
Status tokenizer_train(const TokenizerTrainOptions& options);

struct TokenizerCodeOptions {
  std::string model;  // directory with tokenizer.json
  std::string text;   // encode: text; decode: ids. Empty: standard input
  bool json = false;
};
Status tokenizer_encode(const TokenizerCodeOptions& options);
Status tokenizer_decode(const TokenizerCodeOptions& options);

struct DataSynthOptions {
  std::string output;
  int64_t documents = 0;
  int64_t bytes = 0;
  uint64_t seed = 0;
  std::vector<double> mixture;  // story, arithmetic, recall, chat
  bool json = false;
  std::string log_level = "info";
};
Status data_synth(const DataSynthOptions& options);

struct DataPackOptions {
  std::vector<std::string> inputs;
  std::string tokenizer;  // directory
  std::string output;     // training shard
  std::string validation;
  double validation_fraction = 0.05;
  bool assistant_loss_only = false;
  bool json = false;
  std::string log_level = "info";
};
Status data_pack(const DataPackOptions& options);

struct BenchOptions {
  std::string model;         // a directory, or
  std::string train_preset;  // a preset to train on random tokens
  std::vector<int64_t> prompt_tokens = {512};
  int64_t decode_tokens = 64;
  std::vector<int64_t> batches = {1, 4, 16};
  std::vector<int64_t> depths = {0};
  std::vector<int64_t> threads = {0};  // instead of compute.threads; 0: all CPUs
  std::string only;                    // "prefill" or "decode"; empty: both
  int64_t repeat = 5;
  int64_t read_mib = 0;              // block whose reading is timed; 0: default_read_bytes
  std::string compare;               // an earlier report
  std::optional<double> fail_below;  // of new / old
  bool json = false;
  std::vector<std::string> also_quant;  // the same lines again with these weights
  ComputeOptions compute;
};
/// The exit code: 1 when a line is slower than --fail-below allows.
Result<int> bench(const BenchOptions& options);

struct DoctorOptions {
  bool no_measure = false;
  bool json = false;
  ComputeOptions compute;
};
Status doctor(const DoctorOptions& options);

struct BenchServeOptions {
  std::string model;     // served by this process, or
  std::string url;       // a server on this machine
  bool offline = false;  // the model's engine itself, without a server
  std::string trace;     // a file of requests, instead of the next four
  int64_t num_prompts = 100;
  int64_t input_len = 128;
  int64_t output_len = 64;
  int64_t shared_prefix_len = 0;
  double speed_up = 1, length_scale = 1;  // of the trace
  int64_t limit = 0;                      // requests of the trace; 0: all
  std::optional<double> rate;             // requests per second of Poisson arrivals
  std::optional<int64_t> concurrency;     // requests at the same time; none: 16, or with a rate or trace any number
  uint64_t seed = 0;
  std::string goodput;  // serve/load_report.h parse_goals; empty: none
  int64_t timeout_s = 600;
  int64_t num_warmups = 1;
  int64_t vocab_size = 0;  // 0: what the server says
  bool words = false;      // prompts are text
  std::string extra_body;  // a JSON object: fields of every request
  std::string api_key;
  std::string model_name;  // of requests; empty: the server's first
  std::string endpoint = "/v1/completions";
  std::string compare;
  std::optional<double> fail_below;  // of new / old output tokens per second
  bool json = false;
  ComputeOptions compute{.num_sequences = 256, .cache_memory_share = 0.5};
};
/// The exit code: 1 when a request failed or --fail-below does not allow the speed.
Result<int> bench_serve(const BenchServeOptions& options);

struct TrainOptions {
  std::string config;
  std::vector<std::string> overrides;
  bool print_config = false;
  bool json = false;
  ComputeOptions compute;
};
Status train(const TrainOptions& options);

}  // namespace fathom::apps
