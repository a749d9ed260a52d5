// Rows of a matrix in another format: what quantisation does, at load and offline.
#pragma once

#include "tensor/tensor.h"

namespace fathom {

/// Makes rows [first, first + N) of `from`, whatever its format, the rows 0 .. N - 1 of `to`, whose memory is there and
/// whose format is BF16 (rounded to nearest even), E4M3 with FP32 scales (numerics/fp8; `first` is a multiple of 128),
/// or integer groups (numerics/intq; the end of the last group counts as zeros). Returns whether the format could hold
/// all numbers: groups hold no NaN, no infinity and no scale beyond F16.
bool convert_rows(const Weight& from, int64_t first, const Weight& to);

}  // namespace fathom
