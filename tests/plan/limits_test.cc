// Limits: bounds by resource and the arithmetic of cost.
#include "plan/limits.h"

#include <gtest/gtest.h>

namespace fathom {
namespace {

TEST(Limits, ExactWidthInsteadOfTheRoundedOne) {
  const NetworkTpot exact = network_tpot({.hidden = 7168});
  EXPECT_NEAR(exact.stage_us, 123.86, 0.01);
  EXPECT_NEAR(exact.tpot_ms, 15.11, 0.01);
  EXPECT_NEAR(network_tpot({.bandwidth_gbps = 40}).tpot_ms, 18.45, 0.01);
}

TEST(Limits, TimeNodesAndMoney) {
  EXPECT_NEAR(gpu_hours(1e12, 272.80e9 / 86400, 2048), 180176, 1);
  EXPECT_NEAR(serving_nodes(608e9, 168e9, 73.7e3, 14.8e3), 226.9, 0.05);
  EXPECT_NEAR(dollars_per_million(16, 22.3e3), 0.199, 0.0005);
  EXPECT_EQ(least_gpus(16, 1, 1, 64, 1), 1024);
  EXPECT_EQ(least_gpus(8, 4, 2, 4, 1), 64);
  EXPECT_NEAR(model_flops_utilisation(250e9, 272.80e9 / 86400, 2048, 989.4), 0.3895, 0.0001);
}

}  // namespace
}  // namespace fathom
