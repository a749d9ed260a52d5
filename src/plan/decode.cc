#include "plan/decode.h"

#include <algorithm>
#include <cmath>

#include "cluster/topology.h"

namespace fathom {
namespace {

double as_double(int64_t v) { return static_cast<double>(v); }

int64_t full_layers(const ModelConfig& c, const PlanSettings::Serving& s) {
  return ceil_div(c.num_hidden_layers, s.full_attention_every);
}

double linear_layers(const ModelConfig& c, const PlanSettings::Serving& s) {
  return as_double(c.num_hidden_layers - full_layers(c, s));
}

double state_numbers(const ModelConfig& c) {
  return as_double(c.num_attention_heads * c.qk_nope_head_dim * c.v_head_dim);
}

}  // namespace

double bytes_of_format(const std::string& format) {
  constexpr double kLimits = 4.0 / 128;
  if (format == "fp8") return 1;
  if (format == "fp4") return 4.25 / 8;
  if (format == "logfmt8") return 1 + kLimits;
  if (format == "logfmt10") return 10.0 / 8 + kLimits;
  return 2;
}

double serving_kv_bytes(const ModelConfig& c, const PlanSettings::Serving& s) {
  const double latent = as_double(c.kv_lora_rank), rope = as_double(c.qk_rope_head_dim);
  const double layer = s.kv == "fp8" ? latent + 4 * std::ceil(latent / 128) + 2 * rope : 2 * (latent + rope);
  return layer * as_double(full_layers(c, s));
}

double linear_state_bytes(const ModelConfig& c, const PlanSettings::Serving& s) {
  return 4 * state_numbers(c) * linear_layers(c, s);
}

double decode_flops(const CountedModel& model, const PlanSettings::Serving& s) {
  const ModelConfig& c = model.config;
  return 2 * as_double(model.parameters.active_with_head) +
         as_double(full_layers(c, s) * c.num_attention_heads) * as_double(s.context) * 2 *
             as_double(2 * c.kv_lora_rank + c.qk_rope_head_dim) +
         4 * state_numbers(c) * linear_layers(c, s);
}

double DecodeStep::most_ms() const { return std::max({memory_ms, compute_ms, network_ms}); }

std::string DecodeStep::limit() const {
  return most_ms() == memory_ms ? "memory" : most_ms() == compute_ms ? "compute" : "network";
}

double DecodeStep::sequences_that_fit() const { return std::max(0.0, std::floor(room_bytes / sequence_bytes)); }

Result<DecodeStep> decode_step(const CountedModel& model, const Hardware& h, const PlanSettings::Serving& s) {
  const ModelConfig& c = model.config;
  const bool drafts = s.mtp_acceptance > 0;
  if (drafts && c.num_nextn_predict_layers < 1) {
    return invalid("serving.mtp_acceptance is " + std::to_string(s.mtp_acceptance) +
                   ", but the model has no MTP module (num_nextn_predict_layers); leave it 0");
  }
  const auto weights =
      serving_weight_bytes(c, model.elements, s.gpus, s.redundant_experts, bytes_of_format(s.weights), drafts);
  if (!weights) return weights.error();
  const double batch = as_double(s.batch), positions = drafts ? 2 : 1;
  // The module that drafts is one more layer with experts.
  const double more = drafts ? 1 + 1 / as_double(c.num_hidden_layers) : 1;
  DecodeStep out;
  out.weight_bytes = *weights;
  out.tokens_per_sequence = 1 + s.mtp_acceptance;
  const bool exchanges = s.gpus > 1 && c.n_routed_experts > 0;
  if (exchanges) {
    out.buffer_bytes =
        low_latency_buffer_bytes(std::ceil(batch / 2) * positions, as_double(c.n_routed_experts + s.redundant_experts),
                                 as_double(c.hidden_size));
  }
  out.room_bytes = h.memory_gb * 1e9 - out.weight_bytes - out.buffer_bytes;
  out.sequence_bytes = more * serving_kv_bytes(c, s) * as_double(s.context) + linear_state_bytes(c, s);
  out.memory_ms = (out.weight_bytes + batch * out.sequence_bytes) / (h.memory_gbps * 1e6);
  out.compute_ms = batch * positions * more * decode_flops(model, s) / (h.fp8_tflops * 1e9);
  out.is_in_node = s.gpus <= h.gpus_per_node;
  if (exchanges) {
    const double rate = out.is_in_node ? h.scale_up_effective_gbps : h.nic_effective_gbps;
    const double copies = s.in_network ? 1 : as_double(c.num_experts_per_tok);
    const double bytes = (bytes_of_format(s.dispatch) + bytes_of_format(s.combine)) * batch / 2 * positions * copies *
                         as_double(c.hidden_size);
    const double layers = as_double(model.moe_layers()) + (drafts ? 1 : 0);
    out.network_ms = 2 * layers * (bytes / (rate * 1e6) + (s.dispatch_us + s.combine_us) / 1e3);
  }
  return out;
}

Status check_fits(const DecodeStep& step, const Hardware& h, const PlanSettings::Serving& s) {
  if (step.room_bytes <= 0) {
    return invalid(
        "serving: the weights of one GPU are " + figure_text(step.weight_bytes / 1e9, 4) + " GB" +
        (step.buffer_bytes > 0 ? " and its buffers " + figure_text(step.buffer_bytes / 1e9, 4) + " GB" : "") +
        ", more than the " + figure_text(h.memory_gb, 4) + " GB of " + h.name + "; spread them over more GPUs");
  }
  if (as_double(s.batch) > step.sequences_that_fit()) {
    return invalid("serving: " + std::to_string(s.batch) + " sequences of " + std::to_string(s.context) +
                   " tokens do not fit beside the weights; at most " + figure_text(step.sequences_that_fit()));
  }
  return {};
}

}  // namespace fathom
