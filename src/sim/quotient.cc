#include "sim/quotient.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <numeric>

#include "base/rng.h"

namespace fathom {
namespace {

uint64_t mixed(int colour) {
  const auto w = philox({static_cast<uint32_t>(colour), 0x636f6c6fu, 0, 0}, {0x71756f74u, 0x69656e74u});
  return uint64_t{w[0]} | uint64_t{w[1]} << 32;
}

/// Colours 0, 1, ... by value, in order of first appearance in sorted order; their number.
template <class Key>
int number(const std::vector<Key>& keys, std::vector<int>& colour) {
  std::vector<size_t> order(keys.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::sort(order.begin(), order.end(), [&](size_t a, size_t b) { return keys[a] < keys[b]; });
  int next = -1;
  for (size_t k = 0; k < order.size(); ++k) {
    if (k == 0 || keys[order[k - 1]] < keys[order[k]]) ++next;
    colour[order[k]] = next;
  }
  return next + 1;
}

}  // namespace

Quotient merge_alike(const FlowNetwork& n) {
  const auto num_classes = static_cast<size_t>(n.num_classes()), num_links = static_cast<size_t>(n.num_links());
  std::vector<int> classes(num_classes), links(num_links);
  int num_class_colours, num_link_colours;
  {
    std::vector<std::array<double, 2>> of_class(num_classes);
    for (size_t c = 0; c < num_classes; ++c) {
      of_class[c] = {n.bytes(static_cast<int>(c)), n.members(static_cast<int>(c))};
    }
    std::vector<double> of_link(num_links);
    for (size_t l = 0; l < num_links; ++l) of_link[l] = n.gbps(static_cast<int>(l));
    num_class_colours = number(of_class, classes);
    num_link_colours = number(of_link, links);
  }
  using Key = std::array<uint64_t, 2>;  // the colour so far, and what it touches
  std::vector<Key> link_keys(num_links), class_keys(num_classes);
  for (;;) {
    for (size_t l = 0; l < num_links; ++l) link_keys[l] = {static_cast<uint64_t>(links[l]), 0};
    std::vector<uint64_t> mix(static_cast<size_t>(num_class_colours));
    for (size_t k = 0; k < mix.size(); ++k) mix[k] = mixed(static_cast<int>(k));
    for (size_t c = 0; c < num_classes; ++c) {
      for (int l : n.links(static_cast<int>(c))) {
        link_keys[static_cast<size_t>(l)][1] += mix[static_cast<size_t>(classes[c])];
      }
    }
    const int links_now = number(link_keys, links);
    mix.resize(static_cast<size_t>(links_now));
    for (size_t k = 0; k < mix.size(); ++k) mix[k] = mixed(static_cast<int>(k));
    for (size_t c = 0; c < num_classes; ++c) {
      class_keys[c] = {static_cast<uint64_t>(classes[c]), 0};
      for (int l : n.links(static_cast<int>(c)))
        class_keys[c][1] += mix[static_cast<size_t>(links[static_cast<size_t>(l)])];
    }
    const int classes_now = number(class_keys, classes);
    const bool is_stable = links_now == num_link_colours && classes_now == num_class_colours;
    num_link_colours = links_now;
    num_class_colours = classes_now;
    if (is_stable) break;
  }

  Quotient q;
  std::vector<double> gbps(static_cast<size_t>(num_link_colours), 0);
  std::vector<int> first_link(gbps.size(), -1);
  for (size_t l = 0; l < num_links; ++l) {
    const auto colour = static_cast<size_t>(links[l]);
    gbps[colour] += n.gbps(static_cast<int>(l));
    if (first_link[colour] < 0) first_link[colour] = static_cast<int>(l);
  }
  for (size_t k = 0; k < gbps.size(); ++k) q.network.add_link(n.link_name(first_link[k]), gbps[k]);
  std::vector<double> bytes(static_cast<size_t>(num_class_colours), 0), members(bytes.size(), 0);
  std::vector<int> first_class(bytes.size(), -1);
  for (size_t c = 0; c < num_classes; ++c) {
    const auto colour = static_cast<size_t>(classes[c]);
    bytes[colour] += n.bytes(static_cast<int>(c));
    members[colour] += n.members(static_cast<int>(c));
    if (first_class[colour] < 0) first_class[colour] = static_cast<int>(c);
  }
  std::vector<int> crossed;
  for (size_t k = 0; k < bytes.size(); ++k) {
    crossed.clear();
    for (int l : n.links(first_class[k])) crossed.push_back(links[static_cast<size_t>(l)]);
    q.network.add_class(bytes[k], members[k], crossed);
  }
  q.class_of = std::move(classes);
  q.link_of = std::move(links);
  return q;
}

}  // namespace fathom
