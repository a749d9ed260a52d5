// Footprint: what a model costs before anything runs: FLOPs per token, and bytes per rank by class.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "model/config.h"
#include "model/tensor_plan.h"
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

/// Elements of a model by where they lie, as expected_tensors has them. Counting takes milliseconds for a large model:
/// a search counts once.
struct LayerElements {
  struct Layer {
    double expert = 0;  // of all routed experts
    double other = 0;
    double kept = 0;  // of those what a checkpoint in FP8 has in BF16: gate, norms, eh_proj of MTP
  };
  std::vector<Layer> layers;  // MTP modules follow the layers
  double embedding = 0;
  double head = 0;  // and the final norm
};
LayerElements count_elements(const ModelConfig& config);

/// Bytes of one number on a wire, scales included: "fp8" and "logfmt8" 1 + 4 / 128 (DeepEP: an FP32 scale, or two BF16
/// limits, per 128 numbers), "logfmt10" 10 / 8 + 4 / 128, "bf16" 2. arXiv 2505.09343, section 2.3.2 counts FP8 as 1.
double bytes_on_wire(std::string_view format);

/// Bytes of one weight of a matrix: "fp4" 4.25 bits (OCP MX); "fp8" 1: its scale per block of 128 * 128, 0.02 %, is
/// left out, as in the published sizes.
double bytes_of_weight(std::string_view format);

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
TrainingFlops training_flops(const ParameterCount& parameters, const ModelConfig& config, int64_t sequence_tokens);

/// The convention that the same table uses for dense models: 72 layers hidden^2 + 6 vocab hidden, without attention.
double dense_training_flops(const DenseShape& shape);

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
  double optimizer = 0;     // masters and moments, sharded over the ranks that hold the same parameters (ZeRO-1)
  double activations = 0;   // of as many micro-batches as the schedule keeps alive, and logit_bytes with the head
  double buffers = 0;       // of communication, training_buffer_bytes
  double expert_share = 0;  // of the parameters: those of routed experts
  double total() const { return weights + gradients + optimizer + activations + buffers; }
};

/// Saved for backward by one token in one layer, in bytes, as the V3 recipe keeps it (report 3.2.3 and 3.3.3: norms,
/// MLA up-projections and SwiGLU outputs are computed again): the two residuals in BF16, latents of query, key and
/// value in BF16, the attention output in E5M6 (1.5 B), one FP32 log-sum per head, router logits in FP32, and in FP8
/// the input of every expert the token goes to and what its SwiGLU takes. An estimate: allocator slack and scales are
/// not in it.
double saved_bytes_per_token(const ModelConfig& config, int64_t layer);

/// The logits of one micro-batch in FP32: 4 B * tokens * vocab. They live from a loss to its gradient, which the last
/// stage computes at once, of the head and of MTP modules one after another (both at once, the published V3 layout
/// would not fit into the 80 GB that it ran on).
double logit_bytes(const ModelConfig& config, double tokens);

/// Whether the layout divides: sizes below 1 or above 2^20, expert that does not divide data or the experts (the
/// nearest that do are named).
Status check_layout(const ModelConfig& config, const TrainingLayout& layout);

/// What communication holds on a rank of the layout at balanced load. Expert exchange (expert > 1): top-k copies of
/// every token arrive in FP8 with a scale per 128 and leave in BF16, for the forward and the backward that overlap: 2 T
/// K D (1 + 4/128 + 2). Pipeline (pipeline > 1): a boundary in BF16, sent and received, each way: 4 * 2 T D. The queues
/// that a library keeps for itself are not in it.
double training_buffer_bytes(const ModelConfig& config, const TrainingLayout& layout);

/// DeepEP's low-latency buffers of one rank (csrc/kernels, both halves): 2 (max(T Sd, E T Sc) + E T max(Sd, Sc)) + 2
/// align128(4 E), with messages of dispatch Sd = 2 D + 16 B and of combine Sc = 2 D + 4 D / 128 B as they are
/// allocated. T tokens a rank at most, E experts with replicas, D hidden; all >= 0.
double low_latency_buffer_bytes(double tokens, double experts, double hidden);

/// Every pipeline rank, in order. Layers are split into contiguous stages as evenly as they go, the first stages have
/// one more; the embedding is on the first, head and MTP modules on the last. Experts are spread over `expert` ranks
/// evenly. Each stream of the schedule has its own copy of every stage (DualPipe: two), and the optimizer is sharded
/// over all copies. `elements` are the model's, `schedule` is the one that the layout names. Errors: what check_layout
/// refuses, more stages than layers.
Result<std::vector<RankBytes>> training_bytes_by_rank(const ModelConfig& config, const LayerElements& elements,
                                                      const Schedule& schedule, const TrainingLayout& layout,
                                                      const TrainingPrecision& precision = {});

/// The rank that needs most, the first of equals. Errors: as training_bytes_by_rank; a schedule that cannot have this
/// size.
Result<RankBytes> training_bytes(const ModelConfig& config, const TrainingLayout& layout,
                                 const TrainingPrecision& precision = {});
/// The same with what a search computes once.
Result<RankBytes> training_bytes(const ModelConfig& config, const LayerElements& elements, const Schedule& schedule,
                                 const TrainingLayout& layout, const TrainingPrecision& precision = {});

/// The layers of each stage: contiguous, as even as they go, the first ones have one more. 1 <= stages <= layers.
std::vector<int64_t> layers_of_stages(int64_t layers, int64_t stages);

/// Bytes of weights on one rank of an expert-parallel serving group (attention and shared experts on every rank):
/// matrices at `bytes_per_weight` (FP8: 1), gates, norms, MTP's eh_proj, embedding and head in BF16.
/// `redundant_experts` are replicas beyond n_routed_experts; `with_mtp` adds the MTP modules. Errors: ranks < 1,
/// experts that the ranks do not divide up to one.
Result<double> serving_weight_bytes(const ModelConfig& config, const LayerElements& elements, int64_t ranks,
                                    int64_t redundant_experts, double bytes_per_weight = 1, bool with_mtp = false);
Result<double> serving_weight_bytes(const ModelConfig& config, int64_t ranks, int64_t redundant_experts);

/// Of those, what a step must read at least: of the rank's experts those that `group_tokens` of the whole group hit in
/// expectation (expected_experts of the n_routed_experts + redundant_experts, all equally likely), of the embedding the
/// rows of the rank's own `rank_tokens`, the rest whole and once. Errors: as serving_weight_bytes.
Result<double> serving_read_bytes(const ModelConfig& config, const LayerElements& elements, int64_t ranks,
                                  int64_t redundant_experts, double bytes_per_weight, bool with_mtp,
                                  double group_tokens, double rank_tokens);

}  // namespace fathom
