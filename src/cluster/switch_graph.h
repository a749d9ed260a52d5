// SwitchGraph: the switches of a network that is no tree, cable by cable, the shortest ways between them, and which
// switches and cables cannot be told apart.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/result.h"

namespace fathom {

/// A hop is one direction of a cable: the switch that it leaves times ports() plus the port there. Ports count the
/// cables to other switches only.
using Route = std::vector<int32_t>;

/// A route and the share of the bytes that takes it.
struct SharedRoute {
  double share = 1;
  Route hops;
};

/// Of a graph: 12 bytes each, 24 in a Slim Fly.
inline constexpr int64_t kMostHops = 4'000'000;

class SwitchGraph {
 public:
  /// The McKay-Miller-Siran graph of a prime power q (see cluster/slim_fly.h). Switch (side q + x) q + y. Errors: q has
  /// no such graph; more than kMostHops.
  static Result<SwitchGraph> slim_fly(int q);

  /// The balanced dragonfly of a = 2h switches a group with h global cables each (see cluster/dragonfly.h); 0: a h + 1
  /// groups. Group g's global cables, ordered by the distance (mod groups) of the group that they lead to, go h to each
  /// switch: every group is wired as any other. With fewer groups, distances have more than one cable, as evenly as
  /// they can. Errors: h or groups out of range; more than kMostHops.
  static Result<SwitchGraph> dragonfly(int h, int groups = 0);

  int num_switches() const { return num_switches_; }
  int ports() const { return ports_; }
  /// Switches of a group; 0: there are no groups.
  int group_size() const { return group_size_; }
  /// Consecutive switches that are drawn together: a group; of a Slim Fly the q that have side and x in common (the
  /// sub-groups of Besta and Hoefler: cables inside them, and to all of the other side).
  int block_size() const { return group_size_ > 0 ? group_size_ : slim_fly_q_; }
  bool is_global(int32_t hop) const { return group_size_ > 0 && hop % ports_ >= group_size_ - 1; }
  int from(int32_t hop) const { return hop / ports_; }
  /// -1: the cable is lost.
  int to(int32_t hop) const { return to_[static_cast<size_t>(hop)]; }
  /// Cables that are left.
  int64_t num_cables() const;

  /// Takes cables of switch 0 away: in a dragonfly global ones. Errors: as many as it has, or more.
  Status lose(int cables);

  /// The minimal ways between two different switches. No groups: all shortest ones. Dragonfly (Kim et al., 4.2): in a
  /// group the cable between them; to another group over each of the cables that join the two groups, with a hop before
  /// and after it where needed; over each third group where all of those are lost.
  std::vector<Route> routes(int from, int to) const;

  /// Valiant's ways between two different switches, all of their shares together 1: minimally to one drawn at random,
  /// and from there minimally on. Dragonfly (Kim et al., 4.2): a third group is drawn, in which the way enters and
  /// leaves where its global cables end; in one group, or without a third that both reach, routes(). Slim Fly (Besta
  /// and Hoefler, 4.2): a third switch is drawn.
  std::vector<SharedRoute> valiant_routes(int from, int to) const;

  /// Numbers that are equal for switches, and hops, that automorphisms of the whole network map on each other (or, in
  /// the largest dragonfly, that no traffic between all can tell apart). Meaningless after lose().
  std::span<const int32_t> switch_colours() const { return switch_colours_; }
  std::span<const int32_t> hop_colours() const { return hop_colours_; }

 private:
  SwitchGraph(int num_switches, int ports)
      : num_switches_(num_switches),
        ports_(ports),
        to_(static_cast<size_t>(num_switches) * static_cast<size_t>(ports), -1),
        switch_colours_(static_cast<size_t>(num_switches), 0),
        hop_colours_(to_.size(), 0) {}
  int32_t hop_id(int at, int port) const { return at * ports_ + port; }
  void index_neighbours();
  int32_t hop_between(int from, int to) const;  // -1: none
  void add_shortest(int from, int to, int length, Route& so_far, std::vector<Route>& routes) const;
  std::vector<int32_t> hops_between_groups(int from, int to) const;
  void add_over(int from, int32_t global, int to, const Route& before, std::vector<Route>& routes) const;
  std::vector<Route> routes_over_group(int from, int third, int to) const;

  int num_switches_, ports_, group_size_ = 0, slim_fly_q_ = 0;
  std::vector<int32_t> to_;
  std::vector<int32_t> switch_colours_, hop_colours_;
  std::vector<std::vector<std::pair<int32_t, int32_t>>> neighbours_;  // [switch]: (switch, hop), sorted; no groups
  std::vector<int32_t> first_of_distance_;                            // [distance]: first global cable of a group
};

}  // namespace fathom
