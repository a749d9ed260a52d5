// DeepSeekMoE (V2 report section 2.2, V3 report section 2.1.2): y = shared(x) + sum over the K chosen experts of
// w_k expert_k(x). Cut into the stages that a schedule overlaps: gate, dispatch, experts, combine, aggregate.
#pragma once

#include <span>

#include "model/config.h"
#include "model/dense_ffn.h"
#include "model/router.h"
#include "model/run.h"
#include "model/weights.h"

namespace fathom {

struct MoeSaved {
  Tensor x;           // [T, D]
  Tensor scores;      // [T, E]
  Tensor expert_ids;  // [T, K]
  Tensor weights;     // [T, K]
  RoutingPlan plan;
  Tensor rows;      // [M, D] dispatched x
  Tensor gate, up;  // [M, I]
  Tensor h;         // [M, I]; backward_input turns it into w h
  FfnSaved shared;
  Tensor dscores;  // [T, E] of the balance loss; empty without it
  // Written by backward_input for backward_weight.
  Tensor dlogits;     // [T, E]
  Tensor dy_rows;     // [M, D]
  Tensor dgate, dup;  // [M, I]
};

class Moe {
 public:
  Moe(const ModelConfig& config, const MoeWeights& weights) : config_(config), w_(weights) {}

  /// out [T, D] =. In inference `saved` is a local that dies with the step.
  void forward(const Run& run, Tensor x, Tensor out, MoeSaved& saved) const;
  /// dx [T, D] =.
  void backward_input(const Run& run, Tensor dout, MoeSaved& saved, Tensor dx) const;
  void backward_weight(const Run& run, const MoeSaved& saved) const;

 private:
  void gate(const Run& run, Tensor x, MoeSaved& saved) const;
  void dispatch(const Run& run, MoeSaved& saved) const;
  Tensor experts(const Run& run, MoeSaved& saved) const;
  void aggregate(const Run& run, Tensor expert_rows, Tensor out, MoeSaved& saved) const;

  const ModelConfig& config_;
  const MoeWeights& w_;
};

}  // namespace fathom
