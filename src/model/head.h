// The output head: logits = hidden W_head^T, and the cross-entropy over them in chunks of tokens, so that [T, V] never
// exists whole (training.md section 3).
#pragma once

#include <span>

#include "model/run.h"
#include "model/weights.h"

namespace fathom {

class Head {
 public:
  explicit Head(const Param& weight) : w_(weight) {}

  /// logits [T, V] of normed hidden rows [T, D].
  void forward(const Run& run, Tensor hidden, Tensor logits) const;

  /// Sum over tokens of the cross-entropy, in double. Targets < 0 are skipped. With dhidden [T, D] (=), also writes the
  /// gradient of gradient_scale * sum and adds the head's weight gradient. token_loss [T], if given, gets each loss.
  double loss(const Run& run, Tensor hidden, std::span<const int32_t> targets, double gradient_scale, Tensor dhidden,
              std::span<double> token_loss = {}) const;

 private:
  const Param& w_;
};

}  // namespace fathom
