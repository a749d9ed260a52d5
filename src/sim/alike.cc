#include "sim/alike.h"

#include <algorithm>
#include <numeric>
#include <utility>
#include <vector>

#include "base/rng.h"

namespace fathom {
namespace {

/// Of a multiset of colours the sum of their values is compared, of what a node sees a hash; two different ones agree
/// with probability 2^-64.
uint64_t value_of(int32_t colour) {
  const auto w = philox({static_cast<uint32_t>(colour), 0x616c696bu, 0, 0}, {0x6e6f6465u, 0x70616972u});
  return uint64_t{w[0]} | uint64_t{w[1]} << 32;
}

class Hash {
 public:
  void add(uint64_t x) {
    value_ = (value_ ^ x) * 0x9e3779b97f4a7c15;
    value_ = (value_ ^ (value_ >> 30)) * 0xbf58476d1ce4e5b9;
    value_ = (value_ ^ (value_ >> 27)) * 0x94d049bb133111eb;
    value_ ^= value_ >> 31;
  }
  uint64_t value() const { return value_; }

 private:
  uint64_t value_ = 0x616c696b65;
};

/// Nodes follow each other in groups, leaves and pods, so each of these, and what two of them share, is a range.
struct Range {
  int64_t first = 0, end = 0;
};
Range part_of(int64_t node, int64_t size, int64_t nodes) {
  const int64_t first = node / size * size;
  return {first, std::min(first + size, nodes)};
}
Range both(const Range& a, const Range& b) { return {std::max(a.first, b.first), std::min(a.end, b.end)}; }

/// Colours 0, 1, ... of keys in sorted order; returns how many.
template <class Key>
int32_t number(const std::vector<Key>& keys, std::vector<int32_t>& colours) {
  std::vector<size_t> order(keys.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::sort(order.begin(), order.end(), [&](size_t a, size_t b) { return keys[a] < keys[b]; });
  int32_t next = -1;
  for (size_t k = 0; k < order.size(); ++k) {
    if (k == 0 || keys[order[k - 1]] < keys[order[k]]) ++next;
    colours[order[k]] = next;
  }
  return next + 1;
}

class Refinement {
 public:
  Refinement(const Cluster& cluster, std::span<const Job> jobs) : cluster_(cluster), jobs_(jobs) {}

  Symmetry run() {
    Symmetry s = cluster_.symmetry();
    const Symmetry none = cluster_.none_alike();
    const auto nodes = static_cast<size_t>(cluster_.num_nodes());
    std::vector<std::vector<uint64_t>> keys(nodes);
    for (size_t n = 0; n < nodes; ++n) keys[n] = {static_cast<uint64_t>(s.node[n])};
    for (const Job& job : jobs_) {
      const bool is_skewed = is_expert(job.op) && (job.skew > 0 || !job.recorded.empty());
      const int64_t group = group_nodes(job);
      const int gpus = cluster_.spec().gpus_per_node;
      for (size_t n = 0; n < nodes; ++n) {
        const auto node = static_cast<int64_t>(n);
        if (is_skewed) keys[n].push_back(static_cast<uint64_t>(node % group));
        if (job.op == JobOp::kSend) {
          keys[n].push_back((node == job.from / gpus ? 1u : 0u) + (node == job.to / gpus ? 2u : 0u));
        }
      }
      if (is_skewed || job.op == JobOp::kSend) s.gpu = none.gpu, s.plane = none.plane;
    }
    int32_t num = number(keys, s.node);
    for (int32_t before = 0; num != before;) {
      before = num;
      num = refine(s.node);
    }
    s.unit = parts(s.node, cluster_.nodes_per_unit());
    s.pod = parts(s.node, cluster_.nodes_per_pod());
    return s;
  }

 private:
  int64_t group_nodes(const Job& job) const { return ranks_of(cluster_, job) / cluster_.spec().gpus_per_node; }

  /// sums [n]: of the values of the nodes before n.
  static std::vector<uint64_t> sums_of(const std::vector<int32_t>& colours) {
    std::vector<uint64_t> sums = {0};
    for (const int32_t colour : colours) sums.push_back(sums.back() + value_of(colour));
    return sums;
  }

  /// One round: a node's colour, and what it sees of the others'.
  int32_t refine(std::vector<int32_t>& colours) const {
    const int64_t nodes = cluster_.num_nodes();
    const std::vector<uint64_t> sums = sums_of(colours);
    const auto sum = [&](const Range& r) {
      return sums[static_cast<size_t>(r.end)] - sums[static_cast<size_t>(r.first)];
    };
    const auto add_range = [&](Hash& seen, const Range& r) {
      seen.add(static_cast<uint64_t>(r.end - r.first));
      seen.add(sum(r));
    };
    std::vector<std::pair<int32_t, uint64_t>> keys(static_cast<size_t>(nodes));
    for (int64_t u = 0; u < nodes; ++u) {
      Hash seen;
      const Range unit = part_of(u, cluster_.nodes_per_unit(), nodes),
                  pod = part_of(u, cluster_.nodes_per_pod(), nodes);
      add_range(seen, unit);
      add_range(seen, pod);
      for (const Job& job : jobs_) {
        if (job.op == JobOp::kSend) continue;  // its ends have colours of their own
        const Range group = part_of(u, group_nodes(job), nodes);
        if (!is_ring(job.op)) {
          for (const Range& r : {group, both(group, unit), both(group, pod)}) add_range(seen, r);
          continue;
        }
        // Alike nodes have alike nodes at all distances along the ring, so those further away tell nothing else apart,
        // but sooner: some rounds instead of as many as there are nodes below a leaf, or in a pod.
        const int64_t size = group.end - group.first, place = u - group.first;
        for (int64_t hop = job.ring_stride; hop == job.ring_stride || hop < size; hop *= 2) {
          for (const int64_t v :
               {group.first + (place + hop) % size, group.first + (place + size - hop % size) % size}) {
            seen.add(static_cast<uint64_t>(colours[static_cast<size_t>(v)]));
            if (hop == job.ring_stride) seen.add(static_cast<uint64_t>(relation_of(cluster_, u, v)));
          }
        }
      }
      keys[static_cast<size_t>(u)] = {colours[static_cast<size_t>(u)], seen.value()};
    }
    return number(keys, colours);
  }

  /// Leaves or pods of `size` nodes: alike when their nodes are.
  std::vector<int32_t> parts(const std::vector<int32_t>& colours, int64_t size) const {
    const std::vector<uint64_t> sums = sums_of(colours);
    const int64_t nodes = cluster_.num_nodes();
    std::vector<std::pair<int64_t, uint64_t>> keys;
    for (int64_t first = 0; first < nodes; first += size) {
      const int64_t end = std::min(first + size, nodes);
      keys.emplace_back(end - first, sums[static_cast<size_t>(end)] - sums[static_cast<size_t>(first)]);
    }
    std::vector<int32_t> out(keys.size());
    number(keys, out);
    return out;
  }

  const Cluster& cluster_;
  const std::span<const Job> jobs_;
};

}  // namespace

Symmetry symmetry_of(const Cluster& cluster, std::span<const Job> jobs) {
  if (cluster.spec().routing != Routing::kAdaptive) return cluster.none_alike();
  if (cluster.graph()) {
    const bool are_uniform =
        std::all_of(jobs.begin(), jobs.end(), [&](const Job& job) { return is_uniform(cluster, job); });
    return are_uniform ? cluster.symmetry() : cluster.none_alike();
  }
  for (const Job& job : jobs) {  // what make_traffic refuses has no groups
    if (job.op != JobOp::kSend && !check_job(cluster, job)) return cluster.none_alike();
  }
  return Refinement(cluster, jobs).run();
}

}  // namespace fathom
