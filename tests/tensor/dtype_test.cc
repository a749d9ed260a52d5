// Element types: names and sizes of the formats, exact widening, and round-to-nearest-even narrowing.
#include "tensor/dtype.h"

#include <gtest/gtest.h>

#include <limits>

namespace fathom {
namespace {

constexpr DType kAll[] = {DType::kF64,  DType::kF32, DType::kF16, DType::kBF16, DType::kE4M3,
                          DType::kE8M0, DType::kI64, DType::kI32, DType::kU8};

TEST(DType, NamesRoundTripAndOthersAreUnknown) {
  for (const DType dtype : kAll) EXPECT_EQ(dtype_from_name(name_of(dtype)), dtype);
  EXPECT_EQ(name_of(DType::kE4M3), "F8_E4M3");
  EXPECT_EQ(dtype_from_name("f32"), std::nullopt);
  EXPECT_EQ(dtype_from_name(""), std::nullopt);
}

TEST(DType, SizesAreThoseOfTheCppTypes) {
  EXPECT_EQ(size_of(DType::kF64), int64_t{sizeof(double)});
  EXPECT_EQ(size_of(DType::kF32), int64_t{sizeof(float)});
  EXPECT_EQ(size_of(DType::kF16), int64_t{sizeof(f16)});
  EXPECT_EQ(size_of(DType::kBF16), int64_t{sizeof(bf16)});
  EXPECT_EQ(size_of(DType::kE4M3), int64_t{sizeof(e4m3)});
  EXPECT_EQ(size_of(DType::kE8M0), int64_t{sizeof(e8m0)});
  EXPECT_EQ(size_of(DType::kI64), 8);
  EXPECT_EQ(size_of(DType::kI32), 4);
  EXPECT_EQ(size_of(DType::kU8), 1);
}

TEST(E8m0, EveryCodeIsItsPowerOfTwo) {
  for (int bits = 0; bits < 255; ++bits) {
    ASSERT_EQ(to_float(e8m0{static_cast<uint8_t>(bits)}), std::ldexp(1.0f, bits - 127)) << bits;
  }
  EXPECT_TRUE(std::isnan(to_float(e8m0{255})));
}

TEST(Bf16, EveryCodeSurvivesTheRoundTrip) {
  for (uint32_t bits = 0; bits <= 0xFFFF; ++bits) {
    const bf16 code{static_cast<uint16_t>(bits)};
    const float value = to_float(code);
    if (std::isnan(value)) {
      EXPECT_TRUE(std::isnan(to_float(to_bf16(value))));
    } else {
      ASSERT_EQ(to_bf16(value).bits, code.bits);
    }
  }
}

TEST(Bf16, RoundsToNearestEvenBetweenNeighbours) {
  for (uint32_t bits = 0; bits < 0x7F7F; ++bits) {  // every finite, non-negative neighbour pair
    const uint32_t low = bits << 16;
    const auto at = [&](uint32_t offset) { return to_bf16(std::bit_cast<float>(low + offset)).bits; };
    const uint16_t even = static_cast<uint16_t>(bits % 2 == 0 ? bits : bits + 1);
    ASSERT_EQ(at(0x7FFF), bits);
    ASSERT_EQ(at(0x8000), even);
    ASSERT_EQ(at(0x8001), bits + 1);
  }
}

TEST(Bf16, KeepsInfinityAndOverflowsToIt) {
  const float infinity = std::numeric_limits<float>::infinity();
  EXPECT_EQ(to_float(to_bf16(infinity)), infinity);
  EXPECT_EQ(to_float(to_bf16(-infinity)), -infinity);
  EXPECT_EQ(to_float(to_bf16(std::numeric_limits<float>::max())), infinity);
  EXPECT_TRUE(std::isnan(to_float(to_bf16(std::bit_cast<float>(0x7F800001u)))));  // a NaN with only low bits set
}

TEST(F16, EveryCodeSurvivesTheRoundTrip) {
  for (uint32_t bits = 0; bits <= 0xFFFF; ++bits) {
    const float value = to_float(f16{static_cast<uint16_t>(bits)});
    if (!std::isnan(value)) {
      ASSERT_EQ(to_f16(value).bits, bits);
    }
  }
  EXPECT_EQ(to_float(f16{0x3C00}), 1.0f);
  EXPECT_EQ(to_float(f16{0x7BFF}), 65504.0f);
  EXPECT_EQ(to_float(f16{0x0001}), 0x1p-24f);
}

}  // namespace
}  // namespace fathom
