#include "model/moe.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "model/expert_store.h"
#include "model/linear.h"
#include "model/stream_experts.h"

namespace fathom {
namespace {

enum class SlotMove { kToRows, kToSlots };

/// One number per (token, k) on one side, per expert row on the other.
void move_slots(const Run& run, const RoutingPlan& plan, Tensor slots, Tensor rows, SlotMove direction) {
  const auto move = [&]<class T>(T) {
    T* by_slot = slots.ptr<T>();
    T* by_row = rows.ptr<T>();
    for (size_t slot = 0; slot < plan.slot_row.size(); ++slot) {
      if (direction == SlotMove::kToRows) {
        by_row[plan.slot_row[slot]] = by_slot[slot];
      } else {
        by_slot[slot] = by_row[plan.slot_row[slot]];
      }
    }
  };
  run.activation == DType::kF64 ? move(double{}) : move(float{});
}

/// The experts that are chosen at least once, ascending, each with the share of the tokens that chose it.
std::vector<ExpertUse> uses_of(Tensor expert_ids, int64_t num_experts) {
  const auto ids = expert_ids.view<const int32_t, 2>();
  std::vector<int32_t> counts(static_cast<size_t>(num_experts), 0);
  for (int64_t t = 0; t < ids.extent(0); ++t) {
    for (int64_t k = 0; k < ids.extent(1); ++k) ++counts[static_cast<size_t>(ids(t, k))];
  }
  std::vector<ExpertUse> uses;
  for (int32_t e = 0; e < num_experts; ++e) {
    const int32_t count = counts[static_cast<size_t>(e)];
    if (count > 0)
      uses.push_back({.expert = e, .share = static_cast<float>(count) / static_cast<float>(ids.extent(0))});
  }
  return uses;
}

}  // namespace

void prefetch_experts(const Run& run, const ModelConfig& config, const MoeLookahead& ahead) {
  if (ahead.next == nullptr || ahead.next->moe.store == nullptr) return;
  const ArenaScope scope(run.arena);
  const int64_t T = ahead.h_mid.extent(0);
  const Tensor x = run.make({T, ahead.h_mid.extent(1)});
  run.k.rms_norm(ahead.h_mid, ahead.next->post_attention_norm.value.codes, config.rms_norm_eps, x);
  MoeSaved guess;
  Moe(config, ahead.next->moe).gate(run, x, guess);
  ahead.next->moe.store->prefetch(ahead.next->moe.store_layer, uses_of(guess.expert_ids, config.n_routed_experts));
}

void Moe::forward(const Run& run, Tensor x, Tensor out, MoeSaved& saved, const MoeLookahead& ahead) const {
  gate(run, x, saved);
  if (w_.store != nullptr) {
    forward_from_store(run, out, saved, ahead);
    return;
  }
  dispatch(run, saved);
  aggregate(run, experts(run, saved), out, saved);
}

/// Scores and choice. The gate is computed in FP32 whatever the precision of the rest.
void Moe::gate(const Run& run, Tensor x, MoeSaved& s) const {
  const int64_t T = x.extent(0), E = config_.n_routed_experts, K = config_.num_experts_per_tok;
  const Tensor logits = run.make({T, E});
  s.x = x;
  s.scores = run.make({T, E});
  s.expert_ids = Tensor::allocate(run.arena, DType::kI32, {T, K});
  s.weights = run.make({T, K});
  run.k.gemm(x, w_.router.value, logits, Precision::kF32);
  run.k.router({.logits = logits,
                .bias = w_.bias,
                .spec = router_spec(config_),
                .scores = s.scores,
                .expert_ids = s.expert_ids,
                .weights = s.weights});
}

/// Every token's row goes to each of its experts.
void Moe::dispatch(const Run& run, MoeSaved& s) const {
  s.plan = make_routing_plan(run, s.expert_ids, config_.n_routed_experts);
  s.rows = run.make({static_cast<int64_t>(s.plan.row_token.size()), s.x.extent(1)});
  run.k.gather_rows(s.x, s.plan.row_token, s.rows);
}

/// SwiGLU of each expert on its rows -> [M, D].
Tensor Moe::experts(const Run& run, MoeSaved& s) const {
  const int64_t M = s.rows.extent(0), I = config_.moe_intermediate_size;
  s.gate = run.make({M, I});
  s.up = run.make({M, I});
  s.h = run.make({M, I});
  const Tensor y = run.make({M, s.rows.extent(1)});
  run.grouped_swiglu({.x = s.rows,
                      .offsets = s.plan.offsets,
                      .w_gate = w_.gate.value,
                      .w_up = w_.up.value,
                      .gate = s.gate,
                      .up = s.up,
                      .h = s.h,
                      .precision = run.precision});
  run.grouped_product(s.h, s.plan.offsets, w_.down.value, y);
  return y;
}

/// Weighted rows come back to their tokens along the expert tree; the shared experts are added unscaled.
void Moe::aggregate(const Run& run, Tensor expert_rows, Tensor out, MoeSaved& s) const {
  run.k.combine_rows(expert_rows, s.plan.slot_row, s.expert_ids, s.weights, out, Into::kAssign);
  if (w_.shared.gate) run.k.add(shared(run, s), out);
}

Tensor Moe::shared(const Run& run, MoeSaved& s) const {
  const Tensor y = run.make({s.x.extent(0), s.x.extent(1)});
  DenseFfn(w_.shared).forward(run, s.x, y, &s.shared);
  return y;
}

/// dispatch and experts, expert after expert as they come from the file; the rows lie in that order. Combining goes by
/// expert ids, so the order cannot be seen in the result. False: a read failed.
bool Moe::routed_from_store(const Run& run, Tensor out, MoeSaved& s, std::span<const int32_t> order) const {
  const int64_t D = s.x.extent(1), I = config_.moe_intermediate_size;
  const auto ids = s.expert_ids.view<const int32_t, 2>();
  std::vector<int32_t> rank_of(static_cast<size_t>(config_.n_routed_experts), 0);
  for (size_t i = 0; i < order.size(); ++i) rank_of[static_cast<size_t>(order[i])] = static_cast<int32_t>(i);
  const Tensor ranks = Tensor::allocate(run.arena, DType::kI32, {ids.extent(0), ids.extent(1)});
  for (int64_t t = 0; t < ids.extent(0); ++t) {
    for (int64_t k = 0; k < ids.extent(1); ++k) {
      ranks.ptr<int32_t>()[t * ids.extent(1) + k] = rank_of[static_cast<size_t>(ids(t, k))];
    }
  }
  s.plan = make_routing_plan(run, ranks, std::ssize(order));
  const auto M = static_cast<int64_t>(s.plan.row_token.size());
  s.rows = run.make({M, D});
  run.k.gather_rows(s.x, s.plan.row_token, s.rows);
  const Tensor y = run.make({M, D});
  for (int64_t first = 0; first < std::ssize(order);) {
    const int64_t count = w_.store->wait(first);
    if (count == 0) return false;
    std::vector<Weight> gate, up, down;
    std::vector<int64_t> offsets{0};
    const int64_t begin = s.plan.offsets[static_cast<size_t>(first)];
    for (int64_t i = first; i < first + count; ++i) {
      const int32_t expert = order[static_cast<size_t>(i)];
      const ExpertWeights w = expert_weights(w_, expert, w_.store->record(w_.store_layer, expert));
      gate.push_back(w.gate);
      up.push_back(w.up);
      down.push_back(w.down);
      offsets.push_back(s.plan.offsets[static_cast<size_t>(i) + 1] - begin);
    }
    const ArenaScope scope(run.arena);
    const int64_t rows = offsets.back();
    const Tensor x = s.rows.rows(begin, rows), g = run.make({rows, I}), u = run.make({rows, I}),
                 h = run.make({rows, I});
    run.k.grouped_swiglu({.x = x,
                          .offsets = offsets,
                          .w_gate = gate,
                          .w_up = up,
                          .gate = g,
                          .up = u,
                          .h = h,
                          .precision = run.precision});
    run.k.grouped_gemm(h, offsets, down, y.rows(begin, rows), run.precision);
    w_.store->end(count);
    first += count;
  }
  run.k.combine_rows(y, s.plan.slot_row, s.expert_ids, s.weights, out, Into::kAssign);
  return true;
}

/// What needs no file is computed while the file is read: the next layer's guess and the shared experts.
void Moe::forward_from_store(const Run& run, Tensor out, MoeSaved& s, const MoeLookahead& ahead) const {
  const std::span<const int32_t> order =
      w_.store->begin(w_.store_layer, uses_of(s.expert_ids, config_.n_routed_experts));
  if (!order.empty()) prefetch_experts(run, config_, ahead);
  const Tensor from_shared = w_.shared.gate ? shared(run, s) : Tensor{};
  if (order.empty() || !routed_from_store(run, out, s, order)) {
    std::memset(out.data, 0, static_cast<size_t>(out.num_bytes()));
    return;
  }
  if (from_shared) run.k.add(from_shared, out);
}

void Moe::backward_input(const Run& run, Tensor dout, MoeSaved& s, Tensor dx) const {
  const int64_t T = dout.extent(0), D = dout.extent(1), K = config_.num_experts_per_tok;
  const int64_t M = s.rows.extent(0), I = config_.moe_intermediate_size;

  // Combine's transpose is a dispatch of dy. With y = w (h W_down): dh_u = dy W_down, dw = <dh_u, h>, dh = w dh_u.
  s.dy_rows = run.make({M, D});
  run.k.gather_rows(dout, s.plan.row_token, s.dy_rows);
  const Tensor dh = run.make({M, I}), row_weight = run.make({M, 1}), drow_weight = run.make({M, 1});
  run.k.grouped_gemm_backward_input(s.dy_rows, s.plan.offsets, w_.down.value, dh, run.precision, Into::kAssign);
  const Tensor dweights = run.make({T, K});
  move_slots(run, s.plan, s.weights, row_weight, SlotMove::kToRows);
  run.k.weigh_rows_backward(dh, s.h, row_weight.join_last(), drow_weight.join_last());
  move_slots(run, s.plan, dweights, drow_weight, SlotMove::kToSlots);

  s.dgate = run.make({M, I});
  s.dup = run.make({M, I});
  run.k.swiglu_backward(s.gate, s.up, dh, s.dgate, s.dup);
  const Tensor drows = run.make({M, D});
  run.k.grouped_gemm_backward_input(s.dgate, s.plan.offsets, w_.gate.value, drows, run.precision, Into::kAssign);
  run.k.grouped_gemm_backward_input(s.dup, s.plan.offsets, w_.up.value, drows, run.precision, Into::kAccumulate);
  run.k.combine_rows(drows, s.plan.slot_row, s.expert_ids, Tensor{}, dx, Into::kAssign);

  s.dlogits = run.make({T, config_.n_routed_experts});
  run.k.router_backward({.scores = s.scores,
                         .expert_ids = s.expert_ids,
                         .dweights = dweights,
                         .dscores = s.dscores,
                         .spec = router_spec(config_),
                         .dlogits = s.dlogits});
  run.k.gemm_backward_input(s.dlogits, w_.router.value, dx, Precision::kF32, Into::kAccumulate);
  if (w_.shared.gate) DenseFfn(w_.shared).backward_input(run, dout, s.shared, dx, Into::kAccumulate);
}

void Moe::backward_weight(const Run& run, const MoeSaved& s) const {
  run.k.grouped_gemm_backward_weight(s.dy_rows, s.h, s.plan.offsets, w_.down.grad, run.precision);
  run.k.grouped_gemm_backward_weight(s.dgate, s.rows, s.plan.offsets, w_.gate.grad, run.precision);
  run.k.grouped_gemm_backward_weight(s.dup, s.rows, s.plan.offsets, w_.up.grad, run.precision);
  run.k.gemm_backward_weight(s.dlogits, s.x, w_.router.grad, Precision::kF32);
  if (w_.shared.gate) DenseFfn(w_.shared).backward_weight(run, s.shared);
}

}  // namespace fathom
