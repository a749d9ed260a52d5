#include "sim/link_loads.h"

#include <algorithm>
#include <functional>
#include <limits>
#include <string>

namespace fathom {
namespace {

constexpr double kNone = std::numeric_limits<double>::quiet_NaN();

std::vector<std::string> numbered(int64_t count) {
  std::vector<std::string> names;
  for (int64_t i = 0; i < count; ++i) names.push_back(std::to_string(i));
  return names;
}

HeatMap filled(std::string title, std::string row_label, int64_t rows, std::string column_label, int64_t columns,
               std::string formula, const std::function<double(int32_t, int32_t)>& percent) {
  HeatMap map{.title = std::move(title),
              .row_label = std::move(row_label),
              .column_label = std::move(column_label),
              .value_label = "utilisation (%)",
              .rows = numbered(rows),
              .columns = numbered(columns),
              .values = {},
              .origin = {std::move(formula), "the flows that the engine ran; grey: dead"}};
  for (int64_t row = 0; row < rows; ++row) {
    auto& line = map.values.emplace_back();
    for (int64_t column = 0; column < columns; ++column) {
      line.push_back(percent(static_cast<int32_t>(row), static_cast<int32_t>(column)));
    }
  }
  return map;
}

class Maps {
 public:
  Maps(const Cluster& cluster, const LinkLoads& loads) : cluster_(cluster), loads_(loads), spec_(cluster.spec()) {
    using Kind = decltype(spec_.kind);
    plane_word_ = spec_.kind == Kind::kMrft ? "rail" : "plane";
  }

  std::vector<HeatMap> all(int64_t most_nodes) {
    for (const LinkKind kind : {LinkKind::kLeafUp, LinkKind::kLeafDown}) add_leaf(kind);
    if (carries(LinkKind::kPodUp)) {
      maps_.push_back(filled(
          "Pod links: all of a pod", "0 up, 1 down", 2, "pod", static_cast<int64_t>(loads_.symmetry.pod.size()),
          "bytes / (ports * rate * time)",
          [&](int32_t row, int32_t pod) { return of_pod(row == 0 ? LinkKind::kPodUp : LinkKind::kPodDown, pod); }));
    }
    if (const SwitchGraph* graph = cluster_.graph()) add_cables(*graph);
    for (const LinkKind kind : {LinkKind::kNicOut, LinkKind::kNicIn}) add_nic(kind, most_nodes);
    return std::move(maps_);
  }

 private:
  bool carries(LinkKind kind) const {
    const auto at = loads_.by_group.lower_bound({kind, std::numeric_limits<int32_t>::min(), 0, 0});
    return at != loads_.by_group.end() && at->first.kind == kind;
  }

  double percent(const ClusterLink& link) const {
    return 100 * loads_.busy_bytes(cluster_, link) / (cluster_.gbps(link) * 1e9 * loads_.seconds);
  }

  /// All links of a pod together, whether they are one group or one a port.
  double of_pod(LinkKind kind, int32_t pod) const {
    const std::vector<int32_t>& colours = loads_.symmetry.pod;
    const int32_t colour = colours[static_cast<size_t>(pod)];
    double bytes = 0;
    for (const auto& [key, load] : loads_.by_group) {
      if (key.kind == kind && key.place == colour) bytes += load.busy_bytes * load.group.count;
    }
    const auto alike = static_cast<double>(std::count(colours.begin(), colours.end(), colour));
    return 100 * bytes / (alike * cluster_.gbps({kind, pod, 0, -1}) * 1e9 * loads_.seconds);
  }

  void add_leaf(LinkKind kind) {
    if (!carries(kind)) return;
    const bool has_ports = spec_.routing != Routing::kAdaptive;
    const int64_t leaves = cluster_.num_units();
    const std::string what = kind == LinkKind::kLeafUp ? "Leaf uplinks" : "Leaf downlinks";
    const auto of_ports = [&](int32_t plane, int32_t leaf, bool is_fullest) {
      double most = 0, sum = 0;
      for (int32_t port = 0; port < cluster_.uplinks(); ++port) {
        const double one = percent({kind, leaf, plane, port});
        most = std::max(most, one);
        sum += one;
      }
      return is_fullest ? most : sum / cluster_.uplinks();
    };
    maps_.push_back(filled(what + ": all of a leaf", plane_word_, spec_.planes, "leaf", leaves,
                           "bytes over the ports of a leaf / (ports * rate * time)", [&](int32_t plane, int32_t leaf) {
                             if (cluster_.is_dead_leaf(leaf, plane)) return kNone;
                             return has_ports ? of_ports(plane, leaf, false) : percent({kind, leaf, plane, -1});
                           }));
    if (!has_ports) return;
    maps_.push_back(filled(what + ": the fullest of a leaf", plane_word_, spec_.planes, "leaf", leaves,
                           "the most of bytes / (rate * time) of its ports", [&](int32_t plane, int32_t leaf) {
                             return cluster_.is_dead_leaf(leaf, plane) ? kNone : of_ports(plane, leaf, true);
                           }));
  }

  /// Fullest cables, from each group to each (its own: inside it), and out of each switch.
  void add_cables(const SwitchGraph& graph) {
    if (!carries(LinkKind::kLocal) && !carries(LinkKind::kGlobal)) return;
    const int size = graph.block_size(), blocks = graph.num_switches() / size;
    const std::string formula = "the most of bytes / (rate * time) of these cables";
    HeatMap between = filled("Cables between groups: the fullest", "from group", blocks, "to group", blocks, formula,
                             [](int32_t, int32_t) { return kNone; });
    HeatMap out = filled("Cables out of a switch: the fullest", "switch of the group", size, "group", blocks, formula,
                         [](int32_t, int32_t) { return kNone; });
    between.origin.source = out.origin.source = "the flows that the engine ran; grey: no cable, or lost";
    for (int32_t hop = 0; hop < graph.num_switches() * graph.ports(); ++hop) {
      if (graph.to(hop) < 0) continue;
      const int from = graph.from(hop);
      const double one =
          percent({graph.is_global(hop) ? LinkKind::kGlobal : LinkKind::kLocal, from, hop % graph.ports(), -1});
      for (double* most : {&between.values[static_cast<size_t>(from / size)][static_cast<size_t>(graph.to(hop) / size)],
                           &out.values[static_cast<size_t>(from % size)][static_cast<size_t>(from / size)]}) {
        if (!(*most >= one)) *most = one;
      }
    }
    maps_.push_back(std::move(between));
    maps_.push_back(std::move(out));
  }

  void add_nic(LinkKind kind, int64_t most_nodes) {
    if (!carries(kind)) return;
    const std::string what = kind == LinkKind::kNicOut ? "NICs out" : "NICs in";
    if (cluster_.num_nodes() <= most_nodes) {
      maps_.push_back(filled(what, "NIC of the node", spec_.gpus_per_node, "node", cluster_.num_nodes(),
                             "bytes / (rate * time)", [&](int32_t gpu, int32_t node) {
                               return cluster_.is_dead(node, gpu) ? kNone : percent({kind, node, gpu, -1});
                             }));
      return;
    }
    const std::string formula = "the most of bytes / (rate * time) of the NICs below ";
    if (const SwitchGraph* graph = cluster_.graph()) {
      const int size = graph->block_size(), blocks = graph->num_switches() / size;
      HeatMap map = filled(what + ": the fullest of a switch", "switch of the group", size, "group", blocks,
                           formula + "a switch", [](int32_t, int32_t) { return kNone; });
      for (int64_t node = 0; node < cluster_.num_nodes(); ++node) {
        for (int gpu = 0; gpu < spec_.gpus_per_node; ++gpu) {
          if (cluster_.is_dead(node, gpu)) continue;
          const int64_t at = cluster_.switch_of(node, gpu);
          double& most = map.values[static_cast<size_t>(at % size)][static_cast<size_t>(at / size)];
          const double one = percent({kind, static_cast<int32_t>(node), gpu, -1});
          if (!(most >= one)) most = one;
        }
      }
      map.origin.source = "the flows that the engine ran; grey: no NIC, or dead";
      maps_.push_back(std::move(map));
      return;
    }
    maps_.push_back(filled(what + ": the fullest of a leaf", plane_word_, spec_.planes, "leaf", cluster_.num_units(),
                           formula + "a leaf", [&](int32_t plane, int32_t leaf) {
                             double most = kNone;
                             const int64_t first = leaf * cluster_.nodes_per_unit();
                             const int64_t end = std::min(first + cluster_.nodes_per_unit(), cluster_.num_nodes());
                             for (int64_t node = first; node < end; ++node) {
                               for (int gpu = plane; gpu < spec_.gpus_per_node; gpu += spec_.planes) {
                                 if (cluster_.is_dead(node, gpu)) continue;
                                 const double one = percent({kind, static_cast<int32_t>(node), gpu, -1});
                                 if (!(most >= one)) most = one;
                               }
                             }
                             return most;
                           }));
  }

  const Cluster& cluster_;
  const LinkLoads& loads_;
  const ClusterSpec& spec_;
  std::string plane_word_;
  std::vector<HeatMap> maps_;
};

}  // namespace

double LinkLoads::busy_bytes(const Cluster& cluster, const ClusterLink& link) const {
  const auto at = by_group.find(cluster.group_of(link, symmetry));
  return at == by_group.end() ? 0 : at->second.busy_bytes;
}

std::vector<HeatMap> load_maps(const Cluster& cluster, const LinkLoads& loads, int64_t most_nodes) {
  return Maps(cluster, loads).all(most_nodes);
}

}  // namespace fathom
