#include "numerics/fp8.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "base/rng.h"
#include "numerics/decode.h"
#include "tensor/storage.h"

namespace fathom {
namespace {

/// The value of a code from the definition: bias 7, subnormals, NaN at S.1111.111.
double defined_value(int code) {
  const int exponent = (code >> 3) & 15, mantissa = code & 7;
  const double sign = (code & 128) != 0 ? -1 : 1;
  if (exponent == 15 && mantissa == 7) return std::numeric_limits<double>::quiet_NaN();
  return sign * (exponent == 0 ? std::ldexp(mantissa, -9) : std::ldexp(8 + mantissa, exponent - 10));
}

TEST(E4M3, EveryCodeHasItsDefinedValueAndComesBack) {
  for (int code = 0; code < 256; ++code) {
    const double want = defined_value(code);
    const float got = to_float(e4m3{static_cast<uint8_t>(code)});
    if (std::isnan(want)) {
      EXPECT_TRUE(std::isnan(got));
      continue;
    }
    EXPECT_EQ(static_cast<double>(got), want) << code;
    EXPECT_EQ(to_e4m3(got).bits, code) << code;
  }
}

TEST(E4M3, RoundsToNearestAndTiesToEven) {
  for (int code = 0; code < 126; ++code) {
    const double low = defined_value(code), high = defined_value(code + 1), middle = (low + high) / 2;
    const int even = code % 2 == 0 ? code : code + 1;
    EXPECT_EQ(to_e4m3(static_cast<float>(middle)).bits, even) << code;
    EXPECT_EQ(to_e4m3(std::nextafter(static_cast<float>(middle), 1e9f)).bits, code + 1) << code;
    EXPECT_EQ(to_e4m3(std::nextafter(static_cast<float>(middle), 0.0f)).bits, code) << code;
    EXPECT_EQ(to_e4m3(static_cast<float>(-middle)).bits, even | 128) << code;
  }
}

TEST(E4M3, SaturatesAndKeepsNan) {
  for (float v : {448.0f, 449.0f, 1e30f, std::numeric_limits<float>::infinity()}) {
    EXPECT_EQ(to_float(to_e4m3(v)), 448.0f);
    EXPECT_EQ(to_float(to_e4m3(-v)), -448.0f);
  }
  EXPECT_TRUE(std::isnan(to_float(to_e4m3(std::numeric_limits<float>::quiet_NaN()))));
}

TEST(TileScale, HasDeepSeeksFloorAndRoundsUpToAPowerOfTwo) {
  EXPECT_EQ(tile_scale(0), 1e-4f / 448.0f);
  EXPECT_EQ(tile_scale(448.0f), 1.0f);
  EXPECT_EQ(tile_scale_ue8m0(448.0f), 1.0f);
  EXPECT_EQ(tile_scale_ue8m0(449.0f), 2.0f);
  EXPECT_EQ(tile_scale_ue8m0(224.0f), 0.5f);
}

TEST(QuantizeBlocks, EdgesAreSmallerBlocksAndTheErrorIsBounded) {
  for (ScaleFormat format : {ScaleFormat::kF32, ScaleFormat::kUe8m0}) {
    const int64_t rows = 130, columns = 257;
    Tensor w, codes, scales;
    const Storage a = Storage::for_tensor(DType::kF32, {rows, columns}, &w);
    const Storage b = Storage::for_tensor(DType::kE4M3, {rows, columns}, &codes);
    const Storage c = Storage::for_tensor(DType::kF32, {2, 3}, &scales);
    const Rng rng(3, stream_of("blocks"));
    for (int64_t i = 0; i < w.numel(); ++i)
      w.ptr<float>()[i] = static_cast<float>(rng.normal(static_cast<uint64_t>(i)));
    quantize_blocks(w.view<const float, 2>(), format, codes.view<e4m3, 2>(), scales.view<float, 2>());
    const Weight stored{.codes = codes, .scales = scales};
    std::vector<float> row(static_cast<size_t>(columns));
    for (int64_t n = 0; n < rows; ++n) {
      decode_row(stored, n, row.data());
      for (int64_t k = 0; k < columns; ++k) {
        const float want = w.view<const float, 2>()(n, k), scale = scales.view<const float, 2>()(n / 128, k / 128);
        // Half a step: 2^-4 of the value for normals, 2^-10 scales below them; one rounding of FP32 on top.
        EXPECT_LE(std::fabs(row[static_cast<size_t>(k)] - want), std::fabs(want) * 0x1.00001p-4f + scale * 0x1p-10f);
        EXPECT_EQ(weight_at(stored, n, k), row[static_cast<size_t>(k)]);
      }
    }
  }
}

}  // namespace
}  // namespace fathom
