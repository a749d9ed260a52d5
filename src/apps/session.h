// Session: a loaded model ready to generate: weights, tokenizer, chat format, generation defaults, kernels and engine.
// What chat and generate share.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/threads.h"
#include "engine/engine.h"
#include "engine/model_text.h"
#include "engine/stop_scanner.h"
#include "kernels/registry.h"
#include "model/model.h"
#include "text/chat_template.h"
#include "text/tokenizer.h"

namespace fathom::apps {

/// Tokens of context without --context, if the model has as many.
inline constexpr int64_t kDefaultContext = 32768;

/// Of --log-level: neither progress nor notes on standard error.
inline bool is_quiet(std::string_view log_level) { return log_level == "error"; }

/// How to compute: the flags that every verb with a model has.
struct ComputeOptions {
  int64_t threads = 0;           // 0: all usable CPUs
  std::string precision{};       // f32, bf16, fp8; empty: f32 for F32 checkpoints, else bf16
  std::string mla = "absorbed";  // form of generated tokens: absorbed or naive
  std::string quant{};           // model/quant_policy.h; empty: as stored
  std::string kernels{};         // empty: the best of this machine
  bool in_place = false;         // weights stay where the checkpoint has them, in rows
  std::string max_memory{};      // base/machine.h parse_memory; empty: everything in memory
  std::string expert_dir{};      // of prepared experts; empty: the user's cache directory
  bool keep_prepared = false;    // map weights that were prepared at an earlier start, or keep them for the next
  std::string prepared_dir{};    // of those; empty: the user's cache directory
  int64_t context = 0;           // tokens of context at most; 0: what the model was made for, 32768 at most
  int64_t prompt_chunk = 512;
  std::string speculate = "none";       // none, mtp or lookup
  int64_t draft_tokens = 0;             // guessed per step at most; 0: the default of the kind
  bool always_draft = false;            // also where it does not pay
  std::string kv_cache_dtype = "auto";  // auto, bf16, fp8
  // The cache over all sequences: this many tokens, or (0) enough for num_sequences contexts, but no more of the
  // available memory than its share. At least one context in any case.
  int64_t cache_tokens = 0;
  int64_t num_sequences = 1;
  double cache_memory_share = 1;
  std::string log_level = "info";  // of standard error: error, info (progress and notes), debug (what was chosen too)

  bool is_quiet() const { return apps::is_quiet(log_level); }
};

/// Sampling flags; unset ones come from generation_config.json, then from fathom's defaults.
struct SamplingFlags {
  std::optional<double> temperature, top_p, min_p, repetition_penalty;
  std::optional<int64_t> top_k;
  std::optional<uint64_t> seed;
};

/// Parses "f32", "bf16", "fp8".
Result<Precision> parse_precision(std::string_view name);

/// Parses "auto" (none: as the precision has it), "bf16", "fp8" and the other servers' "bfloat16", "fp8_e4m3".
Result<std::optional<DType>> parse_kv_cache_dtype(std::string_view name);
/// "FP32", "BF16", "FP8".
std::string_view kv_cache_name(DType dtype);

/// The kernels of the options, else the best; with a pool of `threads` (0: all).
struct Compute {
  std::unique_ptr<ThreadPool> pool;
  std::unique_ptr<Kernels> kernels;
};
Result<Compute> make_compute(const ComputeOptions& options);

/// f32 for a checkpoint whose matrices are F32, else bf16.
Precision default_precision(const Model& model);

/// A line on what reading experts cost, and the same as JSON.
std::string expert_report(const ExpertStore& experts);
Json json_of(const ExpertStore& experts);

class Session {
 public:
  static Result<std::unique_ptr<Session>> load(std::string_view model, const ComputeOptions& options);

  const Path& model_dir() const { return model_dir_; }
  const Model& model() const { return *model_; }
  std::string_view kernels_name() const { return compute_.kernels->name(); }
  const Tokenizer& tokenizer() const { return *tokenizer_; }
  /// Empty when the model has no chat template.
  const std::optional<ChatFormat>& chat_format() const { return chat_format_; }
  Engine& engine() { return *engine_; }
  /// Tokens of one sequence at most: --context, or what the model was made for, and never more than the cache holds.
  int64_t context_length() const { return context_length_; }

  SamplingParams sampling(const SamplingFlags& flags) const;
  const SpeculationParams& speculation() const { return speculation_; }
  /// Ids of `text`, with BOS in front unless the text begins with it already.
  Result<std::vector<int32_t>> encode_prompt(std::string_view text) const;

  struct Answer {
    std::string text;
    std::vector<int32_t> tokens;
    FinishReason finish = FinishReason::kNone;
    bool stopped_by_string = false;
    bool interrupted = false;
    double first_token_seconds = 0;
    double seconds = 0;
  };
  /// Runs a submitted sequence to its end; `show` gets the text as it comes.
  Result<Answer> run(int64_t sequence_id, const std::vector<std::string>& stops,
                     const std::function<void(std::string_view)>& show);

 private:
  Session() = default;
  Status read_generation_config();
  Status read_speculation(const ComputeOptions& options);
  Status prepare(const ComputeOptions& options, Precision precision);
  void make_engine(const ComputeOptions& options, Precision precision);
  int64_t context_of(const ComputeOptions& options) const;
  int64_t cache_tokens(const ComputeOptions& options, std::optional<int64_t> memory) const;

  Path model_dir_;
  Compute compute_;
  std::unique_ptr<Model> model_;
  std::optional<Tokenizer> tokenizer_;
  std::optional<ChatFormat> chat_format_;
  SamplingParams defaults_;
  SpeculationParams speculation_;
  std::vector<int32_t> stop_tokens_;
  std::unique_ptr<Engine> engine_;
  int64_t context_length_ = 0;
  DType cache_dtype_ = DType::kF32;
  int64_t cache_tokens_ = 0;
};

/// "stop", "length" or "context", as APIs say it.
std::string_view finish_name(const Session::Answer& answer);

}  // namespace fathom::apps
