// From the tensors of the seam to the plain pointers of a level's loops, with the caller's promises checked.
#pragma once

#include "base/check.h"
#include "kernels/cpu/level/level.h"
#include "kernels/kernels.h"

namespace fathom::cpu {

/// The level's name for a weight dtype; F64 weights belong to ref.
Stored stored_of(DType dtype);
/// A weight as its rows from `first_row` on.
MatrixRef matrix_of(const Weight& w, int64_t first_row = 0);
MatrixRef matrix_of(const Tensor& f32);

/// Row t of an FP32 matrix.
inline float* row(const Tensor& x, int64_t t) { return static_cast<float*>(x.data) + t * x.stride(0); }
inline int32_t* int_row(const Tensor& x, int64_t t) { return static_cast<int32_t*>(x.data) + t * x.stride(0); }

/// An FP32 matrix (or vector) of the given extents.
inline void expect_f32(const Tensor& x, int64_t rows, int64_t columns) {
  check(x.dtype == DType::kF32 && x.rank == 2, "activations of the cpu back end are F32 matrices");
  check(x.extent(0) == rows && x.extent(1) == columns, "extents of the operands agree");
}
inline void expect_f32(const Tensor& x, int64_t count) {
  check(x.dtype == DType::kF32 && x.rank == 1 && x.extent(0) == count, "a vector is F32 and has the row's length");
}
inline void expect_f32(const Tensor& x, int64_t a, int64_t b, int64_t c) {
  check(x.dtype == DType::kF32 && x.rank == 3, "attention tensors are F32 with three axes");
  check(x.extent(0) == a && x.extent(1) == b && x.extent(2) == c, "extents of the attention tensors agree");
}

}  // namespace fathom::cpu
