#include "sim/gate.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <numeric>
#include <string>

#include "base/figure.h"
#include "base/rng.h"

namespace fathom {
namespace {

/// Weights whose draws without replacement cost log2 of their number, however uneven they are: a node of the tree is
/// the sum of the two below it, never a difference, so that rounding does not eat what is small.
class WeightTree {
 public:
  explicit WeightTree(size_t size) : leaves_(std::bit_ceil(std::max<size_t>(size, 1))), sum_(2 * leaves_, 0) {}

  void set(size_t i, double weight) {
    i += leaves_;
    sum_[i] = weight;
    while (i > 1) {
      i /= 2;
      sum_[i] = sum_[2 * i] + sum_[2 * i + 1];
    }
  }
  double get(size_t i) const { return sum_[leaves_ + i]; }
  double total() const { return sum_[1]; }

  /// The one that `u` in [0, 1) falls on; total() must be above 0.
  size_t at(double u) const {
    double left = u * sum_[1];
    size_t i = 1;
    while (i < leaves_) {
      i *= 2;
      if (left < sum_[i] || !(sum_[i + 1] > 0)) continue;
      left -= sum_[i++];
    }
    return i - leaves_;
  }

 private:
  size_t leaves_;
  std::vector<double> sum_;  // [1] the whole, [leaves + i] weight i
};

}  // namespace

Result<GateHits> draw_gate(const GateSpec& s) {
  const int64_t num_gpus = s.nodes * s.gpus_per_node;
  const auto text = [](int64_t v) { return std::to_string(v); };
  if (num_gpus < 1 || s.experts < num_gpus || s.experts % num_gpus != 0 || s.experts > (1 << 16)) {
    return invalid(text(s.experts) + " experts on " + text(num_gpus) +
                   " GPUs; accepted: a multiple of the GPUs, at most 65536 (redundant experts count)");
  }
  const int64_t per_node = s.experts / s.nodes, per_gpu = s.experts / num_gpus;
  const int64_t max_nodes = std::min(s.max_nodes, s.nodes);
  const int64_t most_k = std::min(kMostTopK, per_node * std::max<int64_t>(max_nodes, 1));
  if (s.max_nodes < 1 || s.top_k < 1 || s.top_k > most_k) {
    return invalid("top_k " + text(s.top_k) + " on " + text(s.max_nodes) + " nodes of " + text(per_node) +
                   " experts; accepted: 1 to " + text(most_k));
  }
  if (max_nodes < s.nodes && max_nodes > kMostTopK) {
    return invalid("max_nodes " + text(s.max_nodes) + " of " + text(s.nodes) + "; accepted: 1 to " + text(kMostTopK) +
                   ", or all of them");
  }
  if (!(s.skew >= 0) || s.skew > 10) return invalid("skew " + std::to_string(s.skew) + "; accepted: 0 to 10");
  const double choices = std::accumulate(s.recorded.begin(), s.recorded.end(), 0.0);
  if (!s.recorded.empty()) {
    if (s.recorded.size() != static_cast<size_t>(s.experts)) {
      return invalid("the recorded gate has " + std::to_string(s.recorded.size()) + " experts, and job.experts is " +
                     text(s.experts) + "; accepted: the same number");
    }
    for (size_t e = 0; e < s.recorded.size(); ++e) {
      if (!(s.recorded[e] >= 0) || !(choices > 0))
        return invalid("the recorded gate has counts below 0, or none above");
      if (s.recorded[e] * static_cast<double>(s.top_k) <= choices * (1 + 1e-9)) continue;
      return invalid("the recorded gate's expert " + std::to_string(e) + " has " + figure_text(s.recorded[e], 9) +
                     " of " + figure_text(choices, 9) + " choices, more than every token's one of " + text(s.top_k) +
                     "; accepted: the job.top_k of the recorded model");
    }
  }

  const Rng rng(s.seed, stream_of("gate"));
  uint64_t draw = 0;
  std::vector<size_t> rank(static_cast<size_t>(s.experts));
  std::iota(rank.begin(), rank.end(), size_t{0});
  for (size_t i = rank.size(); i > 1; --i) std::swap(rank[i - 1], rank[rng.below(draw++, i)]);
  // Of each node, the weights of its experts; of the cluster, those of its nodes.
  std::vector<WeightTree> experts_of(static_cast<size_t>(s.nodes), WeightTree(static_cast<size_t>(per_node)));
  for (size_t e = 0; e < rank.size(); ++e) {
    constexpr double kLeast = 1e-300;  // whoever is never chosen comes after all others, and not never
    double log_weight = -s.skew * std::log(static_cast<double>(rank[e] + 1));
    if (!s.recorded.empty()) {
      constexpr double kSurely = 1 - 1e-9;
      const double share = s.recorded[e] * static_cast<double>(s.top_k) / choices;
      log_weight = std::log(-std::log1p(-std::min(share, kSurely)));
    }
    experts_of[e / static_cast<size_t>(per_node)].set(e % static_cast<size_t>(per_node),
                                                      std::max(std::exp(log_weight), kLeast));
  }
  const bool is_limited = max_nodes < s.nodes;
  // All nodes, and those that a token may go to.
  WeightTree nodes(experts_of.size()), open(experts_of.size());
  for (size_t n = 0; n < experts_of.size(); ++n) (is_limited ? nodes : open).set(n, experts_of[n].total());

  GateHits hits;
  hits.node.assign(static_cast<size_t>(s.nodes), 0);
  hits.gpu.assign(static_cast<size_t>(num_gpus), 0);
  hits.copies.assign(static_cast<size_t>(num_gpus), 0);
  std::vector<size_t> chosen_nodes;
  std::vector<std::pair<size_t, double>> chosen;  // experts, and their weights
  std::vector<int64_t> tokens_of(rank.size(), 0);
  std::vector<int64_t> last_on_node(hits.node.size(), -1), last_on_gpu(hits.gpu.size(), -1);
  for (int64_t token = 0; token < kGateTokens; ++token) {
    if (is_limited) {
      for (size_t node : chosen_nodes) open.set(node, 0);
      chosen_nodes.clear();
      for (int64_t k = 0; k < max_nodes; ++k) {
        const size_t node = nodes.at(rng.uniform(draw++));
        chosen_nodes.push_back(node);
        open.set(node, nodes.get(node));
        nodes.set(node, 0);
      }
      for (size_t node : chosen_nodes) nodes.set(node, open.get(node));
    }
    for (int64_t k = 0; k < s.top_k; ++k) {
      const size_t node = open.at(rng.uniform(draw++));
      WeightTree& experts = experts_of[node];
      const size_t place = experts.at(rng.uniform(draw++)), e = node * static_cast<size_t>(per_node) + place;
      chosen.emplace_back(e, experts.get(place));
      experts.set(place, 0);
      open.set(node, experts.total());
      const auto gpu = e / static_cast<size_t>(per_gpu);
      hits.copies[gpu] += 1;
      ++tokens_of[e];
      if (std::exchange(last_on_gpu[gpu], token) != token) hits.gpu[gpu] += 1;
      if (std::exchange(last_on_node[node], token) != token) hits.node[node] += 1;
    }
    for (const auto& [e, weight] : chosen) {
      WeightTree& experts = experts_of[e / static_cast<size_t>(per_node)];
      experts.set(e % static_cast<size_t>(per_node), weight);
      open.set(e / static_cast<size_t>(per_node), experts.total());
    }
    chosen.clear();
  }
  for (auto* means : {&hits.node, &hits.gpu, &hits.copies}) {
    for (double& mean : *means) mean /= kGateTokens;
    // All alike in expectation: the draws only differ by chance.
    if (s.skew == 0 && s.recorded.empty()) {
      const double sum = std::accumulate(means->begin(), means->end(), 0.0);
      std::fill(means->begin(), means->end(), sum / static_cast<double>(means->size()));
    }
  }
  hits.busiest = static_cast<double>(*std::max_element(tokens_of.begin(), tokens_of.end())) *
                 static_cast<double>(s.experts) / static_cast<double>(kGateTokens * s.top_k);
  hits.nodes = std::accumulate(hits.node.begin(), hits.node.end(), 0.0);
  hits.gpus = std::accumulate(hits.gpu.begin(), hits.gpu.end(), 0.0);
  return hits;
}

}  // namespace fathom
