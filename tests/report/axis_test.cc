// Axis: round ticks in range for any data, readable labels, and positions that follow the scale.
#include "report/axis.h"

#include <gtest/gtest.h>

#include <cmath>

namespace fathom {
namespace {

std::vector<std::string> texts(const Axis& axis) {
  std::vector<std::string> out;
  for (const auto& tick : axis.ticks()) out.push_back(tick.text);
  return out;
}

using Texts = std::vector<std::string>;

TEST(Axis, LinearTicksAreRound) {
  EXPECT_EQ(texts(Axis(0, 100, false, true, 5)), (Texts{"0", "20", "40", "60", "80", "100"}));
  EXPECT_EQ(texts(Axis(1.83, 2.91, false, true, 5)), (Texts{"1.8", "2.0", "2.2", "2.4", "2.6", "2.8", "3.0"}));
  EXPECT_EQ(texts(Axis(-1, 1, false, true, 5)), (Texts{"-1.0", "-0.5", "0", "0.5", "1.0"}));
}

TEST(Axis, ALinearAxisGrowsToWholeTicksOnlyWhenAsked) {
  const Axis grown(3, 97, false, true, 5);
  EXPECT_EQ(grown.low(), 0);
  EXPECT_EQ(grown.high(), 100);
  const Axis tight(3, 97, false, false, 5);
  EXPECT_EQ(tight.low(), 3);
  EXPECT_EQ(tight.high(), 97);
  EXPECT_EQ(tight.position(3), 0);
  EXPECT_EQ(tight.position(50), 0.5);
  EXPECT_EQ(tight.position(97), 1);
}

TEST(Axis, LogTicksArePowersOfTenAndNarrowRangesGetMore) {
  EXPECT_EQ(texts(Axis(1, 10'000, true, true, 5)), (Texts{"1", "10", "100", "1000", "10k"}));
  EXPECT_EQ(texts(Axis(1, 50, true, true, 5)), (Texts{"1", "2", "5", "10", "20", "50"}));
  EXPECT_GE(Axis(1.8, 2.9, true, true, 5).ticks().size(), 3u);
  EXPECT_GE(Axis(1e-30, 1e30, true, true, 5).ticks().size(), 3u);
  EXPECT_LE(Axis(1e-30, 1e30, true, true, 5).ticks().size(), 12u);
}

TEST(Axis, LogPositionsFollowTheRatio) {
  const Axis axis(1, 100, true, true, 5);
  EXPECT_NEAR(axis.position(10), 0.5, 1e-12);
  EXPECT_NEAR(axis.position(10) - axis.position(1), axis.position(100) - axis.position(10), 1e-12);
}

TEST(Axis, AnyRangeHasFewTicksInsideIt) {
  const double sizes[] = {1e-300, 1e-12, 1e-3, 0.7, 1, 3, 1234.5, 1e9, 1e17, 1e300};
  for (const double a : sizes) {
    for (const double b : sizes) {
      for (const double low : {-a, 0.0, a, b}) {
        const double high = std::max(low, b);
        for (const bool log : {false, true}) {
          if (log && low <= 0) continue;
          const Axis axis(low, high, log, true, 5);
          EXPECT_GE(axis.ticks().size(), 2u) << low << " to " << high << (log ? " log" : "");
          EXPECT_LE(axis.ticks().size(), 12u) << low << " to " << high << (log ? " log" : "");
          for (const auto& tick : axis.ticks()) {
            const double at = axis.position(tick.value);
            EXPECT_TRUE(at >= -1e-6 && at <= 1 + 1e-6) << tick.text << " in " << low << " to " << high;
          }
        }
      }
    }
  }
}

TEST(TickText, IsShortAtEverySize) {
  EXPECT_EQ(tick_text(0, 0.1, 1), "0");
  EXPECT_EQ(tick_text(0.25, 0.05, 1), "0.25");
  EXPECT_EQ(tick_text(5000, 1000, 8000), "5000");
  EXPECT_EQ(tick_text(20'000, 5000, 20'000), "20k");
  EXPECT_EQ(tick_text(12'500, 500, 13'000), "12.5k");
  EXPECT_EQ(tick_text(2.5e6, 5e5, 3e6), "2.5M");
  EXPECT_EQ(tick_text(3e9, 1e9, 3e9), "3G");
  EXPECT_EQ(tick_text(1.5e-5, 5e-6, 2e-5), "1.5e-5");
  EXPECT_EQ(tick_text(2e20, 1e20, 2e20), "2e20");
  EXPECT_EQ(tick_text(-1e-10, 1e-10, 1e-10), "-1e-10");
}

TEST(TickText, HasOneUnitPerAxis) {
  EXPECT_EQ(texts(Axis(5000, 25'000, false, true, 5)), (Texts{"5k", "10k", "15k", "20k", "25k"}));
}

}  // namespace
}  // namespace fathom
