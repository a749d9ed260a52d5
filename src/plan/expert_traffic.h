// ExpertTraffic: how far the router's choices travel, and what DeepEP's kernels make of it.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "model/config.h"

namespace fathom {

/// A router over `experts` experts, spread evenly and in order over GPUs, that takes `top_k` of them. With `drawn`, the
/// choices are those; without, it takes them from those on `max_nodes` nodes, all choices equally likely. DeepEP's
/// benchmarks of V3's gate, with a group a node: 256, 8, 4.
struct Gate {
  int64_t experts = 256;
  int64_t top_k = 8;
  int64_t max_nodes = 4;
  std::vector<int32_t> drawn = {};  // experts of one token after another, top_k each, ascending
};

/// Expected distinct destinations of a token. Of draws their mean; else exactly: of m places with e experts each, out
/// of N = m e experts, m (1 - C(N - e, K) / C(N, K)).
struct Destinations {
  double nodes = 0;
  double gpus = 0;
};
/// `ranks` GPUs in nodes of `per_node` (the last may be part of one), experts spread over them evenly. Both >= 1.
Destinations destinations_of(const Gate& gate, int64_t ranks, int64_t per_node);
/// Nodes of 8, all whole.
inline Destinations destinations_of(const Gate& gate, int64_t nodes) { return destinations_of(gate, 8 * nodes, 8); }

/// The router of a model. Without groups a token goes anywhere. With groups the choices are drawn by the model's own
/// gate, of logits that are normal, independent and alike for every expert (4096 tokens, always the same): a group may
/// be several nodes or a part of one, and the groups of the best experts have more of the chosen ones than any would.
Gate gate_of(const ModelConfig& config);

/// The same as DeepEP's benchmarks have it: a group a node, whatever their number, and choices equally likely.
Gate node_limited_gate_of(const ModelConfig& config);

/// Seconds that one direction of the exchange takes for a byte of a token, both links at work at once: a copy to each
/// other node over the NIC, a copy to each other GPU inside. The larger counts; `is_nic` says which. A single rank: 0.
struct ExchangeCost {
  double seconds_per_byte = 0;
  bool is_nic = false;
  double nic_copies = 0;  // of a token, that a GPU receives over its NIC
};
ExchangeCost exchange_cost(const Gate& gate, int64_t ranks, int64_t per_node, double nic_gbps, double nvlink_gbps);

/// DeepEP's normal kernels send a token once to each node and forward it to its GPUs. Bandwidth as DeepEP counts it
/// (copies to the own node too), GB/s: nodes / max(remote nodes / nic, gpus * 7/8 / nvlink).
struct NormalBandwidth {
  double gbps = 0;
  bool is_nvlink_bound = false;
};
NormalBandwidth normal_bandwidth(const Gate& gate, int64_t nodes, double nic_gbps, double nvlink_gbps);

/// The two rates that fit DeepEP's published dispatch bandwidths (H800, 400G InfiniBand) within 2.5 %; combine reaches
/// kCombineShare of them, within 5 %.
inline constexpr double kDeepEpNicGbps = 43.5, kDeepEpNvlinkGbps = 126, kCombineShare = 0.94;
/// The line rate of the NICs that those and the latencies below were measured with.
inline constexpr double kDeepEpLineGbps = 50;

/// A line through published latencies: us = alpha + bytes / rate.
struct AlphaBeta {
  double alpha_us = 0;
  double gbps = 0;
  double latency_us(double bytes) const { return alpha_us + bytes / (gbps * 1e3); }
};

/// DeepEP's published low-latency kernels: 128 tokens to 8 experts, hidden 7168, on EP ranks (docs of DeepEP V1, H800).
struct LowLatency {
  int64_t ranks;
  double dispatch_us;
  double combine_us;
};
inline constexpr std::array<LowLatency, 6> kLowLatency{
    {{8, 77, 114}, {16, 118, 195}, {32, 155, 273}, {64, 173, 314}, {128, 192, 369}, {256, 194, 360}}};

/// Bytes that leave a node's GPU in a low-latency kernel: tokens * experts * bytes per copy * (1 - 8 / ranks).
double low_latency_bytes(double tokens, double experts, double bytes_per_copy, double ranks);

/// Least squares over kLowLatency from 16 ranks up (8 stay in the node, which is another link).
AlphaBeta fit_dispatch();  // copies of 7168 B and 56 scales
AlphaBeta fit_combine();   // copies of 2 * 7168 B

}  // namespace fathom
