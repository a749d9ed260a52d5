// The gate around the router kernel: what a config asks of it, the plan that sorts rows by expert, the bias update.
#include "model/router.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <vector>

#include "base/rng.h"
#include "kernels/registry.h"

namespace fathom {
namespace {

TEST(RouterSpec, FollowsTheMethodOfTheConfig) {
  ModelConfig config;
  config.n_group = 8;
  config.topk_group = 4;
  config.num_experts_per_tok = 6;
  config.routed_scaling_factor = 2.5;
  config.norm_topk_prob = true;
  config.scoring_func = ScoringFunc::kSigmoid;
  config.topk_method = TopkMethod::kNoauxTc;
  const RouterSpec v3 = router_spec(config);
  EXPECT_TRUE(v3.sigmoid);
  EXPECT_TRUE(v3.biased_selection);
  EXPECT_EQ(v3.n_group, 8);
  EXPECT_EQ(v3.topk_group, 4);
  EXPECT_EQ(v3.num_experts_per_tok, 6);
  EXPECT_TRUE(v3.norm_topk_prob);
  EXPECT_EQ(v3.routed_scaling_factor, 2.5);

  config.scoring_func = ScoringFunc::kSoftmax;
  config.norm_topk_prob = false;
  config.topk_method = TopkMethod::kGroupLimitedGreedy;
  const RouterSpec v2 = router_spec(config);
  EXPECT_FALSE(v2.sigmoid);
  EXPECT_FALSE(v2.biased_selection);
  EXPECT_EQ(v2.n_group, 8);
  EXPECT_EQ(v2.topk_group, 4);
  EXPECT_FALSE(v2.norm_topk_prob);

  config.topk_method = TopkMethod::kGreedy;
  const RouterSpec lite = router_spec(config);
  EXPECT_EQ(lite.n_group, 1) << "greedy knows no groups, whatever the config says of them";
  EXPECT_EQ(lite.topk_group, 1);
}

class RoutingPlanTest : public ::testing::Test {
 protected:
  RoutingPlanTest() : pool_(1), kernels_(std::move(*make_kernels("ref", pool_))) {}
  RoutingPlan plan(const std::vector<int32_t>& ids, int64_t chosen, int64_t experts) {
    const auto tokens = static_cast<int64_t>(ids.size()) / chosen;
    const Tensor tensor = Tensor::allocate(arena_, DType::kI32, {tokens, chosen});
    std::copy(ids.begin(), ids.end(), tensor.ptr<int32_t>());
    return make_routing_plan({.k = *kernels_, .arena = arena_}, tensor, experts);
  }
  ThreadPool pool_;
  std::unique_ptr<Kernels> kernels_;
  Arena arena_;
};

TEST_F(RoutingPlanTest, IsAStableSortOfSlotsByExpert) {
  SequentialRng rng(1, stream_of("routing"));
  for (int trial = 0; trial < 200; ++trial) {
    const int64_t experts = rng.between(1, 20), chosen = rng.between(1, std::min<int64_t>(experts, 6));
    const int64_t tokens = rng.between(0, 40);
    std::vector<int32_t> ids;
    for (int64_t t = 0; t < tokens; ++t) {
      std::vector<int32_t> all(static_cast<size_t>(experts));
      std::iota(all.begin(), all.end(), 0);
      for (size_t k = 0; k < static_cast<size_t>(chosen); ++k) std::swap(all[k], all[k + rng.below(all.size() - k)]);
      std::sort(all.begin(), all.begin() + chosen);
      ids.insert(ids.end(), all.begin(), all.begin() + chosen);
    }
    const RoutingPlan got = plan(ids, chosen, experts);
    std::vector<int32_t> slots(ids.size());
    std::iota(slots.begin(), slots.end(), 0);
    std::stable_sort(slots.begin(), slots.end(),
                     [&](int32_t a, int32_t b) { return ids[static_cast<size_t>(a)] < ids[static_cast<size_t>(b)]; });
    ASSERT_EQ(got.row_token.size(), ids.size());
    ASSERT_EQ(got.slot_row.size(), ids.size());
    ASSERT_EQ(got.offsets.size(), static_cast<size_t>(experts) + 1);
    for (size_t row = 0; row < slots.size(); ++row) {
      ASSERT_EQ(got.row_token[row], slots[row] / chosen);
      ASSERT_EQ(got.slot_row[static_cast<size_t>(slots[row])], static_cast<int32_t>(row));
    }
    for (int64_t e = 0; e <= experts; ++e) {
      ASSERT_EQ(got.offsets[static_cast<size_t>(e)],
                std::count_if(ids.begin(), ids.end(), [e](int32_t id) { return id < e; }));
    }
  }
}

std::vector<float> updated(std::vector<int64_t> counts, double speed, std::vector<float> bias) {
  update_router_bias(counts, speed, Tensor::contiguous(bias.data(), DType::kF32, {static_cast<int64_t>(bias.size())}));
  return bias;
}

TEST(RouterBias, RisesWhereTheLoadIsBelowTheMeanAndFallsWhereItIsAbove) {
  EXPECT_EQ(updated({0, 10, 5, 5}, 0.25, {1, 1, 1, -1}), (std::vector<float>{1.25f, 0.75f, 1, -1}));
  EXPECT_EQ(updated({0, 0, 0}, 0.25, {1, 2, 3}), (std::vector<float>{1, 2, 3})) << "no tokens, no change";
  EXPECT_EQ(updated({7, 7}, 0.25, {1, 2}), (std::vector<float>{1, 2}));
  EXPECT_EQ(updated({1, 0, 0}, 0.5, {0, 0, 0}), (std::vector<float>{-0.5f, 0.5f, 0.5f})) << "the mean is 1/3";
  EXPECT_EQ(updated({3, 1}, 0, {1, 2}), (std::vector<float>{1, 2})) << "speed 0, as at the end of V3's training";
}

TEST(RouterBias, IsExactForCountsThatDoublesRound) {
  const int64_t large = int64_t{1} << 53;
  EXPECT_EQ(updated({large + 1, large, large, large - 1}, 1, {0, 0, 0, 0}), (std::vector<float>{-1, 0, 0, 1}));
  // The mean is large + 1/4: three are below it by a quarter, one above by three quarters.
  EXPECT_EQ(updated({large, large + 1, large, large}, 1, {0, 0, 0, 0}), (std::vector<float>{1, -1, 1, 1}));
}

TEST(RouterBias, RoundsOnceToFp32) {
  const float b = 0.1f;
  EXPECT_EQ(updated({0, 2}, 0.001, {b, b}),
            (std::vector<float>{static_cast<float>(double{b} + 0.001), static_cast<float>(double{b} - 0.001)}));
}

}  // namespace
}  // namespace fathom
