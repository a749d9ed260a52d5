#include "numerics/fp8.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>

namespace fathom {
namespace {

constexpr float decode(uint8_t bits) {
  const int exponent = (bits >> 3) & 15;
  const int mantissa = bits & 7;
  float magnitude = 0;
  if (exponent == 15 && mantissa == 7) {
    magnitude = std::bit_cast<float>(0x7FC00000u);
  } else if (exponent == 0) {
    magnitude = static_cast<float>(mantissa) * 0x1p-9f;
  } else {
    magnitude =
        std::bit_cast<float>(static_cast<uint32_t>(exponent - 7 + 127) << 23 | static_cast<uint32_t>(mantissa) << 20);
  }
  return (bits & 0x80) != 0 ? -magnitude : magnitude;
}

constexpr std::array<float, 256> kDecoded = [] {
  std::array<float, 256> table{};
  for (unsigned i = 0; i < 256; ++i) table[i] = decode(static_cast<uint8_t>(i));
  return table;
}();

}  // namespace

float to_float(e4m3 v) { return kDecoded[v.bits]; }
const std::array<float, 256>& e4m3_values() { return kDecoded; }

e4m3 to_e4m3(float v) {
  const uint32_t u = std::bit_cast<uint32_t>(v);
  const auto sign = static_cast<uint8_t>((u >> 24) & 0x80);
  if (std::isnan(v)) return {static_cast<uint8_t>(sign | 0x7F)};
  const float magnitude = std::fabs(v);
  if (magnitude >= kE4M3Max) return {static_cast<uint8_t>(sign | 0x7E)};
  if (magnitude < 0x1p-6f) {  // subnormal: steps of 2^-9; 8 steps is the smallest normal, which has the same code
    const auto steps = static_cast<uint8_t>(std::nearbyint(magnitude * 0x1p9f));
    return {static_cast<uint8_t>(sign | steps)};
  }
  // Round the 23-bit mantissa to 3 bits, to nearest even; a carry moves into the exponent, as it should.
  const uint32_t m = std::bit_cast<uint32_t>(magnitude);
  const uint32_t rounded = (m + 0x7FFFF + ((m >> 20) & 1)) >> 20;
  const uint32_t code = rounded - ((127 - 7) << 3);
  return {static_cast<uint8_t>(sign | std::min<uint32_t>(code, 0x7E))};
}

float tile_scale_ue8m0(float amax) {
  const float scale = tile_scale(amax);
  if (std::isinf(scale)) return scale;
  int exponent = 0;
  const float fraction = std::frexp(scale, &exponent);  // scale = fraction * 2^exponent, fraction in [0.5, 1)
  return std::ldexp(1.0f, fraction == 0.5f ? exponent - 1 : exponent);
}

void quantize_blocks(View<const float, 2> w, ScaleFormat format, View<e4m3, 2> codes, View<float, 2> scales) {
  const int64_t rows = w.extent(0), columns = w.extent(1);
  for (int64_t r0 = 0; r0 < rows; r0 += kScaleBlock) {
    for (int64_t c0 = 0; c0 < columns; c0 += kScaleBlock) {
      const int64_t r1 = std::min(r0 + kScaleBlock, rows), c1 = std::min(c0 + kScaleBlock, columns);
      float amax = 0;
      for (int64_t r = r0; r < r1; ++r) {
        for (int64_t c = c0; c < c1; ++c) amax = std::max(amax, std::fabs(w(r, c)));
      }
      const float scale = format == ScaleFormat::kUe8m0 ? tile_scale_ue8m0(amax) : tile_scale(amax);
      scales(r0 / kScaleBlock, c0 / kScaleBlock) = scale;
      for (int64_t r = r0; r < r1; ++r) {
        for (int64_t c = c0; c < c1; ++c) codes(r, c) = to_e4m3(w(r, c) / scale);
      }
    }
  }
}

}  // namespace fathom
