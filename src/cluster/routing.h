// Routing: which links a message between two GPUs crosses, on trees and graphs of switches with one NIC per GPU.
#pragma once

#include <array>
#include <compare>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/integers.h"
#include "base/result.h"
#include "cluster/switch_graph.h"
#include "cluster/topology.h"

namespace fathom {

enum class FabricKind { kFt2, kFt3, kMpft, kMrft, kSlimFly, kDragonfly };
/// Slim Fly and Dragonfly: GPUs sit on switches that are joined to each other.
constexpr bool is_graph(FabricKind kind) { return kind == FabricKind::kSlimFly || kind == FabricKind::kDragonfly; }
enum class Routing {
  kAdaptive,  // perfect spraying: the uplinks of a leaf are one link of their summed capacity; on graphs of switches a
              // message takes all its minimal ways evenly
  kStatic,  // uplink and downlink by the destination's place in its leaf, in three layers the pod's by its leaf's place
            // in the pod: without conflict for shifts; the minimal way by the destination
  kEcmp,    // all by a seeded hash of source NIC, destination NIC and queue pair
  kValiant  // graphs of switches only: a message takes all ways over a third group or switch evenly, however the load
            // lies (SwitchGraph::valiant_routes)
};

/// A cluster of equal nodes. GPU i of a node has NIC i, on plane i mod planes. Rates of one direction, GB/s.
struct ClusterSpec {
  FabricKind kind = FabricKind::kMpft;
  int64_t gpus = 0;
  int gpus_per_node = 8;
  int planes = 8;            // of MPFT; of MRFT its rails; 1 otherwise
  int radix = 64;            // ports of a switch; of trees half of them down
  int slim_fly_q = 0;        // 0: the smallest whose Slim Fly holds the GPUs
  int gpus_per_switch = 0;   // Slim Fly, Dragonfly; 0: ceil(k'/2), and (radix + 1) / 4
  int dragonfly_groups = 0;  // 0: as many as the GPUs need
  double nic_gbps = 40, nvlink_gbps = 160, port_gbps = 50;
  Routing routing = Routing::kAdaptive;
  uint64_t seed = 1;  // of ECMP
  /// A message changes to the destination's rail in its own node (NCCL's PXN). Otherwise it leaves by its own NIC, and
  /// where the planes have no link between them, changes in the destination's node.
  bool pxn = true;
  // What is broken; -1 and 0: nothing.
  int dead_plane = -1;
  int dead_leaf = -1;    // of the first nodes, on this plane
  int dead_nic = -1;     // of node 0
  int lost_uplinks = 0;  // of the first leaf of plane 0, and as many downlinks; cables of the first switch of a graph
  bool spread = true;  // messages of a dead NIC, leaf or plane go over all others evenly, or else all over the next one
};

enum class LinkKind { kNvlinkOut, kNvlinkIn, kNicOut, kNicIn, kLeafUp, kLeafDown, kPodUp, kPodDown, kLocal, kGlobal };
inline constexpr int kNumLinkKinds = 10;

/// One link, of one direction. NVLink and NIC: node and GPU. Leaf: unit (which nodes) and plane, port -1 where the
/// ports are one link. Pod: its index, the switch of its upper layer (0 where all are one link) and that one's port.
/// Local and global (between groups) cables of a graph: the switch and its port.
struct ClusterLink {
  LinkKind kind = LinkKind::kNicOut;
  int32_t place = 0;
  int32_t lane = 0;
  int32_t port = -1;
  auto operator<=>(const ClusterLink&) const = default;
};

/// One of the ways that a message takes, and the share of its bytes that takes it.
struct Way {
  double share = 1;
  std::vector<ClusterLink> links;
};

/// Which nodes, GPUs of a node, units, planes, pods and hops of a graph are alike: equal numbers, equal traffic under a
/// uniform load. Links of alike places have equal loads and may be merged.
struct Symmetry {
  std::vector<int32_t> node, gpu, unit, plane, pod, hop;
  /// By which of them places and lanes of a kind of link are alike; none: the lane is what it is.
  std::pair<const std::vector<int32_t>*, const std::vector<int32_t>*> of(LinkKind kind) const;
};

class Cluster {
 public:
  /// Errors: what the fabric's own builder refuses; GPUs that nodes do not divide; planes that the GPUs of a node do
  /// not divide; ports that a node's NICs do not divide; rates below 1e-6; a failure that the fabric has no
  /// place for, or that leaves a node without a NIC; lost uplinks of a tree under static or ECMP routing; Valiant's
  /// routing on a tree.
  static Result<Cluster> make(const ClusterSpec& spec);

  const ClusterSpec& spec() const { return spec_; }
  /// Its switches and links, whole; a tree of three layers with one pod is one of two.
  const Fabric& counts() const { return counts_; }
  bool is_broken() const {
    return spec_.dead_plane >= 0 || spec_.dead_leaf >= 0 || spec_.dead_nic >= 0 || spec_.lost_uplinks > 0;
  }
  /// Whether nothing can pass over that NIC: it, its leaf or its plane is dead.
  bool is_dead(int64_t node, int gpu) const {
    return is_dead_leaf(unit_of(node), plane_of(gpu)) || (node == 0 && gpu == spec_.dead_nic);
  }
  bool is_dead_leaf(int64_t unit, int plane) const {
    return plane == spec_.dead_plane || (unit == 0 && plane == spec_.dead_leaf);
  }
  /// Whether a node must send over another NIC than the one it would take.
  bool has_dead_nics() const { return spec_.dead_plane >= 0 || spec_.dead_leaf >= 0 || spec_.dead_nic >= 0; }
  int64_t num_nodes() const { return spec_.gpus / spec_.gpus_per_node; }
  /// Nodes that share leaves: one per plane.
  int64_t nodes_per_unit() const { return nodes_per_unit_; }
  int64_t num_units() const { return ceil_div(num_nodes(), nodes_per_unit_); }
  int64_t unit_of(int64_t node) const { return node / nodes_per_unit_; }
  int64_t pod_of(int64_t node) const { return node / nodes_per_pod_; }
  int64_t nodes_per_pod() const { return nodes_per_pod_; }   // FT3; else all
  const SwitchGraph* graph() const { return graph_.get(); }  // Slim Fly and Dragonfly; else none
  int64_t switch_of(int64_t node, int gpu) const {           // of a graph
    return (node * spec_.gpus_per_node + gpu) / spec_.gpus_per_switch;
  }
  int uplinks() const { return spec_.radix / 2; }  // of a leaf

  /// The ways from GPU a of node u to GPU b of node v (not the same GPU); shares sum to 1. In a node: NVLink.
  std::vector<Way> ways(int64_t u, int a, int64_t v, int b, uint64_t queue_pair = 0) const;
  /// The NICs of the sender's and the receiver's node over which a message from its GPU a to GPU b goes, none being
  /// dead.
  std::pair<int, int> nics(int a, int b) const;
  /// Adds the links of NVLink between two GPUs of a node; none for one.
  static void add_nvlink(int64_t node, int from, int to, std::vector<ClusterLink>& links);
  /// The fabric alone: from NIC a of node u to NIC b of node v, u != v, on one plane or a fabric that joins them.
  /// Several ways only on graphs of switches.
  std::vector<Way> fabric(int64_t u, int a, int64_t v, int b, uint64_t queue_pair = 0) const;
  /// The same on a tree, where it is one way: its links, in the place of what was in `links`.
  void tree_way(int64_t u, int a, int64_t v, int b, uint64_t queue_pair, std::vector<ClusterLink>& links) const;

  double gbps(const ClusterLink& link) const;
  /// What stands for all links that are alike to this one under `symmetry`: its place and lane as their colours, of a
  /// graph's cable the colour of the hop as its place.
  ClusterLink group_of(const ClusterLink& link, const Symmetry& symmetry) const;
  /// "NIC out of node 3, GPU 0".
  std::string name(const ClusterLink& link) const;

  /// Of a graph: nothing is broken and every switch has as many whole nodes.
  bool is_evenly_filled() const;
  /// The coarsest that failures and part-filled units and pods allow. Only adaptive routing has any; on graphs, nothing
  /// broken, every switch with as many whole nodes.
  Symmetry symmetry() const;
  /// Every place by itself.
  Symmetry none_alike() const;

 private:
  Cluster(const ClusterSpec& spec, Fabric counts, int64_t nodes_per_unit, int64_t nodes_per_pod)
      : spec_(spec), counts_(std::move(counts)), nodes_per_unit_(nodes_per_unit), nodes_per_pod_(nodes_per_pod) {}
  static Result<Cluster> make_graph(ClusterSpec spec);
  std::array<uint32_t, 4> hash(int64_t u, int a, int64_t v, int b, uint64_t queue_pair) const;
  int plane_of(int gpu) const { return gpu % spec_.planes; }

  ClusterSpec spec_;
  Fabric counts_;
  int64_t nodes_per_unit_, nodes_per_pod_;
  std::shared_ptr<const SwitchGraph> graph_;
};

/// That a way crosses: 1 below one leaf, 3 over a spine, 5 over a core, a graph's cables + 1; 0 in one node.
int num_switches(const Way& way);

/// "NIC out", "leaf uplinks", ...
std::string link_kind_name(LinkKind kind);

}  // namespace fathom
