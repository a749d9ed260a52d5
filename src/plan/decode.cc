#include "plan/decode.h"

#include <algorithm>
#include <cmath>

#include "base/figure.h"
#include "base/integers.h"
#include "cluster/topology.h"
#include "plan/expert_traffic.h"

namespace fathom {
namespace {

constexpr double kLeastHostGbps = 1e-6;

double linear_layers(const ModelConfig& c, const PlanSettings::Serving& s) {
  return as_double(c.num_hidden_layers - full_attention_layers(c, s));
}

double state_numbers(const ModelConfig& c) {
  return as_double(c.num_attention_heads * c.qk_nope_head_dim * c.v_head_dim);
}

}  // namespace

int64_t full_attention_layers(const ModelConfig& c, const PlanSettings::Serving& s) {
  return ceil_div(c.num_hidden_layers, s.full_attention_every);
}

double serving_kv_bytes(const ModelConfig& c, const PlanSettings::Serving& s) {
  const double latent = as_double(c.kv_lora_rank), rope = as_double(c.qk_rope_head_dim);
  const double layer = s.kv == "fp8" ? latent + 4 * std::ceil(latent / 128) + 2 * rope : 2 * (latent + rope);
  // The module that drafts is one more layer, of softmax attention.
  return layer * as_double(full_attention_layers(c, s) + (s.mtp_acceptance > 0 ? 1 : 0));
}

double linear_state_bytes(const ModelConfig& c, const PlanSettings::Serving& s) {
  return 4 * state_numbers(c) * linear_layers(c, s);
}

double transfer_bytes(std::string_view format, const PlanSettings::Serving& s) {
  return bytes_on_wire(format) * (format.starts_with("logfmt") ? 1 + s.codec_overhead : 1);
}

double decode_flops(const CountedModel& model, const PlanSettings::Serving& s) {
  const ModelConfig& c = model.config;
  return 2 * as_double(model.parameters.active_with_head) +
         as_double(full_attention_layers(c, s) * c.num_attention_heads) * as_double(s.context) * 2 *
             as_double(2 * c.kv_lora_rank + c.qk_rope_head_dim) +
         4 * state_numbers(c) * linear_layers(c, s);
}

double DecodeStep::most_ms() const { return std::max({memory_ms, compute_ms, network_ms, host_ms}); }

std::string DecodeStep::limit() const {
  if (most_ms() == memory_ms) return "HBM bandwidth";
  if (most_ms() == host_ms) return "host link";
  return most_ms() == compute_ms ? "compute" : std::string(network);
}

double DecodeStep::resident() const { return std::floor(room_bytes / sequence_bytes); }

bool DecodeStep::holds(double batch) const {
  return resident() >= 0 && batch <= resident() + std::floor(pool_bytes / sequence_bytes);
}

TokenCopies token_copies(const CountedModel& model, const Hardware& h, const PlanSettings::Serving& s) {
  const double gpus = as_double(s.gpus), in_node = std::min(gpus, as_double(h.gpus_per_node));
  const double copies = s.in_network ? destinations_of(model.gate, s.gpus, h.gpus_per_node).gpus
                                     : as_double(model.config.num_experts_per_tok);
  return {copies * (1 - in_node / gpus), copies * (in_node - 1) / gpus};
}

Result<DecodeStep> decode_step(const CountedModel& model, const Hardware& h, const PlanSettings::Serving& s) {
  return decode_step(model, h, s, as_double(s.batch));
}

Result<DecodeStep> decode_step(const CountedModel& model, const Hardware& h, const PlanSettings::Serving& s,
                               double batch) {
  const ModelConfig& c = model.config;
  const bool drafts = s.mtp_acceptance > 0;
  if (drafts && c.num_nextn_predict_layers < 1) {
    return invalid("serving.mtp_acceptance is " + std::to_string(s.mtp_acceptance) +
                   ", but the model has no MTP module (num_nextn_predict_layers); leave it 0");
  }
  const double positions = drafts ? 2 : 1, tokens = batch * positions;
  const double per_weight = bytes_of_weight(s.weights);
  const auto weights = serving_weight_bytes(c, model.elements, s.gpus, s.redundant_experts, per_weight, drafts);
  if (!weights) return weights.error();
  const auto read = serving_read_bytes(c, model.elements, s.gpus, s.redundant_experts, per_weight, drafts,
                                       tokens * as_double(s.gpus), tokens);
  if (!read) return read.error();
  // It multiplies as one more layer.
  const double more = drafts ? 1 + 1 / as_double(c.num_hidden_layers) : 1;
  DecodeStep out;
  out.weight_bytes = *weights;
  out.read_bytes = *read;
  out.tokens_per_sequence = 1 + s.mtp_acceptance;
  const bool exchanges = s.gpus > 1 && c.n_routed_experts > 0;
  double shared_bytes = 0;  // of the NIC, over the host's link
  if (exchanges) {
    out.buffer_bytes =
        low_latency_buffer_bytes(std::ceil(batch / 2) * positions, as_double(c.n_routed_experts + s.redundant_experts),
                                 as_double(c.hidden_size));
  }
  out.room_bytes = h.memory_gb * 1e9 - out.weight_bytes - out.buffer_bytes;
  const double states = linear_state_bytes(c, s);
  out.sequence_bytes = serving_kv_bytes(c, s) * as_double(s.context) + states;
  if (s.host_gbps > 0) {
    if (s.host_gbps < kLeastHostGbps) {
      return invalid("serving.host_gbps is " + figure_text(s.host_gbps) + "; accepted: 1e-6 or more, or 0: no pool");
    }
    out.pool_bytes = s.host_gb * 1e9;
  }
  if (out.pool_bytes > 0) out.host_sequences = std::max(0.0, batch - std::max(0.0, out.resident()));
  // A cache is read; a state is read and, each token having changed all of it, written back.
  out.memory_ms =
      (out.read_bytes + (batch - out.host_sequences) * (out.sequence_bytes + states)) / (h.memory_gbps * 1e6);
  out.compute_ms = batch * positions * more * decode_flops(model, s) / (h.fp8_tflops * 1e9);
  out.is_in_node = s.gpus <= h.gpus_per_node;
  if (exchanges) {
    const TokenCopies copies = token_copies(model, h, s);
    const double nic = copies.nic / h.nic_effective_gbps, nvlink = copies.nvlink / h.scale_up_effective_gbps;
    const double ms_per_byte = std::max(nic, nvlink) / 1e6;
    const double numbers = tokens / 2 * as_double(c.hidden_size);
    const double bytes = (transfer_bytes(s.dispatch, s) + transfer_bytes(s.combine, s)) * numbers;
    const double layers = as_double(model.moe_layers()) + (drafts ? 1 : 0);
    const double latency_ms = (s.dispatch_us + s.combine_us) / 1e3;
    out.network_ms = 2 * layers * (bytes * ms_per_byte + latency_ms);
    out.network = latency_ms > bytes * ms_per_byte ? "network latency"
                  : nic > nvlink                   ? "scale-out network"
                                                   : "scale-up network";
    if (s.host_shares_nic && s.host_gbps > 0) {
      shared_bytes = 2 * layers * copies.nic * (bytes_on_wire(s.dispatch) + bytes_on_wire(s.combine)) * numbers;
    }
  }
  if (s.host_gbps > 0) out.host_ms = (out.host_sequences * out.sequence_bytes + shared_bytes) / (s.host_gbps * 1e6);
  return out;
}

int64_t most_sequences(const CountedModel& model, const Hardware& h, const PlanSettings::Serving& s) {
  constexpr int64_t kMost = 1 << 20;
  const auto fits = [&](int64_t batch) {
    const auto step = decode_step(model, h, s, as_double(batch));
    return step && step->holds(as_double(batch));
  };
  int64_t most = 0, too_many = 1;
  while (too_many <= kMost && fits(too_many)) {
    most = too_many;
    too_many *= 2;
  }
  if (most == kMost) return most;
  while (too_many - most > 1) {
    const int64_t middle = (most + too_many) / 2;
    (fits(middle) ? most : too_many) = middle;
  }
  return most;
}

Status check_fits(const CountedModel& model, const DecodeStep& step, const Hardware& h,
                  const PlanSettings::Serving& s) {
  if (step.holds(as_double(s.batch))) return {};
  const int64_t most = most_sequences(model, h, s);
  if (most == 0 && step.room_bytes <= 0) {
    return invalid(
        "serving: the weights of one GPU are " + figure_text(step.weight_bytes / 1e9, 4) + " GB" +
        (step.buffer_bytes > 0 ? " and its buffers " + figure_text(step.buffer_bytes / 1e9, 4) + " GB" : "") +
        ", more than the " + figure_text(h.memory_gb, 4) + " GB of " + h.name + "; spread them over more GPUs");
  }
  return invalid("serving: " + std::to_string(s.batch) + " sequences of " + std::to_string(s.context) +
                 " tokens do not fit beside the weights" + (step.buffer_bytes > 0 ? " and their buffers" : "") +
                 "; at most " + std::to_string(most));
}

}  // namespace fathom
