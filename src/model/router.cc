#include "model/router.h"

#include <algorithm>

namespace fathom {

RouterSpec router_spec(const ModelConfig& config) {
  const bool grouped = config.topk_method != TopkMethod::kGreedy;
  return {.sigmoid = config.scoring_func == ScoringFunc::kSigmoid,
          .biased_selection = config.topk_method == TopkMethod::kNoauxTc,
          .n_group = grouped ? config.n_group : 1,
          .topk_group = grouped ? config.topk_group : 1,
          .num_experts_per_tok = config.num_experts_per_tok,
          .norm_topk_prob = config.norm_topk_prob,
          .routed_scaling_factor = config.routed_scaling_factor};
}

RoutingPlan make_routing_plan(const Run& run, Tensor expert_ids, int64_t num_experts) {
  const auto ids = expert_ids.view<const int32_t, 2>();
  const int64_t T = ids.extent(0), K = ids.extent(1), rows = T * K;
  RoutingPlan plan{
      .offsets = {run.arena.allocate_array<int64_t>(num_experts + 1), static_cast<size_t>(num_experts + 1)},
      .row_token = {run.arena.allocate_array<int32_t>(rows), static_cast<size_t>(rows)},
      .slot_row = {run.arena.allocate_array<int32_t>(rows), static_cast<size_t>(rows)}};
  std::fill(plan.offsets.begin(), plan.offsets.end(), 0);
  for (int64_t t = 0; t < T; ++t) {
    for (int64_t k = 0; k < K; ++k) ++plan.offsets[static_cast<size_t>(ids(t, k)) + 1];
  }
  for (size_t e = 1; e < plan.offsets.size(); ++e) plan.offsets[e] += plan.offsets[e - 1];
  const ArenaScope scope(run.arena);
  int64_t* next = run.arena.allocate_array<int64_t>(num_experts);
  std::copy_n(plan.offsets.begin(), num_experts, next);
  for (int64_t t = 0; t < T; ++t) {
    for (int64_t k = 0; k < K; ++k) {
      const int64_t row = next[ids(t, k)]++;
      plan.row_token[static_cast<size_t>(row)] = static_cast<int32_t>(t);
      plan.slot_row[static_cast<size_t>(t * K + k)] = static_cast<int32_t>(row);
    }
  }
  return plan;
}

void update_router_bias(std::span<const int64_t> tokens_per_expert, double speed, Tensor bias) {
  int64_t total = 0;
  for (int64_t count : tokens_per_expert) total += count;
  const auto experts = static_cast<int64_t>(tokens_per_expert.size());
  float* b = bias.ptr<float>();
  for (int64_t e = 0; e < experts; ++e) {
    const int64_t excess =
        tokens_per_expert[static_cast<size_t>(e)] * experts - total;  // int64: exact, no rounded mean
    const double direction = excess > 0 ? -1.0 : excess < 0 ? 1.0 : 0.0;
    b[e] = static_cast<float>(double{b[e]} + speed * direction);
  }
}

}  // namespace fathom
