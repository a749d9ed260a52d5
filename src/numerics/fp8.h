// FP8 E4M3 ("fn": bias 7, no infinities, maximum 448, NaN = S.1111.111) and DeepSeek's two scalings of it: 1x128 tiles
// for activations, 128x128 blocks for weights (V3 report section 3.3.2). The real value is code * scale.
#pragma once

#include <array>
#include <bit>
#include <cstdint>

#include "tensor/tensor.h"

namespace fathom {

inline constexpr float kE4M3Max = 448.0f;
/// DeepSeek's floor of amax before the scale is taken, so that a zero tile has a finite scale.
inline constexpr float kMinAmax = 1e-4f;

/// Exact.
float to_float(e4m3 v);
/// The same for every code, as a table.
const std::array<float, 256>& e4m3_values();
/// Round to nearest even, saturating at +-448 (infinities too); NaN stays NaN.
e4m3 to_e4m3(float v);

/// Scale of a tile whose largest magnitude is `amax`: max(amax, 1e-4) / 448, in FP32.
inline float tile_scale(float amax) { return (amax > kMinAmax ? amax : kMinAmax) / kE4M3Max; }
/// The same rounded up to a power of two (scale_fmt "ue8m0"); of infinity infinity.
float tile_scale_ue8m0(float amax);
/// A scale of tile_scale_ue8m0 in E8M0: exact, infinity becomes NaN.
inline e8m0 to_e8m0(float power_of_two) { return {static_cast<uint8_t>(std::bit_cast<uint32_t>(power_of_two) >> 23)}; }

/// Number of 128-wide blocks that cover n.
constexpr int64_t num_scale_blocks(int64_t n) { return (n + kScaleBlock - 1) / kScaleBlock; }

/// Quantises w [N, K] FP32 to codes [N, K] E4M3 with one scale per 128x128 block (edges are smaller blocks).
void quantize_blocks(View<const float, 2> w, ScaleFormat format, View<e4m3, 2> codes, View<float, 2> scales);

}  // namespace fathom
