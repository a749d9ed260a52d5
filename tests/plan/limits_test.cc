// Limits: bounds by resource and the arithmetic of cost.
#include "plan/limits.h"

#include <gtest/gtest.h>

#include "plan/footprint.h"
#include "plan/paper.h"

namespace fathom {
namespace {

TEST(Limits, ExactWidthInsteadOfTheRoundedOne) {
  const NetworkTpot exact = network_tpot({.hidden = 7168});
  EXPECT_NEAR(exact.stage_us, 123.86, 0.01);
  EXPECT_NEAR(exact.tpot_ms, 15.11, 0.01);
  EXPECT_NEAR(network_tpot({.bandwidth_gbps = 40}).tpot_ms, 18.45, 0.01);
}

TEST(Limits, DecodeIsBoundByWhatIsScarce) {
  const ModelConfig c = paper_input().v3;
  const Hardware h = *find_hardware("h800");
  const double weights = *serving_weight_bytes(c, 144, 32);
  const DecodeBounds one = decode_bounds(c, h, weights, 1, 4096, 144);
  EXPECT_EQ(one.limit(), "memory");
  EXPECT_NEAR(one.memory_ms, (weights + 4096 * 70272.0) / 3350e6, 1e-9);
  const DecodeBounds many = decode_bounds(c, h, weights, 64, 4096, 144);
  EXPECT_EQ(many.limit(), "network");
  // Half the batch in each of two micro-batches, 58 layers with experts, 8 copies, 40 GB/s.
  EXPECT_NEAR(many.network_ms, 2 * 58 * 3 * 32 * 8 * 7168 / 40e6, 1e-9);
  EXPECT_EQ(decode_bounds(c, h, weights, 64, 4096, 1).network_ms, 0);
  Hardware slow = h;
  ASSERT_TRUE(slow.set("fp8_tflops", 1).ok());
  EXPECT_EQ(decode_bounds(c, slow, weights, 64, 4096, 144).limit(), "compute");
  // Twice the NIC halves the network's part and nothing else.
  Hardware fast = h;
  ASSERT_TRUE(fast.set("nic_effective_gbps", 80).ok());
  EXPECT_EQ(decode_bounds(c, fast, weights, 64, 4096, 144).network_ms, many.network_ms / 2);
  EXPECT_EQ(decode_bounds(c, fast, weights, 64, 4096, 144).memory_ms, many.memory_ms);
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
