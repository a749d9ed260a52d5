// ModelConfig: a DeepSeek-family model as its Hugging Face config.json says it, keys verbatim. Nothing is guessed: an
// unknown value of a key that changes the numbers is an error that names key, value and the accepted set.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/file.h"
#include "base/json.h"
#include "base/result.h"
#include "model/quant_policy.h"

namespace fathom {

enum class ScoringFunc { kSoftmax, kSigmoid };
enum class TopkMethod { kGreedy, kGroupLimitedGreedy, kNoauxTc };

/// rope_scaling of type "yarn" (V3 report section 4.3; HF modeling code).
struct YarnScaling {
  double factor = 1;
  int64_t original_max_position_embeddings = 4096;
  double beta_fast = 32;
  double beta_slow = 1;
  double mscale = 1;
  double mscale_all_dim = 0;

  bool operator==(const YarnScaling&) const = default;
};

/// quantization_config of a stored FP8 checkpoint: E4M3 codes, 128x128 blocks.
struct Fp8Quantization {
  bool ue8m0_scales = false;  // scale_fmt "ue8m0": powers of two (V3.1)

  bool operator==(const Fp8Quantization&) const = default;
};

struct ModelConfig {
  std::string model_type;  // deepseek_v2, deepseek_v3, deepseek_v32, kimi_k2, glm4_moe_lite
  int64_t vocab_size = 0;
  int64_t hidden_size = 0;
  int64_t num_hidden_layers = 0;
  int64_t first_k_dense_replace = 0;
  int64_t moe_layer_freq = 1;
  int64_t intermediate_size = 0;
  int64_t moe_intermediate_size = 0;
  int64_t n_routed_experts = 0;  // 0: every layer is dense
  int64_t n_shared_experts = 0;
  int64_t num_experts_per_tok = 0;
  int64_t n_group = 1;
  int64_t topk_group = 1;
  TopkMethod topk_method = TopkMethod::kGreedy;
  ScoringFunc scoring_func = ScoringFunc::kSoftmax;
  bool norm_topk_prob = false;
  double routed_scaling_factor = 1;
  int64_t num_attention_heads = 0;
  int64_t q_lora_rank = 0;  // 0: one q_proj, no query compression
  int64_t kv_lora_rank = 0;
  int64_t qk_nope_head_dim = 0;
  int64_t qk_rope_head_dim = 0;
  int64_t v_head_dim = 0;
  double rms_norm_eps = 1e-6;
  double rope_theta = 10000;
  std::optional<YarnScaling> rope_scaling;
  int64_t max_position_embeddings = 0;
  /// Keys that the sparse attention of deepseek_v32 reads per query; 0: attention is dense. Up to that many tokens both
  /// are the same, and that is what fathom computes: the indexer is never run.
  int64_t index_topk = 0;
  bool tie_word_embeddings = false;
  int64_t num_nextn_predict_layers = 0;  // MTP modules stored after the last layer
  double initializer_range = 0.02;
  double aux_loss_alpha = 1e-4;  // training only; released configs may omit it
  std::optional<Fp8Quantization> quantization;
  /// The formats that `fathom quantize` wrote the matrices in (quant_method "fathom"); of such a model `quantization`
  /// only keeps the UE8M0 scales of E4M3 matrices.
  std::optional<QuantPolicy> stored_formats;
  std::optional<int64_t> bos_token_id;
  std::vector<int64_t> eos_token_id;

  int64_t qk_head_dim() const { return qk_nope_head_dim + qk_rope_head_dim; }
  /// Numbers per token and layer in the KV cache: the latent and the shared rope key.
  int64_t latent_width() const { return kv_lora_rank + qk_rope_head_dim; }
  int64_t shared_intermediate_size() const { return n_shared_experts * moe_intermediate_size; }
  /// Layer `layer` (0-based; MTP layers included, which follow the rule too) has routed experts.
  bool is_moe_layer(int64_t layer) const {
    return n_routed_experts > 0 && layer >= first_k_dense_replace && layer % moe_layer_freq == 0;
  }

  /// The longest context that is computed exactly: max_position_embeddings, or index_topk if that is less.
  int64_t max_context() const;
  /// max_context() with its reason, for errors: "the 2048 tokens of index_topk (...)".
  std::string max_context_text() const;

  /// Softmax scale of attention: qk_head_dim^-0.5, times mscale(factor, mscale_all_dim)^2 under YaRN.
  double softmax_scale() const;

  /// Parses config.json text; `where` names it in errors. Every number is bounded, so that a hostile config can neither
  /// overflow a size nor ask for absurd memory. Keys that a released config omits because its model_type implies them
  /// (scoring_func, topk_method) get that type's value. Errors: kCorrupt (a required key is missing, a value has the
  /// wrong kind or is out of range), kUnsupported (a model_type or a method that fathom does not have).
  static Result<ModelConfig> parse(const Json& json, std::string_view where);
  /// Reads DIR/config.json.
  static Result<ModelConfig> load(const Path& model_dir);
  /// The config.json that parse() reads back to the same config (architectures and torch_dtype included).
  Json to_json() const;

  bool operator==(const ModelConfig&) const = default;
};

}  // namespace fathom
