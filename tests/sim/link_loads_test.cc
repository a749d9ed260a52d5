// LinkLoads: bytes of every link against sums over the flows by hand, whole, skewed, broken and in windows.
#include "sim/link_loads.h"

#include <gtest/gtest.h>

#include <cmath>
#include <map>

#include "scenario_cases.h"
#include "sim/simulate.h"

namespace fathom {
namespace {

// Bytes of every link of an all-to-all, message by message.
std::map<ClusterLink, double> by_hand(const Cluster& cluster, double bytes) {
  std::map<ClusterLink, double> load;
  const int64_t gpus = cluster.spec().gpus, of_node = cluster.spec().gpus_per_node;
  for (int64_t from = 0; from < gpus; ++from) {
    for (int64_t to = 0; to < gpus; ++to) {
      if (from == to) continue;
      for (const Way& way : cluster.ways(from / of_node, static_cast<int>(from % of_node), to / of_node,
                                         static_cast<int>(to % of_node))) {
        for (const ClusterLink& link : way.links) load[link] += way.share * bytes / static_cast<double>(gpus);
      }
    }
  }
  return load;
}

TEST(LinkLoads, EveryLinkHasTheBytesOfItsMessages) {
  std::vector<Scenario> scenarios;
  Scenario s = all_to_all(128);
  s.network.radix = 8;
  scenarios.push_back(s);
  s.network.gpus = 120;  // the last leaf is not full
  scenarios.push_back(s);
  s.fail.uplinks = 3;
  scenarios.push_back(s);
  s.fail.uplinks = 0;
  s.fail.nic = 5;
  scenarios.push_back(s);
  s.fail.nic = -1;
  s.network.routing = "ecmp";
  scenarios.push_back(s);
  s.network.routing = "adaptive";
  s.job.window = 3;
  scenarios.push_back(s);
  s.job.window = 0;
  s.network.fabric = "ft3";
  s.network.gpus = 64;
  s.network.gpus_per_node = 4;
  scenarios.push_back(s);
  s = all_to_all(72);
  s.network.fabric = "dragonfly";
  s.network.gpus_per_node = s.network.gpus_per_switch = 2;
  scenarios.push_back(s);
  s.fail.uplinks = 1;
  scenarios.push_back(s);
  s.network.fabric = "slimfly";  // q = 4
  s.network.gpus = 90;
  s.network.gpus_per_switch = 0;
  scenarios.push_back(s);
  s.network.gpus = 96;
  s.network.gpus_per_node = 3;
  s.fail.uplinks = 0;
  scenarios.push_back(s);
  for (const Scenario& scenario : scenarios) {
    const auto cluster = cluster_of(scenario);
    ASSERT_TRUE(cluster.ok());
    const Simulation answer = run(scenario);
    SCOPED_TRACE(answer.cluster);
    double total = 0;
    for (const auto& [link, bytes] : by_hand(*cluster, scenario.job.bytes)) {
      EXPECT_NEAR(answer.loads.busy_bytes(*cluster, link), bytes, 1e-9 * bytes) << cluster->name(link);
      total += bytes;
    }
    double sum = 0;  // and nothing else carries any
    for (const auto& [key, load] : answer.loads.by_group) sum += load.bytes * load.group.count;
    EXPECT_NEAR(sum, total, 1e-9 * total);
  }
}

const HeatMap* find(const std::vector<HeatMap>& maps, const std::string& title) {
  for (const HeatMap& map : maps) {
    if (map.title == title) return &map;
  }
  ADD_FAILURE() << "no \"" << title << '"';
  return nullptr;
}

TEST(LinkLoads, TheLinkThatLimitsIsFull) {
  Scenario s = all_to_all(128);
  s.network.radix = 8;
  s.network.port_gbps = 20;
  s.fail.uplinks = 2;
  const Simulation answer = run(s);
  const auto maps = load_maps(*cluster_of(s), answer.loads);
  const HeatMap* up = find(maps, "Leaf uplinks: all of a leaf");
  ASSERT_NE(up, nullptr);
  ASSERT_EQ(up->values.size(), 8u);
  ASSERT_EQ(up->values[0].size(), 4u);
  double most = 0;
  for (const auto& line : up->values) {
    for (const double v : line) most = std::max(most, v);
  }
  EXPECT_EQ(up->values[0][0], most);  // that has lost half its uplinks
  EXPECT_NEAR(most, 100, 1e-6);
  EXPECT_NEAR(up->values[1][0], up->values[3][2], 1e-9);
}

TEST(LinkLoads, WhatIsDeadHasNoValue) {
  Scenario s = all_to_all(128);
  s.network.radix = 8;
  s.fail.plane = 2;
  const auto maps = load_maps(*cluster_of(s), run(s).loads);
  const HeatMap* up = find(maps, "Leaf uplinks: all of a leaf");
  const HeatMap* out = find(maps, "NICs out");
  ASSERT_TRUE(up != nullptr && out != nullptr);
  for (const double v : up->values[2]) EXPECT_TRUE(std::isnan(v));
  for (const double v : out->values[2]) EXPECT_TRUE(std::isnan(v));
  EXPECT_NEAR(out->values[3][0], 100, 1e-6);
}

TEST(LinkLoads, ManyNodesAreShownByTheFullestOfALeaf) {
  Scenario s = all_to_all(128);
  s.job.op = "dispatch";
  s.job.bytes = 7168;
  s.job.skew = 1;
  s.network.radix = 8;
  const Simulation answer = run(s);
  const auto cluster = cluster_of(s);
  const auto each = load_maps(*cluster, answer.loads), fullest = load_maps(*cluster, answer.loads, 4);
  const HeatMap* by_node = find(each, "NICs in");
  const HeatMap* by_leaf = find(fullest, "NICs in: the fullest of a leaf");
  ASSERT_TRUE(by_node != nullptr && by_leaf != nullptr);
  for (size_t plane = 0; plane < 8; ++plane) {
    for (size_t leaf = 0; leaf < 4; ++leaf) {
      double most = 0;
      for (size_t node = 4 * leaf; node < 4 * leaf + 4; ++node) most = std::max(most, by_node->values[plane][node]);
      EXPECT_EQ(by_leaf->values[plane][leaf], most);
    }
  }
}

TEST(LinkLoads, PodsAreShownUpAndDown) {
  Scenario s = all_to_all(40);  // the last pod has half its nodes
  s.network.fabric = "ft3";
  s.network.gpus_per_node = 4;
  s.network.radix = 8;
  const Simulation answer = run(s);
  const auto maps = load_maps(*cluster_of(s), answer.loads);
  const HeatMap* pods = find(maps, "Pod links: all of a pod");
  ASSERT_NE(pods, nullptr);
  ASSERT_EQ(pods->values.size(), 2u);
  ASSERT_EQ(pods->values[0].size(), 3u);
  const double to_others[] = {16 * 24.0, 16 * 24.0, 8 * 32.0};  // messages
  for (size_t pod = 0; pod < 3; ++pod) {
    const double bytes = to_others[pod] * s.job.bytes / 40;
    for (size_t way = 0; way < 2; ++way) {
      EXPECT_NEAR(pods->values[way][pod], 100 * bytes / (16 * 50e9 * answer.loads.seconds), 1e-6);
    }
  }
}

/// The fullest cable of each cell, from the messages.
void expect_cables(const Scenario& s, const Simulation& answer) {
  const auto cluster = cluster_of(s);
  const SwitchGraph& graph = *cluster->graph();
  const auto maps = load_maps(*cluster, answer.loads);
  const HeatMap *between = find(maps, "Cables between groups: the fullest"),
                *out = find(maps, "Cables out of a switch: the fullest");
  ASSERT_TRUE(between != nullptr && out != nullptr);
  const auto size = static_cast<int>(out->values.size()), blocks = static_cast<int>(between->values.size());
  ASSERT_EQ(size * blocks, graph.num_switches());
  ASSERT_EQ(out->values[0].size(), between->values.size());
  std::map<std::pair<int, int>, double> most_between, most_out;
  for (const auto& [link, bytes] : by_hand(*cluster, s.job.bytes)) {
    if (link.kind != LinkKind::kLocal && link.kind != LinkKind::kGlobal) continue;
    const int to = graph.to(link.place * graph.ports() + link.lane);
    const double percent = 100 * bytes / (s.network.port_gbps * 1e9 * answer.loads.seconds);
    double& pair = most_between[{link.place / size, to / size}];
    double& one = most_out[{link.place % size, link.place / size}];
    pair = std::max(pair, percent);
    one = std::max(one, percent);
  }
  for (int row = 0; row < blocks; ++row) {
    for (int column = 0; column < blocks; ++column) {
      const double shown = between->values[static_cast<size_t>(row)][static_cast<size_t>(column)];
      const auto at = most_between.find({row, column});
      if (at == most_between.end()) {
        EXPECT_TRUE(std::isnan(shown)) << row << " " << column << " " << shown;
      } else {
        EXPECT_NEAR(shown, at->second, 1e-6) << row << " " << column;
      }
    }
  }
  for (int row = 0; row < size; ++row) {
    for (int column = 0; column < blocks; ++column) {
      EXPECT_NEAR(out->values[static_cast<size_t>(row)][static_cast<size_t>(column)], (most_out[{row, column}]), 1e-6);
    }
  }
}

TEST(LinkLoads, CablesOfGraphsAreShownByGroupAndSwitch) {
  Scenario s = all_to_all(72);
  s.network.fabric = "dragonfly";
  s.network.gpus_per_node = s.network.gpus_per_switch = 2;
  s.network.port_gbps = 20;
  expect_cables(s, run(s));
  s.fail.uplinks = 1;  // the only cable between groups 0 and 1
  const Simulation broken = run(s);
  expect_cables(s, broken);
  const auto maps = load_maps(*cluster_of(s), broken.loads);
  EXPECT_TRUE(std::isnan(find(maps, "Cables between groups: the fullest")->values[0][1]));
  s = all_to_all(96);
  s.network.fabric = "slimfly";  // q = 4: sides of 4 groups
  s.network.gpus_per_node = 3;
  s.network.port_gbps = 15;
  const Simulation fly = run(s);
  expect_cables(s, fly);
  const auto fly_maps = load_maps(*cluster_of(s), fly.loads, 4);
  const auto& between = find(fly_maps, "Cables between groups: the fullest")->values;
  double most = 0;
  for (const auto& line : between) {
    for (const double v : line) most = std::isnan(v) ? most : std::max(most, v);
  }
  EXPECT_NEAR(most, 100, 1e-6);            // that is what limits
  EXPECT_TRUE(std::isnan(between[0][1]));  // groups of one side have no cables between them
  EXPECT_FALSE(std::isnan(between[0][4]));
  const HeatMap* nics = find(fly_maps, "NICs in: the fullest of a switch");
  ASSERT_NE(nics, nullptr);
  const double bytes = s.job.bytes * 93 / 96;  // of the other nodes
  for (const auto& line : nics->values) {
    for (const double v : line) EXPECT_NEAR(v, 100 * bytes / (40e9 * fly.loads.seconds), 1e-6);
  }
}

TEST(LinkLoads, PortsAreShownTogetherAndTheFullest) {
  Scenario s = all_to_all(32);
  s.network.radix = 4;
  s.network.gpus_per_node = 1;
  s.network.planes = 1;
  s.network.gpus = 8;
  s.network.fabric = "ft2";
  s.network.routing = "ecmp";
  const auto maps = load_maps(*cluster_of(s), run(s).loads);
  const HeatMap* together = find(maps, "Leaf uplinks: all of a leaf");
  const HeatMap* fullest = find(maps, "Leaf uplinks: the fullest of a leaf");
  ASSERT_TRUE(together != nullptr && fullest != nullptr);
  for (size_t leaf = 0; leaf < together->columns.size(); ++leaf) {
    EXPECT_GE(fullest->values[0][leaf], together->values[0][leaf]);
    EXPECT_LE(fullest->values[0][leaf], 2 * together->values[0][leaf] * (1 + 1e-12));  // of two ports
  }
}

}  // namespace
}  // namespace fathom
