#include "apps/machine_plan.h"

#include <algorithm>

#include "apps/memory_plan.h"
#include "apps/session.h"
#include "base/figure.h"
#include "base/machine.h"
#include "checkpoint/hf_hub.h"
#include "engine/latent_cache.h"
#include "engine/model_text.h"
#include "kernels/limits.h"
#include "model/prepare_weights.h"
#include "model/traffic.h"
#include "numerics/panels.h"
#include "plan/settings.h"

namespace fathom::apps {
namespace {

constexpr double kGB = 1e-9;
/// What Linux maps of a file around a byte that is read (fault_around_bytes), so what a row of the embedding costs.
constexpr int64_t kMappedAround = 64 << 10;
/// The code that computes, its thread stacks and the buffers of a few tokens, which are not there yet when the program
/// is measured: 2 to 5 MB beyond everything else, of the demo and tiny models in every format and two builds.
constexpr int64_t kComputingBytes = 7 << 19;

/// The weights as generate would hold them, without memory: only their sizes are asked for from here on.
void take_prepared_forms(Model& model, const QuantPolicy& policy, Precision layout) {
  visit_weights(model.config, model.weights, [&](const TensorSpec& spec, Weight& value, Tensor*) {
    if (value) value = prepared_form(value, spec, policy, layout);
  });
}

struct LoadedBytes {
  int64_t in_memory = 0;  // without an embedding that stays in the file
  int64_t embedding = 0;  // of that
  int64_t largest = 0;    // matrix as stored: packed and in the file's pages at once
};

LoadedBytes loaded_bytes(Model& model, const QuantPolicy& policy, Precision precision) {
  LoadedBytes out;
  visit_weights(model.config, model.weights, [&](const TensorSpec& spec, Weight& value, Tensor*) {
    if (!value) return;
    if (spec.tensor_class == TensorClass::kEmbedding) out.embedding += weight_bytes(value);
    const Weight target = prepared_form(value, spec, policy, precision);
    if (target.layout == WeightLayout::kPanels) out.largest = std::max(out.largest, weight_bytes(value));
  });
  out.in_memory = prepared_bytes(model, policy, precision).prepared - out.embedding;
  return out;
}

}  // namespace

Result<std::vector<FigureGroup>> plan_this_machine(const std::string& name, const PlanSettings& settings) {
  const auto& s = settings.machine;
  const auto policy = parse_quant_policy(s.quant);
  if (!policy) return Error{policy.error().code, "machine.quant: " + policy.error().text};
  const auto dir = resolve_model_dir(name, HubEnvironment::of_process());
  if (!dir) return dir.error();
  const auto resident = [] { return resident_bytes().value_or(0); };
  int64_t program = resident();
  const auto loaded = load_model(*dir);
  if (!loaded) return loaded.error();
  Model& model = **loaded;
  const ModelConfig& c = model.config;
  if (s.context > c.max_context()) {
    return invalid("machine.context " + std::to_string(s.context) + " is more than " + dir->string() +
                   " allows: " + c.max_context_text());
  }
  program -= resident();  // pages of the mapped file are not the program's
  const auto tokenizer = load_tokenizer(*dir);
  if (!tokenizer) return tokenizer.error();
  const auto compute = make_compute({.threads = s.threads});
  if (!compute) return compute.error();
  program += resident();

  const Precision precision = default_precision(model);
  const LoadedBytes bytes = loaded_bytes(model, *policy, precision);
  const int64_t context = s.context > 0 ? s.context : std::min(c.max_context(), kDefaultContext);
  const DType cache_dtype = default_cache_dtype(precision);
  const int64_t token_bytes = kv_cache_bytes_per_token(c, cache_dtype);
  const auto cache_of = [&](int64_t tokens) { return pages_for(tokens) * LatentPages::kPageTokens * token_bytes; };
  const int64_t cache = cache_of(context);
  const int64_t scratch = working_bytes(c, ComputeOptions{}.prompt_chunk);
  const int64_t prompt = std::min(s.prompt, context);
  const int64_t prompt_scratch = working_bytes(c, std::min(prompt, ComputeOptions{}.prompt_chunk));
  const auto rows_read = [&](int64_t tokens) { return std::min(bytes.embedding, tokens * kMappedAround); };
  const int64_t rows = rows_read(prompt);
  const int64_t held = program + kComputingBytes + bytes.in_memory;
  const int64_t loading = held + rows + std::max(bytes.largest, cache_of(prompt) + prompt_scratch);
  const int64_t full = held + rows_read(context) + std::max(bytes.largest, cache + scratch);
  const Machine machine = inspect_machine();
  const MachineLimits limits = measure_limits(compute->kernels->name(), *compute->pool);

  std::vector<FigureGroup> groups;
  const auto add = [&](std::string figure, double value, std::string unit, std::string formula, std::string source) {
    groups.back().figures.push_back({std::move(figure), value, std::move(unit), std::move(formula), std::move(source)});
  };
  const char* const measured = "measured in this process";
  groups.push_back({"machine", {}});
  const std::string level =
      machine.cpu_model + ", " + limits.level + ", " + std::to_string(limits.num_threads) + " threads";
  add("CPUs", machine.num_usable_cpus, "", level, "the system");
  if (machine.memory_available_bytes) {
    add("memory available", as_double(*machine.memory_available_bytes) * kGB, "GB", "", "the system");
  }
  add("read bandwidth", limits.read_bytes_per_s * kGB, "GB/s", "of a block in memory, all threads", measured);
  const double bf16 = precision == Precision::kF32 ? limits.f32_ops_per_s : limits.bf16_ops_per_s;
  add(precision == Precision::kF32 ? "FP32 peak" : "BF16 peak", bf16 * kGB, "GFLOP/s",
      "chains of dot products in registers", measured);
  if (limits.int8_ops_per_s > 0) {
    add("INT8 peak", limits.int8_ops_per_s * kGB, "GOP/s", "chains of dot products in registers", measured);
  }

  groups.push_back({"memory", {}});
  const char* const packed = "sizes of the tensors as generate packs them";
  add("program and tokenizer", as_double(program) * kGB, "GB", "resident, without pages of the mapped model", measured);
  add("weights", as_double(bytes.in_memory) * kGB, "GB", "packed; without the embedding, which stays in the file",
      packed);
  add("largest matrix, while it is packed", as_double(bytes.largest) * kGB, "GB", "as stored", packed);
  add("computing", as_double(kComputingBytes) * kGB, "GB", "code, stacks and the buffers of a few tokens",
      "measured of models/demo and smaller ones");
  add("embedding as a prompt reads it", as_double(rows) * kGB, "GB",
      "64 KiB of the file around each row of " + std::to_string(prompt) + " tokens, at most the " +
          figure_text(as_double(bytes.embedding) * kGB) + " GB that it has",
      "fault_around_bytes of Linux");
  add("peak of loading", as_double(loading) * kGB, "GB",
      "program + weights + computing + embedding + max(largest matrix, cache + scratch of a prompt of " +
          std::to_string(prompt) + " tokens)",
      packed);
  add("cache of the context", as_double(cache) * kGB, "GB",
      std::to_string(context) + " tokens * " + std::to_string(token_bytes) + " B", "settings");
  add("scratch of a prompt's chunk", as_double(scratch) * kGB, "GB",
      std::to_string(ComputeOptions{}.prompt_chunk) + " tokens, from above", "apps/memory_plan");
  add("peak with a full context", as_double(full) * kGB, "GB",
      "program + weights + computing + embedding as the context reads it + max(largest matrix, cache + scratch)",
      packed);
  if (machine.memory_available_bytes) {
    const double room = as_double(*machine.memory_available_bytes - full);
    add("memory that stays free", room * kGB, "GB",
        room >= 0 ? "it runs"
                  : "it does not fit: a smaller machine.quant, a shorter machine.context, or generate --max-memory",
        "memory available - peak with a full context");
  }

  take_prepared_forms(model, *policy, precision);
  const ModelTraffic traffic = traffic_of(model);
  groups.push_back({"speed", {}});
  const double step = decode_step_bytes(traffic, 1, as_double(prompt), token_bytes);
  const char* const bound = "nobody is faster on this machine; how close fathom comes: fathom bench";
  add("bytes of a decode step", step * kGB, "GB", "weights of a token, cache of " + std::to_string(prompt) + " tokens",
      packed);
  add("decode at most", limits.read_bytes_per_s / step, "tokens/s", "read bandwidth / bytes of a step", bound);
  const double peak = traffic.has_integer_products ? limits.int8_ops_per_s : bf16;
  if (peak > 0) {
    add("prefill at most", peak * as_double(prompt) / prompt_operations(traffic, prompt), "tokens/s",
        std::string(traffic.has_integer_products ? "INT8" : "its") + " peak / operations of a prompt's token", bound);
  }
  return groups;
}

}  // namespace fathom::apps
