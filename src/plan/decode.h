// Decode: the bound of one decode step of an expert-parallel group, by resource, in the formats that the settings
// name. Closed forms: what memory, arithmetic and links cannot do faster; nothing else is waited for.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.h"
#include "cluster/hardware.h"
#include "model/config.h"
#include "model/tensor_plan.h"
#include "plan/expert_traffic.h"
#include "plan/footprint.h"
#include "plan/settings.h"

namespace fathom {

/// A model and what is counted of it once.
struct CountedModel {
  explicit CountedModel(const ModelConfig& model)
      : config(model), elements(count_elements(model)), parameters(count_parameters(model)), gate(gate_of(model)) {}

  ModelConfig config;
  LayerElements elements;
  ParameterCount parameters;
  Gate gate;

  int64_t moe_layers() const { return config.num_hidden_layers - config.first_k_dense_replace; }
};

/// Layers that keep softmax attention: one in full_attention_every, rounded up; the others are linear.
int64_t full_attention_layers(const ModelConfig& config, const PlanSettings::Serving& serving);

/// Bytes of the cache of one token: in "bf16" 2 (kv_lora_rank + qk_rope_head_dim) a layer; in "fp8" kv_lora_rank + 4 B
/// per 128 of it + 2 qk_rope_head_dim (FlashMLA: 656 B for V3). Layers:
/// full_attention_layers, and the MTP module that drafts.
double serving_kv_bytes(const ModelConfig& config, const PlanSettings::Serving& serving);

/// Bytes of the states of linear attention of one sequence: heads * qk_nope_head_dim * v_head_dim FP32 numbers in each
/// layer that has it, however long the sequence.
double linear_state_bytes(const ModelConfig& config, const PlanSettings::Serving& serving);

/// Bytes of a number on a wire as far as the time of its transfer goes: in LogFMT 1 + codec_overhead times
/// bytes_on_wire.
double transfer_bytes(std::string_view format, const PlanSettings::Serving& serving);

/// One decode step of every GPU of the group at equal load; the step takes at least the largest of the three, and their
/// sum without overlap.
struct DecodeStep {
  double weight_bytes = 0, buffer_bytes = 0, sequence_bytes = 0;  // of a GPU; of the cache of one sequence
  double read_bytes = 0;                                          // of the weights, in a step: serving_read_bytes
  double room_bytes = 0;                                          // memory - weights - buffers; may be negative
  double memory_ms = 0;    // read_bytes, the cache of every sequence, and its linear states once more, written back
  double compute_ms = 0;   // FLOPs at the FP8 peak
  double network_ms = 0;   // dispatch and combine of two micro-batches; 0: one device
  double host_ms = 0;      // of the link to the host: sequences of its pool, and the NIC's bytes where it shares
  bool is_in_node = true;  // the group does not leave NVLink
  double tokens_per_sequence = 1;  // of a step: 1 + mtp_acceptance with drafts

  double most_ms() const;
  std::string_view network;   // what takes network_ms: "scale-up network", "scale-out network" or "network latency"
  double pool_bytes = 0;      // of the host that a step may read; 0: none
  double host_sequences = 0;  // of the batch: those that lie there
  /// "HBM bandwidth", "compute", "host link" or `network`.
  std::string limit() const;
  double tpot_ms() const { return most_ms() / tokens_per_sequence; }
  /// Sequences that fit beside the weights and the buffers of this step, which are those of its own batch.
  double resident() const;
  /// `batch` sequences fit there or in the host's pool.
  bool holds(double batch) const;
};

/// With `serving.gpus` devices, each with `serving.batch` sequences of `serving.context` tokens. Network, per layer
/// with experts and for each of two micro-batches: dispatch_us + combine_us + (dispatch + combine bytes) * batch / 2 *
/// hidden * seconds per byte of token_copies over their links, both at work at once. Experts that a step's weights are
/// read of: serving_read_bytes. A transfer in LogFMT takes 1 + codec_overhead of its time. Sequences that HBM has no
/// room for lie in the host's pool (host_gb), if there is one, and are read over its link in every step, together with
/// the bytes of the NIC where host_shares_nic. With MTP (mtp_acceptance > 0) a step carries two positions of each
/// sequence through the layers and the module's one. Errors: what serving_weight_bytes refuses; acceptance without a
/// module.
Result<DecodeStep> decode_step(const CountedModel& model, const Hardware& hardware,
                               const PlanSettings::Serving& serving);
/// The same with a batch that need be no whole number, for the slope of the bound.
Result<DecodeStep> decode_step(const CountedModel& model, const Hardware& hardware,
                               const PlanSettings::Serving& serving, double batch);

/// Copies of one token that a GPU receives over each link when every GPU sends as many tokens as it gets: a copy for
/// each of top-k experts, spread evenly, of which those to the own node do not cross the NIC and the own GPU's cross
/// nothing: top-k (1 - n / GPUs) and top-k (n - 1) / GPUs with n GPUs in a node. With in_network a switch multiplies
/// what is sent, so a GPU sends a token once; it still receives a copy for each of the distinct GPUs of every token
/// (destinations_of), which is never less, and is what the link must carry. Combine is its mirror image: aggregation
/// saves what comes back, not what leaves. Full-duplex links.
struct TokenCopies {
  double nic = 0, nvlink = 0;
};
TokenCopies token_copies(const CountedModel& model, const Hardware& hardware, const PlanSettings::Serving& serving);

/// The most sequences of a GPU that fit beside the weights and the buffers that so many need themselves, at most 2^20;
/// serving.batch is not looked at. 0: not even one, or what decode_step refuses.
int64_t most_sequences(const CountedModel& model, const Hardware& hardware, const PlanSettings::Serving& serving);

/// Why a step's sequences do not fit, as an error that says what would. `step` is that of the settings.
Status check_fits(const CountedModel& model, const DecodeStep& step, const Hardware& hardware,
                  const PlanSettings::Serving& serving);

/// FLOPs of one generated token after `serving.context` tokens: 2 per active parameter; in layers with softmax
/// attention, in absorbed form, heads * context * 2 (2 kv_lora_rank + qk_rope_head_dim); in linear ones 4 per number of
/// the state.
double decode_flops(const CountedModel& model, const PlanSettings::Serving& serving);

}  // namespace fathom
