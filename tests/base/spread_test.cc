#include "base/spread.h"

#include <gtest/gtest.h>

namespace fathom {
namespace {

TEST(Spread, TheMedianIsTheMiddle) {
  EXPECT_EQ(spread_of({7}).median, 7);
  EXPECT_EQ(spread_of({9, 1, 5}).median, 5);
  EXPECT_EQ(spread_of({9, 1, 5, 4}).median, 4.5);
}

TEST(Spread, IsRelativeToTheMedian) {
  const Spread spread = spread_of({4, 2, 3});
  EXPECT_EQ(spread.lowest, 2);
  EXPECT_EQ(spread.highest, 4);
  EXPECT_DOUBLE_EQ(spread.relative(), 2.0 / 3);
  EXPECT_EQ(spread_of({0, 0, 1}).relative(), 0);
  EXPECT_EQ(Spread{}.relative(), 0);
}

}  // namespace
}  // namespace fathom
