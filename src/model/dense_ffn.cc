#include "model/dense_ffn.h"

#include "model/linear.h"

namespace fathom {

void DenseFfn::forward(const Run& run, Tensor x, Tensor out, FfnSaved* saved) const {
  const int64_t T = x.extent(0), I = w_.gate.value.out_features();
  const Tensor gate = run.make({T, I}), up = run.make({T, I}), h = run.make({T, I});
  const int64_t rows[2] = {0, T};
  run.grouped_swiglu({.x = x,
                      .offsets = rows,
                      .w_gate = {&w_.gate.value, 1},
                      .w_up = {&w_.up.value, 1},
                      .gate = gate,
                      .up = up,
                      .h = h,
                      .precision = run.precision});
  linear(run, h, w_.down, out);
  if (saved != nullptr) *saved = {.x = x, .gate = gate, .up = up, .h = h, .dout = {}, .dgate = {}, .dup = {}};
}

void DenseFfn::backward_input(const Run& run, Tensor dout, FfnSaved& s, Tensor dx, Into into) const {
  const int64_t T = dout.extent(0), I = w_.gate.value.out_features();
  const Tensor dh = run.make({T, I});
  s.dout = dout;
  s.dgate = run.make({T, I});
  s.dup = run.make({T, I});
  linear_backward_input(run, dout, w_.down, dh);
  run.k.swiglu_backward(s.gate, s.up, dh, s.dgate, s.dup);
  linear_backward_input(run, s.dgate, w_.gate, dx, into);
  linear_backward_input(run, s.dup, w_.up, dx, Into::kAccumulate);
}

void DenseFfn::backward_weight(const Run& run, const FfnSaved& s) const {
  linear_backward_weight(run, s.dout, s.h, w_.down);
  linear_backward_weight(run, s.dgate, s.x, w_.gate);
  linear_backward_weight(run, s.dup, s.x, w_.up);
}

}  // namespace fathom
