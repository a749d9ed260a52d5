// Gate: the means of published routers, and what popularity does.
#include "sim/gate.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>

namespace fathom {
namespace {

TEST(Gate, TouchesTheNodesAndGpusOfItsExpectation) {
  // Of m nodes of e experts, K of N = m e: m (1 - C(N - e, K) / C(N, K)).
  const auto hits = draw_gate({.nodes = 8});
  ASSERT_TRUE(hits.ok());
  EXPECT_NEAR(hits->nodes, 3.63, 0.02);
  EXPECT_NEAR(hits->gpus, 7.37, 0.03);
  EXPECT_NEAR(std::accumulate(hits->copies.begin(), hits->copies.end(), 0.0), 8, 1e-9);
  EXPECT_EQ(hits->node, std::vector<double>(8, hits->node[0]));
  EXPECT_NEAR(draw_gate({.max_nodes = 8, .nodes = 8})->nodes, 5.29, 0.02);
  EXPECT_NEAR(draw_gate({.nodes = 2})->nodes, 1.99, 0.01);
}

TEST(Gate, PopularExpertsDrawMore) {
  const auto skewed = draw_gate({.nodes = 8, .skew = 1, .seed = 3});
  ASSERT_TRUE(skewed.ok());
  const auto [least, most] = std::minmax_element(skewed->copies.begin(), skewed->copies.end());
  EXPECT_GT(*most, 4 * *least);
  EXPECT_NEAR(std::accumulate(skewed->copies.begin(), skewed->copies.end(), 0.0), 8, 1e-9);
  EXPECT_EQ(draw_gate({.nodes = 8, .skew = 1, .seed = 3})->copies, skewed->copies);
  EXPECT_NE(draw_gate({.nodes = 8, .skew = 1, .seed = 4})->copies, skewed->copies);
}

double choose(double n, double k) { return std::exp(std::lgamma(n + 1) - std::lgamma(k + 1) - std::lgamma(n - k + 1)); }

// As many experts as are accepted, in a draw that costs their logarithm: seconds if it were their number. With every
// node allowed, and with few of many nodes.
TEST(Gate, ManyExpertsAreDrawnByTheirExpectation) {
  for (const auto& [nodes, max_nodes] : {std::pair{8.0, 4.0}, {8.0, 8.0}, {8192.0, 4.0}, {8192.0, 8192.0}}) {
    const auto hits = draw_gate(
        {.experts = 65536, .max_nodes = static_cast<int64_t>(max_nodes), .nodes = static_cast<int64_t>(nodes)});
    ASSERT_TRUE(hits.ok());
    const double per_node = 65536 / nodes, all = per_node * max_nodes;
    EXPECT_NEAR(hits->nodes, max_nodes * (1 - choose(all - per_node, 8) / choose(all, 8)), 0.03) << nodes;
    EXPECT_NEAR(std::accumulate(hits->copies.begin(), hits->copies.end(), 0.0), 8, 1e-9);
  }
}

// Successive draws: two of three experts with the weights 1, 1/2, 1/3 leave expert i out with probability
// sum over orders of the other two of p (first) * p (second | first).
TEST(Gate, DrawsWithoutReplacementByWeight) {
  const auto hits = draw_gate({.experts = 3, .top_k = 2, .nodes = 1, .gpus_per_node = 3, .skew = 1});
  ASSERT_TRUE(hits.ok());
  std::vector<double> out;
  for (double share : hits->copies) out.push_back(1 - share);
  std::sort(out.begin(), out.end());
  const double w[] = {1, 1 / 2.0, 1 / 3.0}, sum = 11 / 6.0;
  for (int i = 0; i < 3; ++i) {
    const double a = w[(i + 1) % 3], b = w[(i + 2) % 3];
    const double expected = a / sum * b / (sum - a) + b / sum * a / (sum - b);
    EXPECT_NEAR(out[static_cast<size_t>(i)], expected, 0.02) << i;  // standard error 0.0055
  }
}

// A skew of 10 makes weights of 1e-48 beside 1; a token still goes to top_k different ones.
TEST(Gate, TheLeastPopularAreDrawnWhenNoOthersAreLeft) {
  const auto hits = draw_gate({.experts = 16, .top_k = 16, .nodes = 2, .skew = 10});
  ASSERT_TRUE(hits.ok());
  for (double copies : hits->copies) EXPECT_EQ(copies, 1);
  const auto recorded = draw_gate({.experts = 4, .top_k = 3, .nodes = 1, .gpus_per_node = 4, .recorded = {1, 1, 0, 0}});
  EXPECT_FALSE(recorded.ok());  // half of the choices each, of three a token
  const auto most = draw_gate({.experts = 4, .top_k = 2, .nodes = 1, .gpus_per_node = 4, .recorded = {1, 1, 0, 0}});
  ASSERT_TRUE(most.ok());
  EXPECT_EQ(most->copies, (std::vector<double>{1, 1, 0, 0}));
}

TEST(Gate, RefusesWhatDoesNotDivide) {
  const auto error = [](GateSpec s) {
    const auto hits = draw_gate(s);
    return hits ? "" : hits.error().text;
  };
  EXPECT_EQ(error({.nodes = 3}),
            "256 experts on 24 GPUs; accepted: a multiple of the GPUs, at most 65536 (redundant experts count)");
  EXPECT_EQ(error({.top_k = 200, .max_nodes = 2, .nodes = 8}), "top_k 200 on 2 nodes of 32 experts; accepted: 1 to 64");
  EXPECT_EQ(error({.experts = 65536, .top_k = 257, .nodes = 8}),
            "top_k 257 on 4 nodes of 8192 experts; accepted: 1 to 256");
  EXPECT_EQ(error({.experts = 65536, .max_nodes = 300, .nodes = 512}),
            "max_nodes 300 of 512; accepted: 1 to 256, or all of them");
  EXPECT_EQ(error({.nodes = 8, .skew = -1}).rfind("skew -1", 0), 0u);
}

}  // namespace
}  // namespace fathom
