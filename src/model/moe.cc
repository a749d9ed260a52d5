#include "model/moe.h"

#include "model/linear.h"

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

}  // namespace

void Moe::forward(const Run& run, Tensor x, Tensor out, MoeSaved& saved) const {
  gate(run, x, saved);
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
  run.grouped_product(s.rows, s.plan.offsets, w_.gate.value, s.gate);
  run.grouped_product(s.rows, s.plan.offsets, w_.up.value, s.up);
  run.k.swiglu(s.gate, s.up, s.h);
  run.grouped_product(s.h, s.plan.offsets, w_.down.value, y);
  return y;
}

/// Weighted rows come back to their tokens along the expert tree; the shared experts are added unscaled.
void Moe::aggregate(const Run& run, Tensor expert_rows, Tensor out, MoeSaved& s) const {
  run.k.combine_rows(expert_rows, s.plan.slot_row, s.expert_ids, s.weights, out, Into::kAssign);
  if (!w_.shared.gate) return;
  const Tensor shared = run.make({out.extent(0), out.extent(1)});
  DenseFfn(w_.shared).forward(run, s.x, shared, &s.shared);
  run.k.add(shared, out);
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
