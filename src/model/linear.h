// Linear: y = x W^T and its two gradients, apart because a pipeline schedule runs them at different times (DualPipe's B
// and W). Gradients are summed into parameters and the residual stream, and assigned elsewhere.
#pragma once

#include "model/run.h"

namespace fathom {

inline void linear(const Run& run, Tensor x, const Param& p, Tensor y) { run.product(x, p.value, y, run.precision); }
inline void linear_backward_input(const Run& run, Tensor dy, const Param& p, Tensor dx, Into into = Into::kAssign) {
  run.k.gemm_backward_input(dy, p.value, dx, run.precision, into);
}
inline void linear_backward_weight(const Run& run, Tensor dy, Tensor x, const Param& p) {
  run.k.gemm_backward_weight(dy, x, p.grad, run.precision);
}

}  // namespace fathom
