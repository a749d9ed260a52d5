// Flows: max-min by hand and by its definition, weights against members, the all-to-all of the multi-plane fat tree.
#include "sim/flows.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

namespace fathom {
namespace {

constexpr double kGb = 1e9;

TEST(Flows, RatesOfTheTextbookChain) {
  // Links of 1, 2, 1 GB/s in a row: one flow crosses all, three cross one each.
  FlowNetwork n;
  const int a = n.add_link("a", 1), b = n.add_link("b", 2), c = n.add_link("c", 1);
  n.add_class(1, 1, std::vector{a, b, c});
  n.add_class(1, 1, std::vector{a});
  n.add_class(1, 1, std::vector{b});
  n.add_class(1, 3, std::vector{c});
  const auto rates = max_min_rates(n);
  ASSERT_TRUE(rates.ok());
  // c gives a quarter to each of its four members; then a and b give what is left.
  EXPECT_EQ(*rates, (std::vector<double>{0.25 * kGb, 0.75 * kGb, 1.75 * kGb, 0.75 * kGb}));
}

// A class waits for the link that fixes its rate, which is another once the flows beside it have ended.
TEST(Flows, BottlenecksChangeAsFlowsEnd) {
  FlowNetwork n;
  const int a = n.add_link("a", 1), b = n.add_link("b", 3);
  n.add_class(3 * kGb, 1, std::vector{a});     // with the next on a: half of it, until that one has ended
  n.add_class(1 * kGb, 1, std::vector{a, b});  // 2 s
  n.add_class(7 * kGb, 1, std::vector{b});     // 2.5 of b for 2 s, then all of it
  const auto run = run_flows(n);
  ASSERT_TRUE(run.ok());
  EXPECT_NEAR(run->ended[1], 2, 1e-9);
  EXPECT_NEAR(run->ended[2], 2 + 2 / 3.0, 1e-9);
  EXPECT_NEAR(run->ended[0], 4, 1e-9);
  EXPECT_EQ(bottlenecks(n, run->ended, 0), (std::vector<int>{a, a, b}));
  EXPECT_EQ(bottlenecks(n, run->ended, run->ended[2]), (std::vector<int>{a, -1, b}));
  EXPECT_EQ(bottlenecks(n, run->ended, run->ended[0]), (std::vector<int>{a, -1, -1}));
}

struct Random {
  FlowNetwork network, members;  // classes, and the same with every member as a class of its own
  std::vector<double> capacity;
  std::vector<std::vector<int>> links;
  std::vector<double> weight;
};
Random random_network(unsigned seed) {
  std::mt19937 random(seed);
  Random r;
  const int num_links = 3 + static_cast<int>(random() % 8), num_classes = 1 + static_cast<int>(random() % 12);
  for (int l = 0; l < num_links; ++l) {
    r.capacity.push_back(1 + static_cast<double>(random() % 100));
    r.network.add_link("l", r.capacity.back());
    r.members.add_link("l", r.capacity.back());
  }
  for (int c = 0; c < num_classes; ++c) {
    std::vector<int> links;
    for (int l = 0; l < num_links; ++l) {
      if (random() % 3 == 0) links.push_back(l);
    }
    if (links.empty()) links.push_back(0);
    const int weight = 1 + static_cast<int>(random() % 5);
    const double bytes = 1 + static_cast<double>(random() % 1000);
    r.network.add_class(bytes * weight * kGb, weight, links);
    for (int m = 0; m < weight; ++m) r.members.add_class(bytes * kGb, 1, links);
    r.links.push_back(links);
    r.weight.push_back(weight);
  }
  return r;
}

// The definition: no link is above its capacity, and every flow crosses a full link on which nobody gets more.
TEST(Flows, RatesAreMaxMin) {
  for (unsigned seed = 0; seed < 300; ++seed) {
    const Random r = random_network(seed);
    const auto rates = max_min_rates(r.network);
    ASSERT_TRUE(rates.ok());
    std::vector<double> load(r.capacity.size()), largest(r.capacity.size());
    for (size_t c = 0; c < r.links.size(); ++c) {
      for (int l : r.links[c]) {
        load[static_cast<size_t>(l)] += (*rates)[c];
        largest[static_cast<size_t>(l)] = std::max(largest[static_cast<size_t>(l)], (*rates)[c] / r.weight[c]);
      }
    }
    for (size_t l = 0; l < load.size(); ++l) EXPECT_LE(load[l], r.capacity[l] * kGb * (1 + 1e-9)) << seed;
    for (size_t c = 0; c < r.links.size(); ++c) {
      bool is_limited = false;
      for (int l : r.links[c]) {
        const auto i = static_cast<size_t>(l);
        is_limited = is_limited || (load[i] >= r.capacity[i] * kGb * (1 - 1e-9) &&
                                    (*rates)[c] / r.weight[c] >= largest[i] * (1 - 1e-9));
      }
      EXPECT_TRUE(is_limited) << seed << " class " << c;
    }
  }
}

TEST(Flows, AClassIsItsMembers) {
  for (unsigned seed = 0; seed < 100; ++seed) {
    const Random r = random_network(seed);
    const auto classes = run_flows(r.network), members = run_flows(r.members);
    ASSERT_TRUE(classes.ok());
    ASSERT_TRUE(members.ok());
    EXPECT_NEAR(classes->seconds / members->seconds, 1, 1e-9) << seed;
    size_t m = 0;
    for (size_t c = 0; c < r.weight.size(); ++c) {
      EXPECT_NEAR(classes->ended[c] / members->ended[m], 1, 1e-8) << seed;
      m += static_cast<size_t>(r.weight[c]);
    }
    EXPECT_GE(classes->seconds, flow_bound(r.network)->seconds * (1 - 1e-9)) << seed;
  }
}

TEST(Flows, WhoStaysTakesWhatOthersLeave) {
  FlowNetwork n;
  const int link = n.add_link("link", 2);
  n.add_class(1 * kGb, 1, std::vector{link});
  n.add_class(3 * kGb, 1, std::vector{link});
  const auto run = run_flows(n);
  EXPECT_EQ(run->ended, (std::vector<double>{1, 2}));
  EXPECT_EQ(run->num_solves, 2);
  EXPECT_EQ(flow_bound(n)->seconds, 2);
}

// All-to-all of 1 GB a rank over one plane of the multi-plane fat tree: leaves of 32 NICs at 40 GB/s, up- and downlinks
// of 32 * 50 GB/s. Every plane carries an eighth; a class is a pair of leaves. The first leaf may lack uplinks. GB/s of
// busbw.
double busbw_of_all_to_all(int num_gpus, int lost_uplinks) {
  const int nodes = num_gpus / 8, leaves = (nodes + 31) / 32;
  FlowNetwork n;
  std::vector<int> out, in, up, down, size;
  for (int l = 0; l < leaves; ++l) {
    size.push_back(std::min(32, nodes - 32 * l));
    out.push_back(n.add_link("NIC out", 40.0 * size.back()));
    in.push_back(n.add_link("NIC in", 40.0 * size.back()));
    const double ports = 32 - (l == 0 ? lost_uplinks : 0);
    up.push_back(n.add_link("up", 50 * ports));
    down.push_back(n.add_link("down", 50 * ports));
  }
  for (int a = 0; a < leaves; ++a) {
    for (int b = 0; b < leaves; ++b) {
      const auto i = static_cast<size_t>(a), j = static_cast<size_t>(b);
      const double members =
          8.0 * size[i] * (size[j] - (a == b));  // the 8 GPUs of a node send through this plane's NIC
      if (members == 0) continue;
      std::vector<int> links = {out[i], in[j]};
      if (a != b) links.insert(links.end(), {up[i], down[j]});
      n.add_class(members * kGb / num_gpus, members, links);
    }
  }
  const auto run = run_flows(n);
  EXPECT_TRUE(run.ok());
  EXPECT_NEAR(run->seconds / flow_bound(n)->seconds, 1, 1e-6);  // one collective: the bound is the time
  return 1 / run->seconds * (num_gpus - 1) / num_gpus;
}

// The figures of the SimGrid prototype (network-planning notes, 3.1 and 3.2).
TEST(Flows, AllToAllOfTheMultiPlaneFatTree) {
  for (const auto& [gpus, busbw] : {std::pair{32, 51.67},
                                    {64, 45.00},
                                    {128, 42.33},
                                    {256, 41.13},
                                    {512, 40.56},
                                    {1024, 40.28},
                                    {2048, 40.14},
                                    {16384, 40.02}}) {
    EXPECT_NEAR(busbw_of_all_to_all(gpus, 0), busbw, 0.005) << gpus;
  }
  EXPECT_NEAR(busbw_of_all_to_all(2048, 16), 28.56, 0.005);
  EXPECT_NEAR(busbw_of_all_to_all(2048, 24), 14.28, 0.005);
  EXPECT_NEAR(busbw_of_all_to_all(16384, 16), 25.40, 0.005);
  EXPECT_NEAR(busbw_of_all_to_all(16384, 24), 12.70, 0.005);
  EXPECT_NEAR(busbw_of_all_to_all(1024, 24), 16.65, 0.005);
}

TEST(Flows, RefusesWhatCannotMove) {
  const auto error = [](double gbps, double bytes, double members, std::vector<int> links) {
    FlowNetwork n;
    n.add_link("x", gbps);
    n.add_class(bytes, members, links);
    const auto run = run_flows(n);
    return run ? "" : run.error().text;
  };
  EXPECT_EQ(error(0, 1, 1, {0}), "traffic class 0 crosses link x, which has no capacity");
  EXPECT_EQ(error(std::nan(""), 1, 1, {0}).rfind("link x: its capacity is ", 0), 0u);
  EXPECT_EQ(error(1, -1, 1, {0}).rfind("traffic class 0: -1", 0), 0u);
  EXPECT_EQ(error(1, 1, 0, {0}).rfind("traffic class 0: 1", 0), 0u);
  EXPECT_EQ(error(1, 1, 1, {}), "traffic class 0 crosses no link, so nothing limits it");
  EXPECT_EQ(error(1, 1, 1, {7}), "traffic class 0: link 7 of 1");
  EXPECT_EQ(run_flows(FlowNetwork{})->seconds, 0);
}

// Three flows of 1, 2 and 3 GB on one link: three solves, of 3, 2 and 1 rates.
TEST(Flows, ABudgetOfRatesIsSpentExactly) {
  FlowNetwork n;
  const int link = n.add_link("l", 1);
  for (const double gb : {1, 2, 3}) n.add_class(gb * 1e9, 1, std::vector{link});
  const auto run = run_flows(n);
  ASSERT_TRUE(run.ok());
  EXPECT_EQ(run->num_solves, 3);
  EXPECT_EQ(run->num_rates, 6);
  EXPECT_EQ(run_flows(n, 6)->seconds, run->seconds);
  for (const auto& [budget, solves] : {std::pair{0, 0}, {2, 0}, {4, 1}, {5, 2}}) {
    const auto stopped = run_flows(n, budget);
    ASSERT_FALSE(stopped.ok());
    EXPECT_EQ(stopped.error().code, ErrorCode::kCancelled);
    EXPECT_EQ(stopped.error().text,
              "engine maxmin gave up after " + std::to_string(solves) + " solves for 3 different flows");
  }
}

}  // namespace
}  // namespace fathom
