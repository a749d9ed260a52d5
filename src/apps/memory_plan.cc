#include "apps/memory_plan.h"

#include <algorithm>
#include <cstdio>

#include "apps/console.h"
#include "base/machine.h"
#include "checkpoint/hf_hub.h"
#include "model/prepare_weights.h"

namespace fathom::apps {
namespace {

/// The program with its tokenizer, and the heads whose keys are expanded at a time (Run::expansion_bytes), from above.
constexpr int64_t kProgramBytes = int64_t{128} << 20;

}  // namespace

Result<Path> prepared_directory(const std::string& named, PreparedKind kind) {
  if (!named.empty()) return Path(named);
  const HubEnvironment environment = HubEnvironment::of_process();
  if (!environment.xdg_cache_home.empty()) return Path(environment.xdg_cache_home) / "fathom";
  if (!environment.home.empty()) return Path(environment.home) / ".cache" / "fathom";
  return invalid("there is no cache directory for prepared " + std::string(kind.name) + "; name one with " +
                 std::string(kind.flag));
}

int64_t working_bytes(const ModelConfig& config, int64_t chunk) {
  const int64_t hidden = 12 * config.hidden_size;
  const int64_t attention =
      4 * config.num_attention_heads * (config.qk_nope_head_dim + config.qk_rope_head_dim + config.v_head_dim);
  const int64_t experts = config.num_experts_per_tok * (2 * config.hidden_size + 4 * config.moe_intermediate_size);
  return chunk * 4 * (hidden + attention + experts + 4 * config.intermediate_size);
}

Result<MemoryPlan> plan_memory(const Model& model, const QuantPolicy& policy, Precision precision,
                               const ComputeOptions& options) {
  const Machine machine = inspect_machine();
  const auto most = parse_memory(options.max_memory, machine.memory_total_bytes);
  if (!most) return Error{most.error().code, "--max-memory: " + most.error().text};
  const auto directory = prepared_directory(options.expert_dir, kPreparedExperts);
  if (!directory) return directory.error();
  const auto file = expert_file(model, policy, precision, *directory);
  if (!file) return Error{file.error().code, "--max-memory: " + file.error().text};
  const PreparedBytes bytes = prepared_bytes(model, policy, precision);
  MemoryPlan plan{.usable_bytes = std::min(*most, machine.memory_available_bytes.value_or(*most)),
                  .resident_bytes = bytes.prepared - bytes.prepared_experts + kProgramBytes +
                                    working_bytes(model.config, options.prompt_chunk),
                  .free_bytes = 0,
                  .expert_bytes = bytes.prepared_experts,
                  .least_slots = model.config.num_experts_per_tok,
                  .file = *file};
  plan.free_bytes = std::max<int64_t>(0, plan.usable_bytes - plan.resident_bytes);
  return plan;
}

Result<int64_t> MemoryPlan::slots(int64_t cache_bytes) const {
  if (cache_bytes + expert_bytes <= free_bytes) return int64_t{0};
  const int64_t slots = std::max<int64_t>(0, free_bytes - cache_bytes) / file.record_bytes;
  if (slots >= least_slots) return std::min(slots, file.num_records);
  const int64_t least = resident_bytes + cache_bytes + least_slots * file.record_bytes;
  return Error{ErrorCode::kOutOfMemory,
               "--max-memory: " + bytes_text(usable_bytes) + " are too little: " + bytes_text(resident_bytes) +
                   " for weights that every token needs and for computing, " + bytes_text(cache_bytes) +
                   " for the cache and " + bytes_text(least_slots * file.record_bytes) +
                   " for the experts of a token are " + bytes_text(least) +
                   "; a shorter --context, --kv-cache-dtype fp8 or a smaller --quant needs less"};
}

std::string expert_report(const ExpertStore& experts) {
  const ExpertStats stats = experts.stats();
  char text[400];
  std::snprintf(
      text, sizeof(text),
      "experts: %lld of %lld in memory (%s), %.1f %% of uses found there, %s read%s, %.1f %% of %lld read ahead "
      "were used, %.1f s waited",
      static_cast<long long>(experts.num_slots()), static_cast<long long>(experts.num_records()),
      bytes_text(experts.num_slots() * experts.slot_bytes()).c_str(), 100 * stats.hit_rate(),
      bytes_text(stats.bytes_read).c_str(), experts.file().is_direct() ? "" : " (not directly)",
      100 * stats.prefetch_accuracy(), static_cast<long long>(stats.prefetched), stats.wait_seconds);
  return text;
}

Json json_of(const ExpertStore& experts) {
  const ExpertStats stats = experts.stats();
  return Json::object()
      .set("file", experts.file().path().string())
      .set("direct", experts.file().is_direct())
      .set("slots", experts.num_slots())
      .set("slot_bytes", experts.slot_bytes())
      .set("records", experts.num_records())
      .set("uses", stats.uses)
      .set("hits", stats.hits)
      .set("arriving", stats.arriving)
      .set("hit_rate", stats.hit_rate())
      .set("bytes_read", stats.bytes_read)
      .set("prefetched", stats.prefetched)
      .set("prefetched_used", stats.prefetched_used)
      .set("prefetch_accuracy", stats.prefetch_accuracy())
      .set("wait_seconds", stats.wait_seconds);
}

}  // namespace fathom::apps
