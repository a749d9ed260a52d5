// Gate: the means of published routers, and what popularity does.
#include "sim/gate.h"

#include <gtest/gtest.h>

#include <algorithm>
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

TEST(Gate, RefusesWhatDoesNotDivide) {
  const auto error = [](GateSpec s) {
    const auto hits = draw_gate(s);
    return hits ? "" : hits.error().text;
  };
  EXPECT_EQ(error({.nodes = 3}),
            "256 experts on 24 GPUs; accepted: a multiple of the GPUs, at most 65536 (redundant experts count)");
  EXPECT_EQ(error({.top_k = 200, .max_nodes = 2, .nodes = 8}), "top_k 200 on 2 nodes of 32 experts; accepted: 1 to 64");
  EXPECT_EQ(error({.nodes = 8, .skew = -1}).rfind("skew -1", 0), 0u);
}

}  // namespace
}  // namespace fathom
