// The gate: which experts a token uses and how much (V2 report eq. 20-24, V3 report eq. 12-16), the plan that sorts
// tokens by expert, and the auxiliary-loss-free balancing of the selection bias.
//   greedy               softmax, the K best
//   group_limited_greedy softmax, the K best inside the topk_group groups with the best member
//   noaux_tc             sigmoid; selection by score + bias inside the groups with the best two-member sums; weights
//                        from the unbiased scores
#pragma once

#include <span>

#include "model/config.h"
#include "model/run.h"

namespace fathom {

RouterSpec router_spec(const ModelConfig& config);

/// Rows sorted by expert, tokens in order within an expert: a stable counting sort, so it is the same everywhere.
struct RoutingPlan {
  std::span<int64_t> offsets;    // [E + 1] rows of each expert
  std::span<int32_t> row_token;  // [M = T K] token of a row
  std::span<int32_t> slot_row;   // [T K] row of (token, k)
};

/// Builds the plan of expert_ids [T, K] in the pass's arena.
RoutingPlan make_routing_plan(const Run& run, Tensor expert_ids, int64_t num_experts);

/// Once per optimizer step, from the whole batch's tokens per expert: b_e += speed * sign(mean - count_e)
/// (V3 report section 2.1.2). The bias gets no gradient.
void update_router_bias(std::span<const int64_t> tokens_per_expert, double speed, Tensor bias);

}  // namespace fathom
