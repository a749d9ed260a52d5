// fathom bench: how fast this machine runs a model and how much of the machine that is: prompts and generation in
// tokens per second, medians of several runs, beside the read bandwidth and the dot-product peaks measured around them.
#include "apps/bench.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <numeric>

#include "apps/console.h"
#include "base/machine.h"
#include "base/rng.h"
#include "checkpoint/hf_hub.h"
#include "kernels/limits.h"
#include "model/traffic.h"
#include "report/bench_lines.h"

namespace fathom::apps {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

std::string_view name_of(Precision precision) {
  switch (precision) {
    case Precision::kF32: return "f32";
    case Precision::kBF16: return "bf16";
    case Precision::kFp8: return "fp8";
  }
  return "?";
}

/// The peak of the dot product that multiplies these operands exactly. E4M3 codes are exact in BF16.
double peak_ops_per_s(const MachineLimits& limits, Precision precision) {
  switch (precision) {
    case Precision::kF32: return limits.f32_ops_per_s;
    case Precision::kBF16:
    case Precision::kFp8: return limits.bf16_ops_per_s;
  }
  return 0;
}

constexpr const char* kPrefill = "prefill";
constexpr const char* kDecode = "decode";

/// A sequence has at least one token before it decodes.
int64_t prompt_of_depth(int64_t depth) { return std::max<int64_t>(1, depth); }

/// Cache tokens that a line needs, in whole pages for each sequence.
int64_t cache_tokens_of(const BenchLine& line) {
  const int64_t length = (line.work == kPrefill ? 0 : prompt_of_depth(line.depth)) + line.tokens + 1;
  constexpr int64_t kPage = LatentPages::kPageTokens;
  return line.batch * ((length + kPage - 1) / kPage * kPage);
}

/// What is to be measured, in the order of the report.
std::vector<BenchLine> plan_lines(const BenchOptions& options, int64_t num_threads) {
  std::vector<BenchLine> lines;
  if (options.only != kDecode) {
    for (int64_t tokens : options.prompt_tokens) {
      lines.push_back(
          {.work = kPrefill, .threads = num_threads, .tokens = tokens, .tokens_per_s = {}, .unit = "GFLOP/s"});
    }
  }
  if (options.only != kPrefill) {
    for (int64_t batch : options.batches) {
      for (int64_t depth : options.depths) {
        lines.push_back({.work = kDecode,
                         .threads = num_threads,
                         .batch = batch,
                         .depth = depth,
                         .tokens = options.decode_tokens,
                         .tokens_per_s = {},
                         .unit = "GB/s"});
      }
    }
  }
  return lines;
}

/// Every line fits the model's context, a step's budget and the memory.
Status check_lines(const std::vector<BenchLine>& lines, const ModelConfig& config, const BenchOptions& options,
                   int64_t cache_number_bytes) {
  const auto available = inspect_machine().memory_available_bytes;
  for (const BenchLine& line : lines) {
    const bool prefill = line.work == kPrefill;
    const int64_t length = (prefill ? 0 : prompt_of_depth(line.depth)) + line.tokens + 1;
    if (length > config.max_position_embeddings) {
      const std::string flags =
          prefill ? "--prompt " + std::to_string(line.tokens)
                  : "--depth " + std::to_string(line.depth) + " with --decode " + std::to_string(line.tokens);
      return invalid(flags + " needs a context of " + std::to_string(length) + " tokens; the model's is " +
                     std::to_string(config.max_position_embeddings));
    }
    if (line.batch > options.compute.prompt_chunk) {
      return invalid("--batch " + std::to_string(line.batch) + " is more than a step takes; raise --prompt-chunk " +
                     std::to_string(options.compute.prompt_chunk));
    }
    const int64_t cache_bytes = kv_cache_bytes_per_token(config, cache_number_bytes) * cache_tokens_of(line);
    if (available && cache_bytes > *available) {
      return invalid("--batch " + std::to_string(line.batch) + " at --depth " + std::to_string(line.depth) +
                     " needs a cache of " + bytes_text(cache_bytes) + "; " + bytes_text(*available) +
                     " of memory are available");
    }
  }
  return {};
}

/// How long a line takes relative to others: a decoded token waits for all the weights, a prompt's tokens share them.
int64_t effort_of(const BenchLine& line, int64_t repeat) {
  constexpr int64_t kStep = 16;
  if (line.work == kPrefill) return (repeat + 1) * line.tokens;
  return line.batch * line.depth + (repeat + 1) * line.tokens * (kStep + line.batch);
}

/// Times lines with one pool of threads.
class Stopwatch {
 public:
  Stopwatch(const Model& model, Kernels& kernels, EngineOptions options, int64_t repeat)
      : model_(model), kernels_(kernels), options_(std::move(options)), repeat_(repeat) {
    options_.stop_tokens.clear();
  }

  /// Tokens per second of each run after a first one that warms caches and scratch.
  Result<Spread> time(const BenchLine& line) {
    options_.max_cache_tokens = cache_tokens_of(line);
    Engine engine(model_, kernels_, options_);
    return line.work == kPrefill ? time_prompts(engine, line.tokens) : time_decoding(engine, line);
  }

 private:
  std::vector<int32_t> random_prompt(int64_t num_tokens, uint64_t seed) const {
    const Rng rng(seed, stream_of("bench"));
    std::vector<int32_t> prompt(static_cast<size_t>(num_tokens));
    for (size_t i = 0; i < prompt.size(); ++i) {
      prompt[i] = static_cast<int32_t>(rng.below(i, static_cast<uint64_t>(model_.config.vocab_size)));
    }
    return prompt;
  }

  /// Steps until every sequence has ended, or once.
  static Result<int64_t> run(Engine& engine, bool to_the_end) {
    int64_t num_tokens = 0;
    while (engine.has_work()) {
      const auto events = engine.step();
      if (!events) return events.error();
      num_tokens += static_cast<int64_t>(events->size());
      if (interrupted()) return interrupted_error("measuring");
      if (!to_the_end) break;
    }
    return num_tokens;
  }

  Result<Spread> time_prompts(Engine& engine, int64_t num_tokens) {
    std::vector<double> speeds;
    for (int64_t i = 0; i <= repeat_; ++i) {
      const auto prompt = random_prompt(num_tokens, static_cast<uint64_t>(i));
      const auto start = Clock::now();
      const auto id = engine.submit(prompt, greedy_, 1);
      if (!id) return id.error();
      if (const auto done = run(engine, true); !done) return done.error();
      if (i > 0) speeds.push_back(static_cast<double>(num_tokens) / seconds_since(start));
      engine.remove(*id);
    }
    return spread_of(std::move(speeds));
  }

  /// The caches are filled once. Each run goes back to the end of the prompts: their last tokens are computed again, in
  /// a step that is not timed, then `tokens` steps are.
  Result<Spread> time_decoding(Engine& engine, const BenchLine& line) {
    std::vector<std::vector<int32_t>> prompts;
    std::vector<int64_t> ids;
    for (int64_t b = 0; b < line.batch; ++b) {
      prompts.push_back(random_prompt(prompt_of_depth(line.depth), static_cast<uint64_t>(b)));
      const auto id = engine.submit(prompts.back(), greedy_, 1);
      if (!id) return id.error();
      ids.push_back(*id);
    }
    if (const auto done = run(engine, true); !done) return done.error();
    std::vector<double> speeds;
    for (int64_t i = 0; i <= repeat_; ++i) {
      for (size_t b = 0; b < ids.size(); ++b) {
        if (auto s = engine.resume(ids[b], prompts[b], line.tokens + 1); !s) return s.error();
      }
      if (const auto first = run(engine, false); !first) return first.error();
      const auto start = Clock::now();
      const auto num_tokens = run(engine, true);
      if (!num_tokens) return num_tokens.error();
      if (i > 0) speeds.push_back(static_cast<double>(*num_tokens) / seconds_since(start));
    }
    return spread_of(std::move(speeds));
  }

  const Model& model_;
  Kernels& kernels_;
  EngineOptions options_;
  int64_t repeat_;
  SamplingParams greedy_{.temperature = 0};
};

struct LimitsAround {
  MachineLimits before, after;
};

/// What a line's speed amounts to, and what the machine could do.
void set_share(BenchLine& line, const ModelTraffic& traffic, Precision precision, int64_t cache_number_bytes,
               const MachineLimits& limits) {
  if (line.work == kPrefill) {
    line.reached =
        prompt_operations(traffic, line.tokens) / static_cast<double>(line.tokens) * line.tokens_per_s.median * 1e-9;
    line.limit = peak_ops_per_s(limits, precision) * 1e-9;
    return;
  }
  const double mean_depth = static_cast<double>(prompt_of_depth(line.depth)) + static_cast<double>(line.tokens) / 2;
  const double steps_per_s = line.tokens_per_s.median / static_cast<double>(line.batch);
  line.reached = decode_step_bytes(traffic, line.batch, mean_depth, cache_number_bytes) * steps_per_s * 1e-9;
  line.limit = limits.read_bytes_per_s * 1e-9;
}

Json to_json(const LimitsAround& limits) {
  const auto around = [&](double MachineLimits::*member) {
    return Json::object().set("before", limits.before.*member).set("after", limits.after.*member);
  };
  return Json::object()
      .set("threads", limits.before.num_threads)
      .set("level", limits.before.level)
      .set("read_bytes_per_s", around(&MachineLimits::read_bytes_per_s))
      .set("f32_ops_per_s", around(&MachineLimits::f32_ops_per_s))
      .set("bf16_ops_per_s", around(&MachineLimits::bf16_ops_per_s))
      .set("int8_ops_per_s", around(&MachineLimits::int8_ops_per_s));
}

std::string limits_table(const std::vector<LimitsAround>& all) {
  std::vector<std::vector<std::string>> rows = {
      {"limits (before, after)", "threads", "read GB/s", "FP32 GFLOP/s", "BF16 GFLOP/s", "INT8 GOP/s"}};
  for (const LimitsAround& limits : all) {
    const auto around = [&](double MachineLimits::*member) {
      char text[64];
      std::snprintf(text, sizeof(text), "%.1f, %.1f", limits.before.*member * 1e-9, limits.after.*member * 1e-9);
      return limits.before.*member > 0 ? std::string(text) : std::string("-");
    };
    rows.push_back({limits.before.level, std::to_string(limits.before.num_threads),
                    around(&MachineLimits::read_bytes_per_s), around(&MachineLimits::f32_ops_per_s),
                    around(&MachineLimits::bf16_ops_per_s), around(&MachineLimits::int8_ops_per_s)});
  }
  return aligned(rows, 1);
}

/// The earlier report, read before anything is measured.
struct Earlier {
  Json report;
  std::vector<BenchLine> lines;
};

Result<Earlier> read_earlier(const std::string& path, const std::vector<BenchLine>& planned) {
  constexpr int64_t kMostBytes = int64_t{16} << 20;
  const auto text = read_file(path, kMostBytes);
  if (!text) return text.error();
  auto report = Json::parse(*text, path);
  if (!report) return report.error();
  auto lines = bench_lines_of(*report, path);
  if (!lines) return lines.error();
  const auto comparisons = compare_lines(planned, *lines);
  if (std::none_of(comparisons.begin(), comparisons.end(), [](const auto& c) { return c.before_tokens_per_s; })) {
    return invalid("--compare " + path + " has none of the lines of this run, such as \"" + planned.front().name() +
                   "\"; give the flags of that run");
  }
  return Earlier{std::move(*report), std::move(*lines)};
}

/// "kernels avx2, now avx512": what differs between the two runs besides the speed.
std::vector<std::string> differences(const Json& before, const Json& now) {
  std::vector<std::string> out;
  for (const char* key : {"model", "cpu", "kernels", "precision", "mla", "prompt_chunk"}) {
    const Json *old = before.find(key), *current = now.find(key);
    if (old == nullptr || *old == *current) continue;
    out.push_back(std::string(key) + " " + old->dump() + ", now " + current->dump());
  }
  return out;
}

Json to_json(const std::vector<BenchComparison>& comparisons) {
  Json array = Json::array();
  for (const BenchComparison& c : comparisons) {
    Json line = Json::object();
    line.set("line", c.now.name()).set("new_tokens_per_s", c.now.tokens_per_s.median);
    line.set("old_tokens_per_s", c.before_tokens_per_s ? Json(*c.before_tokens_per_s) : Json());
    line.set("ratio", c.ratio() ? Json(*c.ratio()) : Json());
    array.push(std::move(line));
  }
  return array;
}

/// The machine for the reader's eye: whether shares can be trusted.
void print_cache_note(const ModelTraffic& traffic, const Machine& machine) {
  int64_t largest = 0;
  for (const CpuCache& cache : machine.caches) largest = std::max(largest, cache.size_bytes);
  const auto bytes = static_cast<int64_t>(decode_step_bytes(traffic, 1, 0, 0));
  if (bytes > largest) return;
  std::printf("The %s that a token reads fit the processor's cache (%s): decode is not bound by memory.\n",
              bytes_text(bytes).c_str(), bytes_text(largest).c_str());
}

}  // namespace

Result<int> bench_model(const BenchOptions& options) {
  auto session = Session::load(options.model, options.compute);
  if (!session) return session.error();
  const Model& model = (*session)->model();
  const EngineOptions& engine_options = (*session)->engine().options();
  const Precision precision = engine_options.precision;
  const int64_t cache_number_bytes = size_of((*session)->engine().cache_dtype());
  const ModelTraffic traffic = traffic_of(model);

  // One pool and its kernels per count of threads, made first: one that the system does not grant is told at once.
  std::vector<Compute> computes;
  std::vector<std::vector<BenchLine>> plans;
  std::vector<BenchLine> lines;
  for (int64_t threads : options.threads) {
    ComputeOptions compute_options = options.compute;
    compute_options.threads = threads;
    auto compute = make_compute(compute_options);
    if (!compute) return compute.error();
    plans.push_back(plan_lines(options, compute->pool->num_threads()));
    computes.push_back(std::move(*compute));
    for (const BenchLine& line : plans.back()) {
      for (const BenchLine& other : lines) {
        if (other.name() == line.name()) return invalid("the flags ask twice for \"" + line.name() + "\"");
      }
      lines.push_back(line);
    }
  }
  if (auto s = check_lines(lines, model.config, options, cache_number_bytes); !s) return s.error();
  std::optional<Earlier> earlier;
  if (!options.compare.empty()) {
    auto read = read_earlier(options.compare, lines);
    if (!read) return read.error();
    earlier = std::move(*read);
  }

  ConsoleProgress progress(options.json);
  const int64_t total =
      std::accumulate(lines.begin(), lines.end(), int64_t{0},
                      [&](int64_t sum, const BenchLine& line) { return sum + effort_of(line, options.repeat); });
  int64_t done = 0;
  lines.clear();
  std::vector<LimitsAround> limits;
  for (size_t i = 0; i < computes.size(); ++i) {
    Kernels& kernels = *computes[i].kernels;
    LimitsAround around;
    around.before = measure_limits(kernels.name(), *computes[i].pool);
    Stopwatch stopwatch(model, kernels, engine_options, options.repeat);
    for (BenchLine& line : plans[i]) {
      progress.update("measuring", done, total, line.name());
      const auto speed = stopwatch.time(line);
      if (!speed) return speed.error();
      line.tokens_per_s = *speed;
      done += effort_of(line, options.repeat);
    }
    progress.update("measuring", done, total, "");
    around.after = measure_limits(kernels.name(), *computes[i].pool);
    for (BenchLine& line : plans[i]) {
      set_share(line, traffic, precision, cache_number_bytes, larger_of(around.before, around.after));
      lines.push_back(std::move(line));
    }
    limits.push_back(std::move(around));
  }
  progress.finish();

  const Machine machine = inspect_machine();
  const std::string kernels_name(computes.front().kernels->name());
  Json limits_json = Json::array(), lines_json = Json::array();
  for (const LimitsAround& around : limits) limits_json.push(to_json(around));
  for (const BenchLine& line : lines) lines_json.push(fathom::to_json(line));
  Json report = Json::object();
  report.set("model", (*session)->model_dir().string()).set("cpu", machine.cpu_model).set("kernels", kernels_name);
  report.set("precision", name_of(precision)).set("mla", options.compute.mla);
  report.set("prompt_chunk", options.compute.prompt_chunk).set("repeat", options.repeat);
  report.set("active_parameters", traffic.macs_per_token + traffic.head_macs);
  report.set("decode_bytes_per_token", decode_step_bytes(traffic, 1, 0, cache_number_bytes));
  report.set("limits", limits_json).set("lines", lines_json);
  std::vector<BenchComparison> comparisons;
  if (earlier) comparisons = compare_lines(lines, earlier->lines);

  if (options.json) {
    if (earlier) report.set("compare", to_json(comparisons));
    std::printf("%s\n", report.dump(2).c_str());
  } else {
    std::printf("%s: %s on %s, %s, %s active parameters, medians of %lld\n\n%s\n%s",
                (*session)->model_dir().string().c_str(), kernels_name.c_str(),
                machine.cpu_model.empty() ? "this machine" : machine.cpu_model.c_str(),
                std::string(name_of(precision)).c_str(), count_text(traffic.macs_per_token + traffic.head_macs).c_str(),
                static_cast<long long>(options.repeat), limits_table(limits).c_str(), bench_table(lines).c_str());
    print_cache_note(traffic, machine);
    if (earlier) {
      std::printf("\nagainst %s\n", options.compare.c_str());
      for (const std::string& difference : differences(earlier->report, report)) {
        std::printf("  other %s\n", difference.c_str());
      }
      std::printf("%s", comparison_table(comparisons).c_str());
    }
  }
  if (!options.fail_below) return 0;
  const std::vector<std::string> slower = slower_than(comparisons, *options.fail_below);
  for (const std::string& name : slower) {
    std::fprintf(stderr, "fathom: slower than --fail-below times the earlier run: %s\n", name.c_str());
  }
  return slower.empty() ? 0 : 1;
}

Result<int> bench(const BenchOptions& options) {
  if (options.train_preset.empty()) {
    if (options.model.empty()) return invalid("name a MODEL directory, or --train PRESET; see fathom bench --help");
    return bench_model(options);
  }
  if (options.threads.size() > 1) return invalid("--train measures one count of --threads at a time");
  BenchOptions training = options;
  training.compute.threads = options.threads.front();
  if (auto s = bench_training(training); !s) return s.error();
  return 0;
}

}  // namespace fathom::apps
