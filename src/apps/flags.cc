#include "apps/flags.h"

#include <CLI/CLI.hpp>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <cstdlib>

#include "apps/verbs.h"
#include "plan/what_if.h"
#include "serve/load_plan.h"

namespace fathom::apps {

template <class T>
T integer_of(const std::string& flag, const std::string& text, T least, T most) {
  T value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size() || value < least || value > most) {
    throw CLI::ValidationError(flag, "\"" + text.substr(0, 100) + "\" is not an integer from " + std::to_string(least) +
                                         " to " + std::to_string(most));
  }
  return value;
}

namespace {

/// "32k" is 32,000 and "32K" 32,768, as vLLM has it; digits stay as they are, and so does what is not understood.
std::string tokens_of(const std::string& text) {
  if (text.empty()) return text;
  constexpr std::string_view kUnits = "kKmMgG";
  constexpr double kFactors[] = {1e3, 1024, 1e6, 1048576, 1e9, 1073741824};
  const size_t unit = kUnits.find(text.back());
  double number = 0;
  const char* const end = text.data() + text.size() - 1;
  const auto [stop, failed] = std::from_chars(text.data(), end, number);
  if (unit == kUnits.npos || failed != std::errc() || stop != end) return text;
  const double tokens = number * kFactors[unit];
  if (!(tokens >= 1 && tokens < 1e15)) return text;
  return std::to_string(static_cast<int64_t>(std::llround(tokens)));
}

/// `in_digits` may write the text anew before it is judged.
template <class T, class InDigits>
CLI::Option* add_number(CLI::App& app, const std::string& name, T& value, T least, T most, const std::string& help,
                        InDigits in_digits) {
  const std::string flag = name.substr(name.find("--"), name.find(',', name.find("--")) - name.find("--"));
  return app
      .add_option_function<std::string>(
          name,
          [&value, flag, least, most, in_digits](const std::string& text) {
            value = integer_of<T>(flag, in_digits(text), least, most);
          },
          help)
      ->type_name("INT")
      ->default_str(std::to_string(value));
}

}  // namespace

template <class T>
CLI::Option* add_integer(CLI::App& app, const std::string& name, T& value, T least, std::type_identity_t<T> most,
                         const std::string& help) {
  return add_number<T>(app, name, value, least, most, help, [](const std::string& text) { return text; });
}

CLI::Option* add_tokens(CLI::App& app, const std::string& name, int64_t& value, int64_t least, int64_t most,
                        const std::string& help) {
  return add_number<int64_t>(app, name, value, least, most, help, tokens_of);
}

template int64_t integer_of(const std::string&, const std::string&, int64_t, int64_t);
template uint64_t integer_of(const std::string&, const std::string&, uint64_t, uint64_t);
template CLI::Option* add_integer(CLI::App&, const std::string&, int64_t&, int64_t, int64_t, const std::string&);
template CLI::Option* add_integer(CLI::App&, const std::string&, uint64_t&, uint64_t, uint64_t, const std::string&);

CLI::Option* add_integers(CLI::App& app, const std::string& name, std::vector<int64_t>& values, int64_t least,
                          int64_t most, const std::string& help) {
  constexpr size_t kMostValues = 64;
  const std::string flag = name.substr(name.find("--"));
  std::string defaults;
  for (int64_t value : values) defaults += (defaults.empty() ? "" : ",") + std::to_string(value);
  return app
      .add_option_function<std::string>(
          name,
          [&values, flag, least, most](const std::string& text) {
            values.clear();
            for (size_t begin = 0; begin <= text.size();) {
              const size_t end = std::min(text.find(',', begin), text.size());
              values.push_back(integer_of(flag, text.substr(begin, end - begin), least, most));
              if (values.size() > kMostValues) {
                throw CLI::ValidationError(flag, "has more than " + std::to_string(kMostValues) + " numbers");
              }
              begin = end + 1;
            }
          },
          help)
      ->type_name("INT,...")
      ->default_str(defaults);
}

CLI::Validator within(double least, double most) {
  const auto text_of = [](double number) {
    char text[32];
    std::snprintf(text, sizeof text, "%.10g", number);
    return std::string(text);
  };
  const std::string range = text_of(least) + " to " + text_of(most);
  return {[least, most, range](const std::string& text) {
            double number = 0;
            const bool good = CLI::detail::lexical_cast(text, number) && number >= least && number <= most;
            return good ? std::string() : "\"" + text.substr(0, 100) + "\" is not a number from " + range;
          },
          range};
}

CLI::Option* add_optional(CLI::App& app, const std::string& name, std::optional<double>& value,
                          const std::string& help) {
  return app
      .add_option_function<double>(
          name, [&value](double given) { value = given; }, help)
      ->type_name("FLOAT");
}

// Each verb has the flags that act on it: one that would be ignored is refused as unknown.
void add_kernels_flag(CLI::App& app, ComputeOptions& options) {
  app.add_option(
         "--kernels", options.kernels,
         "force a back end: cpu (the best level, the default), ref, generic, neon, avx2, avx512, avx512bf16, amx")
      ->envname("FATHOM_KERNELS")
      ->group("Computing");
}

void add_machine_flags(CLI::App& app, ComputeOptions& options) {
  add_integer<int64_t>(app, "-t,--threads", options.threads, 0, 1024, "threads; 0: all CPUs")->group("Computing");
  add_kernels_flag(app, options);
}

void add_precision_flag(CLI::App& app, ComputeOptions& options) {
  app.add_option("--precision", options.precision, "f32, bf16 or fp8 (E4M3 activations where weights are FP8)")
      ->group("Computing");
}

/// What form the weights have and where they are.
void add_weight_flags(CLI::App& app, ComputeOptions& options) {
  app.add_option("--quant", options.quant,
                 "keep weights as bf16, fp8, int8, int4, iq4_nl or mxfp4, none: as stored; classes may differ: "
                 "int8,experts=int4")
      ->group("Computing");
  CLI::Option* most =
      app.add_option("--max-memory", options.max_memory,
                     "memory to use at most, as 8GB or 50%: experts that do not fit (of safetensors) are read from a "
                     "file as they are needed");
  most->group("Computing");
  app.add_option("--expert-dir", options.expert_dir,
                 "where prepared experts are kept for --max-memory; default: fathom/ in the user's cache directory")
      ->needs(most)
      ->group("Computing");
  CLI::Option* keep = app.add_flag("--keep-prepared", options.keep_prepared,
                                   "keep the weights as products read them in a file, once, and map it at later "
                                   "starts: the first token comes sooner");
  keep->group("Computing");
  app.add_option("--prepared-dir", options.prepared_dir,
                 "where --keep-prepared keeps them; default: fathom/ in the user's cache directory")
      ->needs(keep)
      ->group("Computing");
  app.add_flag("--in-place", options.in_place,
               "use weights where the checkpoint has them, mapped, with slower products; INT8 and 4-bit groups are "
               "packed all the same")
      ->excludes(most)
      ->excludes(keep)
      ->excludes("--quant")
      ->group("Computing");
}

void add_generation_flags(CLI::App& app, ComputeOptions& options, const std::string& chunk_names) {
  app.add_option("--mla", options.mla, "attention of generated tokens: absorbed (fast) or naive")
      ->capture_default_str()
      ->group("Computing");
  add_tokens(app, chunk_names, options.prompt_chunk, 1, kMost, "prompt tokens computed at a time")->group("Computing");
}

void add_cache_flag(CLI::App& app, ComputeOptions& options) {
  app.add_option("--kv-cache-dtype", options.kv_cache_dtype,
                 "KV cache in auto (the precision's own), bf16 or fp8 (a little more than half of the memory, rounded)")
      ->capture_default_str()
      ->group("Computing");
}

void add_log_flag(CLI::App& app, std::string& log_level) {
  app.add_option("--log-level", log_level,
                 "what standard error gets: error, info (progress and notes too), debug (what was chosen too)")
      ->check(CLI::IsMember({"error", "info", "debug"}))
      ->envname("FATHOM_LOG_LEVEL")
      ->capture_default_str();
  app.add_flag_callback(
      "-q,--quiet", [&log_level] { log_level = "error"; }, "no progress, no notes: --log-level error");
}

void add_sampling_flags(CLI::App& app, SamplingFlags& flags) {
  add_optional(app, "--temperature,--temp", flags.temperature, "0: always the most probable token")
      ->check(within(0, 100))
      ->group("Sampling");
  add_optional(app, "--top-p", flags.top_p, "keep the smallest set of this probability")
      ->check(within(0, 1))
      ->group("Sampling");
  app.add_option_function<std::string>(
         "--top-k", [&flags](const std::string& text) { flags.top_k = integer_of<int64_t>("--top-k", text, 0, kMost); },
         "keep the K most probable; 0: all")
      ->type_name("INT")
      ->group("Sampling");
  add_optional(app, "--min-p", flags.min_p, "drop what is below this share of the best")
      ->check(within(0, 1))
      ->group("Sampling");
  add_optional(app, "--repetition-penalty,--repeat-penalty", flags.repetition_penalty, "above 1: less repetition")
      ->check(within(0.01, 100))
      ->group("Sampling");
  app.add_option_function<std::string>(
         "-s,--seed",
         [&flags](const std::string& text) { flags.seed = integer_of<uint64_t>("--seed", text, 0, UINT64_MAX); },
         "the same seed gives the same answer; 0 unless given")
      ->type_name("INT")
      ->group("Sampling");
}

void add_speculation_flags(CLI::App& app, ComputeOptions& options) {
  app.add_option("--speculate", options.speculate,
                 "guess tokens ahead, verify them together: none, mtp (the model's own module), lookup (what followed "
                 "the same words before); the answer is the same")
      ->capture_default_str()
      ->group("Speculation");
  add_integer<int64_t>(app, "--draft-tokens", options.draft_tokens, 0, kMaxDraft,
                       "tokens guessed per step at most; 0: 1 for mtp, 4 for lookup")
      ->group("Speculation");
  app.add_flag("--always-draft", options.always_draft, "also where it makes generation slower")->group("Speculation");
}

void add_all_compute_flags(CLI::App& app, ComputeOptions& options) {
  add_machine_flags(app, options);
  add_precision_flag(app, options);
  add_weight_flags(app, options);
  add_generation_flags(app, options);
  add_cache_flag(app, options);
  add_speculation_flags(app, options);
  add_log_flag(app, options.log_level);
  add_tokens(app, "-c,--context,--max-model-len,--context-length,--ctx-size", options.context, 0, kMost,
             "tokens of context; 0: the model's, 32768 at most")
      ->group("Computing");
}

namespace {

/// A factor above 0.
CLI::Option* add_factor(CLI::App& app, const std::string& name, double& value, const std::string& help) {
  return app.add_option(name, value, help)->check(within(1e-6, 1e6))->capture_default_str();
}

}  // namespace

// Names in second place are those of vLLM's `bench serve`.
void add_bench_serve_flags(CLI::App& app, BenchServeOptions& options) {
  BenchServeOptions* o = &options;
  CLI::Option* model = app.add_option("MODEL", o->model, "the model to serve in this process");
  CLI::Option* url = app.add_option("--url,--base-url", o->url,
                                    "or a server on this machine, as http://127.0.0.1:8000: any with OpenAI's API");
  url->excludes(model);
  CLI::Option* offline =
      app.add_flag("--offline", o->offline, "the same requests to MODEL's engine itself, without a server")
          ->excludes(url);
  CLI::Option* rate = add_optional(app, "--rate,--request-rate", o->rate,
                                   "Poisson arrivals, requests per second; else --concurrency decides");
  rate->check(within(1e-6, 1e6))->group("Load");
  app.add_option_function<std::string>(
         "--concurrency,--max-concurrency",
         [o](const std::string& text) { o->concurrency = integer_of<int64_t>("--concurrency", text, 1, 1 << 20); },
         "requests at the same time; default 16, with --rate or --trace as many as are due")
      ->type_name("INT")
      ->group("Load");
  CLI::Option* trace =
      app.add_option("--trace", o->trace, "requests of a recorded trace: Mooncake's JSON lines or Azure's CSV");
  trace->excludes(rate)->group("Load");
  offline->excludes(rate)->excludes(trace);
  add_factor(app, "--speed-up", o->speed_up, "divide the trace's times by this")->needs(trace)->group("Load");
  add_factor(app, "--length-scale", o->length_scale, "multiply the trace's lengths by this")
      ->needs(trace)
      ->group("Load");
  add_integer<int64_t>(app, "--limit", o->limit, 0, serve::LoadPlan::kMostRequests,
                       "first requests of the trace; 0: all")
      ->needs(trace)
      ->group("Load");
  const auto shape = [&](const char* name, int64_t& value, int64_t least, int64_t most, const char* help) {
    add_integer<int64_t>(app, name, value, least, most, help)->excludes(trace)->group("Load");
  };
  constexpr int64_t kMostTokens = serve::LoadPlan::kMostTokens;
  shape("--num-prompts", o->num_prompts, 1, serve::LoadPlan::kMostRequests, "requests");
  shape("--input-len,--random-input-len", o->input_len, 1, kMostTokens, "random tokens of a prompt");
  shape("--output-len,--random-output-len", o->output_len, 1, kMostTokens, "tokens of an answer");
  shape("--shared-prefix-len,--random-prefix-len", o->shared_prefix_len, 0, kMostTokens,
        "tokens in front of every prompt, the same in all; the first request goes alone and is shown apart");
  add_integer<uint64_t>(app, "-s,--seed", o->seed, 0, UINT64_MAX, "of prompts and arrivals")->group("Load");
  add_integer<int64_t>(app, "--num-warmups", o->num_warmups, 0, 1000, "requests before, which do not count")
      ->group("Load");
  app.add_option("--goodput", o->goodput,
                 "count requests that keep these, in ms: ttft, tpot, itl (longest gap), e2e, as ttft:200,itl:50")
      ->group("Load");
  add_integer<int64_t>(app, "--timeout-s", o->timeout_s, 1, 86400, "seconds that a request may take")->group("Load");
  const auto request = [&](CLI::Option* option) { option->excludes(offline)->group("Requests"); };
  request(add_integer<int64_t>(app, "--vocab-size", o->vocab_size, 0, INT32_MAX,
                               "prompts are ids below this; 0: what the server says"));
  request(app.add_flag("--words", o->words, "prompts are words instead of ids"));
  request(app.add_option("--extra-body", o->extra_body, "JSON object: fields that every request gets"));
  app.add_option("--api-key", o->api_key, "key of the server at --url (or FATHOM_API_KEY)")
      ->envname("FATHOM_API_KEY")
      ->group("Requests");
  request(app.add_option("--model-name,--served-model-name", o->model_name,
                         "model to ask for; else the first of /v1/models"));
  request(app.add_option("--endpoint", o->endpoint, "path of the completions")->capture_default_str());
  CLI::Option* compare = app.add_option("--compare", o->compare, "an earlier --json report to stand beside");
  add_optional(app, "--fail-below", o->fail_below, "exit with 1 if new/old output tokens per second is less")
      ->check(within(0, 1000))
      ->needs(compare);
  app.add_flag("--json", o->json, "the result as JSON");
  add_integer<int64_t>(app, "--max-num-seqs", o->compute.num_sequences, 1, 1 << 20,
                       "sequences that the served MODEL computes at the same time")
      ->group("Computing");
}

void refuse_not_numbers(CLI::App& app) {
  const auto is_nan = [](const std::string& text) {
    return std::isnan(std::strtod(text.c_str(), nullptr)) ? "\"" + text.substr(0, 100) + "\" is not a number"
                                                          : std::string();
  };
  for (CLI::Option* option : app.get_options({})) {
    if (option->get_type_name().starts_with("FLOAT")) option->check(CLI::Validator(is_nan, "", ""));
  }
  for (CLI::App* verb : app.get_subcommands(std::function<bool(CLI::App*)>())) refuse_not_numbers(*verb);
}

namespace {

/// "\n  fp8-kv: serving.kv = fp8 (source)", a line each.
std::string what_if_help() {
  std::string text;
  for (const WhatIf& w : what_ifs()) text += "\n" + std::string(w.name) + ": " + w.change + " (" + w.source + ")";
  return text;
}

}  // namespace

void add_plan_flags(CLI::App& app, PlanOptions& options) {
  app.add_option(kModelNames, options.model, "model directory, config.json, or ORG/NAME in the Hugging Face cache");
  app.add_option("--hardware", options.hardware,
                 "h800, h100, h200 or gb200-nvl72; facts can be set: hardware.nic_gbps=100; or this: the machine "
                 "at hand, measured");
  app.add_option("--config", options.config, "TOML file with settings");
  app.add_option("--set", options.overrides, "a setting: training.pipeline=16; may be given several times")
      ->expected(1)
      ->take_all();
  app.add_flag("--keys", options.keys,
               "every setting: default, meaning, what it accepts; with --paper those of the published figures");
  CLI::Option* search = app.add_option("--search", options.search, "rank layouts of training or serving (search.kind)");
  app.add_option("--gpus", options.gpus, "GPUs of the search (search.gpus); several sizes: 1024,2048")->needs(search);
  app.add_option("--max-kw", options.max_kw, "power of the site at most, kW; needs energy.pue")->needs(search);
  app.add_option("--max-kgco2", options.max_kgco2,
                 "carbon of the run, or of a year of serving, at most, kg; needs energy.pue and energy.kg_per_kwh")
      ->needs(search);
  app.add_option("--emit", options.emit, "write the best layout to this file, for --config")->needs(search);
  app.add_option("--what-if", options.what_if, "every figure that a change moves, before and after:" + what_if_help());
  CLI::Option* paper =
      app.add_flag("--paper", options.paper,
                   "the published figures of DeepSeek-V3's system beside ours; --set and --config change "
                   "what they follow from, as model.kv_lora_rank, fabric.planes or hardware.nic_gbps");
  app.add_flag("--timeline", options.timeline, "the pipeline of training.* as text")->excludes(paper);
  app.add_option("--svg", options.svg, "write the pipeline as a picture to this file")->excludes(paper);
  app.add_option("--trace", options.trace, "write the pipeline as Chrome trace events, for Perfetto, to this file")
      ->excludes(paper);
  app.add_option("--report", options.report,
                 "write a page with the answers and drawings of them to this file (.html); JSON and CSV beside it")
      ->excludes(paper);
  app.add_flag("--json", options.json, "everything as JSON, with the source of every number");
  app.get_option("--emit")->excludes("--what-if");
  app.get_option("--report")->excludes("--what-if");
  for (const char* flag : {"MODEL", "--hardware", "--search", "--what-if"}) {
    app.get_option(flag)->excludes(paper);
  }
  for (const char* flag : {"MODEL", "--hardware", "--json", "--search", "--what-if"}) {
    app.get_option(flag)->excludes("--timeline")->excludes("--svg");
  }
}

bool is_typed(const CLI::Option* option) {
  const char* variable = option->get_envname().empty() ? nullptr : std::getenv(option->get_envname().c_str());
  return option->count() > 0 && !(variable != nullptr && option->results() == std::vector<std::string>{variable});
}

}  // namespace fathom::apps
