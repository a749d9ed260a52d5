#include "cluster/routing.h"

#include <algorithm>
#include <map>

#include "base/figure.h"
#include "base/integers.h"
#include "base/rng.h"
#include "cluster/dragonfly.h"
#include "cluster/fat_tree.h"
#include "cluster/mpft.h"
#include "cluster/mrft.h"
#include "cluster/slim_fly.h"

namespace fathom {
namespace {

Result<Fabric> build(const ClusterSpec& s) {
  switch (s.kind) {
    case FabricKind::kFt2: return fat_tree2(s.radix, s.gpus);
    case FabricKind::kFt3: return fat_tree3(s.radix, s.gpus);
    case FabricKind::kMpft: return mpft(s.radix, s.planes, s.gpus);
    case FabricKind::kMrft: return mrft(s.radix, s.planes, s.gpus);
    case FabricKind::kSlimFly:
    case FabricKind::kDragonfly: break;
  }
  return invalid("not a tree");
}

constexpr double kLeastRate = 1e-6;  // GB/s: below, times are no numbers at last

std::string text(int64_t v) { return std::to_string(v); }

/// What nodes and rates must be on any fabric.
Status check_nodes(const ClusterSpec& s) {
  if (s.gpus < 1) return invalid("a cluster of " + text(s.gpus) + " GPUs; accepted: 1 or more");
  if (s.gpus_per_node < 1 || s.gpus_per_node > 1024) {
    return invalid("gpus_per_node " + text(s.gpus_per_node) + "; accepted: 1 to 1024");
  }
  if (s.gpus % s.gpus_per_node != 0) {
    const int64_t below = s.gpus / s.gpus_per_node * s.gpus_per_node;
    return invalid(text(s.gpus) + " GPUs in nodes of " + text(s.gpus_per_node) + "; accepted: whole nodes, as " +
                   (below > 0 ? text(below) + " or " : "") + text(below + s.gpus_per_node));
  }
  for (const auto& [name, rate] :
       {std::pair{"nic_gbps", s.nic_gbps}, {"nvlink_gbps", s.nvlink_gbps}, {"port_gbps", s.port_gbps}}) {
    if (!(rate >= kLeastRate) || !(rate < 1e9)) {
      return invalid(std::string(name) + " is " + figure_text(rate) + "; accepted: 1e-6 or more, below 1e9");
    }
  }
  if (s.dead_nic >= s.gpus_per_node || (s.dead_nic >= 0 && s.gpus_per_node < 2)) {
    return invalid("NIC " + text(s.dead_nic) + " cannot fail: a node has " + text(s.gpus_per_node) + "; accepted: " +
                   (s.gpus_per_node < 2 ? "nodes of 2 or more, as one without any is cut off"
                                        : "0 to " + text(s.gpus_per_node - 1)));
  }
  return {};
}

Error no_plane(const ClusterSpec& s) {
  return invalid("plane " + text(s.dead_plane) + " cannot fail: the fabric has " + text(s.planes) +
                 "; accepted: one of 2 or more planes of mpft, or rails of mrft");
}

/// A dead leaf of `nodes` nodes: their other planes must carry what it did.
Status check_dead_leaf(const ClusterSpec& s, int64_t nodes) {
  const bool has_planes = s.kind == FabricKind::kMpft || s.kind == FabricKind::kMrft;
  if (s.dead_leaf >= s.planes) {
    return invalid("fail.leaf is " + text(s.dead_leaf) + ": a node has a leaf on each of " + text(s.planes) +
                   (s.planes == 1 ? " plane" : " planes") + "; accepted: 0 to " + text(s.planes - 1));
  }
  if (has_planes && s.planes > 1) return {};
  const int64_t rest = s.gpus - nodes * s.gpus_per_node;
  return invalid("leaf 0 has all NICs of nodes 0 to " + text(nodes - 1) + ", which its death cuts off" +
                 (rest > 0 ? "; what is left is network.gpus = " + text(rest) : "") +
                 "; accepted: mpft or mrft with 2 planes or more, whose nodes go over the others");
}

/// The Slim Fly of this q, or of 0 the smallest that holds the GPUs.
Result<Fabric> choose_slim_fly(ClusterSpec& s) {
  int64_t most = 0;
  for (int q = 3; s.slim_fly_q == 0 && q < s.radix; ++q) {
    const auto fabric = slim_fly(q, s.radix, s.gpus_per_switch);
    if (!fabric) continue;
    most = std::max(most, fabric->endpoints);
    if (fabric->endpoints >= s.gpus) s.slim_fly_q = q;
  }
  if (s.slim_fly_q != 0) return slim_fly(s.slim_fly_q, s.radix, s.gpus_per_switch);
  if (most == 0) {
    return invalid("Slim Fly: none fits switches of " + text(s.radix) + " ports" +
                   (s.gpus_per_switch > 0 ? " with " + text(s.gpus_per_switch) + " endpoints" : "") +
                   "; the smallest (q = 3) needs 5 and those of its endpoints");
  }
  return invalid("Slim Fly: " + text(s.gpus) + " endpoints; accepted: 1 to " + text(most) + " with " + text(s.radix) +
                 " ports" + (s.gpus_per_switch > 0 ? " and " + text(s.gpus_per_switch) + " endpoints a switch" : ""));
}

Result<Fabric> choose_dragonfly(ClusterSpec& s) {
  const int64_t p = s.gpus_per_switch > 0 ? s.gpus_per_switch : (s.radix + 1) / 4;
  const auto largest = dragonfly(p);
  if (!largest) return largest.error();
  if (largest->radix > s.radix) {
    return invalid("Dragonfly: " + text(p) + " endpoints a switch need " + text(largest->radix) + " ports, more than " +
                   text(s.radix) + "; accepted: 1 to " + text((s.radix + 1) / 4));
  }
  if (s.dragonfly_groups == 0) {
    const int64_t groups = std::max<int64_t>(2, ceil_div(s.gpus, 2 * p * p));
    s.dragonfly_groups = static_cast<int>(std::min(groups, largest->max_endpoints / (2 * p * p)));
  }
  return dragonfly(p, s.dragonfly_groups);
}

}  // namespace

Result<Cluster> Cluster::make_graph(ClusterSpec s) {
  s.planes = 1;
  const bool is_slim_fly = s.kind == FabricKind::kSlimFly;
  if (auto ok = check_radix(is_slim_fly ? "Slim Fly" : "Dragonfly", s.radix); !ok) return ok.error();
  const auto fabric = is_slim_fly ? choose_slim_fly(s) : choose_dragonfly(s);
  if (!fabric) return fabric.error();
  if (s.gpus > fabric->endpoints) {
    return invalid(fabric->name + " of " + text(fabric->switches) + " switches: " + text(s.gpus) +
                   " endpoints; accepted: 1 to " + text(fabric->endpoints));
  }
  s.gpus_per_switch = static_cast<int>(fabric->endpoints / fabric->switches);
  if (s.dead_plane >= 0) return no_plane(s);
  if (s.dead_leaf >= 0) {
    return invalid(
        "a switch cannot fail: all NICs of its nodes hang on it; accepted: fail.nic or fail.uplinks, or "
        "fail.leaf on mpft and mrft");
  }
  auto graph =
      is_slim_fly ? SwitchGraph::slim_fly(s.slim_fly_q) : SwitchGraph::dragonfly(s.gpus_per_switch, s.dragonfly_groups);
  if (!graph) return graph.error();
  if (auto ok = graph->lose(s.lost_uplinks); !ok) return ok.error();
  const int64_t nodes = s.gpus / s.gpus_per_node;
  Cluster cluster(s, *fabric, nodes, nodes);
  cluster.graph_ = std::make_shared<const SwitchGraph>(*std::move(graph));
  return cluster;
}

Result<Cluster> Cluster::make(const ClusterSpec& given) {
  ClusterSpec s = given;
  if (s.kind == FabricKind::kFt2 || s.kind == FabricKind::kFt3) s.planes = 1;
  if (auto ok = check_nodes(s); !ok) return ok.error();
  if (is_graph(s.kind)) return make_graph(s);
  if (s.routing == Routing::kValiant) {
    return invalid(
        "Valiant's routing goes over a third group or switch, which a tree has not; accepted: slimfly, "
        "dragonfly, or adaptive, static, ecmp");
  }
  // A tree of three layers with one pod is one of two.
  const int64_t pod_gpus = int64_t{s.radix} * s.radix / 4;
  if (s.kind == FabricKind::kFt3 && s.radix > 0 && s.gpus <= pod_gpus) s.kind = FabricKind::kFt2;
  const auto fabric = build(s);
  if (!fabric) return fabric.error();
  if (s.gpus_per_node % s.planes != 0) {
    return invalid("nodes of " + text(s.gpus_per_node) + " GPUs on " + text(s.planes) +
                   " planes; accepted: divisors of the GPUs of a node, as each plane has equally many of its NICs");
  }
  const int on_leaf = s.gpus_per_node / s.planes, down = s.radix / 2;
  if (down % on_leaf != 0) {
    return invalid("a leaf has " + text(down) + " ports down and a node " + text(on_leaf) +
                   " NICs on it; whole nodes must fit (more planes, or another radix)");
  }
  const int64_t per_unit = down / on_leaf, nodes = s.gpus / s.gpus_per_node;
  const bool has_planes = s.kind == FabricKind::kMpft || s.kind == FabricKind::kMrft;
  if (s.dead_plane >= 0 && !(has_planes && s.planes > 1 && s.dead_plane < s.planes)) {
    return no_plane(s);
  }
  if (s.dead_leaf >= 0) {
    if (auto ok = check_dead_leaf(s, std::min(per_unit, nodes)); !ok) return ok.error();
  }
  if (s.lost_uplinks < 0 || s.lost_uplinks >= down) {
    return invalid(text(s.lost_uplinks) + " uplinks lost of a leaf's " + text(down) + "; accepted: 0 to " +
                   text(down - 1));
  }
  if (s.lost_uplinks > 0 && (s.routing != Routing::kAdaptive || nodes <= per_unit)) {
    return invalid(
        nodes <= per_unit
            ? "uplinks cannot be lost: " + text(s.gpus) + " GPUs need one leaf a plane, without uplinks; accepted: " +
                  text(per_unit * s.gpus_per_node + s.gpus_per_node) + " GPUs or more"
            : text(s.lost_uplinks) + " uplinks lost under static or ECMP routing; accepted: adaptive routing");
  }
  Cluster cluster(s, *fabric, per_unit, s.kind == FabricKind::kFt3 ? pod_gpus / s.gpus_per_node : nodes);
  // What is broken is nested: who can reach node 0, whose NIC, leaf and plane may be dead, can reach everybody.
  for (int gpu = 0; gpu < s.gpus_per_node; ++gpu) {
    if (!cluster.is_dead(0, gpu)) return cluster;
  }
  return invalid(
      "node 0 is cut off: its " + text(s.gpus_per_node) +
      " NICs are all dead, by fail.plane, fail.leaf and fail.nic together; accepted: failures that leave one");
}

std::array<uint32_t, 4> Cluster::hash(int64_t u, int a, int64_t v, int b, uint64_t queue_pair) const {
  const auto nic = [&](int64_t node, int gpu) { return static_cast<uint32_t>(node * spec_.gpus_per_node + gpu); };
  return philox({nic(u, a), nic(v, b), static_cast<uint32_t>(queue_pair), 0},
                {static_cast<uint32_t>(spec_.seed), static_cast<uint32_t>(spec_.seed >> 32)});
}

std::vector<Way> Cluster::fabric(int64_t u, int a, int64_t v, int b, uint64_t queue_pair) const {
  if (graph_) {
    const ClusterLink out{LinkKind::kNicOut, static_cast<int32_t>(u), a, -1};
    const ClusterLink in{LinkKind::kNicIn, static_cast<int32_t>(v), b, -1};
    const auto source = static_cast<int>(switch_of(u, a)), target = static_cast<int>(switch_of(v, b));
    if (source == target) return {{1, {out, in}}};
    std::vector<Way> ways;
    const auto add = [&](double share, const Route& route) {
      Way way{share, {out}};
      for (int32_t hop : route) {
        way.links.push_back({graph_->is_global(hop) ? LinkKind::kGlobal : LinkKind::kLocal, graph_->from(hop),
                             hop % graph_->ports(), -1});
      }
      way.links.push_back(in);
      ways.push_back(std::move(way));
    };
    if (spec_.routing == Routing::kValiant) {
      for (const SharedRoute& route : graph_->valiant_routes(source, target)) add(route.share, route.hops);
      return ways;
    }
    std::vector<Route> routes = graph_->routes(source, target);
    if (spec_.routing != Routing::kAdaptive && routes.size() > 1) {
      const auto chosen = spec_.routing == Routing::kStatic ? static_cast<uint64_t>(v * spec_.gpus_per_node + b)
                                                            : hash(u, a, v, b, queue_pair)[0];
      std::swap(routes[0], routes[chosen % routes.size()]);
      routes.resize(1);
    }
    for (const Route& route : routes) add(1 / static_cast<double>(routes.size()), route);
    return ways;
  }
  Way way;
  tree_way(u, a, v, b, queue_pair, way.links);
  return {std::move(way)};
}

void Cluster::tree_way(int64_t u, int a, int64_t v, int b, uint64_t queue_pair, std::vector<ClusterLink>& links) const {
  links.clear();
  links.push_back({LinkKind::kNicOut, static_cast<int32_t>(u), a, -1});
  const auto from = static_cast<int32_t>(unit_of(u)), to = static_cast<int32_t>(unit_of(v));
  const int plane_a = plane_of(a), plane_b = plane_of(b);
  if (from != to || plane_a != plane_b) {
    const auto pod_a = static_cast<int32_t>(pod_of(u)), pod_b = static_cast<int32_t>(pod_of(v));
    // Ports of the leaves, the switch of the pods' upper layer, and ports of that.
    int up = -1, down = -1, upper = 0, pod_up = -1, pod_down = -1;
    if (spec_.routing != Routing::kAdaptive) {
      const int ports = uplinks();
      const auto h = hash(u, a, v, b, queue_pair);
      // What is above is behind the uplinks s, s + count, ... of everything below it: one hash chooses among all
      // uplinks, another among those that come down from there.
      const auto back = [&](int port, int64_t above, uint32_t draw) {
        const auto count = static_cast<int>(std::clamp<int64_t>(above, 1, ports));
        const int place = port % count, num = (ports - place + count - 1) / count;
        return place + count * static_cast<int>(draw % static_cast<uint32_t>(num));
      };
      if (spec_.routing == Routing::kStatic) {
        const int64_t nics_on_leaf = spec_.gpus_per_node / spec_.planes;
        up = down = static_cast<int>(v % nodes_per_unit_ * nics_on_leaf + b / spec_.planes) % ports;
        const int64_t leaves_of_pod = std::max<int64_t>(nodes_per_pod_ / nodes_per_unit_, 1);  // one may be part-filled
        pod_up = pod_down = static_cast<int>(unit_of(v) % leaves_of_pod) % ports;
      } else if (spec_.kind == FabricKind::kFt3) {
        // A pod is full: every upper switch has one cable to each of its leaves. A core has one place in each pod.
        const int64_t pods = ceil_div(num_nodes(), nodes_per_pod_);
        up = down = static_cast<int>(h[0] % static_cast<uint32_t>(ports));
        pod_up = static_cast<int>(h[1] % static_cast<uint32_t>(ports));
        pod_down = back(pod_up, ceil_div(pods * ports, spec_.radix), h[2]);
      } else {
        const int64_t leaves = num_units() * (spec_.kind == FabricKind::kMrft ? spec_.planes : 1);
        up = static_cast<int>(h[0] % static_cast<uint32_t>(ports));
        down = back(up, ceil_div(leaves * ports, spec_.radix), h[1]);
      }
      if (spec_.kind == FabricKind::kFt3) upper = up;
    }
    links.push_back({LinkKind::kLeafUp, from, plane_a, up});
    if (pod_a != pod_b) {
      links.push_back({LinkKind::kPodUp, pod_a, upper, pod_up});
      links.push_back({LinkKind::kPodDown, pod_b, upper, pod_down});
    }
    links.push_back({LinkKind::kLeafDown, to, plane_b, down});
  }
  links.push_back({LinkKind::kNicIn, static_cast<int32_t>(v), b, -1});
}

std::pair<int, int> Cluster::nics(int a, int b) const {
  const int out = spec_.pxn ? b : a;
  return {out, spec_.kind != FabricKind::kMpft ? b : out};
}

void Cluster::add_nvlink(int64_t node, int from, int to, std::vector<ClusterLink>& links) {
  if (from == to) return;
  links.push_back({LinkKind::kNvlinkOut, static_cast<int32_t>(node), from, -1});
  links.push_back({LinkKind::kNvlinkIn, static_cast<int32_t>(node), to, -1});
}

std::vector<Way> Cluster::ways(int64_t u, int a, int64_t v, int b, uint64_t queue_pair) const {
  if (u == v) {
    Way way;
    add_nvlink(u, a, b, way.links);
    return {std::move(way)};
  }
  const bool joined = spec_.kind != FabricKind::kMpft;
  // Where it enters and leaves the fabric when nothing is broken.
  const auto [out, in] = nics(a, b);
  std::vector<std::pair<int, int>> alive;
  if (!is_dead(u, out) && !is_dead(v, in)) {
    alive.emplace_back(out, in);
  } else {
    const int broken = is_dead(u, out) ? out : in;
    for (int step = 1; step < spec_.gpus_per_node; ++step) {
      const int other = (broken + step) % spec_.gpus_per_node;
      // Without links between planes both ends change; with them only the one that must.
      const int from = joined && !is_dead(u, out) ? out : other, to = joined && !is_dead(v, in) ? in : other;
      if (is_dead(u, from) || is_dead(v, to)) continue;
      alive.emplace_back(from, to);
      if (!spec_.spread) break;
    }
  }
  std::vector<Way> ways;
  for (const auto& [from, to] : alive) {
    for (const Way& middle : fabric(u, from, v, to, queue_pair)) {
      Way way{middle.share / static_cast<double>(alive.size()), {}};
      add_nvlink(u, a, from, way.links);
      way.links.insert(way.links.end(), middle.links.begin(), middle.links.end());
      add_nvlink(v, to, b, way.links);
      ways.push_back(std::move(way));
    }
  }
  return ways;
}

int num_switches(const Way& way) {
  int switches = 0;
  for (const ClusterLink& link : way.links) {
    if (link.kind == LinkKind::kNicOut) switches = std::max(switches, 1);
    if (link.kind == LinkKind::kLeafUp) switches = std::max(switches, 3);
    if (link.kind == LinkKind::kPodUp) switches = 5;
    if (link.kind == LinkKind::kLocal || link.kind == LinkKind::kGlobal) ++switches;
  }
  return switches;
}

double Cluster::gbps(const ClusterLink& link) const {
  const int num_ports_up = spec_.radix / 2;
  const double half = num_ports_up;
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
    case LinkKind::kPodDown: return spec_.port_gbps * (link.port >= 0 ? 1 : half * half);
    case LinkKind::kLocal:
    case LinkKind::kGlobal: return spec_.port_gbps;
  }
  return 0;
}

std::pair<const std::vector<int32_t>*, const std::vector<int32_t>*> Symmetry::of(LinkKind kind) const {
  switch (kind) {
    case LinkKind::kNvlinkOut:
    case LinkKind::kNvlinkIn:
    case LinkKind::kNicOut:
    case LinkKind::kNicIn: return {&node, &gpu};
    case LinkKind::kLeafUp:
    case LinkKind::kLeafDown: return {&unit, &plane};
    case LinkKind::kPodUp:
    case LinkKind::kPodDown: return {&pod, nullptr};
    case LinkKind::kLocal:
    case LinkKind::kGlobal: return {&hop, nullptr};
  }
  return {};
}

ClusterLink Cluster::group_of(const ClusterLink& link, const Symmetry& symmetry) const {
  ClusterLink group = link;
  if (link.kind == LinkKind::kLocal || link.kind == LinkKind::kGlobal) {
    group.place = link.place * graph_->ports() + link.lane;
    group.lane = 0;
  }
  const auto [places, lanes] = symmetry.of(link.kind);
  group.place = (*places)[static_cast<size_t>(group.place)];
  if (lanes) group.lane = (*lanes)[static_cast<size_t>(group.lane)];
  return group;
}

std::string link_kind_name(LinkKind kind) {
  constexpr const char* kNames[kNumLinkKinds] = {"NVLink out",   "NVLink in",      "NIC out",     "NIC in",
                                                 "leaf uplinks", "leaf downlinks", "pod uplinks", "pod downlinks",
                                                 "local link",   "global link"};
  return kNames[static_cast<size_t>(kind)];
}

std::string Cluster::name(const ClusterLink& link) const {
  const std::string kind = link_kind_name(link.kind), place = text(link.place);
  const std::string port = link.port >= 0 ? ", port " + text(link.port) : "";
  if (link.kind == LinkKind::kPodUp || link.kind == LinkKind::kPodDown) {
    return kind + " of pod " + place + (link.port >= 0 ? ", upper switch " + text(link.lane) : "") + port;
  }
  if (link.kind == LinkKind::kLocal || link.kind == LinkKind::kGlobal) {
    return kind + " of switch " + place + " to " + text(graph_->to(link.place * graph_->ports() + link.lane));
  }
  if (link.kind == LinkKind::kLeafUp || link.kind == LinkKind::kLeafDown) {
    return kind + " of leaf " + place + (spec_.planes > 1 ? ", plane " + text(link.lane) : "") + port;
  }
  return kind + " of node " + place + ", GPU " + text(link.lane);
}

Symmetry Cluster::none_alike() const {
  const auto count = [](int64_t n) {
    std::vector<int32_t> each(static_cast<size_t>(n));
    for (size_t i = 0; i < each.size(); ++i) each[i] = static_cast<int32_t>(i);
    return each;
  };
  return {count(num_nodes()),
          count(spec_.gpus_per_node),
          count(num_units()),
          count(spec_.planes),
          count(ceil_div(num_nodes(), nodes_per_pod_)),
          count(graph_ ? graph_->num_switches() * graph_->ports() : 0)};
}

bool Cluster::is_evenly_filled() const {
  return graph_ && spec_.dead_nic < 0 && spec_.lost_uplinks == 0 && spec_.gpus_per_switch % spec_.gpus_per_node == 0 &&
         spec_.gpus == int64_t{graph_->num_switches()} * spec_.gpus_per_switch;
}

Symmetry Cluster::symmetry() const {
  if (spec_.routing != Routing::kAdaptive) return none_alike();
  Symmetry s = none_alike();
  if (graph_) {
    if (!is_evenly_filled()) return s;
    for (size_t n = 0; n < s.node.size(); ++n) {
      s.node[n] = graph_->switch_colours()[static_cast<size_t>(switch_of(static_cast<int64_t>(n), 0))];
    }
    std::fill(s.gpu.begin(), s.gpu.end(), 0);
    s.hop.assign(graph_->hop_colours().begin(), graph_->hop_colours().end());
    return s;
  }
  const bool is_broken = this->is_broken();
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
