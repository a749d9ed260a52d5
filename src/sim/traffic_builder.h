// TrafficBuilder: turns ways between GPUs into classes on groups of links, or into sums on them (a part of
// sim/traffic).
#pragma once

#include <algorithm>
#include <array>
#include <span>
#include <utility>
#include <vector>

#include "sim/traffic.h"

namespace fathom {

inline int64_t num_colours(const std::vector<int32_t>& colours) {
  return colours.empty() ? 0 : *std::max_element(colours.begin(), colours.end()) + 1;
}

/// Ids of groups of links, by the places that they may have: what a hash of them would cost most of the time of a sum.
class LinkTable {
 public:
  /// `sizes`: Symmetry of the numbers of places.
  LinkTable(const Cluster& cluster, const Symmetry& sizes) {
    const int ports = cluster.uplinks() + 1;  // and all as one
    const auto size = [](const std::vector<int32_t>* counts) { return counts ? counts->size() : 1; };
    for (int kind = 0; kind < kNumLinkKinds; ++kind) {
      Kind& k = kinds_[static_cast<size_t>(kind)];
      const auto [places, lanes] = sizes.of(static_cast<LinkKind>(kind));
      const bool is_leaf = kind == static_cast<int>(LinkKind::kLeafUp) || kind == static_cast<int>(LinkKind::kLeafDown);
      const bool is_pod = kind == static_cast<int>(LinkKind::kPodUp) || kind == static_cast<int>(LinkKind::kPodDown);
      k.lanes = is_pod ? static_cast<size_t>(ports) : size(lanes);
      k.ports = is_leaf || is_pod ? static_cast<size_t>(ports) : 1;
      k.ids.resize(size(places) * k.lanes * k.ports, -1);
    }
  }

  int& id(const ClusterLink& group) {
    Kind& k = kinds_[static_cast<size_t>(group.kind)];
    return k.ids[(static_cast<size_t>(group.place) * k.lanes + static_cast<size_t>(group.lane)) * k.ports +
                 static_cast<size_t>(group.port + 1)];
  }

 private:
  struct Kind {
    size_t lanes = 1, ports = 1;
    std::vector<int> ids;
  };
  std::array<Kind, kNumLinkKinds> kinds_;
};

/// Turns ways between GPUs into classes on groups of links.
class TrafficBuilder {
 public:
  TrafficBuilder(const Cluster& cluster, const Symmetry& symmetry, Keep keep)
      : cluster_(cluster), symmetry_(symmetry), keep_(keep), sizes_(sizes_of(symmetry)), table_(cluster, sizes_) {
    const auto gpus = static_cast<size_t>(cluster.spec().gpus_per_node);
    are_alone_ = sizes_.node.size() == static_cast<size_t>(cluster.num_nodes()) && sizes_.gpu.size() == gpus;
    const Symmetry none = cluster.none_alike();
    is_own_group_ = !cluster.graph() && symmetry.node == none.node && symmetry.gpu == none.gpu &&
                    symmetry.unit == none.unit && symmetry.plane == none.plane && symmetry.pod == none.pod;
    for (auto* sums : {&shared_.send_out, &shared_.send_in, &shared_.receive_out, &shared_.receive_in}) {
      sums->resize(gpus);
    }
    shared_.rails.resize(gpus * gpus);
  }

  /// Whether add_nodes takes pairs of nodes whole: sums alone are wanted, and no NIC has to stand in for another.
  bool takes_nodes() const { return keep_ == Keep::kLoads && are_alone_ && !cluster_.has_dead_nics(); }

  /// A flow from each GPU of node u to each of node v, u != v: `bytes` * factor[GPU of v], or of u with `is_of_sender`;
  /// empty: 1. The fabric sees what leaves by one NIC for another as one.
  void add_nodes(const Job& j, int64_t u, int64_t v, double bytes, std::span<const double> factor, bool is_of_sender) {
    const int gpus = cluster_.spec().gpus_per_node;
    if (!factor.empty() || !shared_.is_even) share(factor, is_of_sender);
    const double busy = bytes / j.efficiency;
    const auto put_nvlink = [&](LinkKind kind, int64_t node, const std::vector<double>& sums) {
      for (int i = 0; i < gpus; ++i) {
        const double sum = sums[static_cast<size_t>(i)];
        if (sum > 0) put({kind, static_cast<int32_t>(node), i, -1}, busy * sum);
      }
    };
    put_nvlink(LinkKind::kNvlinkOut, u, shared_.send_out);
    put_nvlink(LinkKind::kNvlinkIn, u, shared_.send_in);
    put_nvlink(LinkKind::kNvlinkOut, v, shared_.receive_out);
    put_nvlink(LinkKind::kNvlinkIn, v, shared_.receive_in);
    for (const size_t i : shared_.used) {
      const Rail& rail = shared_.rails[i];
      const int out = static_cast<int>(i) / gpus, in = static_cast<int>(i) % gpus;
      for (int q = 0; q < j.queue_pairs; ++q) {
        for_each_way(u, out, v, in, q, [&](double share, const std::vector<ClusterLink>& links) {
          for (const ClusterLink& link : links) put(link, busy * rail.bytes * share / j.queue_pairs);
          traffic_.num_flows += rail.flows;
          traffic_.num_classes += rail.flows;
        });
      }
    }
  }

  /// `members` flows of `bytes` each, alike to the one from GPU a of node u to GPU b of node v.
  void add(int job, const Job& j, int64_t u, int a, int64_t v, int b, double bytes, double members) {
    if (!(bytes > 0) || !(members > 0)) return;
    for (int q = 0; q < j.queue_pairs && !is_full(); ++q) {
      for (const Way& way : cluster_.ways(u, a, v, b, static_cast<uint64_t>(q))) {
        add_class(job, j, way.links, bytes * way.share / j.queue_pairs, members * way.share / j.queue_pairs, members);
      }
    }
  }

  /// The same from NIC to NIC, without a change of rail in a node.
  void add_rail(int job, const Job& j, int64_t u, int a, int64_t v, double bytes, double members) {
    // A dead NIC, leaf or plane needs the node's other NICs: that is what ways() knows.
    if (cluster_.has_dead_nics()) return add(job, j, u, a, v, a, bytes, members);
    if (!(bytes > 0)) return;
    for (int q = 0; q < j.queue_pairs && !is_full(); ++q) {
      for_each_way(u, a, v, a, q, [&](double share, const std::vector<ClusterLink>& links) {
        add_class(job, j, links, bytes * share / j.queue_pairs, members * share / j.queue_pairs, members);
      });
    }
  }

  bool is_full() const { return traffic_.network.num_classes() > kMostFlowClasses; }
  Traffic take() { return std::move(traffic_); }

 private:
  /// Messages of a pair of nodes that share both NICs, whose ways through the fabric are the same.
  struct Rail {
    double bytes = 0, flows = 0;
  };
  /// What all messages from one node to another put on its links, for one byte each.
  struct Shared {
    std::vector<double> send_out, send_in, receive_out, receive_in;  // [GPU] NVLink of the sender's and receiver's node
    std::vector<Rail> rails;                                         // [NIC out * GPUs of a node + NIC in]
    std::vector<size_t> used;                                        // of rails
    bool is_even = false;                                            // of no factors: the same for all pairs of nodes
  };

  static Symmetry sizes_of(const Symmetry& symmetry) {
    const auto sizes = [](const std::vector<int32_t>& colours) {
      std::vector<int32_t> count(static_cast<size_t>(num_colours(colours)), 0);
      for (int32_t c : colours) ++count[static_cast<size_t>(c)];
      return count;
    };
    return {sizes(symmetry.node),  sizes(symmetry.gpu), sizes(symmetry.unit),
            sizes(symmetry.plane), sizes(symmetry.pod), sizes(symmetry.hop)};
  }

  void share(std::span<const double> factor, bool is_of_sender) {
    const int gpus = cluster_.spec().gpus_per_node;
    for (auto* sums : {&shared_.send_out, &shared_.send_in, &shared_.receive_out, &shared_.receive_in}) {
      std::fill(sums->begin(), sums->end(), 0);
    }
    for (const size_t i : shared_.used) shared_.rails[i] = {};
    shared_.used.clear();
    for (int a = 0; a < gpus; ++a) {
      for (int b = 0; b < gpus; ++b) {
        const double bytes = factor.empty() ? 1 : factor[static_cast<size_t>(is_of_sender ? a : b)];
        if (!(bytes > 0)) continue;
        const auto [out, in] = cluster_.nics(a, b);
        const auto at = static_cast<size_t>(out) * static_cast<size_t>(gpus) + static_cast<size_t>(in);
        Rail& rail = shared_.rails[at];
        if (rail.flows == 0) shared_.used.push_back(at);
        rail.bytes += bytes;
        ++rail.flows;
        if (a != out) {
          shared_.send_out[static_cast<size_t>(a)] += bytes;
          shared_.send_in[static_cast<size_t>(out)] += bytes;
        }
        if (in != b) {
          shared_.receive_out[static_cast<size_t>(in)] += bytes;
          shared_.receive_in[static_cast<size_t>(b)] += bytes;
        }
      }
    }
    shared_.is_even = factor.empty();
  }

  /// Calls see(share, links) for each way through the fabric from NIC a of node u to NIC b of node v.
  template <class See>
  void for_each_way(int64_t u, int a, int64_t v, int b, int queue_pair, const See& see) {
    if (cluster_.graph()) {
      for (const Way& way : cluster_.fabric(u, a, v, b, static_cast<uint64_t>(queue_pair))) see(way.share, way.links);
    } else {
      cluster_.tree_way(u, a, v, b, static_cast<uint64_t>(queue_pair), way_);
      see(1, way_);
    }
  }

  void put(const ClusterLink& link, double bytes) {
    const auto id = static_cast<size_t>(id_of(link));
    if (id >= traffic_.loads.size()) traffic_.loads.resize(id + 1, 0);
    traffic_.loads[id] += bytes;
  }

  void add_class(int job, const Job& j, const std::vector<ClusterLink>& links, double bytes, double members,
                 double flows) {
    if (is_full()) return;
    ++traffic_.num_classes;
    traffic_.num_flows += flows;
    if (keep_ == Keep::kLoads) {
      for (const ClusterLink& link : links) put(link, bytes * flows / j.efficiency);
      return;
    }
    ids_.clear();
    for (const ClusterLink& link : links) ids_.push_back(id_of(link));
    // A lane's weight makes its flows count as so many; their bytes stay.
    traffic_.network.add_class(bytes * flows / j.efficiency, members * j.weight, ids_);
    traffic_.job.push_back(job);
  }

  int id_of(const ClusterLink& link) {
    const ClusterLink group = is_own_group_ ? link : cluster_.group_of(link, symmetry_);
    int& id = table_.id(group);
    if (id < 0) {
      id = traffic_.network.num_links();
      const auto [places, lanes] = sizes_.of(link.kind);
      double count = (*places)[static_cast<size_t>(group.place)];
      if (lanes) count *= (*lanes)[static_cast<size_t>(group.lane)];
      const double gbps = cluster_.gbps(link);
      traffic_.network.add_link(cluster_.name(link), gbps * count);
      traffic_.links.push_back({link, count, gbps, group});
    }
    return id;
  }

  const Cluster& cluster_;
  const Symmetry& symmetry_;
  const Keep keep_;
  const Symmetry sizes_;  // [colour]: how many have it
  LinkTable table_;
  Traffic traffic_;
  bool are_alone_ = false;     // no two GPUs are alike
  bool is_own_group_ = false;  // nothing is, so that links are their groups
  Shared shared_;
  std::vector<int> ids_;
  std::vector<ClusterLink> way_;
};

}  // namespace fathom
