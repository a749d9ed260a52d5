#include "numerics/intq.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "base/rng.h"
#include "tensor/dtype.h"

namespace fathom {
namespace {

constexpr GroupFormat kFormats[] = {GroupFormat::kInt8, GroupFormat::kInt4, GroupFormat::kIq4Nl, GroupFormat::kMxfp4};

struct Quantized {
  std::vector<uint8_t> codes;
  std::vector<uint16_t> scales;
  bool all = false;
};

Quantized quantized(const std::vector<float>& x, GroupFormat format) {
  Quantized q;
  q.codes.resize(x.size());
  q.scales.resize(x.size() / kGroupSize);
  q.all = quantize_groups(x.data(), static_cast<int64_t>(q.scales.size()), format, q.codes.data(), q.scales.data());
  return q;
}

/// The definition of intq.h, element by element.
float value_of(const Quantized& q, GroupFormat format, size_t i) {
  const uint16_t bits = q.scales[i / kGroupSize];
  if (format == GroupFormat::kInt8) return static_cast<float>(static_cast<int8_t>(q.codes[i])) * to_float(f16{bits});
  const float scale =
      format == GroupFormat::kMxfp4 ? to_float(e8m0{static_cast<uint8_t>(bits)}) / 2 : to_float(f16{bits});
  return static_cast<float>(code_values(format)[q.codes[i]]) * scale;
}

double relative_error(const std::vector<float>& x, GroupFormat format) {
  const Quantized q = quantized(x, format);
  EXPECT_TRUE(q.all);
  double error = 0, norm = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    error += std::pow(double{x[i]} - double{value_of(q, format, i)}, 2);
    norm += double{x[i]} * double{x[i]};
  }
  return std::sqrt(error / norm);
}

std::vector<float> normals(size_t count, uint64_t seed) {
  const Rng rng(seed, stream_of("intq"));
  std::vector<float> x(count);
  for (size_t i = 0; i < count; ++i) x[i] = static_cast<float>(rng.normal(i));
  return x;
}

TEST(Groups, Int8ErrsByHalfAStepAtMost) {
  const std::vector<float> x = normals(64 * kGroupSize, 1);
  const Quantized q = quantized(x, GroupFormat::kInt8);
  for (size_t i = 0; i < x.size(); ++i) {
    // The scale's rounding to F16 (2^-11) may make the largest numbers miss by 127 * 2^-11 of a step more.
    const float step = to_float(f16{q.scales[i / kGroupSize]});
    EXPECT_LE(std::fabs(x[i] - value_of(q, GroupFormat::kInt8, i)), step * (0.5f + 127 * 0x1p-11f));
  }
}

TEST(Groups, HoldTheirOwnValuesExactly) {
  for (GroupFormat format : kFormats) {
    if (format == GroupFormat::kInt8) continue;
    std::vector<float> x(kGroupSize);
    for (size_t i = 0; i < x.size(); ++i) x[i] = 0.25f * static_cast<float>(code_values(format)[i % 16]);
    const Quantized q = quantized(x, format);
    for (size_t i = 0; i < x.size(); ++i) EXPECT_EQ(value_of(q, format, i), x[i]) << static_cast<int>(format) << i;
  }
  std::vector<float> x(kGroupSize);
  for (size_t i = 0; i < x.size(); ++i) x[i] = 0.5f * (static_cast<float>(i) * 8 - 127);  // -127 .. 121 halves
  x[0] = -63.5f;
  const Quantized q = quantized(x, GroupFormat::kInt8);
  for (size_t i = 0; i < x.size(); ++i) EXPECT_EQ(value_of(q, GroupFormat::kInt8, i), x[i]);
}

// Root mean square errors of normal numbers. A uniform step d errs by d / sqrt(12); the largest of 32 magnitudes is 2.3
// sigma on average, so INT8 errs by about 2.3 / 127 / 3.46 = 0.5 % and INT4, with a clipped end, by 8 to 9 %.
TEST(Groups, ErrAsTheirStepsSay) {
  const std::vector<float> x = normals(512 * kGroupSize, 2);
  const double int8 = relative_error(x, GroupFormat::kInt8), int4 = relative_error(x, GroupFormat::kInt4);
  const double iq4_nl = relative_error(x, GroupFormat::kIq4Nl), mxfp4 = relative_error(x, GroupFormat::kMxfp4);
  EXPECT_GT(int8, 0.004);
  EXPECT_LT(int8, 0.006);
  EXPECT_GT(int4, 0.07);
  EXPECT_LT(int4, 0.09);
  EXPECT_LT(iq4_nl, int4);
  EXPECT_GT(mxfp4, int4);
  EXPECT_LT(mxfp4, 0.13);
}

TEST(Groups, SearchedScalesBeatTheLargestNumberOverEight) {
  const std::vector<float> x = normals(256 * kGroupSize, 3);
  double plain = 0, norm = 0;
  for (size_t g = 0; g < x.size(); g += kGroupSize) {
    float largest = 0;
    for (size_t i = 0; i < kGroupSize; ++i) {
      if (std::fabs(x[g + i]) > std::fabs(largest)) largest = x[g + i];
    }
    const float scale = largest / -8;
    for (size_t i = 0; i < kGroupSize; ++i) {
      const float code = std::fmin(std::nearbyint(x[g + i] / scale), 7.0f);
      plain += std::pow(double{x[g + i]} - double{code * scale}, 2);
      norm += double{x[g + i]} * double{x[g + i]};
    }
  }
  EXPECT_LT(relative_error(x, GroupFormat::kInt4), 0.97 * std::sqrt(plain / norm));
}

TEST(Groups, OfZerosAreZeros) {
  for (GroupFormat format : kFormats) {
    const Quantized q = quantized(std::vector<float>(kGroupSize, 0.0f), format);
    EXPECT_TRUE(q.all);
    for (size_t i = 0; i < kGroupSize; ++i) EXPECT_EQ(value_of(q, format, i), 0.0f);
  }
}

TEST(Groups, SayWhatTheyCannotHold) {
  for (GroupFormat format : kFormats) {
    for (float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(),
                      -std::numeric_limits<float>::infinity()}) {
      std::vector<float> x = normals(3 * kGroupSize, 4);
      x[40] = bad;
      EXPECT_FALSE(quantized(x, format).all) << static_cast<int>(format) << " " << bad;
    }
  }
  EXPECT_FALSE(quantized(std::vector<float>(kGroupSize, 3e7f), GroupFormat::kInt8).all);  // beyond 127 * 65504
  EXPECT_TRUE(quantized(std::vector<float>(kGroupSize, 3e7f), GroupFormat::kMxfp4).all);
}

TEST(Groups, OfTheSmallestNumbersStayFinite) {
  for (GroupFormat format : kFormats) {
    for (float tiny : {1e-45f, 1e-40f, 1e-38f, 1e-30f}) {
      std::vector<float> x(kGroupSize, tiny);
      x[1] = -tiny;
      const Quantized q = quantized(x, format);
      for (size_t i = 0; i < x.size(); ++i) EXPECT_LE(std::fabs(value_of(q, format, i)), 2 * tiny);
    }
  }
}

TEST(Activations, ErrByHalfAStepAtMost) {
  const std::vector<float> x = normals(64 * kGroupSize, 5);
  std::vector<int8_t> codes(x.size());
  std::vector<float> scales(x.size() / kGroupSize);
  quantize_activations(x.data(), static_cast<int64_t>(scales.size()), codes.data(), scales.data());
  for (size_t i = 0; i < x.size(); ++i) {
    const float scale = scales[i / kGroupSize];
    EXPECT_LE(std::fabs(x[i] - static_cast<float>(codes[i]) * scale), scale * 0.50002f);
  }
}

TEST(Activations, PassOnWhatIsNotFinite) {
  std::vector<float> x = normals(2 * kGroupSize, 6);
  x[3] = std::numeric_limits<float>::infinity();
  std::vector<int8_t> codes(x.size(), 1);
  float scales[2];
  quantize_activations(x.data(), 2, codes.data(), scales);
  EXPECT_TRUE(std::isnan(scales[0]));
  for (int i = 0; i < kGroupSize; ++i) EXPECT_EQ(codes[static_cast<size_t>(i)], 0);
  EXPECT_TRUE(std::isfinite(scales[1]));
}

}  // namespace
}  // namespace fathom
