// Footprint: what a model costs before anything runs: FLOPs per token, and bytes per rank by class.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"
#include "model/config.h"
#include "parallel/schedule.h"

namespace fathom {

/// A dense transformer with grouped-query attention, as tables compare MoE models with; fathom does not run it.
struct DenseShape {
  std::string name;
  int64_t layers = 0;
  int64_t hidden = 0;
  int64_t kv_heads = 0;
  int64_t head_dim = 0;
  int64_t vocab = 0;
};

/// Bytes of KV cache per token: 2 * kv_heads * head_dim * layers * bytes_per_number.
int64_t kv_cache_bytes_per_token(const DenseShape& shape, int64_t bytes_per_number = 2);

/// FLOPs of forward and backward per trained token, in the two conventions of arXiv 2505.09343, table 2. Matrices count
/// 2 forward and 4 backward per active parameter (the head counts, the embedding does not); attention counts
/// layers * heads * sequence * (qk_head_dim + v_head_dim) forward, causal, and twice that where a mask is not used.
struct TrainingFlops {
  double matrices = 0;
  double causal_attention = 0;
  double causal() const { return matrices + causal_attention; }
  double full() const { return matrices + 2 * causal_attention; }
};
TrainingFlops training_flops(const ModelConfig& config, int64_t sequence_tokens);

/// The convention that the same table uses for dense models: 72 layers hidden^2 + 6 vocab hidden, without attention.
double dense_training_flops(const DenseShape& shape);

/// FLOPs of one generated token after `context_tokens`, attention in absorbed form: 2 per active parameter and
/// layers * heads * context * 2 (2 kv_lora_rank + qk_rope_head_dim).
double decode_flops(const ModelConfig& config, int64_t context_tokens);

/// How a training run lies on the ranks. Expert-parallel groups lie inside the data-parallel ones, so the run needs
/// pipeline * data GPUs, where data is a multiple of expert.
struct TrainingLayout {
  int64_t pipeline = 1;
  int64_t expert = 1;
  int64_t data = 1;
  std::string schedule = "1f1b";
  int64_t micro_batch_tokens = 4096;
  int64_t num_micro_batches = 1;  // of one data rank and step

  int64_t num_gpus() const { return pipeline * data; }
};

/// Bytes of one parameter's parts. The V3 recipe (report 3.3): BF16 weights to work with, FP32 gradients and masters,
/// BF16 moments.
struct TrainingPrecision {
  double weight = 2;
  double gradient = 4;
  double master = 4;
  double moments = 4;
};

/// Bytes on one rank.
struct RankBytes {
  int64_t rank = 0;
  double weights = 0;
  double gradients = 0;
  double optimizer = 0;    // masters and moments, sharded over the ranks that hold the same parameters (ZeRO-1)
  double activations = 0;  // of as many micro-batches as the schedule keeps alive
  double total() const { return weights + gradients + optimizer + activations; }
};

/// Saved for backward by one token in one layer, in bytes, as the V3 recipe keeps it (report 3.2.3 and 3.3.3: norms,
/// MLA up-projections and SwiGLU outputs are computed again): the two residuals in BF16, latents of query, key and
/// value in BF16, the attention output in E5M6 (1.5 B), one FP32 log-sum per head, router logits in FP32, and in FP8
/// the input of every expert the token goes to and what its SwiGLU takes. An estimate: allocator slack and scales are
/// not in it.
double saved_bytes_per_token(const ModelConfig& config, int64_t layer);

/// Every pipeline rank, in order. Layers are split into contiguous stages as evenly as they go, the first stages have
/// one more; the embedding is on the first, head and MTP modules on the last. Experts are spread over `expert` ranks
/// evenly. Errors: sizes below 1, a schedule that cannot have this size, more stages than layers, expert that does not
/// divide data or the experts (the nearest that do are named).
Result<std::vector<RankBytes>> training_bytes_by_rank(const ModelConfig& config, const TrainingLayout& layout,
                                                      const TrainingPrecision& precision = {});

/// The rank that needs most, the first of equals. Errors: as training_bytes_by_rank.
Result<RankBytes> training_bytes(const ModelConfig& config, const TrainingLayout& layout,
                                 const TrainingPrecision& precision = {});

/// Bytes of weights on one rank of an expert-parallel serving group (attention and shared experts on every rank): FP8
/// matrices, BF16 embedding and head. `redundant_experts` are replicas beyond n_routed_experts. Errors: ranks < 1,
/// experts that the ranks do not divide up to one.
Result<double> serving_weight_bytes(const ModelConfig& config, int64_t ranks, int64_t redundant_experts);

}  // namespace fathom
