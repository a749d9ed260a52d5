// Decode: the bound of one decode step of an expert-parallel group, by resource, in the formats that the settings
// name. Closed forms: what memory, arithmetic and links cannot do faster; nothing else is waited for.
#pragma once

#include <cstdint>
#include <string>

#include "base/result.h"
#include "cluster/hardware.h"
#include "model/config.h"
#include "model/tensor_plan.h"
#include "plan/footprint.h"
#include "plan/settings.h"

namespace fathom {

/// A model and what is counted of it once.
struct CountedModel {
  explicit CountedModel(const ModelConfig& model)
      : config(model), elements(count_elements(model)), parameters(count_parameters(model)) {}

  ModelConfig config;
  LayerElements elements;
  ParameterCount parameters;

  int64_t moe_layers() const { return config.num_hidden_layers - config.first_k_dense_replace; }
};

/// A format of numbers on a wire or in memory: bytes of one, scales of blocks included where the format has them.
/// "fp8" 1 (as arXiv 2505.09343, section 2.3.2 counts it), "bf16" 2, "logfmt8" 1 + 4 / 128, "logfmt10" 10 / 8 + 4 / 128
/// (DeepEP: two BF16 limits per 128 numbers), "fp4" 4.25 bits (OCP MX). A name that the settings accept.
double bytes_of_format(const std::string& format);

/// Bytes of the cache of one token: in "bf16" 2 (kv_lora_rank + qk_rope_head_dim) a layer; in "fp8" kv_lora_rank + 4 B
/// per 128 of it + 2 qk_rope_head_dim (FlashMLA: 656 B for V3). Layers: those with softmax attention, one in
/// full_attention_every, rounded up.
double serving_kv_bytes(const ModelConfig& config, const PlanSettings::Serving& serving);

/// Bytes of the states of linear attention of one sequence: heads * qk_nope_head_dim * v_head_dim FP32 numbers in each
/// layer that has it, however long the sequence.
double linear_state_bytes(const ModelConfig& config, const PlanSettings::Serving& serving);

/// One decode step of every GPU of the group at equal load; the step takes at least the largest of the three, and their
/// sum without overlap.
struct DecodeStep {
  double weight_bytes = 0, buffer_bytes = 0, sequence_bytes = 0;  // of a GPU; of the cache of one sequence
  double room_bytes = 0;                                          // memory - weights - buffers; may be negative
  double memory_ms = 0;                                           // weights once, and the KV cache of every sequence
  double compute_ms = 0;                                          // FLOPs at the FP8 peak
  double network_ms = 0;           // dispatch and combine of two micro-batches; 0: one device
  bool is_in_node = true;          // the group does not leave NVLink
  double tokens_per_sequence = 1;  // of a step: 1 + mtp_acceptance with drafts

  double most_ms() const;
  /// "memory", "compute" or "network".
  std::string limit() const;
  double tpot_ms() const { return most_ms() / tokens_per_sequence; }
  double sequences_that_fit() const;
};

/// With `serving.gpus` devices, each with `serving.batch` sequences of `serving.context` tokens. Network, per layer
/// with experts and for each of two micro-batches: dispatch_us + combine_us + (dispatch + combine bytes) * batch / 2 *
/// copies * hidden / rate, copies = top-k, or 1 with in_network; the rate is NVLink's where the group stays in the
/// node. With MTP (mtp_acceptance > 0) a step carries two positions of each sequence through the layers and the
/// module's one. Errors: what serving_weight_bytes refuses; acceptance without a module.
Result<DecodeStep> decode_step(const CountedModel& model, const Hardware& hardware,
                               const PlanSettings::Serving& serving);

/// Why a step's sequences do not fit, as an error that says what would.
Status check_fits(const DecodeStep& step, const Hardware& hardware, const PlanSettings::Serving& serving);

/// FLOPs of one generated token after `serving.context` tokens: 2 per active parameter; in layers with softmax
/// attention, in absorbed form, heads * context * 2 (2 kv_lora_rank + qk_rope_head_dim); in linear ones 4 per number of
/// the state.
double decode_flops(const CountedModel& model, const PlanSettings::Serving& serving);

}  // namespace fathom
