// Quotient: alike flows merge, others do not, and every flow ends when it does by itself.
#include "sim/quotient.h"

#include <gtest/gtest.h>

#include <random>

namespace fathom {
namespace {

TEST(Quotient, ACompleteExchangeIsOneClass) {
  FlowNetwork n;
  std::vector<int> out, in;
  for (int i = 0; i < 6; ++i) out.push_back(n.add_link("out", 10)), in.push_back(n.add_link("in", 10));
  for (size_t a = 0; a < 6; ++a) {
    for (size_t b = 0; b < 6; ++b) {
      if (a != b) n.add_class(1e9, 1, std::vector{out[a], in[b]});
    }
  }
  const Quotient q = merge_alike(n);
  EXPECT_EQ(q.network.num_classes(), 1);
  EXPECT_EQ(q.network.bytes(0), 30e9);
  EXPECT_EQ(q.network.members(0), 30);
  EXPECT_NEAR(run_flows(q.network)->seconds, 0.5, 1e-12);
}

TEST(Quotient, CountsAClassThatCrossesTwoAlikeLinks) {
  FlowNetwork n;  // a ring in which every flow crosses two links of three
  std::vector<int> links;
  for (int i = 0; i < 3; ++i) links.push_back(n.add_link("l", 1));
  for (size_t i = 0; i < 3; ++i) n.add_class(1e9, 1, std::vector{links[i], links[(i + 1) % 3]});
  const Quotient q = merge_alike(n);
  ASSERT_EQ(q.network.num_classes(), 1);
  EXPECT_EQ(q.network.links(0).size(), 2u);
  EXPECT_NEAR(run_flows(q.network)->seconds, 2, 1e-12);
  EXPECT_NEAR(run_flows(n)->seconds, 2, 1e-12);
}

TEST(Quotient, EveryFlowEndsWhenItDoesByItself) {
  size_t num_merged = 0;
  for (unsigned seed = 0; seed < 60; ++seed) {
    std::mt19937 random(seed);
    // Copies of a small random network that share some links: alike by construction, in ways that are hard to see.
    const int copies = 2 + static_cast<int>(random() % 3), own = 2 + static_cast<int>(random() % 3), shared = 2;
    FlowNetwork n;
    for (int l = 0; l < shared; ++l) n.add_link("shared", 5 + static_cast<double>(random() % 10));
    std::vector<double> gbps;
    for (int l = 0; l < own; ++l) gbps.push_back(1 + static_cast<double>(random() % 4));
    for (int c = 0; c < copies; ++c) {
      for (int l = 0; l < own; ++l) n.add_link("own", gbps[static_cast<size_t>(l)]);
    }
    for (int k = 0; k < 6; ++k) {
      const unsigned pick = static_cast<unsigned>(random());
      const double bytes = 1e9 * (1 + static_cast<double>(random() % 3));
      for (int c = 0; c < copies; ++c) {
        std::vector<int> links;
        for (int l = 0; l < shared; ++l) {
          if (pick >> l & 1) links.push_back(l);
        }
        for (int l = 0; l < own; ++l) {
          if (pick >> (l + shared) & 1) links.push_back(shared + c * own + l);
        }
        if (links.empty()) links.push_back(0);
        n.add_class(bytes, 1, links);
      }
    }
    const Quotient q = merge_alike(n);
    num_merged += static_cast<size_t>(n.num_classes() - q.network.num_classes());
    const auto each = run_flows(n), merged = run_flows(q.network);
    ASSERT_TRUE(each.ok());
    ASSERT_TRUE(merged.ok());
    for (size_t c = 0; c < each->ended.size(); ++c) {
      EXPECT_NEAR(merged->ended[static_cast<size_t>(q.class_of[c])] / each->ended[c], 1, 1e-8) << seed << " " << c;
    }
  }
  EXPECT_GT(num_merged, 300u);
}

TEST(Quotient, TellsApartWhatDiffersFarAway) {
  // Two chains that differ only in their last link.
  FlowNetwork n;
  std::vector<int> a, b;
  for (int i = 0; i < 5; ++i) a.push_back(n.add_link("a", 1)), b.push_back(n.add_link("b", i == 4 ? 0.5 : 1));
  for (size_t i = 0; i + 1 < 5; ++i) {
    n.add_class(1e9, 1, std::vector{a[i], a[i + 1]});
    n.add_class(1e9, 1, std::vector{b[i], b[i + 1]});
  }
  const Quotient q = merge_alike(n);
  EXPECT_NE(q.class_of[0], q.class_of[1]);
  EXPECT_EQ(q.network.num_classes(), 6);  // a chain of 4 flows is its own mirror image, the other is not
}

}  // namespace
}  // namespace fathom
