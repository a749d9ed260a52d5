#include "plan/limits.h"

#include <algorithm>

#include "model/tensor_plan.h"
#include "plan/footprint.h"

namespace fathom {

NetworkTpot network_tpot(const NetworkTpotInput& in) {
  NetworkTpot out;
  const double bytes = (in.dispatch_bytes + in.combine_bytes) * in.tokens * in.experts * in.hidden;
  out.stage_us = bytes / (in.bandwidth_gbps * 1e3);
  out.layer_us = 2 * out.stage_us;
  out.tpot_ms = out.layer_us * in.layers / 1e3;
  return out;
}

double DecodeBounds::most_ms() const { return std::max({memory_ms, compute_ms, network_ms}); }

std::string DecodeBounds::limit() const {
  return most_ms() == memory_ms ? "memory" : most_ms() == compute_ms ? "compute" : "network";
}

DecodeBounds decode_bounds(const ModelConfig& c, const Hardware& h, double weight_bytes, double batch,
                           int64_t context_tokens, int64_t devices) {
  DecodeBounds out;
  const double kv = batch * static_cast<double>(context_tokens) * static_cast<double>(kv_cache_bytes_per_token(c));
  out.memory_ms = (weight_bytes + kv) / (h.memory_gbps * 1e6);
  out.compute_ms = batch * decode_flops(c, context_tokens) / (h.fp8_tflops * 1e9);
  if (devices > 1 && c.n_routed_experts > 0) {
    const bool in_node = devices <= h.gpus_per_node;
    out.network_ms = network_tpot({.bandwidth_gbps = in_node ? h.scale_up_effective_gbps : h.nic_effective_gbps,
                                   .tokens = batch / 2,
                                   .experts = static_cast<double>(c.num_experts_per_tok),
                                   .hidden = static_cast<double>(c.hidden_size),
                                   .layers = static_cast<double>(c.num_hidden_layers - c.first_k_dense_replace)})
                         .tpot_ms;
  }
  return out;
}

double model_flops_utilisation(double flops_per_token, double tokens_per_s, double gpus, double peak_tflops) {
  return flops_per_token * tokens_per_s / gpus / (peak_tflops * 1e12);
}

double gpu_hours(double tokens, double tokens_per_s, double gpus) { return tokens / tokens_per_s / 3600 * gpus; }

double serving_nodes(double input_per_day, double output_per_day, double input_per_s, double output_per_s) {
  constexpr double kDay = 86400;
  return input_per_day / kDay / input_per_s + output_per_day / kDay / output_per_s;
}

double dollars_per_million(double dollars_per_hour, double tokens_per_s) {
  return dollars_per_hour / (tokens_per_s * 3600 / 1e6);
}

int64_t least_gpus(int64_t pipeline, int64_t tensor, int64_t context, int64_t expert, int64_t expert_tensor) {
  return pipeline * std::max(tensor * context, expert * expert_tensor);
}

}  // namespace fathom
