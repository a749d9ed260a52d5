#include "cluster/routing.h"

#include <algorithm>
#include <map>

#include "base/figure.h"
#include "base/rng.h"
#include "cluster/fat_tree.h"
#include "cluster/mpft.h"
#include "cluster/mrft.h"

namespace fathom {
namespace {

Result<Fabric> build(const ClusterSpec& s) {
  switch (s.kind) {
    case TreeKind::kFt2: return fat_tree2(s.radix, s.gpus);
    case TreeKind::kFt3: return fat_tree3(s.radix, s.gpus);
    case TreeKind::kMpft: return mpft(s.radix, s.planes, s.gpus);
    case TreeKind::kMrft: return mrft(s.radix, s.planes, s.gpus);
  }
  return invalid("unknown kind of tree");
}

std::string text(int64_t v) { return std::to_string(v); }

}  // namespace

Result<Cluster> Cluster::make(const ClusterSpec& given) {
  ClusterSpec s = given;
  if (s.kind == TreeKind::kFt2 || s.kind == TreeKind::kFt3) s.planes = 1;
  if (s.gpus < 1) return invalid("a cluster of " + text(s.gpus) + " GPUs; accepted: 1 or more");
  if (s.gpus_per_node < 1 || s.gpus_per_node > 1024) {
    return invalid("gpus_per_node " + text(s.gpus_per_node) + "; accepted: 1 to 1024");
  }
  if (s.gpus % s.gpus_per_node != 0) {
    const int64_t below = s.gpus / s.gpus_per_node * s.gpus_per_node;
    return invalid(text(s.gpus) + " GPUs in nodes of " + text(s.gpus_per_node) + "; accepted: whole nodes, as " +
                   (below > 0 ? text(below) + " or " : "") + text(below + s.gpus_per_node));
  }
  // A tree of three layers with one pod is one of two.
  const int64_t pod_gpus = int64_t{s.radix} * s.radix / 4;
  if (s.kind == TreeKind::kFt3 && s.radix > 0 && s.gpus <= pod_gpus) s.kind = TreeKind::kFt2;
  const auto fabric = build(s);
  if (!fabric) return fabric.error();
  if (s.gpus_per_node % s.planes != 0) {
    return invalid("nodes of " + text(s.gpus_per_node) + " GPUs on " + text(s.planes) +
                   " planes; each plane must have equally many of a node's NICs");
  }
  const int on_leaf = s.gpus_per_node / s.planes, down = s.radix / 2;
  if (down % on_leaf != 0) {
    return invalid("a leaf has " + text(down) + " ports down and a node " + text(on_leaf) +
                   " NICs on it; whole nodes must fit (more planes, or another radix)");
  }
  for (const auto& [name, rate] :
       {std::pair{"nic_gbps", s.nic_gbps}, {"nvlink_gbps", s.nvlink_gbps}, {"port_gbps", s.port_gbps}}) {
    if (!(rate > 0) || !(rate < 1e9)) {
      return invalid(std::string(name) + " is " + figure_text(rate) + "; accepted: more than 0, below 1e9");
    }
  }
  const int64_t per_unit = down / on_leaf, nodes = s.gpus / s.gpus_per_node;
  const bool has_planes = s.kind == TreeKind::kMpft || s.kind == TreeKind::kMrft;
  if (s.dead_plane >= 0 && !(has_planes && s.planes > 1 && s.dead_plane < s.planes)) {
    return invalid("plane " + text(s.dead_plane) + " cannot fail: the fabric has " + text(s.planes) +
                   "; accepted: one of 2 or more planes of mpft, or rails of mrft");
  }
  if (s.dead_nic >= s.gpus_per_node || (s.dead_nic >= 0 && s.gpus_per_node < 2)) {
    return invalid("NIC " + text(s.dead_nic) + " cannot fail: a node has " + text(s.gpus_per_node) +
                   "; accepted: one of 2 or more");
  }
  if (s.dead_plane >= 0 && s.dead_nic >= 0) return invalid("a dead plane and a dead NIC; accepted: one of them");
  if (s.lost_uplinks < 0 || s.lost_uplinks >= down) {
    return invalid(text(s.lost_uplinks) + " uplinks lost of a leaf's " + text(down) + "; accepted: 0 to " +
                   text(down - 1));
  }
  if (s.lost_uplinks > 0 && (s.routing != Routing::kAdaptive || nodes <= per_unit)) {
    return invalid(nodes <= per_unit
                       ? "uplinks cannot be lost: " + text(s.gpus) + " GPUs need one leaf a plane, " + "without uplinks"
                       : "lost uplinks are simulated under adaptive routing only");
  }
  if (s.kind == TreeKind::kFt3 && s.routing != Routing::kAdaptive) {
    return invalid("ft3 is simulated under adaptive routing only; accepted with static or ecmp: ft2, mpft, mrft");
  }
  return Cluster(s, per_unit, s.kind == TreeKind::kFt3 ? pod_gpus / s.gpus_per_node : nodes);
}

void Cluster::fabric(int64_t u, int a, int64_t v, int b, uint64_t queue_pair, std::vector<ClusterLink>& links) const {
  const auto from = static_cast<int32_t>(unit_of(u)), to = static_cast<int32_t>(unit_of(v));
  const int plane_a = plane_of(a), plane_b = plane_of(b);
  links.push_back({LinkKind::kNicOut, static_cast<int32_t>(u), a, -1});
  if (from != to || plane_a != plane_b) {
    int up = -1, down = -1;
    if (spec_.routing != Routing::kAdaptive) {
      const int ports = uplinks();
      const int64_t nics_on_leaf = spec_.gpus_per_node / spec_.planes;
      const auto in_leaf = static_cast<int>(v % nodes_per_unit_ * nics_on_leaf + b / spec_.planes);
      if (spec_.routing == Routing::kStatic) {
        up = down = in_leaf % ports;
      } else {
        // Spine s is behind the uplinks s, s + spines, ... of every leaf: the first hash chooses among all uplinks, the
        // second among those that come down from that spine.
        const bool joined = spec_.kind == TreeKind::kMrft;
        const int64_t leaves = num_units() * (joined ? spec_.planes : 1);
        const auto spines = static_cast<int>(std::clamp<int64_t>(ceil_div(leaves * ports, spec_.radix), 1, ports));
        const auto nic = [&](int64_t node, int gpu) { return static_cast<uint64_t>(node * spec_.gpus_per_node + gpu); };
        const auto hash = philox(
            {static_cast<uint32_t>(nic(u, a)), static_cast<uint32_t>(nic(v, b)), static_cast<uint32_t>(queue_pair), 0},
            {static_cast<uint32_t>(spec_.seed), static_cast<uint32_t>(spec_.seed >> 32)});
        up = static_cast<int>(hash[0] % static_cast<uint32_t>(ports));
        const int spine = up % spines, from_spine = (ports - spine + spines - 1) / spines;
        down = spine + spines * static_cast<int>(hash[1] % static_cast<uint32_t>(from_spine));
      }
    }
    links.push_back({LinkKind::kLeafUp, from, plane_a, up});
    const auto pod_a = static_cast<int32_t>(pod_of(u)), pod_b = static_cast<int32_t>(pod_of(v));
    if (pod_a != pod_b) {
      links.push_back({LinkKind::kPodUp, pod_a, 0, -1});
      links.push_back({LinkKind::kPodDown, pod_b, 0, -1});
    }
    links.push_back({LinkKind::kLeafDown, to, plane_b, down});
  }
  links.push_back({LinkKind::kNicIn, static_cast<int32_t>(v), b, -1});
}

std::vector<Way> Cluster::ways(int64_t u, int a, int64_t v, int b, uint64_t queue_pair) const {
  const auto nvlink = [](int64_t node, int from, int to, std::vector<ClusterLink>& links) {
    if (from == to) return;
    links.push_back({LinkKind::kNvlinkOut, static_cast<int32_t>(node), from, -1});
    links.push_back({LinkKind::kNvlinkIn, static_cast<int32_t>(node), to, -1});
  };
  if (u == v) {
    Way way;
    nvlink(u, a, b, way.links);
    return {std::move(way)};
  }
  const bool joined = spec_.kind != TreeKind::kMpft;
  // Where it enters and leaves the fabric when nothing is broken.
  const int out = spec_.pxn ? b : a, in = joined ? b : out;
  std::vector<std::pair<int, int>> nics;
  if (!is_dead(u, out) && !is_dead(v, in)) {
    nics.emplace_back(out, in);
  } else {
    const int broken = is_dead(u, out) ? out : in;
    for (int step = 1; step < spec_.gpus_per_node; ++step) {
      const int other = (broken + step) % spec_.gpus_per_node;
      if (is_dead(u, other) || is_dead(v, other)) continue;
      // Without links between planes both ends change; with them only the one that must.
      const bool keeps_in = joined && !is_dead(v, in);
      nics.emplace_back(other, keeps_in ? in : other);
      if (!spec_.spread) break;
    }
  }
  std::vector<Way> ways;
  for (const auto& [from, to] : nics) {
    Way way{1.0 / static_cast<double>(nics.size()), {}};
    nvlink(u, a, from, way.links);
    fabric(u, from, v, to, queue_pair, way.links);
    nvlink(v, to, b, way.links);
    ways.push_back(std::move(way));
  }
  return ways;
}

int num_switches(const Way& way) {
  int switches = 0;
  for (const ClusterLink& link : way.links) {
    if (link.kind == LinkKind::kNicOut) switches = std::max(switches, 1);
    if (link.kind == LinkKind::kLeafUp) switches = std::max(switches, 3);
    if (link.kind == LinkKind::kPodUp) switches = 5;
  }
  return switches;
}

double Cluster::gbps(const ClusterLink& link) const {
  const double half = spec_.radix / 2;
  switch (link.kind) {
    case LinkKind::kNvlinkOut:
    case LinkKind::kNvlinkIn: return spec_.nvlink_gbps;
    case LinkKind::kNicOut:
    case LinkKind::kNicIn: return spec_.nic_gbps;
    case LinkKind::kLeafUp:
    case LinkKind::kLeafDown:
      if (link.port >= 0) return spec_.port_gbps;
      return spec_.port_gbps * (half - (link.place == 0 && link.lane == 0 ? spec_.lost_uplinks : 0));
    case LinkKind::kPodUp:
    case LinkKind::kPodDown: return spec_.port_gbps * half * half;
  }
  return 0;
}

std::string link_kind_name(LinkKind kind) {
  constexpr const char* kNames[kNumLinkKinds] = {"NVLink out",   "NVLink in",      "NIC out",     "NIC in",
                                                 "leaf uplinks", "leaf downlinks", "pod uplinks", "pod downlinks"};
  return kNames[static_cast<size_t>(kind)];
}

std::string Cluster::name(const ClusterLink& link) const {
  const std::string kind = link_kind_name(link.kind), place = text(link.place);
  if (link.kind == LinkKind::kPodUp || link.kind == LinkKind::kPodDown) return kind + " of pod " + place;
  if (link.kind == LinkKind::kLeafUp || link.kind == LinkKind::kLeafDown) {
    return kind + " of leaf " + place + (spec_.planes > 1 ? ", plane " + text(link.lane) : "") +
           (link.port >= 0 ? ", port " + text(link.port) : "");
  }
  return kind + " of node " + place + ", GPU " + text(link.lane);
}

Symmetry Cluster::none_alike() const {
  const auto count = [](int64_t n) {
    std::vector<int32_t> each(static_cast<size_t>(n));
    for (size_t i = 0; i < each.size(); ++i) each[i] = static_cast<int32_t>(i);
    return each;
  };
  return {count(num_nodes()), count(spec_.gpus_per_node), count(num_units()), count(spec_.planes),
          count(ceil_div(num_nodes(), nodes_per_pod_))};
}

Symmetry Cluster::symmetry() const {
  if (spec_.routing != Routing::kAdaptive) return none_alike();
  Symmetry s = none_alike();
  const bool is_broken = spec_.dead_plane >= 0 || spec_.dead_nic >= 0 || spec_.lost_uplinks > 0;
  const auto filled = [&](int64_t index, int64_t size) { return std::min(size, num_nodes() - index * size); };
  for (size_t p = 0; p < s.pod.size(); ++p) {
    const auto pod = static_cast<int64_t>(p);
    s.pod[p] = static_cast<int32_t>(2 * filled(pod, nodes_per_pod_) + (is_broken && pod == 0));
  }
  // Pods and units are alike when equally full, and the first is not like the others when something in it is broken.
  std::map<std::pair<int64_t, int32_t>, int32_t> units;
  for (size_t i = 0; i < s.unit.size(); ++i) {
    const auto unit = static_cast<int64_t>(i);
    const int32_t pod = s.pod[static_cast<size_t>(pod_of(unit * nodes_per_unit_))];
    const std::pair<int64_t, int32_t> key(2 * filled(unit, nodes_per_unit_) + (is_broken && unit == 0), pod);
    s.unit[i] = units.try_emplace(key, static_cast<int32_t>(units.size())).first->second;
  }
  for (size_t n = 0; n < s.node.size(); ++n) {
    const int32_t unit = s.unit[static_cast<size_t>(unit_of(static_cast<int64_t>(n)))];
    s.node[n] = 2 * unit + (spec_.dead_nic >= 0 && n == 0);
  }
  if (!is_broken) {
    std::fill(s.gpu.begin(), s.gpu.end(), 0);
    std::fill(s.plane.begin(), s.plane.end(), 0);
  }
  return s;
}

}  // namespace fathom
