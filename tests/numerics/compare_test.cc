#include "numerics/compare.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

namespace fathom {
namespace {

const std::vector<float> kA = {3, 4}, kB = {3, 5};

TEST(Compare, BitEqualSeesSignOfZeroAndAcceptsEqualNan) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  EXPECT_TRUE(bit_equal(std::vector<float>{1, nan}, std::vector<float>{1, nan}));
  EXPECT_FALSE(bit_equal(std::vector<float>{0.0f}, std::vector<float>{-0.0f}));
  EXPECT_FALSE(bit_equal(kA, std::vector<float>{3}));
}

TEST(Compare, RelativeNormsAreThoseOfTheDefinition) {
  EXPECT_DOUBLE_EQ(relative_l2(std::span<const float>(kA), std::span<const float>(kB)), 1 / std::sqrt(34.0));
  EXPECT_DOUBLE_EQ(relative_max(std::span<const float>(kA), std::span<const float>(kB)), 0.2);
  EXPECT_EQ(relative_l2(std::span<const float>(kA), std::span<const float>(kA)), 0);
}

TEST(Compare, ANonFiniteValueIsInfinitelyFar) {
  const std::vector<float> bad = {3, std::numeric_limits<float>::quiet_NaN()};
  EXPECT_TRUE(std::isinf(relative_l2(std::span<const float>(bad), std::span<const float>(kB))));
  EXPECT_TRUE(std::isinf(relative_max(std::span<const float>(bad), std::span<const float>(kB))));
}

TEST(Compare, CosineDifferenceIsZeroForEqualAndTwoForOpposite) {
  EXPECT_NEAR(cosine_difference(kA, kA), 0, 1e-15);
  EXPECT_NEAR(cosine_difference(kA, std::vector<float>{-3, -4}), 2, 1e-15);
}

TEST(Compare, SumBoundCoversASequentialSum) {
  float sum = 0;
  double exact = 0;
  for (int i = 1; i <= 10000; ++i) {
    const float v = 1.0f / static_cast<float>(i);
    sum += v;
    exact += double{v};
  }
  EXPECT_LE(std::fabs(double{sum} - exact), sum_bound(10000, exact));
}

}  // namespace
}  // namespace fathom
