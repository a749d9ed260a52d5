// fathom bench: how fast this machine runs a model and how much of the machine that is: prompts and generation in
// tokens per second, medians of several runs, beside the read bandwidth and the dot-product peaks measured around them.
#include "apps/bench.h"

#include <algorithm>
#include <cstdio>

#include "apps/console.h"
#include "base/machine.h"
#include "kernels/limits.h"
#include "model/traffic.h"

namespace fathom::apps {
namespace {

std::string_view name_of(Precision precision) {
  switch (precision) {
    case Precision::kF32: return "f32";
    case Precision::kBF16: return "bf16";
    case Precision::kFp8: return "fp8";
  }
  return "?";
}

/// The peak of the fastest dot product that takes these operands exactly. E4M3 codes are exact in BF16.
double peak_ops_per_s(const MachineLimits& limits, Precision precision) {
  switch (precision) {
    case Precision::kF32: return limits.f32_ops_per_s;
    case Precision::kBF16:
    case Precision::kFp8: return limits.bf16_ops_per_s;
  }
  return 0;
}

/// The limits of one count of threads, measured before and after its lines.
struct LimitsAround {
  MachineLimits before, after;
};

struct Measured {
  std::vector<LimitsAround> limits;
  std::vector<BenchLine> lines;
};

/// What a step costs the model at hand.
struct Costs {
  ModelTraffic traffic;
  Precision precision;
  DType cache_dtype;
  int64_t cache_token_bytes;
};

/// What a line's speed amounts to, and what the machine could do. Products of integers are no floating-point
/// operations.
void set_share(BenchLine& line, const Costs& costs, const MachineLimits& limits) {
  constexpr double kGiga = 1e-9;
  if (line.work == kPrefill) {
    const double prompts_per_s = line.tokens_per_s.median / static_cast<double>(line.tokens);
    line.reached = prompt_operations(costs.traffic, line.tokens) * prompts_per_s * kGiga;
    const double peak =
        costs.traffic.has_integer_products ? limits.int8_ops_per_s : peak_ops_per_s(limits, costs.precision);
    line.limit = peak * kGiga;
    if (costs.traffic.has_integer_products) line.unit = "GOP/s";
    return;
  }
  const double mean_depth = static_cast<double>(prompt_of_depth(line.depth)) + static_cast<double>(line.tokens) / 2;
  const double steps_per_s = line.tokens_per_s.median / static_cast<double>(line.batch);
  line.reached =
      decode_step_bytes(costs.traffic, line.batch, mean_depth, costs.cache_token_bytes) * steps_per_s * kGiga;
  line.limit = limits.read_bytes_per_s * kGiga;
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

/// An earlier report, and its lines beside those of this run.
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

/// "kernels "avx2", now "avx512"": what differs between two reports besides the speed. Of what an older fathom did not
/// write into its report nothing is known.
std::vector<std::string> differences(const Json& before, const Json& now) {
  std::vector<std::string> out;
  for (const char* key : {"model", "cpu", "kernels", "precision", "quant", "also_quant", "in_place", "mapped",
                          "max_memory", "kv_cache_dtype", "mla", "prompt_chunk"}) {
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

std::string weights_name(const std::string& quant) { return quant.empty() || quant == "none" ? "as stored" : quant; }

Json limits_json(const Measured& measured) {
  Json out = Json::array();
  for (const LimitsAround& around : measured.limits) out.push(to_json(around));
  return out;
}

Json lines_json(const Measured& measured) {
  Json out = Json::array();
  for (const BenchLine& line : measured.lines) out.push(fathom::to_json(line));
  return out;
}

/// What is known before the lines.
Json report_of(const Session& session, const BenchOptions& options, std::string_view kernels_name, const Costs& costs) {
  Json report = Json::object();
  report.set("model", session.model_dir().string()).set("cpu", inspect_machine().cpu_model);
  report.set("kernels", kernels_name).set("precision", name_of(costs.precision)).set("mla", options.compute.mla);
  report.set("kv_cache_dtype", kv_cache_name(costs.cache_dtype));
  report.set("quant", weights_name(options.compute.quant));
  if (!options.also_quant.empty()) {
    Json also = Json::array();
    for (const std::string& quant : options.also_quant) also.push(Json(weights_name(quant)));
    report.set("also_quant", std::move(also));
  }
  report.set("in_place", options.compute.in_place).set("mapped", session.model().prepared.has_value());
  report.set("max_memory", options.compute.max_memory.empty() ? Json() : Json(options.compute.max_memory));
  report.set("prompt_chunk", options.compute.prompt_chunk).set("repeat", options.repeat);
  report.set("active_parameters", costs.traffic.macs_per_token + costs.traffic.head_macs);
  report.set("decode_bytes_per_token", decode_step_bytes(costs.traffic, 1, 0, costs.cache_token_bytes));
  if (session.model().experts) report.set("experts", json_of(*session.model().experts));
  return report;
}

/// ", weights int8, in place, cache fp8": what the figures depend on besides model, machine and precision.
std::string circumstances(const Json& report) {
  std::string out = ", weights " + std::string(report.find("quant")->as_string());
  if (const Json* also = report.find("also_quant")) {
    for (const Json& quant : also->items()) out += " and " + std::string(quant.as_string());
  }
  if (report.find("in_place")->as_bool()) out += ", in place";
  if (report.find("mapped")->as_bool()) out += ", mapped";
  if (const Json& limit = *report.find("max_memory"); !limit.is_null())
    out += ", memory " + std::string(limit.as_string());
  return out + ", cache " + std::string(report.find("kv_cache_dtype")->as_string());
}

void print_text(const Json& report, const Costs& costs, const Measured& measured) {
  const Machine machine = inspect_machine();
  std::printf("%s: %s on %s, %s%s, %s active parameters, medians of %lld\n\n%s\n%s",
              report.find("model")->as_string().c_str(), report.find("kernels")->as_string().c_str(),
              machine.cpu_model.empty() ? "this machine" : machine.cpu_model.c_str(),
              report.find("precision")->as_string().c_str(), circumstances(report).c_str(),
              count_text(costs.traffic.macs_per_token + costs.traffic.head_macs).c_str(),
              static_cast<long long>(report.find("repeat")->as_int()), limits_table(measured.limits).c_str(),
              bench_table(measured.lines).c_str());
  int64_t largest = 0;
  for (const CpuCache& cache : machine.caches) largest = std::max(largest, cache.size_bytes);
  const auto bytes = static_cast<int64_t>(decode_step_bytes(costs.traffic, 1, 0, 0));
  if (bytes > largest) return;
  std::printf("The %s that a decoded token reads fit the processor's cache of %s: memory is not the limit.\n",
              bytes_text(bytes).c_str(), bytes_text(largest).c_str());
}

/// Measures every plan with the pool and kernels it belongs to.
Result<Measured> measure(const Model& model, const EngineOptions& engine_options, const BenchOptions& options,
                         const Costs& costs, std::vector<Compute>& computes,
                         std::vector<std::vector<BenchLine>> plans) {
  int64_t total = 0, done = 0;
  for (const auto& plan : plans) {
    for (const BenchLine& line : plan) total += effort_of(line, options.repeat);
  }
  ConsoleProgress progress(options.json || options.compute.is_quiet());
  std::string note;
  const auto advance = [&](int64_t effort) {
    done += effort;
    progress.update("measuring", done, total, note);
  };
  const LimitsOptions limits_options{.read_bytes = options.read_mib << 20};
  Measured out;
  for (size_t i = 0; i < plans.size(); ++i) {
    Kernels& kernels = *computes[i].kernels;
    LimitsAround around;
    around.before = measure_limits(kernels.name(), *computes[i].pool, limits_options);
    Stopwatch stopwatch(model, kernels, engine_options, options.repeat, advance);
    for (BenchLine& line : plans[i]) {
      note = line.name();
      advance(0);
      const auto speed = stopwatch.time(line);
      if (!speed) return speed.error();
      line.tokens_per_s = *speed;
    }
    around.after = measure_limits(kernels.name(), *computes[i].pool, limits_options);
    for (BenchLine& line : plans[i]) {
      set_share(line, costs, larger_of(around.before, around.after));
      out.lines.push_back(std::move(line));
    }
    out.limits.push_back(std::move(around));
  }
  return out;
}

/// What came of the lines of a run, its weights one after the other: only one model is in memory at a time.
struct BenchRun {
  Json report;  // of the first weights, with the lines of all
  Measured measured;
  Costs costs;
  std::string expert_report;  // of a model larger than memory
};

/// The lines of some weights, with each count of threads. Those of the run's own (--quant) carry no name.
std::vector<std::vector<BenchLine>> plan_weights(const BenchOptions& options, const std::vector<Compute>& computes,
                                                 const std::string& name) {
  std::vector<std::vector<BenchLine>> plans;
  for (const Compute& compute : computes) {
    plans.push_back(plan_lines(options, compute.pool->num_threads()));
    for (BenchLine& line : plans.back()) line.weights = name;
  }
  return plans;
}

std::vector<BenchLine> joined(const std::vector<std::vector<BenchLine>>& plans) {
  std::vector<BenchLine> out;
  for (const std::vector<BenchLine>& plan : plans) out.insert(out.end(), plan.begin(), plan.end());
  return out;
}

/// Appends the lines of some weights.
Status run_weights(const BenchOptions& options, std::vector<Compute>& computes, std::optional<BenchRun>& run) {
  auto session = Session::load(options.model, options.compute);
  if (!session) return session.error();
  const Model& model = (*session)->model();
  const EngineOptions& engine_options = (*session)->engine().options();
  const Costs costs{.traffic = traffic_of(model),
                    .precision = engine_options.precision,
                    .cache_dtype = (*session)->engine().cache_dtype(),
                    .cache_token_bytes = kv_cache_bytes_per_token(model.config, (*session)->engine().cache_dtype())};
  auto plans = plan_weights(options, computes, run ? weights_name(options.compute.quant) : "");
  if (auto s = check_lines(joined(plans), model.config, options, costs.cache_token_bytes); !s) return s;
  if (!run) {  // what later weights can have wrong, too
    for (const std::string& quant : options.also_quant) {
      if (auto s = check_parts(*parse_quant_policy(quant), model.config); !s) {
        return Error{s.error().code, "--also-quant: " + s.error().text};
      }
    }
  }
  auto measured = measure(model, engine_options, options, costs, computes, std::move(plans));
  if (!measured) return measured.error();
  if (!run) {
    run = BenchRun{.report = report_of(**session, options, computes.front().kernels->name(), costs),
                   .measured = std::move(*measured),
                   .costs = costs,
                   .expert_report = {}};
    if (model.experts) run->expert_report = expert_report(*model.experts) + "\n";
    return {};
  }
  run->measured.limits.insert(run->measured.limits.end(), measured->limits.begin(), measured->limits.end());
  run->measured.lines.insert(run->measured.lines.end(), measured->lines.begin(), measured->lines.end());
  return {};
}

/// 1 when --fail-below found a slower line, else 0.
Result<int> bench_model(const BenchOptions& options) {
  // Pools first, then whatever the flags can have wrong, so that it is told before minutes have passed.
  std::vector<Compute> computes;
  for (int64_t threads : options.threads) {
    ComputeOptions compute_options = options.compute;
    compute_options.threads = threads;
    auto compute = make_compute(compute_options);
    if (!compute) return compute.error();
    computes.push_back(std::move(*compute));
  }
  const auto available = inspect_machine().memory_available_bytes;
  if (available && options.read_mib > *available >> 20) {
    return invalid("--read-mib " + std::to_string(options.read_mib) + " is more than the " + bytes_text(*available) +
                   " of memory that are available");
  }
  std::vector<std::string> quants = {options.compute.quant};
  for (const std::string& quant : options.also_quant) {
    if (const auto policy = parse_quant_policy(quant); !policy) {
      return Error{policy.error().code, "--also-quant: " + policy.error().text};
    }
    if (std::any_of(quants.begin(), quants.end(),
                    [&](const std::string& q) { return weights_name(q) == weights_name(quant); })) {
      return invalid("--also-quant " + quant + " is measured already");
    }
    quants.push_back(quant);
  }
  std::optional<Earlier> earlier;
  if (!options.compare.empty()) {
    std::vector<BenchLine> planned;
    for (size_t i = 0; i < quants.size(); ++i) {
      const auto lines = joined(plan_weights(options, computes, i > 0 ? weights_name(quants[i]) : ""));
      planned.insert(planned.end(), lines.begin(), lines.end());
    }
    auto read = read_earlier(options.compare, planned);
    if (!read) return read.error();
    earlier = std::move(*read);
  }
  std::optional<BenchRun> run;
  for (const std::string& quant : quants) {
    BenchOptions one = options;
    one.compute.quant = quant;
    if (auto s = run_weights(one, computes, run); !s) return s.error();
  }
  Json& report = run->report;
  report.set("limits", limits_json(run->measured)).set("lines", lines_json(run->measured));

  std::vector<BenchComparison> comparisons;
  if (earlier) comparisons = compare_lines(run->measured.lines, earlier->lines);
  if (options.json) {
    if (earlier) {
      Json others = Json::array();
      for (const std::string& difference : differences(earlier->report, report)) others.push(Json(difference));
      report.set("compare", to_json(comparisons)).set("compare_differences", std::move(others));
    }
    std::printf("%s\n", report.dump(2).c_str());
  } else {
    print_text(report, run->costs, run->measured);
    std::printf("%s", run->expert_report.c_str());
  }
  if (earlier && !options.json) {
    std::printf("\nagainst %s\n", options.compare.c_str());
    for (const std::string& difference : differences(earlier->report, report)) {
      std::printf("  another %s\n", difference.c_str());
    }
    std::printf("%s", comparison_table(comparisons).c_str());
  }
  if (!options.fail_below) return 0;
  const std::vector<std::string> slower = slower_than(comparisons, *options.fail_below);
  for (const std::string& name : slower) {
    std::fprintf(stderr, "fathom: below --fail-below: %s\n", name.c_str());
  }
  return slower.empty() ? 0 : 1;
}

}  // namespace

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
