// SwitchGraph: Slim Flies and Dragonflies cable by cable: their counts, their diameter, their ways, and that what is
// called alike is.
#include "cluster/switch_graph.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <set>

#include "cluster/dragonfly.h"
#include "cluster/slim_fly.h"

namespace fathom {
namespace {

/// Every cable is there from both of its ends, as often.
void expect_two_ends(const SwitchGraph& g) {
  std::map<std::pair<int, int>, int> cables;
  for (int32_t hop = 0; hop < g.num_switches() * g.ports(); ++hop) {
    ASSERT_GE(g.to(hop), 0);
    ASSERT_NE(g.to(hop), g.from(hop));
    ++cables[{g.from(hop), g.to(hop)}];
  }
  for (const auto& [ends, count] : cables) EXPECT_EQ(count, (cables[{ends.second, ends.first}]));
}

/// Loads of all hops when every switch sends 1 to every other, its minimal ways sharing evenly.
std::vector<double> uniform_loads(const SwitchGraph& g) {
  std::vector<double> load(static_cast<size_t>(g.num_switches()) * static_cast<size_t>(g.ports()), 0);
  for (int from = 0; from < g.num_switches(); ++from) {
    for (int to = 0; to < g.num_switches(); ++to) {
      if (from == to) continue;
      const auto routes = g.routes(from, to);
      for (const Route& route : routes) {
        for (int32_t hop : route) load[static_cast<size_t>(hop)] += 1 / static_cast<double>(routes.size());
      }
    }
  }
  return load;
}

void expect_alike_loads(const SwitchGraph& g) {
  std::map<int32_t, double> first;
  const auto loads = uniform_loads(g);
  for (size_t hop = 0; hop < loads.size(); ++hop) {
    const double load = first.try_emplace(g.hop_colours()[hop], loads[hop]).first->second;
    ASSERT_NEAR(loads[hop] / load, 1, 1e-9) << "hop " << hop;
  }
}

void expect_ways(const SwitchGraph& g, size_t most_hops) {
  for (int from = 0; from < g.num_switches(); from += 3) {
    for (int to = 0; to < g.num_switches(); ++to) {
      if (from == to) continue;
      const auto routes = g.routes(from, to);
      ASSERT_FALSE(routes.empty()) << from << " " << to;
      EXPECT_EQ(std::set<Route>(routes.begin(), routes.end()).size(), routes.size());
      for (const Route& route : routes) {
        ASSERT_LE(route.size(), most_hops);
        int at = from;
        for (int32_t hop : route) {
          ASSERT_EQ(g.from(hop), at);
          at = g.to(hop);
        }
        ASSERT_EQ(at, to);
      }
    }
  }
}

TEST(SwitchGraph, SlimFliesHaveTheirCountsAndDiameterTwo) {
  for (int q : {3, 4, 5, 7, 8, 9}) {
    const auto g = SwitchGraph::slim_fly(q);
    const auto counts = slim_fly_counts(q);
    ASSERT_TRUE(g.ok()) << q;
    EXPECT_EQ(g->num_switches(), counts->switches) << q;
    EXPECT_EQ(g->num_cables(), counts->switch_links()) << q;
    expect_two_ends(*g);
    expect_ways(*g, 2);
    expect_alike_loads(*g);
  }
}

TEST(SwitchGraph, TheLargestSlimFlyOf64PortsHasDiameterTwo) {
  const auto g = SwitchGraph::slim_fly(27);
  ASSERT_TRUE(g.ok());
  EXPECT_EQ(g->num_cables(), slim_fly_counts(27)->switch_links());
  for (int from : {0, 27 * 27}) {  // one of each side; the others are alike
    for (int to = 0; to < g->num_switches(); ++to) {
      if (to == from) continue;
      const auto routes = g->routes(from, to);
      ASSERT_FALSE(routes.empty());
      ASSERT_LE(routes[0].size(), 2u);
    }
  }
}

TEST(SwitchGraph, DragonfliesHaveTheirCountsAndThreeHops) {
  for (const auto& [h, groups] : {std::pair{1, 0}, {2, 0}, {2, 2}, {2, 5}, {2, 6}, {2, 8}, {3, 18}, {3, 11}}) {
    const auto g = SwitchGraph::dragonfly(h, groups);
    const auto counts = dragonfly(h, groups);
    ASSERT_TRUE(g.ok());
    EXPECT_EQ(g->num_switches(), counts->switches) << h << " " << groups;
    EXPECT_EQ(g->num_cables(), counts->switch_links()) << h << " " << groups;
    expect_two_ends(*g);
    expect_ways(*g, 3);
    expect_alike_loads(*g);
    int64_t globals = 0;
    for (int32_t hop = 0; hop < g->num_switches() * g->ports(); ++hop) {
      const bool leaves = g->from(hop) / g->group_size() != g->to(hop) / g->group_size();
      EXPECT_EQ(g->is_global(hop), leaves);
      globals += leaves;
    }
    EXPECT_EQ(globals, 2 * counts->links[1].count);
  }
  EXPECT_EQ(SwitchGraph::dragonfly(16, 511)->num_cables(), 253456 + 130816);  // table 3 of arXiv 2505.09343
}

TEST(SwitchGraph, WaysGoAroundLostCables) {
  auto fly = *SwitchGraph::slim_fly(5);
  ASSERT_TRUE(fly.lose(6).ok());
  EXPECT_EQ(fly.num_cables(), 25 * 7 - 6);
  expect_ways(fly, 4);
  auto dragonfly = *SwitchGraph::dragonfly(2);
  const int other = dragonfly.to(3);  // the first global cable
  EXPECT_EQ(dragonfly.routes(0, other)[0].size(), 1u);
  ASSERT_TRUE(dragonfly.lose(1).ok());
  EXPECT_EQ(dragonfly.num_cables(), 9 * 6 + 9 * 4 - 1);
  EXPECT_EQ(dragonfly.routes(0, other).size(), 7u);  // over each third group
  expect_ways(dragonfly, 5);
}

/// What every switch puts on every hop when it sends 1 to those of `targets`, by Valiant's ways.
template <class Targets>
std::vector<double> valiant_loads(const SwitchGraph& g, const Targets& targets) {
  std::vector<double> load(static_cast<size_t>(g.num_switches()) * static_cast<size_t>(g.ports()), 0);
  for (int from = 0; from < g.num_switches(); ++from) {
    for (int to : targets(from)) {
      double shares = 0;
      for (const SharedRoute& route : g.valiant_routes(from, to)) {
        int at = from;
        for (int32_t hop : route.hops) {
          EXPECT_EQ(g.from(hop), at);
          at = g.to(hop);
          load[static_cast<size_t>(hop)] += route.share;
        }
        EXPECT_EQ(at, to);
        shares += route.share;
      }
      EXPECT_NEAR(shares, 1, 1e-12);
    }
  }
  return load;
}

// Each of two legs is a uniform load: of a uniform load every cable gets twice what minimal ways put on it.
TEST(SwitchGraph, ValiantDoublesAUniformLoad) {
  for (int q : {3, 4, 5}) {
    const auto g = *SwitchGraph::slim_fly(q);
    const auto minimal = uniform_loads(g), valiant = valiant_loads(g, [&](int from) {
                                             std::vector<int> others;
                                             for (int to = 0; to < g.num_switches(); ++to) {
                                               if (to != from) others.push_back(to);
                                             }
                                             return others;
                                           });
    for (size_t hop = 0; hop < minimal.size(); ++hop) ASSERT_NEAR(valiant[hop], 2 * minimal[hop], 1e-9) << hop;
  }
  for (const auto& [h, groups] : {std::pair{2, 0}, {3, 0}, {2, 5}, {2, 4}}) {
    const auto g = *SwitchGraph::dragonfly(h, groups);
    const auto others_of = [&](int from) {  // in other groups
      std::vector<int> others;
      for (int to = 0; to < g.num_switches(); ++to) {
        if (to / g.group_size() != from / g.group_size()) others.push_back(to);
      }
      return others;
    };
    const auto minimal = uniform_loads(g), valiant = valiant_loads(g, others_of);
    for (size_t hop = 0; hop < minimal.size(); ++hop) {
      if (!g.is_global(static_cast<int32_t>(hop))) continue;
      ASSERT_NEAR(valiant[hop], 2 * minimal[hop], 1e-9) << hop;
    }
  }
}

// A permutation, by a neighbour's cable: no cable gets more than the two uniform legs put on it. Minimally it gets all.
TEST(SwitchGraph, ValiantSpreadsWhatOneCableWouldCarry) {
  const auto g = *SwitchGraph::slim_fly(5);
  const auto uniform = uniform_loads(g);
  const auto load = valiant_loads(g, [&](int from) { return std::vector{g.to(from * g.ports())}; });
  for (size_t hop = 0; hop < load.size(); ++hop) EXPECT_LE(load[hop], 2 * uniform[hop] / 48 * (1 + 1e-9)) << hop;
  EXPECT_LT(*std::max_element(load.begin(), load.end()), 0.6);
}

TEST(SwitchGraph, ValiantGoesAroundLostCables) {
  auto g = *SwitchGraph::dragonfly(2);
  EXPECT_EQ(g.valiant_routes(0, 4).size(), 7u);  // over each third group
  EXPECT_EQ(g.valiant_routes(0, 1).size(), 1u);  // in a group: minimally
  ASSERT_TRUE(g.lose(1).ok());
  EXPECT_EQ(g.valiant_routes(0, 8).size(), 6u);  // group 1 is not reached from group 0
  const auto two = *SwitchGraph::dragonfly(2, 2);
  EXPECT_EQ(two.valiant_routes(0, 4).size(), two.routes(0, 4).size());  // there is no third
}

TEST(SwitchGraph, RefusesWhatIsNotThere) {
  EXPECT_EQ(SwitchGraph::slim_fly(28).error().text,
            "Slim Fly: q = 28 has no graph; accepted: prime powers other than 2");
  EXPECT_EQ(SwitchGraph::slim_fly(6).error().text, "Slim Fly: q = 6 has no graph; accepted: prime powers other than 2");
  EXPECT_FALSE(SwitchGraph::slim_fly(2).ok());
  EXPECT_FALSE(SwitchGraph::dragonfly(2, 10).ok());
  EXPECT_EQ(SwitchGraph::slim_fly(257).error().text.rfind("Slim Fly: 132098 switches with 385 links each are too", 0),
            0u);
  EXPECT_FALSE(SwitchGraph::dragonfly(64).ok());
  auto g = *SwitchGraph::dragonfly(2);
  EXPECT_EQ(g.lose(2).error().text, "2 cables lost of a switch's 2 to other groups; accepted: 0 to 1");
  EXPECT_FALSE(SwitchGraph::slim_fly(5)->lose(7).ok());
}

}  // namespace
}  // namespace fathom
