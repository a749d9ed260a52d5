// Goodput: the closed form against jobs that fail at random, and Llama 3's run.
#include "sim/goodput.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>

namespace fathom {
namespace {

// The share of kept work of a job that runs until `work` minutes are kept.
double played(const FailureModel& m, double interval, double work) {
  std::mt19937_64 random(3);
  std::exponential_distribution<double> next(1 / (m.mtbf_h * 60));
  double clock = 0, kept = 0, fail_in = next(random);
  // Runs `minutes`; false: a failure came first.
  const auto runs = [&](double minutes) {
    const double ran = std::min(minutes, fail_in);
    clock += ran;
    fail_in -= ran;
    if (ran == minutes) return true;
    fail_in = next(random);
    return false;
  };
  while (kept < work) {
    if (runs(interval + m.checkpoint_min)) {
      kept += interval;
    } else {
      while (!runs(m.restart_min)) {
      }
    }
  }
  return kept / clock;
}

TEST(Goodput, IsWhatRandomFailuresLeave) {
  for (const FailureModel& m : {FailureModel{3, 1, 10}, FailureModel{0.5, 2, 5}, FailureModel{24, 0.5, 30}}) {
    const auto best = goodput(m);
    ASSERT_TRUE(best.ok());
    EXPECT_NEAR(best->share, played(m, best->interval_min, 2e6), 0.005);
    const auto other = goodput(m, 40);
    EXPECT_NEAR(other->share, played(m, 40, 2e6), 0.005);
    EXPECT_LT(other->share, best->share);
    EXPECT_LT(goodput(m, best->interval_min * 0.8)->share, best->share);
    EXPECT_LT(goodput(m, best->interval_min * 1.25)->share, best->share);
  }
}

TEST(Goodput, TheBestIntervalIsNearYoungs) {
  const auto best = goodput({.mtbf_h = 100, .checkpoint_min = 1, .restart_min = 0});
  EXPECT_NEAR(best->interval_min, std::sqrt(2 * 1 * 6000.0), 2);
}

// 419 unexpected stops in 54 days on 16,384 GPUs, more than 90 % effective time: reachable with checkpoints of half a
// minute and restarts of 4, not with restarts of 15.
TEST(Goodput, Llama3) {
  const double mtbf_h = 54 * 24 / 419.0;
  EXPECT_NEAR(mtbf_h, 3.09, 0.01);
  EXPECT_GT(goodput({mtbf_h, 0.5, 4})->share, 0.9);
  EXPECT_LT(goodput({mtbf_h, 0.5, 15})->share, 0.9);
  EXPECT_LT(goodput({mtbf_h / 4, 0.5, 4})->share, goodput({mtbf_h, 0.5, 4})->share);
}

TEST(Goodput, RefusesWhatIsNoTime) {
  EXPECT_EQ(goodput({0, 1, 1}).error().text, "goodput: mtbf_h is 0; accepted: more than 0 to 1e9");
  EXPECT_EQ(goodput({1, std::nan(""), 1}).error().text, "goodput: checkpoint_min is nan; accepted: 0 to 1e9");
  EXPECT_FALSE(goodput({1, 1, -1}).ok());
  EXPECT_FALSE(goodput({1, 1, std::numeric_limits<double>::infinity()}).ok());
  EXPECT_EQ(goodput({1, 0, 1}).error().text,
            "goodput: checkpoint_min is 0, so the best interval is none; give interval_min");
}

}  // namespace
}  // namespace fathom
