// Optimizer: from the gradients of the slots to the next weights: the sum of slots along a fixed tree, the global norm,
// AdamW. Every sum has one order, so that a step's bits do not depend on who computed which slot.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "kernels/kernels.h"
#include "train/muon.h"
#include "train/parameters.h"

namespace fathom {

/// Sums slots along the binary tree over slot indices: neighbours meet at the level of the highest bit in which they
/// differ, as experts do (kernels/expert_tree.h). A rank that owns an aligned power-of-two range of slots holds a whole
/// subtree. Works like a binary counter: bit_width(num_slots - 1) partial sums are kept, none for one slot.
class GradientTree {
 public:
  /// `gradients` is what every slot adds to, starting from zero.
  GradientTree(Tensor gradients, int64_t num_slots);

  /// After slot `slot` (in order from 0) has been added to the gradients. All but the last slot leave them zero again;
  /// after the last they hold the sum.
  void finish_slot(Kernels& kernels, int64_t slot);

 private:
  Tensor gradients_;
  int64_t num_slots_;
  std::vector<Storage> storage_;
  std::vector<Tensor> partials_;  // level l: the sum of 2^l slots, when bit l of the slots done so far is set
};

/// Norm of all gradients together.
struct GradientNorm {
  double norm = 0;
  std::string not_finite;  // the first tensor in plan order whose gradient is not finite; empty: none
};
/// Each tensor's sum of squares, added in double in plan order.
GradientNorm gradient_norm(Kernels& kernels, const Parameters& parameters);

/// The factor that brings `norm` down to `limit`; 1 when it is below, or when limit is 0.
double clip_factor(double norm, double limit);

struct AdamWSettings {
  double beta1 = 0.9;
  double beta2 = 0.95;
  double epsilon = 1e-8;
  double weight_decay = 0.1;  // of every matrix (embedding, head and router included), of no vector
};

struct OptimizerSettings {
  AdamWSettings adamw;
  MuonSettings muon;
  bool use_muon = false;  // for the matrices of attention, feed-forward, experts and eh_proj
};

/// One update of every parameter but the router biases, in plan order. Weight decay acts on matrices, embedding and
/// head included, not on norms. `step` counts from 1.
void optimizer_step(Kernels& kernels, ThreadPool& pool, Arena& arena, Parameters& parameters,
                    const OptimizerSettings& settings, double learning_rate, double gradient_scale, int64_t step);

}  // namespace fathom
