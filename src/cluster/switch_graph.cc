#include "cluster/switch_graph.h"

#include <algorithm>
#include <string>

#include "cluster/dragonfly.h"
#include "cluster/galois.h"
#include "cluster/slim_fly.h"

namespace fathom {
namespace {

constexpr int kLongestRoute = 6;  // in a Slim Fly that has lost cables

Status check_size(const char* name, int64_t switches, int64_t ports) {
  if (switches * ports <= kMostHops) return {};
  return invalid(std::string(name) + ": " + std::to_string(switches) + " switches with " + std::to_string(ports) +
                 " links each are too large to simulate; accepted: " + std::to_string(kMostHops) +
                 " links, both directions counted (fewer ports, or groups)");
}

}  // namespace

Result<SwitchGraph> SwitchGraph::slim_fly(int q) {
  const auto field = GaloisField::make(q);
  const auto counts = slim_fly_counts(q);
  if (!field || !counts || q < 3) {
    return invalid("Slim Fly: q = " + std::to_string(q) + " has no graph; accepted: prime powers other than 2");
  }
  if (auto s = check_size("Slim Fly", counts->switches, 2 * counts->switch_links() / counts->switches); !s) {
    return s.error();
  }
  // Differences that are joined on each side: powers of a generator, even ones and odd ones; of q = 4w - 1 the first w
  // of each and their negatives.
  std::vector<int> joined[2];
  if (q % 4 == 3) {
    for (int e = 0; e < (q + 1) / 2; ++e) {
      const int v = field->generator_power(e);
      joined[e % 2].insert(joined[e % 2].end(), {v, field->negative(v)});
    }
  } else {
    // Of q = 2^n the odd powers end with the (q - 1)-th, which is 1 again.
    for (int e = 0; e < (q % 2 == 0 ? q : q - 1); ++e) joined[e % 2].push_back(field->generator_power(e));
  }
  const auto inner = static_cast<int>(joined[0].size());
  SwitchGraph graph(2 * q * q, inner + q);
  graph.slim_fly_q_ = q;
  const auto id = [q](int side, int x, int y) { return (side * q + x) * q + y; };
  for (int x = 0; x < q; ++x) {
    for (int y = 0; y < q; ++y) {
      for (int side = 0; side < 2; ++side) {
        const int at = id(side, x, y);
        graph.switch_colours_[static_cast<size_t>(at)] = side;
        for (int port = 0; port < inner; ++port) {
          const auto hop = static_cast<size_t>(graph.hop_id(at, port));
          graph.to_[hop] = id(side, x, field->add(y, joined[side][static_cast<size_t>(port)]));
          graph.hop_colours_[hop] = 2 + side * inner + port;
        }
        for (int other = 0; other < q; ++other) {
          // (0, x, y) and (1, m, c) are joined where y = m x + c.
          const int product = field->times(x, other);
          const auto hop = static_cast<size_t>(graph.hop_id(at, inner + other));
          graph.to_[hop] = id(1 - side, other, field->add(y, side == 0 ? field->negative(product) : product));
          graph.hop_colours_[hop] = side;
        }
      }
    }
  }
  graph.index_neighbours();
  return graph;
}

Result<SwitchGraph> SwitchGraph::dragonfly(int h, int groups) {
  const auto counts = fathom::dragonfly(h, groups);
  if (!counts) return counts.error();
  const int a = 2 * h, globals = a * h;
  if (groups == 0) groups = globals + 1;
  if (auto s = check_size("Dragonfly", counts->switches, a - 1 + h); !s) return s.error();
  SwitchGraph graph(groups * a, a - 1 + h);
  graph.group_size_ = a;
  // Cables to the group at each distance; those that remain go to the nearest on both sides, and one half way round.
  const int distances = groups - 1, rest = globals % distances;
  std::vector<int> cables(static_cast<size_t>(groups), globals / distances);
  for (int i = 1; i <= rest / 2; ++i) ++cables[static_cast<size_t>(i)], ++cables[static_cast<size_t>(groups - i)];
  if (rest % 2 == 1) ++cables[static_cast<size_t>(groups / 2)];
  graph.first_of_distance_.assign(static_cast<size_t>(groups) + 1, 0);
  for (size_t d = 1; d < cables.size(); ++d) {
    graph.first_of_distance_[d + 1] = graph.first_of_distance_[d] + cables[d];
  }
  const bool is_largest = groups == globals + 1;
  for (int group = 0; group < groups; ++group) {
    for (int r = 0; r < a; ++r) {
      const int at = group * a + r;
      graph.switch_colours_[static_cast<size_t>(at)] = is_largest ? 0 : r;
      for (int port = 0; port < graph.ports_; ++port) {
        const auto hop = static_cast<size_t>(graph.hop_id(at, port));
        if (port < a - 1) {
          graph.to_[hop] = group * a + port + (port >= r);
          graph.hop_colours_[hop] = is_largest ? 0 : r * graph.ports_ + port;
          continue;
        }
        const int cable = r * h + port - (a - 1);
        const auto after =
            std::upper_bound(graph.first_of_distance_.begin() + 1, graph.first_of_distance_.end(), cable);
        const auto distance = static_cast<int>(after - graph.first_of_distance_.begin()) - 1;
        const int copy = cable - graph.first_of_distance_[static_cast<size_t>(distance)];
        const int back = graph.first_of_distance_[static_cast<size_t>(groups - distance)] + copy;
        graph.to_[hop] = (group + distance) % groups * a + back / h;
        graph.hop_colours_[hop] = is_largest ? 1 : r * graph.ports_ + port;
      }
    }
  }
  return graph;
}

int64_t SwitchGraph::num_cables() const {
  return std::count_if(to_.begin(), to_.end(), [](int32_t to) { return to >= 0; }) / 2;
}

Status SwitchGraph::lose(int cables) {
  const int first = group_size_ > 0 ? group_size_ - 1 : 0, most = ports_ - first;
  if (cables < 0 || cables >= most) {
    return invalid(std::to_string(cables) + " cables lost of a switch's " + std::to_string(most) +
                   (group_size_ > 0 ? " to other groups" : "") + "; accepted: 0 to " + std::to_string(most - 1));
  }
  for (int i = 0; i < cables; ++i) {
    const int32_t hop = hop_id(0, first + i);
    const int other = to(hop);
    to_[static_cast<size_t>(hop)] = -1;
    // Of several cables between two switches, the first one that is left.
    for (int port = first; port < ports_; ++port) {
      if (to(hop_id(other, port)) != 0) continue;
      to_[static_cast<size_t>(hop_id(other, port))] = -1;
      break;
    }
  }
  if (group_size_ == 0) index_neighbours();
  return {};
}

void SwitchGraph::index_neighbours() {
  neighbours_.assign(static_cast<size_t>(num_switches_), {});
  for (int at = 0; at < num_switches_; ++at) {
    auto& list = neighbours_[static_cast<size_t>(at)];
    for (int port = 0; port < ports_; ++port) {
      const int32_t hop = hop_id(at, port);
      if (to(hop) >= 0) list.emplace_back(to(hop), hop);
    }
    std::sort(list.begin(), list.end());
  }
}

int32_t SwitchGraph::hop_between(int from, int to) const {
  if (group_size_ > 0) {
    const int r = from % group_size_, s = to % group_size_;
    return hop_id(from, s < r ? s : s - 1);
  }
  const auto& list = neighbours_[static_cast<size_t>(from)];
  const auto at = std::lower_bound(list.begin(), list.end(), std::pair<int32_t, int32_t>(to, -1));
  return at != list.end() && at->first == to ? at->second : -1;
}

void SwitchGraph::add_shortest(int from, int to, int length, Route& so_far, std::vector<Route>& routes) const {
  if (length == 1) {
    const int32_t hop = hop_between(from, to);
    if (hop < 0) return;
    routes.push_back(so_far);
    routes.back().push_back(hop);
    return;
  }
  if (length == 2) {  // what both have as a neighbour
    const auto &a = neighbours_[static_cast<size_t>(from)], &b = neighbours_[static_cast<size_t>(to)];
    for (size_t i = 0, j = 0; i < a.size() && j < b.size();) {
      if (a[i].first < b[j].first) {
        ++i;
      } else if (b[j].first < a[i].first) {
        ++j;
      } else {
        routes.push_back(so_far);
        routes.back().insert(routes.back().end(), {a[i].second, hop_between(a[i].first, to)});
        ++i, ++j;
      }
    }
    return;
  }
  for (const auto& [next, hop] : neighbours_[static_cast<size_t>(from)]) {
    so_far.push_back(hop);
    add_shortest(next, to, length - 1, so_far, routes);
    so_far.pop_back();
  }
}

std::vector<int32_t> SwitchGraph::hops_between_groups(int from, int to) const {
  const int groups = num_switches_ / group_size_, h = ports_ - (group_size_ - 1);
  const auto distance = static_cast<size_t>((to - from + groups) % groups);
  std::vector<int32_t> hops;
  for (int cable = first_of_distance_[distance]; cable < first_of_distance_[distance + 1]; ++cable) {
    const int32_t hop = hop_id(from * group_size_ + cable / h, group_size_ - 1 + cable % h);
    if (this->to(hop) >= 0) hops.push_back(hop);
  }
  return hops;
}

void SwitchGraph::add_over(int from, int32_t global, int to, const Route& before, std::vector<Route>& routes) const {
  Route route = before;
  if (this->from(global) != from) route.push_back(hop_between(from, this->from(global)));
  route.push_back(global);
  if (this->to(global) != to) route.push_back(hop_between(this->to(global), to));
  routes.push_back(std::move(route));
}

std::vector<Route> SwitchGraph::routes_over_group(int from, int third, int to) const {
  std::vector<Route> routes;
  const auto seconds = hops_between_groups(third, to / group_size_);
  for (int32_t first : hops_between_groups(from / group_size_, third)) {
    std::vector<Route> before;
    add_over(from, first, this->to(first), {}, before);
    for (int32_t second : seconds) add_over(this->to(first), second, to, before[0], routes);
  }
  return routes;
}

std::vector<Route> SwitchGraph::routes(int from, int to) const {
  std::vector<Route> routes;
  if (group_size_ == 0) {
    Route so_far;
    for (int length = 1; length <= kLongestRoute && routes.empty(); ++length) {
      add_shortest(from, to, length, so_far, routes);
    }
    return routes;
  }
  const int here = from / group_size_, there = to / group_size_;
  if (here == there) return {{hop_between(from, to)}};
  for (int32_t global : hops_between_groups(here, there)) add_over(from, global, to, {}, routes);
  if (!routes.empty()) return routes;
  for (int third = 0; third < num_switches_ / group_size_; ++third) {
    if (third == here || third == there) continue;
    for (Route& route : routes_over_group(from, third, to)) routes.push_back(std::move(route));
  }
  return routes;
}

std::vector<SharedRoute> SwitchGraph::valiant_routes(int from, int to) const {
  std::vector<std::vector<Route>> by_third;  // the ways over each, of equal shares
  if (group_size_ > 0) {
    const int here = from / group_size_, there = to / group_size_;
    for (int third = 0; here != there && third < num_switches_ / group_size_; ++third) {
      if (third != here && third != there) by_third.push_back(routes_over_group(from, third, to));
    }
  } else {
    for (int third = 0; third < num_switches_; ++third) {
      if (third == from || third == to) continue;
      const auto firsts = routes(from, third), seconds = routes(third, to);
      auto& over = by_third.emplace_back();
      for (const Route& first : firsts) {
        for (const Route& second : seconds) {
          over.push_back(first);
          over.back().insert(over.back().end(), second.begin(), second.end());
        }
      }
    }
  }
  std::erase_if(by_third, [](const std::vector<Route>& over) { return over.empty(); });
  if (by_third.empty()) by_third.push_back(routes(from, to));
  std::vector<SharedRoute> all;
  for (std::vector<Route>& over : by_third) {
    const double share = 1 / static_cast<double>(by_third.size() * over.size());
    for (Route& route : over) all.push_back({share, std::move(route)});
  }
  return all;
}

}  // namespace fathom
