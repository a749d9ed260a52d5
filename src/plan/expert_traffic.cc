#include "plan/expert_traffic.h"

#include <algorithm>

#include "base/check.h"
#include "base/rng.h"
#include "base/threads.h"
#include "kernels/registry.h"
#include "model/router.h"

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

// The means over the drawn tokens; a token's experts ascend, so do its GPUs and nodes.
Destinations destinations_of_draws(const Gate& gate, int64_t ranks, int64_t per_node) {
  const auto k = static_cast<size_t>(gate.top_k);
  check(k > 0, "a token has experts");
  int64_t nodes = 0, gpus = 0;
  for (size_t at = 0; at < gate.drawn.size(); at += k) {
    int64_t last_gpu = -1, last_node = -1;
    for (size_t i = at; i < at + k; ++i) {
      const int64_t gpu = gate.drawn[i] * ranks / gate.experts, node = gpu / per_node;
      gpus += gpu != last_gpu;
      nodes += node != last_node;
      last_gpu = gpu;
      last_node = node;
    }
  }
  const size_t num_tokens = gate.drawn.size() / k;
  const auto tokens = static_cast<double>(num_tokens);
  return {static_cast<double>(nodes) / tokens, static_cast<double>(gpus) / tokens};
}

// What the reference kernel of the gate chooses.
std::vector<int32_t> draw_choices(const ModelConfig& c) {
  constexpr int64_t kTokens = 4096, kAtOnce = 512;
  constexpr uint64_t kSeed = 1;
  const RouterSpec spec = router_spec(c);
  const int64_t experts = c.n_routed_experts, top_k = c.num_experts_per_tok;
  ThreadPool pool(1);
  const auto kernels = make_kernels("ref", pool);
  check(kernels.ok(), "the reference kernels are in every build");
  std::vector<float> logits(static_cast<size_t>(kAtOnce * experts)), scores(logits.size());
  std::vector<float> bias(static_cast<size_t>(experts)), weights(static_cast<size_t>(kAtOnce * top_k));
  std::vector<int32_t> out(static_cast<size_t>(kTokens * top_k));
  const Rng rng(kSeed, stream_of("gate"));
  uint64_t drawn = 0;
  for (int64_t token = 0; token < kTokens; token += kAtOnce) {
    for (float& z : logits) z = static_cast<float>(rng.normal(drawn++));
    (*kernels)->router(
        {.logits = Tensor::contiguous(logits.data(), DType::kF32, {kAtOnce, experts}),
         .bias = spec.biased_selection ? Tensor::contiguous(bias.data(), DType::kF32, {experts}) : Tensor{},
         .spec = spec,
         .scores = Tensor::contiguous(scores.data(), DType::kF32, {kAtOnce, experts}),
         .expert_ids = Tensor::contiguous(out.data() + token * top_k, DType::kI32, {kAtOnce, top_k}),
         .weights = Tensor::contiguous(weights.data(), DType::kF32, {kAtOnce, top_k})});
  }
  return out;
}

}  // namespace

Destinations destinations_of(const Gate& gate, int64_t ranks, int64_t per_node) {
  if (!gate.drawn.empty()) return destinations_of_draws(gate, ranks, per_node);
  const int64_t num_nodes = (ranks + per_node - 1) / per_node;
  const auto nodes = static_cast<double>(num_nodes);
  const double in_node = static_cast<double>(std::min(ranks, per_node));
  const double reachable = std::min(nodes, static_cast<double>(gate.max_nodes));
  const double experts = static_cast<double>(gate.experts);
  return {distinct(reachable, experts / nodes, gate.top_k),
          distinct(reachable * in_node, experts / (nodes * in_node), gate.top_k)};
}

Gate gate_of(const ModelConfig& c) {
  Gate out{.experts = c.n_routed_experts, .top_k = c.num_experts_per_tok, .max_nodes = c.n_routed_experts};
  const RouterSpec spec = router_spec(c);
  if (spec.n_group > 1 && spec.topk_group < spec.n_group) out.drawn = draw_choices(c);
  return out;
}

Gate node_limited_gate_of(const ModelConfig& c) {
  return {.experts = c.n_routed_experts,
          .top_k = c.num_experts_per_tok,
          .max_nodes = c.n_group > 1 ? c.topk_group : c.n_routed_experts};
}

ExchangeCost exchange_cost(const Gate& gate, int64_t ranks, int64_t per_node, double nic_gbps, double nvlink_gbps) {
  if (ranks <= 1 || gate.experts < 1) return {};
  const Destinations spread = destinations_of(gate, ranks, per_node);
  const int64_t num_nodes = (ranks + per_node - 1) / per_node;
  const auto nodes = static_cast<double>(num_nodes);
  const double in_node = static_cast<double>(std::min(ranks, per_node));
  const double nic_copies = spread.nodes * (nodes - 1) / nodes, nic = nic_copies / (nic_gbps * 1e9);
  const double nvlink = spread.gpus * (in_node - 1) / in_node / (nvlink_gbps * 1e9);
  return {std::max(nic, nvlink), nic > nvlink, nic_copies};
}

NormalBandwidth normal_bandwidth(const Gate& gate, int64_t nodes, double nic_gbps, double nvlink_gbps) {
  const Destinations spread = destinations_of(gate, nodes);
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
