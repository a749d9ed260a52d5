#include "sim/traffic.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>
#include <string>
#include <unordered_map>

namespace fathom {
namespace {

std::string text(int64_t v) { return std::to_string(v); }

int64_t num_colours(const std::vector<int32_t>& colours) {
  return colours.empty() ? 0 : *std::max_element(colours.begin(), colours.end()) + 1;
}

struct LinkHash {
  size_t operator()(const ClusterLink& link) const {
    uint64_t x = (static_cast<uint64_t>(link.place) << 32) | static_cast<uint32_t>(link.lane);
    x ^= ((static_cast<uint64_t>(link.port) << 8) | static_cast<uint64_t>(link.kind)) * 0x9e3779b97f4a7c15;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
    return x ^ (x >> 27);
  }
};

/// Turns ways between GPUs into classes on groups of links.
class TrafficBuilder {
 public:
  TrafficBuilder(const Cluster& cluster, const Symmetry& symmetry, Keep keep)
      : cluster_(cluster), symmetry_(symmetry), keep_(keep) {
    const auto sizes = [](const std::vector<int32_t>& colours) {
      std::vector<int32_t> count(static_cast<size_t>(num_colours(colours)), 0);
      for (int32_t c : colours) ++count[static_cast<size_t>(c)];
      return count;
    };
    sizes_ = {sizes(symmetry.node),  sizes(symmetry.gpu), sizes(symmetry.unit),
              sizes(symmetry.plane), sizes(symmetry.pod), sizes(symmetry.hop)};
  }

  /// `members` flows of `bytes` each, alike to the one from GPU a of node u to GPU b of node v.
  void add(int job, const Job& j, int64_t u, int a, int64_t v, int b, double bytes, double members) {
    if (!(bytes > 0) || !(members > 0)) return;
    if (keep_ == Keep::kLoads && u != v && !cluster_.has_dead_nics()) return add_load(j, u, a, v, b, bytes, members);
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
      for (const Way& way : cluster_.fabric(u, a, v, a, static_cast<uint64_t>(q))) {
        add_class(job, j, way.links, bytes * way.share / j.queue_pairs, members * way.share / j.queue_pairs, members);
      }
    }
  }

  /// After the last flow of a job.
  void flush(const Job& j) {
    const int gpus = cluster_.spec().gpus_per_node;
    for (size_t i = 0; i < rails_.size(); ++i) {
      const Rail rail = std::exchange(rails_[i], {});
      if (rail.classes == 0) continue;
      const int out = static_cast<int>(i) / gpus, in = static_cast<int>(i) % gpus;
      for (int q = 0; q < j.queue_pairs; ++q) {
        for (const Way& way : cluster_.fabric(u_, out, v_, in, static_cast<uint64_t>(q))) {
          put(way.links, rail.bytes * way.share / j.queue_pairs);
          traffic_.num_flows += rail.flows;
          traffic_.num_classes += rail.classes;
        }
      }
    }
  }

  bool is_full() const { return traffic_.network.num_classes() > kMostFlowClasses; }
  Traffic take() { return std::move(traffic_); }

 private:
  /// Messages of a pair of nodes that share both NICs, whose ways through the fabric are the same.
  struct Rail {
    double bytes = 0, flows = 0, classes = 0;
  };

  void add_load(const Job& j, int64_t u, int a, int64_t v, int b, double bytes, double members) {
    const int gpus = cluster_.spec().gpus_per_node;
    rails_.resize(static_cast<size_t>(gpus) * static_cast<size_t>(gpus));
    if (u != u_ || v != v_) flush(j);
    u_ = u, v_ = v;
    const auto [out, in] = cluster_.nics(a, b);
    const double busy = bytes * members / j.efficiency;
    Rail& rail = rails_[static_cast<size_t>(out * gpus + in)];
    rail.bytes += busy, rail.flows += members, ++rail.classes;
    nvlinks_.clear();
    Cluster::add_nvlink(u, a, out, nvlinks_);
    Cluster::add_nvlink(v, in, b, nvlinks_);
    put(nvlinks_, busy);
  }

  void put(const std::vector<ClusterLink>& links, double bytes) {
    for (const ClusterLink& link : links) {
      const auto id = static_cast<size_t>(id_of(link));
      traffic_.loads.resize(traffic_.links.size(), 0);
      traffic_.loads[id] += bytes;
    }
  }

  void add_class(int job, const Job& j, const std::vector<ClusterLink>& links, double bytes, double members,
                 double flows) {
    if (is_full()) return;
    ++traffic_.num_classes;
    traffic_.num_flows += flows;
    if (keep_ == Keep::kLoads) return put(links, bytes * flows / j.efficiency);
    ids_.clear();
    for (const ClusterLink& link : links) ids_.push_back(id_of(link));
    // A lane's weight makes its flows count as so many; their bytes stay.
    traffic_.network.add_class(bytes * flows / j.efficiency, members * j.weight, ids_);
    traffic_.job.push_back(job);
  }

  int id_of(const ClusterLink& link) {
    const ClusterLink group = cluster_.group_of(link, symmetry_);
    const auto [at, is_new] = ids_by_group_.try_emplace(group, traffic_.network.num_links());
    if (is_new) {
      const auto [places, lanes] = sizes_.of(link.kind);
      double count = (*places)[static_cast<size_t>(group.place)];
      if (lanes) count *= (*lanes)[static_cast<size_t>(group.lane)];
      const double gbps = cluster_.gbps(link);
      traffic_.network.add_link(cluster_.name(link), gbps * count);
      traffic_.links.push_back({link, count, gbps, group});
    }
    return at->second;
  }

  const Cluster& cluster_;
  const Symmetry& symmetry_;
  const Keep keep_;
  Symmetry sizes_;  // [colour]: how many have it
  Traffic traffic_;
  std::unordered_map<ClusterLink, int, LinkHash> ids_by_group_;
  std::vector<int> ids_;
  int64_t u_ = -1, v_ = -1;  // of rails_
  std::vector<Rail> rails_;  // [NIC out * GPUs of a node + NIC in]
  std::vector<ClusterLink> nvlinks_;
};

/// Pairs of things that are alike: how many there are, and one of them.
struct Alike {
  double count = 0;
  int64_t u = 0, v = 0;
};

/// The ordered pairs of nodes of a graph whose switches are filled alike, by the colours of what lies between them.
std::vector<Alike> graph_pairs(const Cluster& cluster, const Symmetry& s) {
  const SwitchGraph& graph = *cluster.graph();
  const int64_t on_switch = cluster.num_nodes() / graph.num_switches();
  std::vector<double> sizes(static_cast<size_t>(num_colours(s.node)), 0);
  for (int32_t colour : s.node) ++sizes[static_cast<size_t>(colour)];
  std::vector<char> is_seen(sizes.size(), 0);
  std::map<std::vector<int32_t>, Alike> by_key;
  for (int from = 0; from < graph.num_switches(); ++from) {
    const int64_t u = from * on_switch;
    const int32_t colour = s.node[static_cast<size_t>(u)];
    if (std::exchange(is_seen[static_cast<size_t>(colour)], 1)) continue;
    const auto add = [&](std::vector<int32_t> key, double count, int64_t v) {
      if (count == 0) return;
      key.insert(key.end(), {colour, s.node[static_cast<size_t>(v)]});
      Alike& alike = by_key[std::move(key)];
      if (alike.count == 0) alike.u = u, alike.v = v;
      alike.count += sizes[static_cast<size_t>(colour)] * count;
    };
    add({-1}, 1, u);
    if (on_switch > 1) add({-2}, static_cast<double>(on_switch - 1), u + 1);
    for (int to = 0; to < graph.num_switches(); ++to) {
      if (to == from) continue;
      std::vector<Route> routes = graph.routes(from, to);
      for (Route& route : routes) {
        for (int32_t& hop : route) hop = s.hop[static_cast<size_t>(hop)];
      }
      std::sort(routes.begin(), routes.end());
      std::vector<int32_t> key;
      for (const Route& route : routes) {
        key.push_back(-3);
        key.insert(key.end(), route.begin(), route.end());
      }
      add(std::move(key), static_cast<double>(on_switch), to * on_switch);
    }
  }
  std::vector<Alike> pairs;
  for (const auto& [key, alike] : by_key) pairs.push_back(alike);
  return pairs;
}

/// The ordered pairs of nodes of one group that a job joins, by what distinguishes them under the symmetry. A window's
/// are seen one by one; without one, alike nodes have alike peers, and one of each colour stands for all.
std::vector<Alike> node_pairs(const Cluster& cluster, int64_t group_nodes, const Symmetry& s, const Distances& d) {
  const int64_t colours = num_colours(s.node), nodes = cluster.num_nodes();
  if (cluster.graph() && colours < nodes) return graph_pairs(cluster, s);
  const bool is_each = colours == nodes;  // every pair is one of a kind
  std::vector<Alike> pairs(static_cast<size_t>(is_each ? 0 : colours * colours * 4));
  const int64_t from = d.to > 0 ? d.from : 0, to = d.to > 0 ? d.to : group_nodes - 1;
  if (is_each) pairs.reserve(static_cast<size_t>(nodes * (to - from + 1)));
  std::vector<double> sizes(static_cast<size_t>(colours), 0);
  for (int32_t colour : s.node) ++sizes[static_cast<size_t>(colour)];
  const bool has_one_for_all = d.to == 0 && !is_each;
  for (int64_t u = 0; u < nodes; ++u) {
    const auto colour = static_cast<size_t>(s.node[static_cast<size_t>(u)]);
    const double count = has_one_for_all ? std::exchange(sizes[colour], 0) : 1;
    if (count == 0) continue;
    const int64_t first = u / group_nodes * group_nodes, unit = cluster.unit_of(u), pod = cluster.pod_of(u);
    for (int64_t distance = from; distance <= to; ++distance) {
      const int64_t place = u - first + distance, v = first + (place < group_nodes ? place : place - group_nodes);
      if (is_each) {
        pairs.push_back({1, u, v});
        continue;
      }
      const int relation = u == v ? 0 : cluster.unit_of(v) == unit ? 1 : cluster.pod_of(v) == pod ? 2 : 3;
      const int64_t key = (static_cast<int64_t>(colour) * colours + s.node[static_cast<size_t>(v)]) * 4 + relation;
      Alike& alike = pairs[static_cast<size_t>(key)];
      if (alike.count == 0) alike.u = u, alike.v = v;
      alike.count += count;
    }
  }
  std::erase_if(pairs, [](const Alike& a) { return a.count == 0; });
  return pairs;
}

std::vector<Alike> gpu_pairs(const Cluster& cluster, const Symmetry& s) {
  const int64_t colours = num_colours(s.gpu);
  const int gpus = cluster.spec().gpus_per_node, planes = cluster.spec().planes;
  std::vector<Alike> by_key(static_cast<size_t>(colours * colours * 3));
  for (int a = 0; a < gpus; ++a) {
    for (int b = 0; b < gpus; ++b) {
      const int relation = a == b ? 0 : a % planes == b % planes ? 1 : 2;
      const int64_t key = (s.gpu[static_cast<size_t>(a)] * colours + s.gpu[static_cast<size_t>(b)]) * 3 + relation;
      Alike& alike = by_key[static_cast<size_t>(key)];
      if (alike.count++ == 0) alike.u = a, alike.v = b;
    }
  }
  std::erase_if(by_key, [](const Alike& a) { return a.count == 0; });
  return by_key;
}

/// From every GPU to every other of its group. `factor` [GPU of the group] scales the bytes to it, or with `backwards`
/// from it, when the flows go backwards; empty: 1.
void add_pairs(TrafficBuilder& out, int id, const Job& job, const Cluster& cluster, const Symmetry& s,
               const Distances& d, double bytes, const std::vector<double>& factor, bool backwards) {
  const int64_t group_nodes = ranks_of(cluster, job) / cluster.spec().gpus_per_node;
  const int gpus_per_node = cluster.spec().gpus_per_node;
  const auto gpus = gpu_pairs(cluster, s);
  for (const Alike& n : node_pairs(cluster, group_nodes, s, d)) {
    for (const Alike& g : gpus) {
      if (n.u == n.v && g.u == g.v) continue;
      const auto a = static_cast<int>(g.u), b = static_cast<int>(g.v);
      const double scale = factor.empty() ? 1 : factor[static_cast<size_t>(n.v % group_nodes * gpus_per_node + b)];
      if (backwards) {
        out.add(id, job, n.v, b, n.u, a, bytes * scale, n.count * g.count);
      } else {
        out.add(id, job, n.u, a, n.v, b, bytes * scale, n.count * g.count);
      }
      if (out.is_full()) return;
    }
  }
}

/// One copy per node and then one per GPU.
void add_forwarded(TrafficBuilder& out, int id, const Job& job, const Cluster& cluster, const Symmetry& s,
                   const GateHits& hits) {
  const int gpus_per_node = cluster.spec().gpus_per_node;
  const int64_t group_nodes = ranks_of(cluster, job) / gpus_per_node;
  const double bytes = job.bytes * static_cast<double>(job.tokens);
  const bool backwards = job.op == JobOp::kCombine;
  const auto gpus = gpu_pairs(cluster, s);
  for (const Alike& n : node_pairs(cluster, group_nodes, s, {})) {
    for (const Alike& g : gpus) {
      const auto a = static_cast<int>(g.u), b = static_cast<int>(g.v);
      if (n.u != n.v && a == b) {
        const double copies = bytes * hits.node[static_cast<size_t>(n.v % group_nodes)];
        const auto [from, to] = backwards ? std::pair(n.v, n.u) : std::pair(n.u, n.v);
        out.add_rail(id, job, from, a, to, copies, n.count * g.count);
      } else if (n.u == n.v && a != b) {
        // Of all tokens that come to GPU a of the node, from every node of the group.
        const double copies = bytes * static_cast<double>(group_nodes) *
                              hits.gpu[static_cast<size_t>(n.v % group_nodes * gpus_per_node + b)];
        out.add(id, job, n.u, backwards ? b : a, n.v, backwards ? a : b, copies, n.count * g.count);
      }
      if (out.is_full()) return;
    }
  }
}

/// Rings as Traffic's comment says. Every place by itself.
void add_rings(TrafficBuilder& out, int id, const Job& job, const Cluster& cluster) {
  const int gpus_per_node = cluster.spec().gpus_per_node;
  const int in_ring = job.ring_gpus > 0 ? job.ring_gpus : gpus_per_node, stride = gpus_per_node / in_ring;
  const auto ranks = static_cast<double>(ring_ranks_of(cluster, job));
  const double passes = job.op == JobOp::kAllReduce ? 2 : 1;
  const double bytes = passes * job.bytes * (ranks - 1) / ranks;  // that pass between two neighbours, over all rings
  for (int64_t u = 0; u < cluster.num_nodes(); ++u) {
    const int64_t next = ring_next(cluster, job, u);
    for (int a = 0; a < gpus_per_node; ++a) {
      if (next != u) out.add_rail(id, job, u, a, next, bytes / in_ring, 1);
      if (in_ring == 1) continue;
      // As many rings as GPUs; all but the one that leaves the node after this GPU go on inside.
      const double inside = next == u ? bytes : bytes * (in_ring - 1) / in_ring;
      out.add(id, job, u, a, u, (a + stride) % gpus_per_node, inside, 1);
    }
    if (out.is_full()) return;
  }
}

/// What would make the flows of these jobs alike that are not.
std::string way_out(const Cluster& cluster, std::span<const Job> jobs, const Distances& distances) {
  const ClusterSpec& s = cluster.spec();
  if (s.routing != Routing::kAdaptive) return "adaptive routing of a uniform load";
  for (const Job& job : jobs) {
    if (is_ring(job.op) || job.op == JobOp::kSend) return "no rings or messages beside it";
    if (job.skew > 0) return "experts that are all as popular (skew = 0)";
    if (!job.recorded.empty()) return "experts that are all as popular (no gate_file)";
  }
  if (!cluster.graph()) return cluster.is_broken() ? "nothing broken" : "groups of whole leaves and pods (ranks)";
  if (distances.to > 0) return "a uniform load without a window";
  if (s.dead_nic >= 0 || s.lost_uplinks > 0) return "nothing broken";
  if (s.gpus_per_switch % s.gpus_per_node != 0) {
    return "whole nodes on every switch (network.gpus_per_switch = " + text(s.gpus_per_switch) +
           ", network.gpus_per_node = " + text(s.gpus_per_node) + ")";
  }
  if (!cluster.is_evenly_filled()) {
    return "all switches full (network.gpus = " + text(int64_t{cluster.graph()->num_switches()} * s.gpus_per_switch) +
           ")";
  }
  return "adaptive routing of a uniform load over all GPUs";
}

Status check_job(const Cluster& cluster, const Job& job) {
  const int gpus_per_node = cluster.spec().gpus_per_node;
  const int64_t gpus = cluster.spec().gpus, ranks = ranks_of(cluster, job);
  if (!(job.bytes > 0) || !(job.bytes < 1e18)) {
    return invalid("a job of " + std::to_string(job.bytes) + " bytes; accepted: more than 0, below 1e18");
  }
  if (!(job.weight > 0) || !(job.weight < 1e6)) {
    return invalid("a lane of weight " + std::to_string(job.weight) + "; accepted: more than 0, below 1e6");
  }
  if (!(job.efficiency > 0) || !(job.efficiency <= 1)) {
    return invalid("an efficiency of " + std::to_string(job.efficiency) + "; accepted: more than 0, at most 1");
  }
  if (job.queue_pairs < 1 || job.queue_pairs > 1024) {
    return invalid(text(job.queue_pairs) + " queue pairs; accepted: 1 to 1024");
  }
  if (job.op == JobOp::kSend) {
    if (job.from < 0 || job.from >= gpus || job.to < 0 || job.to >= gpus || job.from == job.to) {
      return invalid("a message from GPU " + text(job.from) + " to GPU " + text(job.to) +
                     "; accepted: two different ones of 0 to " + text(gpus - 1));
    }
    return {};
  }
  if (ranks < 1 || ranks % gpus_per_node != 0 || gpus % ranks != 0) {
    return invalid("groups of " + text(ranks) + " ranks on " + text(gpus) + " GPUs; accepted: whole nodes of " +
                   text(gpus_per_node) + " that divide them");
  }
  if (ranks < 2) return invalid("a collective of one rank moves nothing; accepted: 2 or more");
  if (is_ring(job.op)) {
    if (job.ring_gpus < 0 || (job.ring_gpus > 0 && gpus_per_node % job.ring_gpus != 0)) {
      return invalid("rings over " + text(job.ring_gpus) + " GPUs of a node of " + text(gpus_per_node) +
                     "; accepted: a divisor of them, or 0 for all");
    }
    const int64_t group_nodes = ranks / gpus_per_node;
    if (job.ring_stride < 1 || group_nodes % job.ring_stride != 0) {
      return invalid("rings with a stride of " + text(job.ring_stride) + " over " + text(group_nodes) +
                     " nodes; accepted: a divisor of them");
    }
    if (ring_ranks_of(cluster, job) < 2) return invalid("a ring of one rank moves nothing; accepted: 2 or more");
  }
  if (is_expert(job.op) && (job.tokens < 1 || job.tokens > (int64_t{1} << 40))) {
    return invalid(text(job.tokens) + " tokens; accepted: 1 to 2^40");
  }
  return {};
}

}  // namespace

bool is_ring(JobOp op) { return op == JobOp::kAllGather || op == JobOp::kReduceScatter || op == JobOp::kAllReduce; }
bool is_expert(JobOp op) { return op == JobOp::kDispatch || op == JobOp::kCombine; }

int64_t ranks_of(const Cluster& cluster, const Job& job) { return job.ranks == 0 ? cluster.spec().gpus : job.ranks; }

int64_t ring_ranks_of(const Cluster& cluster, const Job& job) {
  const int gpus_per_node = cluster.spec().gpus_per_node;
  return ranks_of(cluster, job) / gpus_per_node / job.ring_stride * (job.ring_gpus > 0 ? job.ring_gpus : gpus_per_node);
}

int64_t ring_next(const Cluster& cluster, const Job& job, int64_t node) {
  const int64_t group_nodes = ranks_of(cluster, job) / cluster.spec().gpus_per_node;
  const int64_t first = node / group_nodes * group_nodes;
  return first + (node - first + job.ring_stride) % group_nodes;
}

GateSpec gate_of(const Cluster& cluster, const Job& job) {
  return {.experts = job.experts,
          .top_k = job.top_k,
          .max_nodes = job.max_nodes,
          .nodes = ranks_of(cluster, job) / cluster.spec().gpus_per_node,
          .gpus_per_node = cluster.spec().gpus_per_node,
          .skew = job.skew,
          .seed = job.seed,
          .recorded = job.recorded};
}

bool is_uniform(const Cluster& cluster, const Job& job) {
  if (is_ring(job.op) || job.op == JobOp::kSend || job.skew > 0 || !job.recorded.empty()) return false;
  if (cluster.graph() && !cluster.is_evenly_filled()) return false;
  const int64_t ranks = ranks_of(cluster, job);
  if (ranks == cluster.spec().gpus) return true;
  // Smaller groups: whole units, or several to a unit; the same for pods. Failures distinguish the first group.
  const ClusterSpec& s = cluster.spec();
  if (cluster.is_broken() || cluster.graph()) return false;
  const int64_t nodes = std::max<int64_t>(ranks / s.gpus_per_node, 1);
  const auto is_even = [&](int64_t part) { return nodes % part == 0 || part % nodes == 0; };
  return is_even(cluster.nodes_per_unit()) &&
         (is_even(cluster.nodes_per_pod()) || cluster.nodes_per_pod() >= cluster.num_nodes());
}

Result<Traffic> make_traffic(const Cluster& cluster, std::span<const Job> jobs, const Symmetry& symmetry,
                             const Distances& distances, Keep keep) {
  TrafficBuilder out(cluster, symmetry, keep);
  // The pairs of nodes are counted in a table of this size.
  const int64_t colours = num_colours(symmetry.node);
  if (colours * colours > 4 * kMostFlowClasses) {
    bool is_all_pairs = false;
    for (const Job& job : jobs) is_all_pairs = is_all_pairs || (!is_ring(job.op) && job.op != JobOp::kSend);
    if (is_all_pairs) {
      return invalid(text(cluster.num_nodes()) + " nodes, none alike, are too many for an all-to-all; accepted: " +
                     text(static_cast<int64_t>(std::sqrt(4.0 * kMostFlowClasses))) + " at most, or " +
                     way_out(cluster, jobs, distances));
    }
  }
  const bool is_each = colours == cluster.num_nodes();
  for (size_t i = 0; i < jobs.size(); ++i) {
    const Job& job = jobs[i];
    const auto id = static_cast<int>(i);
    if (auto s = check_job(cluster, job); !s) return s.error();
    const int gpus_per_node = cluster.spec().gpus_per_node;
    const bool is_all_pairs = !is_ring(job.op) && job.op != JobOp::kSend;
    if (keep == Keep::kLoads && is_each && is_all_pairs &&
        ranks_of(cluster, job) > kMostSummedFlows / cluster.spec().gpus) {
      return invalid("more than " + text(kMostSummedFlows) + " flows that are not alike, too many to sum; accepted: " +
                     "fewer GPUs, or " + way_out(cluster, jobs, distances));
    }
    if (is_ring(job.op)) {
      add_rings(out, id, job, cluster);
    } else if (job.op == JobOp::kSend) {
      out.add(id, job, job.from / gpus_per_node, static_cast<int>(job.from % gpus_per_node), job.to / gpus_per_node,
              static_cast<int>(job.to % gpus_per_node), job.bytes, 1);
    } else if (job.op == JobOp::kAllToAll) {
      const double chunk = job.bytes / static_cast<double>(ranks_of(cluster, job));
      add_pairs(out, id, job, cluster, symmetry, distances, chunk, {}, false);
    } else {
      const auto hits = draw_gate(gate_of(cluster, job));
      if (!hits) return hits.error();
      if (job.direct) {
        add_pairs(out, id, job, cluster, symmetry, distances, job.bytes * static_cast<double>(job.tokens), hits->copies,
                  job.op == JobOp::kCombine);
      } else {
        add_forwarded(out, id, job, cluster, symmetry, *hits);
      }
    }
    out.flush(job);
    if (out.is_full()) {
      std::string ways = jobs.size() == 1 ? "engine bound" : "";
      ways += ways.empty() ? "fewer GPUs" : is_all_pairs ? ", fewer GPUs" : " or fewer GPUs";
      if (is_all_pairs) ways += ", or " + way_out(cluster, jobs, distances);
      return invalid("more than " + text(kMostFlowClasses) + " flows that are not alike; accepted: " + ways);
    }
  }
  return out.take();
}

}  // namespace fathom
