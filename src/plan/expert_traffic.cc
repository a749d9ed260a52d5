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

Spread spread_of(const Gate& gate, int64_t nodes) {
  const double reachable = static_cast<double>(std::min(nodes, gate.max_nodes));
  const double per_node = static_cast<double>(gate.experts) / static_cast<double>(nodes);
  return {distinct(reachable, per_node, gate.top_k), distinct(reachable * 8, per_node / 8, gate.top_k)};
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
