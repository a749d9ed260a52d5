// Traffic: what one step of a model must read and multiply at least. Divided by what the machine can do
// (kernels/limits) it is the time that no implementation of the step can beat.
#pragma once

#include <cstdint>
#include <map>

#include "model/model.h"

namespace fathom {

/// The main model alone: MTP modules do not take part in plain decoding.
struct ModelTraffic {
  std::map<TensorClass, int64_t> class_bytes;  // weights with their scales, as they lie in memory
  int64_t step_bytes = 0;           // read once by every step: all weights but routed experts and the embedding table
  int64_t routed_expert_bytes = 0;  // of all routed experts of all layers
  int64_t embedding_row_bytes = 0;  // of one token
  int64_t guess_bytes = 0;          // of the first MTP module for one token, with the head that it shares; 0: none
  int64_t n_routed_experts = 0;     // per layer; 0: every layer is dense
  int64_t num_experts_per_tok = 0;
  int64_t macs_per_token = 0;         // multiply-adds with weights, without the head
  int64_t head_macs = 0;              // for each token whose logits are wanted
  int64_t last_layer_macs = 0;        // of macs_per_token, for such a token alone: the last layer's, but not its keys'
  bool has_integer_products = false;  // the feed-forward matrices, most of the work, are integer groups
};

/// Sizes from the tensors that the model holds, multiply-adds from their shapes. A tied head counts as a head.
ModelTraffic traffic_of(const Model& model);

/// How many of `num_experts` experts `num_tokens` tokens of `num_chosen` choices each touch on average, if every choice
/// of a token were equally likely and tokens independent: E (1 - (1 - K / E)^T). Exact for one token; an overestimate
/// where the router has favourites.
double expected_experts(int64_t num_experts, int64_t num_chosen, double num_tokens);

/// Bytes that one decode step of `batch` sequences must read, each with `depth` tokens in a cache of
/// `cache_token_bytes` each (kv_cache_bytes_per_token): the weights once (of the routed experts those of
/// expected_experts), the caches, the rows of the embedding.
double decode_step_bytes(const ModelTraffic& traffic, int64_t batch, double depth, int64_t cache_token_bytes);

/// What guessing ahead costs by bytes, in units of a plain step of one sequence with an empty cache.
struct GuessCost {
  double guess = 0;  // the MTP module, or nothing: prompt lookup reads no weights
  double rows = 0;   // experts that the rows of the guesses add to the step, routing uniform
};
/// For `num_guesses` guesses a step (a mean).
GuessCost guess_cost(const ModelTraffic& traffic, double num_guesses, bool by_mtp);

/// Operations (two per multiply-add) of a prompt of `num_tokens` with the weights; the head, and of the last layer all
/// but the latents and what kv_b makes of them, once, for the last token. Attention between tokens is not counted.
double prompt_operations(const ModelTraffic& traffic, int64_t num_tokens);

}  // namespace fathom
