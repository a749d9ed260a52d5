// fathom bench: how fast this machine runs a model: prompt and generation in tokens per second, medians of several
// runs; and training steps of a preset.
#include <algorithm>
#include <chrono>
#include <cstdio>

#include "apps/console.h"
#include "apps/verbs.h"
#include "base/machine.h"
#include "base/rng.h"

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

}  // namespace

Status bench(const BenchOptions& options) {
  if (options.repeat < 1 || options.prompt_tokens < 1 || options.decode_tokens < 1) {
    return invalid("--repeat, --prompt and --decode must be at least 1");
  }
  auto session = Session::load(options.model, options.compute);
  if (!session) return session.error();
  const Model& model = (*session)->model();
  const int64_t needed = options.prompt_tokens + options.decode_tokens + 1;
  if (needed > model.config.max_position_embeddings) {
    return invalid("--prompt plus --decode is " + std::to_string(needed) + " tokens; the model's context is " +
                   std::to_string(model.config.max_position_embeddings));
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

}  // namespace fathom::apps
