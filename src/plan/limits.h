// Limits: what a step cannot be faster than, and the arithmetic from rates to days, nodes and dollars. Closed forms
// with their inputs; nothing is simulated.
#pragma once

#include <cstdint>

namespace fathom {

/// The time per output token that expert parallelism alone costs (arXiv 2505.09343, section 2.3.2): one expert a
/// device, computation hidden, no latency. Dispatch and combine of one micro-batch: (1 B + 2 B) tokens experts hidden /
/// bandwidth; two micro-batches alternate in each layer.
struct NetworkTpot {
  double stage_us = 0;  // one micro-batch
  double layer_us = 0;
  double tpot_ms = 0;
  double tokens_per_s() const { return 1e3 / tpot_ms; }
};
struct NetworkTpotInput {
  double bandwidth_gbps = 50;
  double tokens = 32;    // per device and micro-batch
  double experts = 9;    // that a token is sent to, shared ones included
  double hidden = 7000;  // the paper rounds 7168 so
  double layers = 61;
  double dispatch_bytes = 1;
  double combine_bytes = 2;
};
NetworkTpot network_tpot(const NetworkTpotInput& in);

/// Model FLOP utilisation: FLOPs per token * tokens per second / GPUs / peak.
double model_flops_utilisation(double flops_per_token, double tokens_per_s, double gpus, double peak_tflops);

/// GPU-hours to train on `tokens` at `tokens_per_s` of `gpus` together.
double gpu_hours(double tokens, double tokens_per_s, double gpus);

/// Nodes that a daily load needs: input and output tokens per day over what a node does per second.
double serving_nodes(double input_per_day, double output_per_day, double input_per_s, double output_per_s);

/// Dollars per million tokens on a node that does `tokens_per_s` and costs `dollars_per_hour`.
double dollars_per_million(double dollars_per_hour, double tokens_per_s);

/// The fewest GPUs of a layout: pipeline * max(tensor * context, expert * expert_tensor), not the product.
int64_t least_gpus(int64_t pipeline, int64_t tensor, int64_t context, int64_t expert, int64_t expert_tensor);

}  // namespace fathom
