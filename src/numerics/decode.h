// The numbers of a stored matrix as FP32, whatever its dtype, scales and layout.
#pragma once

#include <cstdint>

#include "tensor/tensor.h"

namespace fathom {

/// Element [n, k]: exact for F32, BF16, F16; code * scale rounded once for E4M3 and integer codes. F64 narrows.
float weight_at(const Weight& w, int64_t n, int64_t k);
/// Row n, columns [begin, end), into out; as weight_at.
void decode_row(const Weight& w, int64_t n, int64_t begin, int64_t end, float* out);
/// All of row n.
inline void decode_row(const Weight& w, int64_t n, float* out) { decode_row(w, n, 0, w.in_features(), out); }

}  // namespace fathom
