#include "sim/gate.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <string>

#include "base/figure.h"
#include "base/rng.h"

namespace fathom {

Result<GateHits> draw_gate(const GateSpec& s) {
  const int64_t num_gpus = s.nodes * s.gpus_per_node;
  const auto text = [](int64_t v) { return std::to_string(v); };
  if (num_gpus < 1 || s.experts < num_gpus || s.experts % num_gpus != 0 || s.experts > (1 << 16)) {
    return invalid(text(s.experts) + " experts on " + text(num_gpus) +
                   " GPUs; accepted: a multiple of the GPUs, at most 65536 (redundant experts count)");
  }
  const int64_t per_node = s.experts / s.nodes, per_gpu = s.experts / num_gpus;
  const int64_t max_nodes = std::min(s.max_nodes, s.nodes);
  if (s.max_nodes < 1 || s.top_k < 1 || s.top_k > per_node * max_nodes) {
    return invalid("top_k " + text(s.top_k) + " on " + text(s.max_nodes) + " nodes of " + text(per_node) +
                   " experts; accepted: 1 to " + text(per_node * std::max<int64_t>(max_nodes, 1)));
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
  // Adding Gumbel noise to logarithms of weights and taking the largest draws without replacement.
  const auto gumbel = [&] { return -std::log(-std::log(rng.uniform(draw++) + 0x1.0p-54)); };

  std::vector<double> popularity(static_cast<size_t>(s.experts)), node_weight(static_cast<size_t>(s.nodes), 0);
  std::vector<size_t> rank(popularity.size());
  std::iota(rank.begin(), rank.end(), size_t{0});
  for (size_t i = rank.size(); i > 1; --i) std::swap(rank[i - 1], rank[rng.below(draw++, i)]);
  for (size_t e = 0; e < rank.size(); ++e) {
    double log_weight = -s.skew * std::log(static_cast<double>(rank[e] + 1));
    if (!s.recorded.empty()) {
      constexpr double kSurely = 1 - 1e-9;
      const double share = s.recorded[e] * static_cast<double>(s.top_k) / choices;
      log_weight = std::log(-std::log1p(-std::min(share, kSurely)));
    }
    popularity[e] = log_weight;
    node_weight[e / static_cast<size_t>(per_node)] += std::exp(log_weight);
  }

  GateHits hits;
  hits.node.assign(static_cast<size_t>(s.nodes), 0);
  hits.gpu.assign(static_cast<size_t>(num_gpus), 0);
  hits.copies.assign(static_cast<size_t>(num_gpus), 0);
  std::vector<std::pair<double, int64_t>> nodes(hits.node.size()), experts;
  std::vector<int64_t> tokens_of(popularity.size(), 0);
  std::vector<int64_t> last_on_node(hits.node.size(), -1), last_on_gpu(hits.gpu.size(), -1);
  for (int64_t token = 0; token < kGateTokens; ++token) {
    for (size_t n = 0; n < nodes.size(); ++n) {
      const double noise = max_nodes < s.nodes ? gumbel() : 0;
      nodes[n] = {std::log(node_weight[n]) + noise, static_cast<int64_t>(n)};
    }
    std::partial_sort(nodes.begin(), nodes.begin() + max_nodes, nodes.end(), std::greater<>());
    experts.clear();
    for (int64_t k = 0; k < max_nodes; ++k) {
      const int64_t first = nodes[static_cast<size_t>(k)].second * per_node;
      for (int64_t e = first; e < first + per_node; ++e) {
        experts.emplace_back(popularity[static_cast<size_t>(e)] + gumbel(), e);
      }
    }
    std::partial_sort(experts.begin(), experts.begin() + s.top_k, experts.end(), std::greater<>());
    for (int64_t k = 0; k < s.top_k; ++k) {
      const int64_t e = experts[static_cast<size_t>(k)].second;
      const auto node = static_cast<size_t>(e / per_node), gpu = static_cast<size_t>(e / per_gpu);
      hits.copies[gpu] += 1;
      ++tokens_of[static_cast<size_t>(e)];
      if (std::exchange(last_on_gpu[gpu], token) != token) hits.gpu[gpu] += 1;
      if (std::exchange(last_on_node[node], token) != token) hits.node[node] += 1;
    }
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
