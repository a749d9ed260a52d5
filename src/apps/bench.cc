// fathom bench: how fast this machine runs a model: prompt and generation in tokens per second, medians of several
// runs; and training steps of a preset.
#include <algorithm>
#include <chrono>
#include <cstdio>

#include "apps/console.h"
#include "apps/verbs.h"
#include "base/machine.h"
#include "base/rng.h"
#include "train/objective.h"
#include "train/optimizer.h"
#include "train/train_config.h"

namespace fathom::apps {
namespace {

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

struct Timing {
  double prompt_tokens_per_second = 0;
  double decode_tokens_per_second = 0;
};

/// One run with random token ids, greedy, never stopped.
Result<Timing> time_once(const Model& model, Kernels& kernels, const EngineOptions& engine_options,
                         const BenchOptions& options, uint64_t seed) {
  Engine engine(model, kernels, engine_options);
  const Rng rng(seed, stream_of("bench"));
  std::vector<int32_t> prompt(static_cast<size_t>(options.prompt_tokens));
  for (size_t i = 0; i < prompt.size(); ++i) {
    prompt[i] = static_cast<int32_t>(rng.below(i, static_cast<uint64_t>(model.config.vocab_size)));
  }
  const SamplingParams greedy{.temperature = 0};
  const auto id = engine.submit(prompt, greedy, options.decode_tokens + 1);
  if (!id) return id.error();
  using Clock = std::chrono::steady_clock;
  const auto start = Clock::now();
  std::optional<Clock::time_point> first;
  int64_t num_tokens = 0;
  while (engine.has_work()) {
    const auto events = engine.step();
    if (!events) return events.error();
    num_tokens += static_cast<int64_t>(events->size());
    if (!first && num_tokens > 0) first = Clock::now();
    if (interrupted()) return interrupted_error("measuring");
  }
  const auto seconds = [](Clock::time_point a, Clock::time_point b) {
    return std::chrono::duration<double>(b - a).count();
  };
  return Timing{static_cast<double>(options.prompt_tokens) / seconds(start, *first),
                static_cast<double>(num_tokens - 1) / seconds(*first, Clock::now())};
}

Status bench_model(const BenchOptions& options) {
  auto session = Session::load(options.model, options.compute);
  if (!session) return session.error();
  const Model& model = (*session)->model();
  const int64_t needed = options.prompt_tokens + options.decode_tokens + 1;
  if (needed > model.config.max_context()) {
    return invalid("--prompt plus --decode is " + std::to_string(needed) + " tokens; accepted: at most " +
                   model.config.max_context_text());
  }
  auto compute = make_compute(options.compute);
  if (!compute) return compute.error();
  EngineOptions engine_options = (*session)->engine().options();
  engine_options.stop_tokens.clear();
  engine_options.max_cache_tokens = needed + LatentPages::kPageTokens;
  std::vector<double> prompt, decode;
  ConsoleProgress progress(options.json);
  for (int64_t i = 0; i < options.repeat + 1; ++i) {
    const auto timing = time_once(model, *compute->kernels, engine_options, options, static_cast<uint64_t>(i));
    if (!timing) return timing.error();
    progress.update("measuring", i + 1, options.repeat + 1, "");
    if (i == 0) continue;  // the first run warms caches and scratch
    prompt.push_back(timing->prompt_tokens_per_second);
    decode.push_back(timing->decode_tokens_per_second);
  }
  progress.finish();
  const std::string kernels(compute->kernels->name());
  const int threads = compute->pool->num_threads();
  if (options.json) {
    Json json = Json::object();
    json.set("model", (*session)->model_dir().string()).set("kernels", kernels).set("threads", threads);
    json.set("cpu", inspect_machine().cpu_model).set("repeat", options.repeat);
    json.set("prompt_tokens", options.prompt_tokens).set("decode_tokens", options.decode_tokens);
    json.set("prompt_tokens_per_second", median(prompt)).set("decode_tokens_per_second", median(decode));
    std::printf("%s\n", json.dump(2).c_str());
  } else {
    std::printf("%s on %d threads, median of %lld\n", kernels.c_str(), threads, static_cast<long long>(options.repeat));
    std::printf("  prompt of %lld: %9.1f tokens/s\n", static_cast<long long>(options.prompt_tokens), median(prompt));
    std::printf("  decode of %lld: %9.1f tokens/s\n", static_cast<long long>(options.decode_tokens), median(decode));
  }
  return {};
}

/// One optimizer step on random tokens, all of it: forward, backward, clipping, update.
Status bench_training(const BenchOptions& options) {
  auto config = preset_config(options.train_preset);
  if (!config) return config.error();
  const auto model_config = config->model_config();
  if (!model_config) return model_config.error();
  if (options.compute.precision != "" && options.compute.precision != "f32" && options.compute.precision != "bf16") {
    return invalid("--precision " + options.compute.precision + " is not one of training; accepted: f32, bf16");
  }
  const bool f32 = options.compute.precision == "f32";
  auto compute = make_compute(options.compute);
  if (!compute) return compute.error();
  Parameters parameters(*model_config, f32 ? ComputeType::kF32 : ComputeType::kBF16);
  parameters.initialize(1, *compute->pool);
  const Transformer model(parameters.config(), parameters.weights());
  constexpr int64_t kTokens = 4096;
  const Rng rng(1, stream_of("bench"));
  std::vector<int32_t> tokens(kTokens), targets(kTokens, -1);
  std::vector<int64_t> offsets;
  for (int64_t t = 0; t < kTokens; ++t) {
    if (t % config->sequence_length == 0) offsets.push_back(t);
    tokens[static_cast<size_t>(t)] =
        static_cast<int32_t>(rng.below(static_cast<uint64_t>(t), static_cast<uint64_t>(model_config->vocab_size)));
  }
  offsets.push_back(kTokens);
  for (int64_t t = 0; t + 1 < kTokens; ++t) {
    if ((t + 1) % config->sequence_length != 0) targets[static_cast<size_t>(t)] = tokens[static_cast<size_t>(t + 1)];
  }
  const SlotTokens slot{.tokens = tokens, .targets = targets, .next_tokens = targets, .document_offsets = offsets};
  BatchCounts counts;
  counts.add(slot, model_config->num_nextn_predict_layers);
  Arena arena;
  std::vector<double> speed;
  ConsoleProgress progress(options.json);
  for (int64_t i = 0; i < options.repeat + 1; ++i) {
    const auto start = std::chrono::steady_clock::now();
    arena.reset();
    parameters.zero_gradients();
    const Run run{.k = *compute->kernels, .arena = arena, .precision = f32 ? Precision::kF32 : Precision::kBF16};
    run_slot(run, model, slot, counts, {}, nullptr);
    const GradientNorm norm = gradient_norm(*compute->kernels, parameters);
    optimizer_step(*compute->kernels, *compute->pool, arena, parameters,
                   {.adamw = {}, .muon = {}, .use_muon = config->optimizer == "muon"}, 1e-3,
                   clip_factor(norm.norm, 1.0), i + 1);
    parameters.refresh(*compute->pool);
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    progress.update("measuring", i + 1, options.repeat + 1, "");
    if (interrupted()) return interrupted_error("measuring");
    if (i > 0) speed.push_back(static_cast<double>(kTokens) / seconds);  // the first step warms up
  }
  progress.finish();
  const std::string kernels(compute->kernels->name());
  if (options.json) {
    Json json = Json::object();
    json.set("preset", options.train_preset).set("kernels", kernels).set("threads", compute->pool->num_threads());
    json.set("precision", f32 ? "f32" : "bf16").set("cpu", inspect_machine().cpu_model).set("repeat", options.repeat);
    json.set("tokens_per_step", kTokens).set("train_tokens_per_second", median(speed));
    std::printf("%s\n", json.dump(2).c_str());
  } else {
    std::printf("%s on %d threads, median of %lld\n  training %s in %s: %.1f tokens/s (steps of %lld tokens)\n",
                kernels.c_str(), compute->pool->num_threads(), static_cast<long long>(options.repeat),
                options.train_preset.c_str(), f32 ? "FP32" : "BF16", median(speed), static_cast<long long>(kTokens));
  }
  return {};
}

}  // namespace

Status bench(const BenchOptions& options) {
  if (!options.train_preset.empty()) return bench_training(options);
  if (options.model.empty()) return invalid("name a MODEL directory, or --train PRESET; see fathom bench --help");
  return bench_model(options);
}

}  // namespace fathom::apps
