// LinkLoads: what a run put on every link of a cluster, and pictures of it by plane and leaf, or group and switch.
#pragma once

#include <map>
#include <vector>

#include "cluster/routing.h"
#include "report/heat_map.h"
#include "sim/traffic.h"

namespace fathom {

struct LinkLoad {
  LinkGroup group;
  double bytes = 0;       // over one link of it
  double busy_bytes = 0;  // that it could have carried meanwhile: of each job bytes / efficiency
  uint32_t jobs = 0;      // that cross it: a bit each

  /// That it is needed for at its full rate.
  double seconds() const { return busy_bytes / (group.gbps * 1e9); }
};

/// Bytes that the engine's flows put on each link, for the links that are alike once.
struct LinkLoads {
  Symmetry symmetry;                         // that the flows were made under
  std::map<ClusterLink, LinkLoad> by_group;  // by LinkGroup::group
  double seconds = 0;                        // from the first byte to the last, windows one after the other

  /// Of one link of the cluster that the run was of; 0 where nothing crosses it.
  double busy_bytes(const Cluster& cluster, const ClusterLink& link) const;
};

/// How full links were, in percent: busy bytes over (rate * seconds). Leaf uplinks and downlinks by plane and leaf: all
/// ports of a leaf together, and where messages have their port also the fullest of them; pod uplinks and downlinks.
/// Cables of a graph: the fullest from each group to each, and out of each switch; the groups of a Slim Fly are its
/// SwitchGraph::block_size. NICs by place in the node and node, of more than `most_nodes` nodes the fullest NIC by
/// plane and leaf, or by switch. What is dead has no value. Kinds of links that carry nothing have no picture.
std::vector<HeatMap> load_maps(const Cluster& cluster, const LinkLoads& loads, int64_t most_nodes = 128);

}  // namespace fathom
