// Integer weights: INT8 and 4-bit formats in groups of 32 along k, and the INT8 groups that activations become in a
// product with them. Why 32: it is the block of Q8_0, Q4_0, IQ4_NL (llama.cpp) and of MXFP4 (OCP), whose files then
// load without a change of value, and the error of a group grows with its size (the largest of 128 normal numbers is
// 1.3 times the largest of 32).
//
//   value = table[code] * scale      INT8: the code itself, -127 .. 127      scale F16
//                                    INT4: code - 8, code in 0 .. 15         scale F16
//                                    IQ4_NL: 16 values, dense around zero    scale F16
//                                    MXFP4: E2M1 times 2 (0 1 2 3 4 6 8 12)  scale E8M0 / 2
// and, from GGUF files alone,
//                                    Q5_0: code - 16, code in 0 .. 31        scale F16
//                                    Q6_K: code - 32, code in 0 .. 63        scale F16 * I8, the I8 of each 16 numbers
//                                    IQ4_XS: IQ4_NL's table                  scale F16 * I8
//   value = code * scale - offset    Q4_K, Q5_K: code in 0 .. 15, 0 .. 31    scale and offset F16 * U8
// where the F16 of a K format (the last five but Q5_0) serve a super-block of 8 groups. All are exact in FP32.
#pragma once

#include <array>
#include <cstdint>

#include "tensor/tensor.h"

namespace fathom {

inline constexpr int64_t kGroupSize = 32;

constexpr int64_t num_groups(int64_t k) { return (k + kGroupSize - 1) / kGroupSize; }

constexpr int bits_of(GroupFormat f) {
  switch (f) {
    case GroupFormat::kNone: return 0;
    case GroupFormat::kInt8: return 8;
    case GroupFormat::kQ6K: return 6;
    case GroupFormat::kQ5_0:
    case GroupFormat::kQ5K: return 5;
    case GroupFormat::kInt4:
    case GroupFormat::kIq4Nl:
    case GroupFormat::kMxfp4:
    case GroupFormat::kQ4K:
    case GroupFormat::kIq4Xs: return 4;
  }
  return 0;
}
/// Whether the values of the codes are consecutive whole numbers.
constexpr bool is_consecutive(GroupFormat f) {
  return f != GroupFormat::kIq4Nl && f != GroupFormat::kIq4Xs && f != GroupFormat::kMxfp4;
}
/// Groups have an offset; a super-block of 8 groups shares the F16 that their scales and offsets multiply.
constexpr bool has_offsets(GroupFormat f) { return f == GroupFormat::kQ4K || f == GroupFormat::kQ5K; }
/// The halves of a group have scales of their own (of IQ4_XS the same), of a super-block likewise.
constexpr bool has_half_scales(GroupFormat f) { return f == GroupFormat::kQ6K || f == GroupFormat::kIq4Xs; }
constexpr bool has_super_blocks(GroupFormat f) { return has_offsets(f) || has_half_scales(f); }
/// Whether numbers can be turned into the format, and matrices in rows kept in it.
constexpr bool can_quantize_to(GroupFormat f) {
  return f != GroupFormat::kNone && f != GroupFormat::kQ5_0 && !has_super_blocks(f);
}
inline constexpr int64_t kSuperBlockGroups = 8;

/// What the codes of a matrix are called: I8, U4, or U8 for 5 and 6 bits.
constexpr DType codes_dtype(GroupFormat f) {
  return f == GroupFormat::kInt8 ? DType::kI8 : bits_of(f) == 4 ? DType::kU4 : DType::kU8;
}

/// The values of the first 16 codes of a format of 4 to 6 bits; that of any code is table[code % 16] + code / 16 * 16.
const std::array<int8_t, 16>& code_values(GroupFormat format);

/// One group as it is stored: codes one a byte (INT8: two's complement) and the bits of its scales.
struct StoredGroup {
  std::array<uint8_t, kGroupSize> codes{};
  uint16_t scale = 0;                // F16, of MXFP4 E8M0; of a K format that of the super-block
  uint16_t offset = 0;               // F16 of the super-block: Q4_K and Q5_K
  std::array<uint8_t, 2> factors{};  // of a K format: scale and offset, U8, or the I8 scales of the halves
};
/// What a group stands for: number i is values[i] * scales[i / 16] - offset.
struct GroupValues {
  std::array<int8_t, kGroupSize> values{};
  std::array<float, 2> scales{};
  float offset = 0;

  float at(int64_t i) const {
    return static_cast<float>(values[static_cast<size_t>(i)]) * scales[static_cast<size_t>(i / (kGroupSize / 2))] -
           offset;
  }
};
GroupValues values_of(GroupFormat format, const StoredGroup& group);

/// The stored scale of row n's group (F16, or E8M0 halved) of a matrix in rows, as the factor of the table's values.
float group_scale(const Weight& w, int64_t n, int64_t group);
/// Groups [first, first + count) of row n of a matrix in rows; beyond K there are zeros of whatever is stored.
void read_groups(const Weight& w, int64_t n, int64_t first, int64_t count, StoredGroup* out);

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
