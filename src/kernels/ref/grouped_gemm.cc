#include "kernels/ref/real.h"
#include "kernels/ref/ref.h"

namespace fathom {

void RefKernels::grouped_gemm(Tensor x, std::span<const int64_t> offsets, std::span<const Weight> w, Tensor y,
                              Precision precision) {
  for (size_t e = 0; e < w.size(); ++e) {
    const int64_t rows = offsets[e + 1] - offsets[e];
    if (rows > 0) gemm(x.rows(offsets[e], rows), w[e], y.rows(offsets[e], rows), precision, Into::kAssign);
  }
}

void RefKernels::grouped_gemm_backward_input(Tensor dy, std::span<const int64_t> offsets, std::span<const Weight> w,
                                             Tensor dx, Precision precision, Into into) {
  for (size_t e = 0; e < w.size(); ++e) {
    const int64_t rows = offsets[e + 1] - offsets[e];
    if (rows > 0) gemm_backward_input(dy.rows(offsets[e], rows), w[e], dx.rows(offsets[e], rows), precision, into);
  }
}

void RefKernels::grouped_gemm_backward_weight(Tensor dy, Tensor x, std::span<const int64_t> offsets,
                                              std::span<const Tensor> dw, Precision precision) {
  for (size_t e = 0; e < dw.size(); ++e) {
    const int64_t rows = offsets[e + 1] - offsets[e];
    if (rows > 0) gemm_backward_weight(dy.rows(offsets[e], rows), x.rows(offsets[e], rows), dw[e], precision);
  }
}

}  // namespace fathom
