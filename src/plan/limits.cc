#include "plan/limits.h"

#include <algorithm>

namespace fathom {

NetworkTpot network_tpot(const NetworkTpotInput& in) {
  NetworkTpot out;
  const double bytes = (in.dispatch_bytes + in.combine_bytes) * in.tokens * in.experts * in.hidden;
  out.stage_us = bytes / (in.bandwidth_gbps * 1e3);
  out.layer_us = 2 * out.stage_us;
  out.tpot_ms = out.layer_us * in.layers / 1e3;
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
