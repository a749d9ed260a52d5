// Routing: the links of a message's ways on each tree, around what is broken, and what cannot be built.
#include "cluster/routing.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>

namespace fathom {
namespace {

std::string path(const Cluster& c, const Way& way) {
  std::string text;
  for (const ClusterLink& link : way.links) text += (text.empty() ? "" : " | ") + c.name(link);
  return text;
}

Cluster make(ClusterSpec spec) {
  const auto c = Cluster::make(spec);
  EXPECT_TRUE(c.ok()) << (c ? "" : c.error().text);
  return *c;
}

TEST(Routing, PxnChangesTheRailInTheSendersNode) {
  const Cluster c = make({.gpus = 2048});
  const auto ways = c.ways(0, 1, 40, 3);
  ASSERT_EQ(ways.size(), 1u);
  EXPECT_EQ(path(c, ways[0]),
            "NVLink out of node 0, GPU 1 | NVLink in of node 0, GPU 3 | NIC out of node 0, GPU 3 | "
            "leaf uplinks of leaf 0, plane 3 | leaf downlinks of leaf 1, plane 3 | NIC in of node 40, GPU 3");
  EXPECT_EQ(path(c, c.ways(0, 3, 31, 3)[0]), "NIC out of node 0, GPU 3 | NIC in of node 31, GPU 3");
  EXPECT_EQ(path(c, c.ways(5, 3, 5, 0)[0]), "NVLink out of node 5, GPU 3 | NVLink in of node 5, GPU 0");
}

TEST(Routing, WithoutPxnPlanesForwardAtTheEndAndRailsCrossTheSpine) {
  const Cluster planes = make({.gpus = 2048, .pxn = false});
  EXPECT_EQ(path(planes, planes.ways(0, 1, 2, 3)[0]),
            "NIC out of node 0, GPU 1 | NIC in of node 2, GPU 1 | NVLink out of node 2, GPU 1 | "
            "NVLink in of node 2, GPU 3");
  const Cluster rails = make({.kind = FabricKind::kMrft, .gpus = 2048, .pxn = false});
  EXPECT_EQ(path(rails, rails.ways(0, 1, 2, 3)[0]),
            "NIC out of node 0, GPU 1 | leaf uplinks of leaf 0, plane 1 | leaf downlinks of leaf 0, plane 3 | "
            "NIC in of node 2, GPU 3");
}

TEST(Routing, SwitchesOnTheWay) {
  const Cluster tree = make({.kind = FabricKind::kFt3, .gpus = 4096});
  // Leaves of 4 nodes, pods of 128.
  EXPECT_EQ(num_switches(tree.ways(0, 0, 0, 1)[0]), 0);
  EXPECT_EQ(num_switches(tree.ways(0, 0, 3, 1)[0]), 1);
  EXPECT_EQ(num_switches(tree.ways(0, 0, 4, 1)[0]), 3);
  EXPECT_EQ(num_switches(tree.ways(0, 0, 128, 1)[0]), 5);
}

TEST(Routing, ADeadPlaneIsPassedOnTheOthersOrOnTheNext) {
  ClusterSpec spec{.gpus = 128, .dead_plane = 0};
  const Cluster c = make(spec);
  const auto ways = c.ways(1, 0, 2, 0);
  ASSERT_EQ(ways.size(), 7u);
  double shares = 0;
  std::set<int> nics;
  for (const Way& way : ways) {
    shares += way.share;
    for (const ClusterLink& link : way.links) {
      if (link.kind == LinkKind::kNicOut) nics.insert(link.lane);
    }
  }
  EXPECT_NEAR(shares, 1, 1e-12);
  EXPECT_EQ(nics, (std::set<int>{1, 2, 3, 4, 5, 6, 7}));
  EXPECT_EQ(c.ways(1, 0, 2, 3).size(), 1u);
  spec.spread = false;
  EXPECT_EQ(path(c, make(spec).ways(1, 0, 2, 0)[0]),
            "NVLink out of node 1, GPU 0 | NVLink in of node 1, GPU 1 | NIC out of node 1, GPU 1 | "
            "NIC in of node 2, GPU 1 | NVLink out of node 2, GPU 1 | NVLink in of node 2, GPU 0");
}

TEST(Routing, ADeadNicChangesBothEndsOnlyBetweenPlanesWithoutALink) {
  const Cluster planes = make({.gpus = 128, .dead_nic = 2, .spread = false});
  const Cluster rails = make({.kind = FabricKind::kMrft, .gpus = 128, .dead_nic = 2, .spread = false});
  EXPECT_EQ(path(planes, planes.ways(0, 2, 1, 2)[0]),
            "NVLink out of node 0, GPU 2 | NVLink in of node 0, GPU 3 | NIC out of node 0, GPU 3 | "
            "NIC in of node 1, GPU 3 | NVLink out of node 1, GPU 3 | NVLink in of node 1, GPU 2");
  EXPECT_EQ(path(rails, rails.ways(0, 2, 1, 2)[0]),
            "NVLink out of node 0, GPU 2 | NVLink in of node 0, GPU 3 | NIC out of node 0, GPU 3 | "
            "leaf uplinks of leaf 0, plane 3 | leaf downlinks of leaf 0, plane 2 | NIC in of node 1, GPU 2");
  EXPECT_EQ(planes.ways(1, 0, 2, 2).size(), 1u);
  EXPECT_EQ(path(planes, planes.ways(1, 2, 2, 2)[0]), "NIC out of node 1, GPU 2 | NIC in of node 2, GPU 2");
}

// A dead leaf takes one NIC from each of its nodes and none from others: their messages to others go over other planes,
// at both ends where planes have no link between them, at the one end where rails share spines.
TEST(Routing, ADeadLeafChangesTheWaysOfItsNodesOnly) {
  const ClusterSpec spec{.gpus = 1024, .dead_leaf = 2, .spread = false};  // units of 32 nodes
  const Cluster planes = make(spec);
  EXPECT_EQ(path(planes, planes.ways(5, 2, 40, 2)[0]),
            "NVLink out of node 5, GPU 2 | NVLink in of node 5, GPU 3 | NIC out of node 5, GPU 3 | "
            "leaf uplinks of leaf 0, plane 3 | leaf downlinks of leaf 1, plane 3 | NIC in of node 40, GPU 3 | "
            "NVLink out of node 40, GPU 3 | NVLink in of node 40, GPU 2");
  EXPECT_EQ(path(planes, planes.ways(40, 2, 70, 2)[0]),
            "NIC out of node 40, GPU 2 | leaf uplinks of leaf 1, plane 2 | leaf downlinks of leaf 2, plane 2 | "
            "NIC in of node 70, GPU 2");
  EXPECT_TRUE(planes.is_dead(31, 2));
  EXPECT_FALSE(planes.is_dead(32, 2));
  EXPECT_FALSE(planes.is_dead(31, 3));
  ClusterSpec rail_spec = spec;
  rail_spec.kind = FabricKind::kMrft;
  const Cluster rails = make(rail_spec);
  EXPECT_EQ(path(rails, rails.ways(5, 2, 40, 2)[0]),
            "NVLink out of node 5, GPU 2 | NVLink in of node 5, GPU 3 | NIC out of node 5, GPU 3 | "
            "leaf uplinks of leaf 0, plane 3 | leaf downlinks of leaf 1, plane 2 | NIC in of node 40, GPU 2");
  EXPECT_EQ(path(rails, rails.ways(40, 2, 5, 2)[0]),
            "NIC out of node 40, GPU 2 | leaf uplinks of leaf 1, plane 2 | leaf downlinks of leaf 0, plane 3 | "
            "NIC in of node 5, GPU 3 | NVLink out of node 5, GPU 3 | NVLink in of node 5, GPU 2");
  rail_spec.spread = true;
  EXPECT_EQ(make(rail_spec).ways(5, 2, 40, 2).size(), 7u);
}

// A spine has one link to each port group: what goes up to it comes down from it.
TEST(Routing, EcmpComesDownFromTheSpineThatItWentUpTo) {
  const Cluster c = make({.gpus = 2048, .routing = Routing::kEcmp});  // 8 leaves and 4 spines a plane
  std::set<int> ups, downs;
  for (int64_t v = 32; v < 64; ++v) {
    const std::vector<ClusterLink> links = c.fabric(0, 0, v, 0)[0].links;
    ASSERT_EQ(links.size(), 4u);
    EXPECT_EQ(links[1].port % 4, links[2].port % 4);
    ups.insert(links[1].port);
    downs.insert(links[2].port);
  }
  EXPECT_GT(ups.size(), 12u);  // 32 draws of 32 ports
  EXPECT_GT(downs.size(), 12u);
  const auto port = [&](uint64_t seed, uint64_t pair) {
    const Cluster seeded = make({.gpus = 2048, .routing = Routing::kEcmp, .seed = seed});
    return seeded.fabric(0, 0, 40, 0, pair)[0].links[1].port;
  };
  std::set<int> seeds, pairs;
  for (uint64_t i = 0; i < 8; ++i) seeds.insert(port(i, 0)), pairs.insert(port(1, i));
  EXPECT_GT(seeds.size(), 3u);
  EXPECT_GT(pairs.size(), 3u);
  EXPECT_EQ(port(1, 0), port(1, 0));
}

TEST(Routing, StaticHasNoConflictForAShift) {
  const Cluster c = make({.gpus = 512, .routing = Routing::kStatic});
  std::set<ClusterLink> used;
  for (int64_t u = 0; u < 64; ++u) {
    const Way way = c.fabric(u, 0, (u + 32) % 64, 0)[0];
    for (const ClusterLink& link : way.links) EXPECT_TRUE(used.insert(link).second) << c.name(link);
  }
}

// Three layers: up and down over the same upper switch of a pod, and up and down over the same core.
TEST(Routing, ThreeLayersByPort) {
  // Ports 8: leaves of 4 NICs, pods of 4 leaves and 4 upper switches, 8 pods; here 5, so 10 cores.
  ClusterSpec spec{.kind = FabricKind::kFt3, .gpus = 80, .gpus_per_node = 1, .radix = 8, .routing = Routing::kEcmp};
  const Cluster hashed = make(spec);
  std::set<int> ups, uppers, cores;
  for (int64_t v = 16; v < 80; ++v) {
    const auto links = hashed.fabric(3, 0, v, 0)[0].links;
    ASSERT_EQ(links.size(), 6u);
    EXPECT_EQ(links[1].port, links[2].lane);
    EXPECT_EQ(links[2].lane, links[3].lane);
    EXPECT_EQ(links[3].lane, links[4].port);
    EXPECT_EQ(links[2].port % 3, links[3].port % 3);  // 5 pods' 20 cables of one upper switch need 3 cores of 8 ports
    uppers.insert(links[2].lane);
    ups.insert(links[2].port);
    cores.insert(links[3].port);
    for (size_t i = 1; i < 5; ++i) EXPECT_EQ(hashed.gbps(links[i]), 50);
  }
  EXPECT_EQ(uppers.size(), 4u);
  EXPECT_EQ(ups.size(), 4u);
  EXPECT_EQ(cores.size(), 4u);
  EXPECT_EQ(path(hashed, hashed.ways(0, 0, 5, 0)[0]).find("pod"), std::string::npos);
  spec.routing = Routing::kStatic;
  const Cluster fixed = make(spec);
  for (int64_t shift : {4, 16, 20, 64}) {  // whole leaves: no two messages meet
    std::set<ClusterLink> used;
    for (int64_t u = 0; u < 80; ++u) {
      const Way way = fixed.fabric(u, 0, (u + shift) % 80, 0)[0];
      for (const ClusterLink& link : way.links) {
        EXPECT_TRUE(used.insert(link).second) << fixed.name(link) << " shift " << shift;
      }
    }
  }
  EXPECT_EQ(
      path(fixed, fixed.fabric(0, 0, 21, 0)[0]),
      "NIC out of node 0, GPU 0 | leaf uplinks of leaf 0, port 1 | pod uplinks of pod 0, upper switch 1, port 1 | "
      "pod downlinks of pod 1, upper switch 1, port 1 | leaf downlinks of leaf 5, port 1 | NIC in of node 21, GPU 0");
}

// Fewer nodes than a leaf has room for: nothing is divided by the leaves that are full.
TEST(Routing, StaticOnOnePartFilledLeaf) {
  for (FabricKind kind : {FabricKind::kFt2, FabricKind::kFt3, FabricKind::kMpft, FabricKind::kMrft}) {
    for (int64_t gpus : {8, 16, 64, 248}) {
      ClusterSpec spec{.kind = kind, .gpus = gpus, .routing = Routing::kStatic};
      if (kind == FabricKind::kFt2 || kind == FabricKind::kFt3) spec.planes = 1;
      const Cluster c = make(spec);
      for (int64_t v = 1; v < gpus / 8; ++v) {
        for (int b = 0; b < 8; ++b) EXPECT_FALSE(c.fabric(0, 0, v, b)[0].links.empty()) << gpus << " " << v << " " << b;
      }
    }
  }
}

TEST(Routing, GraphsOfSwitches) {
  const Cluster fly = make({.kind = FabricKind::kSlimFly, .gpus = 200, .gpus_per_node = 4, .slim_fly_q = 5});
  EXPECT_EQ(fly.graph()->num_switches(), 50);
  EXPECT_EQ(fly.spec().gpus_per_switch, 4);
  EXPECT_EQ(num_switches(fly.ways(0, 0, 0, 1)[0]), 0);
  for (int64_t v = 1; v < 50; ++v) {
    double shares = 0;
    for (const Way& way : fly.ways(0, 1, v, 2)) {
      shares += way.share;
      EXPECT_GE(num_switches(way), 2);
      EXPECT_LE(num_switches(way), 3);
    }
    EXPECT_NEAR(shares, 1, 1e-12);
  }
  EXPECT_TRUE(fly.is_evenly_filled());
  const Symmetry alike = fly.symmetry();
  EXPECT_EQ(std::set(alike.node.begin(), alike.node.end()).size(), 2u);
  // The smallest that holds them.
  EXPECT_EQ(make({.kind = FabricKind::kSlimFly, .gpus = 24000}).spec().slim_fly_q, 27);
  const Cluster dragonfly = make({.kind = FabricKind::kDragonfly, .gpus = 261632, .dragonfly_groups = 511});
  EXPECT_EQ(dragonfly.graph()->num_switches(), 511 * 32);
  EXPECT_TRUE(dragonfly.is_evenly_filled());
  EXPECT_EQ(path(dragonfly, dragonfly.fabric(0, 0, 5, 0)[0]),
            "NIC out of node 0, GPU 0 | local link of switch 0 to 2 | NIC in of node 5, GPU 0");
  const Cluster fixed =
      make({.kind = FabricKind::kSlimFly, .gpus = 200, .gpus_per_node = 4, .routing = Routing::kStatic});
  for (int64_t v = 1; v < 50; ++v) EXPECT_EQ(fixed.ways(0, 1, v, 2).size(), 1u);
}

TEST(Routing, SymmetryMergesWhatIsEquallyFull) {
  const auto distinct = [](const std::vector<int32_t>& v) { return std::set<int32_t>(v.begin(), v.end()).size(); };
  const Symmetry full = make({.gpus = 16384}).symmetry();
  EXPECT_EQ(distinct(full.node), 1u);
  EXPECT_EQ(distinct(full.gpu), 1u);
  EXPECT_EQ(distinct(make({.gpus = 40 * 8}).symmetry().unit), 2u);  // 32 nodes and 8
  const Symmetry nic = make({.gpus = 16384, .dead_nic = 0}).symmetry();
  EXPECT_EQ(distinct(nic.node), 3u);  // node 0, its unit, the others
  EXPECT_EQ(distinct(nic.gpu), 8u);
  EXPECT_EQ(distinct(make({.gpus = 2048, .routing = Routing::kEcmp}).symmetry().node), 256u);
}

TEST(Routing, RefusesWhatCannotBeBuilt) {
  const auto error = [](ClusterSpec spec) {
    const auto c = Cluster::make(spec);
    return c ? "" : c.error().text;
  };
  EXPECT_EQ(error({.gpus = 0}), "a cluster of 0 GPUs; accepted: 1 or more");
  EXPECT_EQ(error({.gpus = 100}), "100 GPUs in nodes of 8; accepted: whole nodes, as 96 or 104");
  EXPECT_EQ(error({.gpus = 32768}).rfind("MPFT: 32768 endpoints; accepted: 1 to 16384", 0), 0u);
  EXPECT_NE(error({.gpus = 126, .gpus_per_node = 6, .planes = 4}), "");
  EXPECT_EQ(
      error({.gpus = 128, .gpus_per_node = 1}),
      "nodes of 1 GPUs on 8 planes; accepted: divisors of the GPUs of a node, as each plane has equally many of its "
      "NICs");
  EXPECT_EQ(error({.gpus = 120, .gpus_per_node = 12, .planes = 4, .radix = 64}),
            "a leaf has 32 ports down and a node 3 NICs on it; whole nodes must fit (more planes, or another radix)");
  EXPECT_EQ(error({.gpus = 128, .nic_gbps = std::numeric_limits<double>::quiet_NaN()}),
            "nic_gbps is nan; accepted: 1e-6 or more, below 1e9");
  EXPECT_EQ(error({.gpus = 128, .nic_gbps = 1e-320}), "nic_gbps is 9.9999e-321; accepted: 1e-6 or more, below 1e9");
  EXPECT_EQ(error({.kind = FabricKind::kFt2, .gpus = 128, .dead_plane = 0}),
            "plane 0 cannot fail: the fabric has 1; accepted: one of 2 or more planes of mpft, or rails of mrft");
  EXPECT_EQ(error({.gpus = 128, .dead_nic = 8}), "NIC 8 cannot fail: a node has 8; accepted: 0 to 7");
  EXPECT_EQ(error({.kind = FabricKind::kFt2, .gpus = 128, .gpus_per_node = 1, .dead_nic = 0}),
            "NIC 0 cannot fail: a node has 1; accepted: nodes of 2 or more, as one without any is cut off");
  // Whom a failure leaves without a NIC: on one plane, a leaf has all those of its nodes.
  EXPECT_EQ(
      error({.kind = FabricKind::kFt2, .gpus = 128, .dead_leaf = 0}),
      "leaf 0 has all NICs of nodes 0 to 3, which its death cuts off; what is left is network.gpus = 96; accepted: "
      "mpft or mrft with 2 planes or more, whose nodes go over the others");
  EXPECT_NE(error({.kind = FabricKind::kFt3, .gpus = 4096, .dead_leaf = 0}).find("network.gpus = 4064"),
            std::string::npos);
  EXPECT_NE(error({.gpus = 32, .planes = 1, .dead_leaf = 0}).find("cuts off; accepted: mpft"), std::string::npos);
  EXPECT_EQ(error({.kind = FabricKind::kMrft, .gpus = 128, .planes = 4, .dead_leaf = 4}),
            "fail.leaf is 4: a node has a leaf on each of 4 planes; accepted: 0 to 3");
  EXPECT_EQ(
      error({.kind = FabricKind::kDragonfly, .gpus = 64, .dead_leaf = 0}),
      "a switch cannot fail: all NICs of its nodes hang on it; accepted: fail.nic or fail.uplinks, or fail.leaf on "
      "mpft and mrft");
  EXPECT_EQ(error({.gpus = 128, .gpus_per_node = 2, .planes = 2, .dead_plane = 0, .dead_nic = 1}),
            "node 0 is cut off: its 2 NICs are all dead, by fail.plane, fail.leaf and fail.nic together; accepted: "
            "failures that leave one");
  EXPECT_EQ(error({.gpus = 128, .dead_plane = 0, .dead_leaf = 1, .dead_nic = 2}), "");
  EXPECT_EQ(error({.gpus = 2048, .lost_uplinks = 32}), "32 uplinks lost of a leaf's 32; accepted: 0 to 31");
  EXPECT_EQ(error({.gpus = 256, .lost_uplinks = 1}),
            "uplinks cannot be lost: 256 GPUs need one leaf a plane, without uplinks; accepted: 264 GPUs or more");
  EXPECT_EQ(error({.gpus = 2048, .routing = Routing::kEcmp, .lost_uplinks = 1}),
            "1 uplinks lost under static or ECMP routing; accepted: adaptive routing");
  EXPECT_NE(error({.kind = FabricKind::kSlimFly, .gpus = 1000, .slim_fly_q = 28}).find("q = 27 (30618 endpoints"),
            std::string::npos);
  EXPECT_EQ(error({.kind = FabricKind::kSlimFly, .gpus = 32000}),
            "Slim Fly: 32000 endpoints; accepted: 1 to 30618 with 64 ports");
  EXPECT_EQ(error({.kind = FabricKind::kSlimFly, .gpus = 8, .radix = 6}),
            "Slim Fly: none fits switches of 6 ports; the smallest (q = 3) needs 5 and those of its endpoints");
  EXPECT_EQ(error({.kind = FabricKind::kSlimFly, .gpus = 208, .slim_fly_q = 5}),
            "Slim Fly of 50 switches: 208 endpoints; accepted: 1 to 200");
  EXPECT_EQ(error({.kind = FabricKind::kDragonfly, .gpus = 300000}),
            "Dragonfly of 16416 switches: 300000 endpoints; accepted: 1 to 262656");
  EXPECT_EQ(error({.kind = FabricKind::kDragonfly, .gpus = 64, .gpus_per_switch = 17}),
            "Dragonfly: 17 endpoints a switch need 67 ports, more than 64; accepted: 1 to 16");
  EXPECT_EQ(
      error({.gpus = 128, .routing = Routing::kValiant}),
      "Valiant's routing goes over a third group or switch, which a tree has not; accepted: slimfly, dragonfly, or "
      "adaptive, static, ecmp");
  EXPECT_EQ(error({.kind = FabricKind::kDragonfly, .gpus = 64, .dead_plane = 0}),
            "plane 0 cannot fail: the fabric has 1; accepted: one of 2 or more planes of mpft, or rails of mrft");
}

}  // namespace
}  // namespace fathom
