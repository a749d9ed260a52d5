#include "plan/expert_traffic.h"

#include <algorithm>

namespace fathom {
namespace {

// Expected distinct places that `k` draws without repetition reach.
double distinct(double places, double experts_each, int64_t k) {
  double miss = 1;  // C(N - e, K) / C(N, K)
  const double all = places * experts_each;
  for (int64_t i = 0; i < k; ++i) {
    const double left = all - static_cast<double>(i);
    if (left <= 0) return places;  // fewer experts than choices: all of them
    miss *= std::max(0.0, left - experts_each) / left;
  }
  return places * (1 - miss);
}

AlphaBeta fit(double bytes_per_copy, double LowLatency::*latency) {
  double n = 0, sum_x = 0, sum_y = 0, sum_xx = 0, sum_xy = 0;
  for (const LowLatency& row : kLowLatency) {
    if (row.ranks < 16) continue;
    const double x = low_latency_bytes(128, 8, bytes_per_copy, static_cast<double>(row.ranks)), y = row.*latency;
    n += 1;
    sum_x += x;
    sum_y += y;
    sum_xx += x * x;
    sum_xy += x * y;
  }
  const double slope = (n * sum_xy - sum_x * sum_y) / (n * sum_xx - sum_x * sum_x);  // us per byte
  return {(sum_y - slope * sum_x) / n, 1 / (slope * 1e3)};
}

}  // namespace

Spread spread_of(const Gate& gate, int64_t ranks, int64_t per_node) {
  const double nodes = static_cast<double>((ranks + per_node - 1) / per_node);
  const double in_node = static_cast<double>(std::min(ranks, per_node));
  const double reachable = std::min(nodes, static_cast<double>(gate.max_nodes));
  const double experts = static_cast<double>(gate.experts);
  return {distinct(reachable, experts / nodes, gate.top_k),
          distinct(reachable * in_node, experts / (nodes * in_node), gate.top_k)};
}

Gate gate_of(const ModelConfig& c) {
  return {c.n_routed_experts, c.num_experts_per_tok, c.n_group > 1 ? c.topk_group : c.n_routed_experts};
}

ExchangeCost exchange_cost(const Gate& gate, int64_t ranks, int64_t per_node, double nic_gbps, double nvlink_gbps) {
  if (ranks <= 1 || gate.experts < 1) return {};
  const Spread spread = spread_of(gate, ranks, per_node);
  const double nodes = static_cast<double>((ranks + per_node - 1) / per_node);
  const double in_node = static_cast<double>(std::min(ranks, per_node));
  const double nic = spread.nodes * (nodes - 1) / nodes / (nic_gbps * 1e9);
  const double nvlink = spread.gpus * (in_node - 1) / in_node / (nvlink_gbps * 1e9);
  return {std::max(nic, nvlink), nic > nvlink};
}

NormalBandwidth normal_bandwidth(const Gate& gate, int64_t nodes, double nic_gbps, double nvlink_gbps) {
  const Spread spread = spread_of(gate, nodes);
  const double remote = spread.nodes * static_cast<double>(nodes - 1) / static_cast<double>(nodes);
  const double nic = remote / nic_gbps, nvlink = spread.gpus * 7 / 8 / nvlink_gbps;
  return {spread.nodes / std::max(nic, nvlink), nvlink > nic};
}

double low_latency_bytes(double tokens, double experts, double bytes_per_copy, double ranks) {
  return tokens * experts * bytes_per_copy * (1 - 8 / ranks);
}

AlphaBeta fit_dispatch() { return fit(7168 + 56 * 4, &LowLatency::dispatch_us); }
AlphaBeta fit_combine() { return fit(2 * 7168, &LowLatency::combine_us); }

}  // namespace fathom
