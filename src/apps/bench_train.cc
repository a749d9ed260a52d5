// fathom bench --train: optimizer steps of a preset on random tokens.
#include <chrono>
#include <cstdio>

#include "apps/bench.h"
#include "apps/console.h"
#include "base/machine.h"
#include "base/rng.h"
#include "base/spread.h"
#include "train/objective.h"
#include "train/optimizer.h"
#include "train/train_config.h"

namespace fathom::apps {

Status bench_training(const BenchOptions& options) {
  auto config = preset_config(options.train_preset);
  if (!config) return config.error();
  const auto model_config = config->model_config();
  if (!model_config) return model_config.error();
  if (!options.compute.precision.empty() && options.compute.precision != "f32" && options.compute.precision != "bf16") {
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
  ConsoleProgress progress(options.json || options.compute.is_quiet());
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
    json.set("tokens_per_step", kTokens).set("train_tokens_per_second", spread_of(speed).median);
    std::printf("%s\n", json.dump(2).c_str());
  } else {
    std::printf("%s on %d threads, median of %lld\n  training %s in %s: %.1f tokens/s (steps of %lld tokens)\n",
                kernels.c_str(), compute->pool->num_threads(), static_cast<long long>(options.repeat),
                options.train_preset.c_str(), f32 ? "FP32" : "BF16", spread_of(speed).median,
                static_cast<long long>(kTokens));
  }
  return {};
}

}  // namespace fathom::apps
