// The dense SwiGLU feed-forward: down(silu(gate x) * up x). Also the shared experts of an MoE layer.
#pragma once

#include "model/run.h"
#include "model/weights.h"

namespace fathom {

struct FfnSaved {
  Tensor x;            // [T, D]
  Tensor gate, up, h;  // [T, I]
  Tensor dout;         // [T, D]; written by backward_input, as the next two
  Tensor dgate, dup;   // [T, I]
};

class DenseFfn {
 public:
  explicit DenseFfn(const FfnWeights& weights) : w_(weights) {}

  /// out [T, D] =.
  void forward(const Run& run, Tensor x, Tensor out, FfnSaved* saved) const;
  /// dx [T, D] (+)=.
  void backward_input(const Run& run, Tensor dout, FfnSaved& saved, Tensor dx, Into into) const;
  void backward_weight(const Run& run, const FfnSaved& saved) const;

 private:
  const FfnWeights& w_;
};

}  // namespace fathom
