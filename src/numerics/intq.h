// Integer weights: INT8 and three 4-bit formats in groups of 32 along k, and the INT8 groups that activations become in
// a product with them. Why 32: it is the block of Q8_0, Q4_0, IQ4_NL (llama.cpp) and of MXFP4 (OCP), whose files then
// load without a change of value, and the error of a group grows with its size (the largest of 128 normal numbers is
// 1.3 times the largest of 32).
//
//   value = table[code] * scale      INT8: the code itself, -127 .. 127      scale F16
//                                    INT4: code - 8, code in 0 .. 15         scale F16
//                                    IQ4_NL: 16 values, dense around zero    scale F16
//                                    MXFP4: E2M1 times 2 (0 1 2 3 4 6 8 12)  scale E8M0 / 2
#pragma once

#include <array>
#include <cstdint>

#include "tensor/tensor.h"

namespace fathom {

inline constexpr int64_t kGroupSize = 32;

constexpr int64_t num_groups(int64_t k) { return (k + kGroupSize - 1) / kGroupSize; }
constexpr bool is_four_bit(GroupFormat f) { return f != GroupFormat::kNone && f != GroupFormat::kInt8; }

/// The values of the codes of a 4-bit format.
const std::array<int8_t, 16>& code_values(GroupFormat format);
/// The stored scale of row n's group (F16, or E8M0 halved) of a matrix in rows, as the factor of the table's values.
float group_scale(const Weight& w, int64_t n, int64_t group);

/// A matrix of integer groups in rows, without memory: codes [N, K] with rows of whole groups, scales [N, ceil(K/32)].
Weight group_rows(GroupFormat format, int64_t n, int64_t k);

/// Quantises `count` groups of x (32 numbers each) of one row: codes one a byte (INT8: two's complement), scales as
/// bits of F16 (MXFP4: of E8M0).
///   INT8   scale = max |x| / 127 rounded to F16, code = rne(x / scale) within +-127
///   INT4   codes from the scale, of 12 near the signed largest / -8, that leaves the least squared error; then the
///          best scale for them, and the codes for that scale
///   IQ4_NL the same, near the signed largest / -127
///   MXFP4  scale = 2^(floor(log2 max |x|) - 2) (OCP MX 1.0, 6.3), code = nearest value
/// The error of INT8 is at most half a scale per number where the scale is a normal F16. Returns whether all of x
/// could be represented (no NaN, no infinity, no scale beyond F16).
bool quantize_groups(const float* x, int64_t count, GroupFormat format, uint8_t* codes, uint16_t* scales);

/// Activations: scale = max |x| / 127 in FP32, code = rne(x * (127 / max |x|)). A group with a NaN or an infinity gets
/// codes 0 and the scale NaN, so that whatever it is multiplied with becomes NaN.
void quantize_activations(const float* x, int64_t count, int8_t* codes, float* scales);

}  // namespace fathom
