#include "sim/traffic.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>
#include <string>
#include <utility>

#include "sim/traffic_builder.h"

namespace fathom {
namespace {

std::string text(int64_t v) { return std::to_string(v); }

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

/// Calls see(v) for the peers of node u at the distances `d`, its own group's nodes following each other in a circle.
template <class See>
void for_each_peer(int64_t u, int64_t group_nodes, const Distances& d, const See& see) {
  const int64_t from = d.to > 0 ? d.from : 0, to = d.to > 0 ? d.to : group_nodes - 1;
  const int64_t first = u / group_nodes * group_nodes;
  for (int64_t distance = from; distance <= to; ++distance) {
    const int64_t place = u - first + distance;
    see(first + (place < group_nodes ? place : place - group_nodes));
  }
}

/// Calls see(pair) until it says false, for the ordered pairs of nodes of one group that a job joins, by what
/// distinguishes them under the symmetry. A window's are seen one by one; without one, alike nodes have alike peers,
/// and one of each colour stands for all.
template <class See>
void for_each_node_pair(const Cluster& cluster, int64_t group_nodes, const Symmetry& s, const Distances& d,
                        const See& see) {
  const int64_t colours = num_colours(s.node), nodes = cluster.num_nodes();
  if (cluster.graph() && colours < nodes) {
    for (const Alike& pair : graph_pairs(cluster, s)) {
      if (!see(pair)) return;
    }
    return;
  }
  if (colours == nodes) {  // every pair is one of a kind
    bool goes_on = true;
    for (int64_t u = 0; u < nodes && goes_on; ++u) {
      for_each_peer(u, group_nodes, d, [&](int64_t v) { goes_on = goes_on && see(Alike{1, u, v}); });
    }
    return;
  }
  const bool has_one_for_all = d.to == 0;
  std::vector<double> sizes(static_cast<size_t>(colours), 0);
  for (int32_t colour : s.node) ++sizes[static_cast<size_t>(colour)];
  std::vector<Alike> table(static_cast<size_t>((has_one_for_all ? 1 : colours) * colours * 4));
  std::vector<size_t> used;
  bool goes_on = true;
  const auto flush = [&] {
    for (const size_t key : used) goes_on = goes_on && see(std::exchange(table[key], {}));
    used.clear();
  };
  for (int64_t u = 0; u < nodes && goes_on; ++u) {
    const auto colour = static_cast<size_t>(s.node[static_cast<size_t>(u)]);
    const double count = has_one_for_all ? std::exchange(sizes[colour], 0) : 1;
    if (count == 0) continue;
    const int64_t row = has_one_for_all ? 0 : static_cast<int64_t>(colour);
    for_each_peer(u, group_nodes, d, [&](int64_t v) {
      const int relation = relation_of(cluster, u, v);
      const auto key = static_cast<size_t>((row * colours + s.node[static_cast<size_t>(v)]) * 4 + relation);
      Alike& alike = table[key];
      if (alike.count == 0) {
        used.push_back(key);
        alike.u = u, alike.v = v;
      }
      alike.count += count;
    });
    if (has_one_for_all) flush();
  }
  flush();
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
  const auto of_node = static_cast<size_t>(gpus_per_node);
  for_each_node_pair(cluster, group_nodes, s, d, [&](const Alike& n) {
    std::span<const double> scale(factor);  // [GPU of node v]
    if (!factor.empty()) scale = scale.subspan(static_cast<size_t>(n.v % group_nodes) * of_node, of_node);
    if (n.u != n.v && out.takes_nodes()) {
      out.add_nodes(job, backwards ? n.v : n.u, backwards ? n.u : n.v, bytes, scale, backwards);
      return true;
    }
    for (const Alike& g : gpus) {
      if (n.u == n.v && g.u == g.v) continue;
      const auto a = static_cast<int>(g.u), b = static_cast<int>(g.v);
      const double copies = bytes * (scale.empty() ? 1 : scale[static_cast<size_t>(b)]);
      if (backwards) {
        out.add(id, job, n.v, b, n.u, a, copies, n.count * g.count);
      } else {
        out.add(id, job, n.u, a, n.v, b, copies, n.count * g.count);
      }
    }
    return !out.is_full();
  });
}

/// One copy per node and then one per GPU.
void add_forwarded(TrafficBuilder& out, int id, const Job& job, const Cluster& cluster, const Symmetry& s,
                   const GateHits& hits) {
  const int gpus_per_node = cluster.spec().gpus_per_node;
  const int64_t group_nodes = ranks_of(cluster, job) / gpus_per_node;
  const double bytes = job.bytes * static_cast<double>(job.tokens);
  const bool backwards = job.op == JobOp::kCombine;
  const auto gpus = gpu_pairs(cluster, s);
  for_each_node_pair(cluster, group_nodes, s, {}, [&](const Alike& n) {
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
    }
    return !out.is_full();
  });
}

/// Rings as Traffic's comment says. One node of each colour and one GPU of each stand for all.
void add_rings(TrafficBuilder& out, int id, const Job& job, const Cluster& cluster, const Symmetry& s) {
  const int gpus_per_node = cluster.spec().gpus_per_node;
  const int in_ring = job.ring_gpus > 0 ? job.ring_gpus : gpus_per_node, stride = gpus_per_node / in_ring;
  const auto ranks = static_cast<double>(ring_ranks_of(cluster, job));
  const double passes = job.op == JobOp::kAllReduce ? 2 : 1;
  const double bytes = passes * job.bytes * (ranks - 1) / ranks;  // that pass between two neighbours, over all rings
  std::vector<double> nodes(static_cast<size_t>(num_colours(s.node)), 0);
  for (int32_t colour : s.node) ++nodes[static_cast<size_t>(colour)];
  std::vector<Alike> gpus(static_cast<size_t>(num_colours(s.gpu)));
  for (int a = gpus_per_node - 1; a >= 0; --a) {
    Alike& alike = gpus[static_cast<size_t>(s.gpu[static_cast<size_t>(a)])];
    alike = {alike.count + 1, a, a};
  }
  for (int64_t u = 0; u < cluster.num_nodes(); ++u) {
    const double count = std::exchange(nodes[static_cast<size_t>(s.node[static_cast<size_t>(u)])], 0);
    if (count == 0) continue;
    const int64_t next = ring_next(cluster, job, u);
    for (const Alike& g : gpus) {
      if (g.count == 0) continue;
      const auto a = static_cast<int>(g.u);
      if (next != u) out.add_rail(id, job, u, a, next, bytes / in_ring, count * g.count);
      if (in_ring == 1) continue;
      // As many rings as GPUs; all but the one that leaves the node after this GPU go on inside.
      const double inside = next == u ? bytes : bytes * (in_ring - 1) / in_ring;
      out.add(id, job, u, a, u, (a + stride) % gpus_per_node, inside, count * g.count);
    }
    if (out.is_full()) return;
  }
}

/// What would make the flows of these jobs alike that are not.
std::string way_out(const Cluster& cluster, std::span<const Job> jobs, const Distances& distances) {
  const ClusterSpec& s = cluster.spec();
  if (s.routing != Routing::kAdaptive) return "adaptive routing of a uniform load";
  const auto has = [&](auto is) { return std::any_of(jobs.begin(), jobs.end(), is); };
  const bool has_rings = has([](const Job& j) { return is_ring(j.op); });
  const bool has_sends = has([](const Job& j) { return j.op == JobOp::kSend; });
  if (cluster.graph() && (has_rings || has_sends)) return "no rings or messages beside it";
  for (const Job& job : jobs) {
    const std::string in_groups =
        ranks_of(cluster, job) == s.gpus && !cluster.graph() ? " or groups of fewer (ranks)" : "";
    if (job.skew > 0) return "experts that are all as popular (skew = 0)" + in_groups;
    if (!job.recorded.empty()) return "experts that are all as popular (no gate_file)" + in_groups;
  }
  if (has_rings && has_sends) return "no message beside rings, which tell every node by its distance to it";
  if (has_rings && cluster.is_broken())
    return "nothing broken beside rings, which tell every node by its distance to it";
  const int64_t unit_gpus = cluster.nodes_per_unit() * s.gpus_per_node;
  if (has_rings && !cluster.graph() && s.gpus % unit_gpus != 0) {
    return "full leaves beside rings (network.gpus = " + text(s.gpus / unit_gpus * unit_gpus) + " or " +
           text((s.gpus / unit_gpus + 1) * unit_gpus) + ")";
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

}  // namespace

int relation_of(const Cluster& cluster, int64_t u, int64_t v) {
  return u == v ? 0 : cluster.unit_of(u) == cluster.unit_of(v) ? 1 : cluster.pod_of(u) == cluster.pod_of(v) ? 2 : 3;
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
  const bool is_each = num_colours(symmetry.node) == cluster.num_nodes();
  for (size_t i = 0; i < jobs.size(); ++i) {
    const Job& job = jobs[i];
    const auto id = static_cast<int>(i);
    if (auto s = check_job(cluster, job); !s) return s.error();
    const int gpus_per_node = cluster.spec().gpus_per_node;
    const bool is_all_pairs = !is_ring(job.op) && job.op != JobOp::kSend;
    // The ways of a graph are searched for, pair by pair.
    constexpr int64_t kMostGraphPairs = 4 * kMostFlowClasses;
    if (cluster.graph() && is_each && is_all_pairs && cluster.num_nodes() > kMostGraphPairs / cluster.num_nodes()) {
      return invalid(text(cluster.num_nodes()) + " nodes, none alike, are too many for an all-to-all; accepted: " +
                     text(static_cast<int64_t>(std::sqrt(kMostGraphPairs))) + " at most, or " +
                     way_out(cluster, jobs, distances));
    }
    if (keep == Keep::kLoads && is_each && is_all_pairs &&
        ranks_of(cluster, job) > kMostSummedFlows / cluster.spec().gpus) {
      return invalid("more than " + text(kMostSummedFlows) + " flows that are not alike, too many to sum; accepted: " +
                     "fewer GPUs, or " + way_out(cluster, jobs, distances));
    }
    if (is_ring(job.op)) {
      add_rings(out, id, job, cluster, symmetry);
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
