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

/// What the next layer is expected to want of its file of experts is told from this layer's residual stream.
struct MoeLookahead {
  const BlockWeights* next = nullptr;  // the next layer; may be absent
  Tensor h_mid;                        // [T, D] the residual stream before this layer's feed-forward
};

/// Applies the next layer's norm and gate to the residual stream as it is before this layer's feed-forward, and has the
/// experts that they choose read ahead. A layer adds little to the stream, so most choices are those that the layer
/// will make; the rest costs reads. Nothing where the next layer's experts are in memory.
void prefetch_experts(const Run& run, const ModelConfig& config, const MoeLookahead& ahead);

class Moe {
 public:
  Moe(const ModelConfig& config, const MoeWeights& weights) : config_(config), w_(weights) {}

  /// out [T, D] =. In inference `saved` is a local that dies with the step. With experts that are read from a file the
  /// result has the same bits; when a read fails, out is 0 and the store has the error (ExpertStore::take_status).
  void forward(const Run& run, Tensor x, Tensor out, MoeSaved& saved, const MoeLookahead& ahead = {}) const;
  /// dx [T, D] =.
  void backward_input(const Run& run, Tensor dout, MoeSaved& saved, Tensor dx) const;
  void backward_weight(const Run& run, const MoeSaved& saved) const;

 private:
  friend void prefetch_experts(const Run& run, const ModelConfig& config, const MoeLookahead& ahead);
  void gate(const Run& run, Tensor x, MoeSaved& saved) const;
  void dispatch(const Run& run, MoeSaved& saved) const;
  Tensor experts(const Run& run, MoeSaved& saved) const;
  void aggregate(const Run& run, Tensor expert_rows, Tensor out, MoeSaved& saved) const;
  Tensor shared(const Run& run, MoeSaved& saved) const;
  bool routed_from_store(const Run& run, Tensor out, MoeSaved& saved, std::span<const int32_t> order) const;
  void forward_from_store(const Run& run, Tensor out, MoeSaved& saved, const MoeLookahead& ahead) const;

  const ModelConfig& config_;
  const MoeWeights& w_;
};

}  // namespace fathom
