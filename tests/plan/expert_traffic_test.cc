// ExpertTraffic: expectations against draws, and the fits' constants.
#include "plan/expert_traffic.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>
#include <set>
#include <utility>
#include <vector>

#include "../effort.h"
#include "plan/paper.h"

namespace fathom {
namespace {

// Means over seeded draws of the gate.
Destinations drawn(const Gate& gate, int64_t nodes, int num_tokens) {
  std::mt19937 random(7);
  std::vector<int64_t> order(static_cast<size_t>(nodes));
  std::iota(order.begin(), order.end(), 0);
  const int64_t per_node = gate.experts / nodes, reachable = std::min(nodes, gate.max_nodes);
  Destinations sum;
  for (int t = 0; t < num_tokens; ++t) {
    std::shuffle(order.begin(), order.end(), random);
    std::vector<int64_t> experts;
    for (int64_t n = 0; n < reachable; ++n) {
      for (int64_t e = 0; e < per_node; ++e) experts.push_back(order[static_cast<size_t>(n)] * per_node + e);
    }
    std::shuffle(experts.begin(), experts.end(), random);
    std::set<int64_t> on_nodes, on_gpus;
    for (int64_t k = 0; k < gate.top_k; ++k) {
      on_nodes.insert(experts[static_cast<size_t>(k)] / per_node);
      on_gpus.insert(experts[static_cast<size_t>(k)] / (per_node / 8));
    }
    sum.nodes += static_cast<double>(on_nodes.size());
    sum.gpus += static_cast<double>(on_gpus.size());
  }
  return {sum.nodes / num_tokens, sum.gpus / num_tokens};
}

TEST(ExpertTraffic, ExpectationsAreThoseOfDraws) {
  for (int64_t nodes : {1, 2, 4, 8, 16}) {
    const Destinations exact = destinations_of({}, nodes), mean = drawn({}, nodes, 4000);
    EXPECT_NEAR(exact.nodes, mean.nodes, 0.05) << nodes;  // 5 standard errors of a spread below 0.6
    EXPECT_NEAR(exact.gpus, mean.gpus, 0.07) << nodes;
  }
  EXPECT_EQ(destinations_of({}, 1).nodes, 1);
}

// V3's gate again, from the report: 256 sigmoid scores in 8 groups, the 4 groups with the largest sums of their two
// best, of those the 8 best experts; experts in order over the GPUs of EP, 8 a node.
std::vector<Destinations> gated(const std::vector<int64_t>& ranks, int num_tokens) {
  constexpr size_t kGroup = 32;
  std::mt19937 random(11);
  std::normal_distribution<double> normal;
  std::vector<Destinations> sums(ranks.size());
  for (int t = 0; t < num_tokens; ++t) {
    std::vector<std::pair<double, int64_t>> scores;
    std::vector<std::pair<double, size_t>> groups;
    for (int64_t e = 0; e < 256; ++e) scores.emplace_back(1 / (1 + std::exp(-normal(random))), e);
    for (size_t g = 0; g < 8; ++g) {
      std::vector<std::pair<double, int64_t>> members(scores.begin() + static_cast<std::ptrdiff_t>(g * kGroup),
                                                      scores.begin() + static_cast<std::ptrdiff_t>((g + 1) * kGroup));
      std::sort(members.rbegin(), members.rend());
      groups.emplace_back(members[0].first + members[1].first, g);
    }
    std::sort(groups.rbegin(), groups.rend());
    std::vector<std::pair<double, int64_t>> allowed;
    for (size_t g = 0; g < 4; ++g) {
      for (size_t i = 0; i < kGroup; ++i) allowed.push_back(scores[groups[g].second * kGroup + i]);
    }
    std::sort(allowed.rbegin(), allowed.rend());
    for (size_t r = 0; r < ranks.size(); ++r) {
      std::set<int64_t> on_nodes, on_gpus;
      for (size_t k = 0; k < 8; ++k) {
        on_gpus.insert(allowed[k].second / (256 / ranks[r]));
        on_nodes.insert(allowed[k].second / (256 / ranks[r] * 8));
      }
      sums[r].nodes += static_cast<double>(on_nodes.size()) / num_tokens;
      sums[r].gpus += static_cast<double>(on_gpus.size()) / num_tokens;
    }
  }
  return sums;
}

TEST(ExpertTraffic, AGroupOfTheModelsGateIsAsManyNodesAsItIs) {
  if (testing::effort() == testing::Effort::kLittle) GTEST_SKIP() << "10,000 drawn tokens; the usual round runs it";
  const std::vector<int64_t> ranks = {16, 32, 64, 128, 256};
  const double expected[] = {1.96, 3.12, 3.95, 5.72, 6.87};
  const Gate gate = gate_of(paper_input().v3);
  const std::vector<Destinations> means = gated(ranks, 10000);
  for (size_t i = 0; i < ranks.size(); ++i) {
    const Destinations ours = destinations_of(gate, ranks[i], 8);
    EXPECT_NEAR(ours.nodes, means[i].nodes, 0.06) << ranks[i];  // 5 standard errors of spreads below 0.8
    EXPECT_NEAR(ours.gpus, means[i].gpus, 0.06) << ranks[i];
    EXPECT_NEAR(ours.nodes, expected[i], 0.06) << ranks[i];
  }
  EXPECT_EQ(destinations_of(gate, 8, 8).nodes, 1);
  // Without groups, or with all of them allowed, nothing is drawn.
  ModelConfig c = paper_input().v3;
  c.topk_group = c.n_group;
  EXPECT_TRUE(gate_of(c).drawn.empty());
  EXPECT_NEAR(destinations_of(gate_of(c), 64, 8).nodes, 5.295, 0.001);
}

TEST(ExpertTraffic, NodeLimitedRoutingSavesAThird) {
  const double limited = destinations_of({}, 8).nodes, free = destinations_of({.max_nodes = 8}, 8).nodes;
  EXPECT_NEAR(limited, 3.63, 0.005);
  EXPECT_NEAR(free, 5.295, 0.001);  // 8 (1 - (7/8)^8) = 5.25 would be with repetition
  EXPECT_NEAR(1 - limited / free, 0.31, 0.005);
}

TEST(ExpertTraffic, FitsOfTheLowLatencyKernels) {
  EXPECT_NEAR(fit_dispatch().alpha_us, 34.6, 0.05);
  EXPECT_NEAR(fit_dispatch().gbps, 46.3, 0.05);
  EXPECT_NEAR(fit_combine().alpha_us, 5.7, 0.05);
  EXPECT_NEAR(fit_combine().gbps, 39.9, 0.05);
  // Decode on 144 GPUs, 32 tokens to 8 experts: 73 + 93 us twice in 61 layers, 20 ms.
  const double dispatch = fit_dispatch().latency_us(low_latency_bytes(32, 8, 7392, 144));
  const double combine = fit_combine().latency_us(low_latency_bytes(32, 8, 14336, 144));
  EXPECT_NEAR(dispatch, 73, 0.5);
  EXPECT_NEAR(combine, 93, 0.5);
  EXPECT_NEAR(2 * 61 * (dispatch + combine) / 1e3, 20.2, 0.1);
}

TEST(ExpertTraffic, TheLimitMovesFromNvlinkToTheNic) {
  EXPECT_TRUE(normal_bandwidth({}, 2, kDeepEpNicGbps, kDeepEpNvlinkGbps).is_nvlink_bound);
  EXPECT_FALSE(normal_bandwidth({}, 4, kDeepEpNicGbps, kDeepEpNvlinkGbps).is_nvlink_bound);
  EXPECT_TRUE(normal_bandwidth({}, 4, 2 * kDeepEpNicGbps, kDeepEpNvlinkGbps).is_nvlink_bound);
}

// Any node size: a part of a node sends nothing over the NIC, and more GPUs in a node send less.
TEST(ExpertTraffic, ExchangeOverBothLinks) {
  EXPECT_EQ(exchange_cost({}, 1, 8, 40, 160).seconds_per_byte, 0);
  const ExchangeCost half = exchange_cost({}, 4, 8, 40, 160);
  EXPECT_FALSE(half.is_nic);
  EXPECT_NEAR(half.seconds_per_byte, destinations_of({}, 4, 8).gpus * 3 / 4 / 160e9, 1e-20);
  const ExchangeCost v3 = exchange_cost({}, 64, 8, 40, 160);
  EXPECT_TRUE(v3.is_nic);
  EXPECT_NEAR(v3.seconds_per_byte, 3.63 * 7 / 8 / 40e9, 1e-13);
  EXPECT_LT(exchange_cost({}, 64, 64, 40, 160).seconds_per_byte, v3.seconds_per_byte);
  EXPECT_EQ(destinations_of({.experts = 4, .top_k = 8, .max_nodes = 1}, 16).nodes, 1);  // fewer experts than choices
}

}  // namespace
}  // namespace fathom
