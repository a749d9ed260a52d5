#include <cmath>

#include "kernels/ref/real.h"
#include "kernels/ref/ref.h"

namespace fathom {

using ref::on_real;

void RefKernels::swiglu(Tensor gate, Tensor up, Tensor h) {
  on_real(gate, [&]<class T>(T) {
    const auto gates = gate.view<const T, 2>();
    const auto ups = up.view<const T, 2>();
    const auto hs = h.view<T, 2>();
    for (int64_t m = 0; m < gates.extent(0); ++m) {
      for (int64_t i = 0; i < gates.extent(1); ++i) {
        const double g = gates(m, i);
        hs(m, i) = static_cast<T>(g / (1 + std::exp(-g)) * double{ups(m, i)});
      }
    }
  });
}

void RefKernels::grouped_swiglu(const GroupedSwigluArgs& a) {
  grouped_gemm(a.x, a.offsets, a.w_gate, a.gate, a.precision);
  grouped_gemm(a.x, a.offsets, a.w_up, a.up, a.precision);
  swiglu(a.gate, a.up, a.h);
}

// d silu(g) = s (1 + g (1 - s)) with s = sigmoid(g).
void RefKernels::swiglu_backward(Tensor gate, Tensor up, Tensor dh, Tensor dgate, Tensor dup) {
  on_real(gate, [&]<class T>(T) {
    const auto gates = gate.view<const T, 2>();
    const auto ups = up.view<const T, 2>();
    const auto dhs = dh.view<const T, 2>();
    for (int64_t m = 0; m < gates.extent(0); ++m) {
      for (int64_t i = 0; i < gates.extent(1); ++i) {
        const double g = gates(m, i), u = ups(m, i), d = dhs(m, i), s = 1 / (1 + std::exp(-g));
        dgate.view<T, 2>()(m, i) = static_cast<T>(d * u * s * (1 + g * (1 - s)));
        dup.view<T, 2>()(m, i) = static_cast<T>(d * g * s);
      }
    }
  });
}

}  // namespace fathom
