// The schedules at their seams.
#include "train/learning_rate.h"

#include <gtest/gtest.h>

#include <cmath>

namespace fathom {
namespace {

TEST(LearningRate, WarmsUpLinearlyAndMeetsThePeakWithItsLastStep) {
  for (const char* schedule : {"v3", "cosine", "wsd"}) {
    const LearningRateSettings s{.schedule = schedule, .peak = 0.5, .final = 0.1, .warmup_steps = 4};
    ASSERT_TRUE(check_learning_rate(s, 100));
    EXPECT_EQ(learning_rate(s, 100, 0), 0.125) << schedule;
    EXPECT_EQ(learning_rate(s, 100, 3), 0.5) << schedule;
    EXPECT_EQ(learning_rate(s, 100, 4), 0.5) << schedule;
  }
}

TEST(LearningRate, WithoutWarmUpStartsAtThePeak) {
  const LearningRateSettings s{.peak = 0.5, .warmup_steps = 0};
  EXPECT_EQ(learning_rate(s, 10, 0), 0.5);
}

TEST(LearningRate, V3HasFourPhases) {
  // 2000 warm-up steps, then 10 : 4.3 : 0.333 : 0.167 of 14800 steps: one step per billion tokens of the report.
  const LearningRateSettings s{.schedule = "v3", .peak = 2.2e-4, .final = 2.2e-5, .warmup_steps = 2000};
  ASSERT_TRUE(check_learning_rate(s, 14800));
  EXPECT_EQ(learning_rate(s, 14800, 9999), 2.2e-4);
  EXPECT_NEAR(learning_rate(s, 14800, 10000), 2.2e-4, 1e-18);
  EXPECT_LT(learning_rate(s, 14800, 10001), 2.2e-4);
  EXPECT_NEAR(learning_rate(s, 14800, 12150), (2.2e-4 + 2.2e-5) / 2, 1e-12);  // the middle of the cosine
  EXPECT_GT(learning_rate(s, 14800, 14299), 2.2e-5);
  EXPECT_EQ(learning_rate(s, 14800, 14300), 2.2e-5);
  EXPECT_EQ(learning_rate(s, 14800, 14632), 2.2e-5);
  EXPECT_NEAR(learning_rate(s, 14800, 14633), 7.3e-6, 1e-18);
  EXPECT_NEAR(learning_rate(s, 14800, 20000), 7.3e-6, 1e-18);
}

TEST(LearningRate, CosineFallsFromPeakToFinal) {
  const LearningRateSettings s{.schedule = "cosine", .peak = 1, .final = 0.2, .warmup_steps = 10};
  EXPECT_EQ(learning_rate(s, 110, 10), 1);
  EXPECT_NEAR(learning_rate(s, 110, 60), 0.6, 1e-15);
  for (int64_t step = 10; step < 109; ++step) EXPECT_GT(learning_rate(s, 110, step), learning_rate(s, 110, step + 1));
  EXPECT_EQ(learning_rate(s, 110, 110), 0.2);
}

TEST(LearningRate, WsdDecaysLinearlyOverTheLastFraction) {
  const LearningRateSettings s{.schedule = "wsd", .peak = 1, .final = 0, .warmup_steps = 0, .decay_fraction = 0.2};
  EXPECT_EQ(learning_rate(s, 100, 79), 1);
  EXPECT_EQ(learning_rate(s, 100, 80), 1);
  EXPECT_EQ(learning_rate(s, 100, 90), 0.5);
  EXPECT_NEAR(learning_rate(s, 100, 99), 0.05, 1e-15);
  EXPECT_EQ(learning_rate(s, 100, 100), 0);
}

TEST(LearningRate, RefusesSettingsThatMakeNoSchedule) {
  const auto text = [](LearningRateSettings s) {
    const Status status = check_learning_rate(s, 10);
    return status ? std::string() : status.error().text;
  };
  EXPECT_EQ(text({.warmup_steps = 10}), "");
  EXPECT_NE(text({.schedule = "linear", .warmup_steps = 1}).find("\"linear\""), std::string::npos);
  EXPECT_NE(text({.warmup_steps = 11}).find("warmup_steps 11"), std::string::npos);
  EXPECT_NE(text({.peak = 0.1, .final = 0.2, .warmup_steps = 1}).find("final"), std::string::npos);
  EXPECT_NE(text({.peak = NAN, .warmup_steps = 1}).find("peak"), std::string::npos);
  EXPECT_NE(text({.warmup_steps = 1, .decay_fraction = 1.5}).find("decay_fraction"), std::string::npos);
  EXPECT_NE(text({.warmup_steps = 1, .v3_phases = {1, 2}}).find("v3_phases"), std::string::npos);
  EXPECT_NE(text({.warmup_steps = 1, .v3_last_ratio = 2}).find("v3_last_ratio"), std::string::npos);
}

}  // namespace
}  // namespace fathom
