// What the reference kernels share: running a loop for FP32 or FP64 activations, and reading weights as doubles.
#pragma once

#include "base/check.h"
#include "kernels/kernels.h"
#include "numerics/decode.h"
#include "numerics/fp8.h"
#include "tensor/tensor.h"

namespace fathom::ref {

/// Calls body(T{}) with T = double or float, the dtype of the activations.
template <class Body>
void on_real(const Tensor& t, Body&& body) {
  if (t.dtype == DType::kF64) {
    body(double{});
  } else {
    check(t.dtype == DType::kF32, "activations are F32 or F64");
    body(float{});
  }
}

/// A weight's element in double; F64 weights (finite differences) keep all their bits.
inline double real_weight(const Weight& w, int64_t n, int64_t k) {
  if (w.codes.dtype == DType::kF64) return static_cast<const double*>(w.codes.data)[n * w.codes.stride(0) + k];
  return double{weight_at(w, n, k)};
}

/// Element i of a vector parameter (F32 or F64).
inline double real_at(const Tensor& t, int64_t i) {
  if (t.dtype == DType::kF64) return static_cast<const double*>(t.data)[i];
  return double{t.ptr<const float>()[i]};
}
inline void real_add(const Tensor& t, int64_t i, double v) {
  if (t.dtype == DType::kF64) {
    static_cast<double*>(t.data)[i] += v;
  } else {
    float& at = t.ptr<float>()[i];
    at = static_cast<float>(double{at} + v);
  }
}

/// An operand as a product of this precision takes it.
inline double rounded(double v, Precision precision) {
  return precision == Precision::kBF16 ? double{to_float(to_bf16(static_cast<float>(v)))} : v;
}

}  // namespace fathom::ref
