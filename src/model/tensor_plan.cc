#include "model/tensor_plan.h"

#include "base/check.h"
#include "kernels/kernels.h"
#include "tensor/tensor.h"

namespace fathom {
namespace {

// Collects the specs of one model; the add functions follow the order of the modules in a layer.
class Planner {
 public:
  explicit Planner(const ModelConfig& config) : c_(config) {}

  std::vector<TensorSpec> run() {
    matrix("model.embed_tokens.weight", {c_.vocab_size, c_.hidden_size}, TensorClass::kEmbedding);
    for (layer_ = 0; layer_ < c_.num_hidden_layers; ++layer_) {
      prefix_ = "model.layers." + std::to_string(layer_) + ".";
      add_block();
    }
    for (; layer_ < c_.num_hidden_layers + c_.num_nextn_predict_layers; ++layer_) {
      prefix_ = "model.layers." + std::to_string(layer_) + ".";
      add_mtp();
    }
    prefix_.clear();
    layer_ = -1;
    norm("model.norm.weight", c_.hidden_size);
    if (!c_.tie_word_embeddings) matrix("lm_head.weight", {c_.vocab_size, c_.hidden_size}, TensorClass::kHead);
    return std::move(specs_);
  }

 private:
  void add(std::string_view name, std::vector<int64_t> shape, TensorClass tensor_class, bool fp8, bool optional) {
    specs_.push_back({prefix_ + std::string(name), std::move(shape), tensor_class, layer_, fp8, optional});
  }
  void matrix(std::string_view name, std::vector<int64_t> shape, TensorClass tensor_class) {
    add(name, std::move(shape), tensor_class, false, false);
  }
  /// A projection that an FP8 checkpoint stores as E4M3.
  void projection(std::string_view name, int64_t out, int64_t in, TensorClass tensor_class) {
    add(name, {out, in}, tensor_class, true, false);
  }
  void norm(std::string_view name, int64_t width) { add(name, {width}, TensorClass::kNorm, false, false); }

  void add_block() {
    add_attention();
    if (c_.is_moe_layer(layer_)) {
      add_moe();
    } else {
      add_ffn("mlp.", c_.intermediate_size, TensorClass::kDenseFfn);
    }
    norm("input_layernorm.weight", c_.hidden_size);
    norm("post_attention_layernorm.weight", c_.hidden_size);
  }

  void add_attention() {
    const int64_t q_out = c_.num_attention_heads * c_.qk_head_dim();
    if (c_.q_lora_rank > 0) {
      projection("self_attn.q_a_proj.weight", c_.q_lora_rank, c_.hidden_size, TensorClass::kAttention);
      norm("self_attn.q_a_layernorm.weight", c_.q_lora_rank);
      projection("self_attn.q_b_proj.weight", q_out, c_.q_lora_rank, TensorClass::kAttention);
    } else {
      projection("self_attn.q_proj.weight", q_out, c_.hidden_size, TensorClass::kAttention);
    }
    projection("self_attn.kv_a_proj_with_mqa.weight", c_.latent_width(), c_.hidden_size, TensorClass::kAttention);
    norm("self_attn.kv_a_layernorm.weight", c_.kv_lora_rank);
    projection("self_attn.kv_b_proj.weight", c_.num_attention_heads * (c_.qk_nope_head_dim + c_.v_head_dim),
               c_.kv_lora_rank, TensorClass::kAttention);
    projection("self_attn.o_proj.weight", c_.hidden_size, c_.num_attention_heads * c_.v_head_dim,
               TensorClass::kAttention);
  }

  void add_ffn(const std::string& module, int64_t width, TensorClass tensor_class) {
    projection(module + "gate_proj.weight", width, c_.hidden_size, tensor_class);
    projection(module + "up_proj.weight", width, c_.hidden_size, tensor_class);
    projection(module + "down_proj.weight", c_.hidden_size, width, tensor_class);
  }

  void add_moe() {
    matrix("mlp.gate.weight", {c_.n_routed_experts, c_.hidden_size}, TensorClass::kRouter);
    if (c_.topk_method == TopkMethod::kNoauxTc) {
      matrix("mlp.gate.e_score_correction_bias", {c_.n_routed_experts}, TensorClass::kRouter);
    }
    for (int64_t e = 0; e < c_.n_routed_experts; ++e) {
      add_ffn("mlp.experts." + std::to_string(e) + ".", c_.moe_intermediate_size, TensorClass::kRoutedExpert);
    }
    if (c_.n_shared_experts > 0) {
      add_ffn("mlp.shared_experts.", c_.shared_intermediate_size(), TensorClass::kSharedExpert);
    }
  }

  void add_mtp() {
    const std::vector<int64_t> vocab_matrix = {c_.vocab_size, c_.hidden_size};
    add("embed_tokens.weight", vocab_matrix, TensorClass::kMtp, false, true);
    matrix("enorm.weight", {c_.hidden_size}, TensorClass::kMtp);
    matrix("hnorm.weight", {c_.hidden_size}, TensorClass::kMtp);
    matrix("eh_proj.weight", {c_.hidden_size, 2 * c_.hidden_size}, TensorClass::kMtp);
    add_block();
    matrix("shared_head.norm.weight", {c_.hidden_size}, TensorClass::kMtp);
    add("shared_head.head.weight", vocab_matrix, TensorClass::kMtp, false, true);
  }

  const ModelConfig& c_;
  std::vector<TensorSpec> specs_;
  std::string prefix_;
  int64_t layer_ = -1;
};

}  // namespace

int64_t TensorSpec::num_elements() const {
  int64_t n = 1;
  for (int64_t extent : shape) n *= extent;
  return n;
}

std::vector<TensorSpec> expected_tensors(const ModelConfig& config) { return Planner(config).run(); }

TensorSpec tied_head(const ModelConfig& config) {
  return {
      .name = "lm_head.weight", .shape = {config.vocab_size, config.hidden_size}, .tensor_class = TensorClass::kHead};
}

std::string scale_name(const std::string& weight_name) { return weight_name + "_scale_inv"; }

std::vector<int64_t> scale_shape(const std::vector<int64_t>& weight_shape) {
  check(weight_shape.size() == 2, "only matrices have block scales");
  return {(weight_shape[0] + kScaleBlock - 1) / kScaleBlock, (weight_shape[1] + kScaleBlock - 1) / kScaleBlock};
}

ParameterCount count_parameters(const ModelConfig& config) {
  ParameterCount count;
  int64_t embedding = 0;
  int64_t head = 0;
  int64_t routed = 0;
  int64_t vectors = 0;
  for (const TensorSpec& t : expected_tensors(config)) {
    const int64_t n = t.num_elements();
    if (t.layer >= config.num_hidden_layers) {
      if (!t.is_optional) count.mtp += n;
      continue;
    }
    count.total += n;
    if (t.shape.size() == 1) vectors += n;
    if (t.tensor_class == TensorClass::kEmbedding) embedding += n;
    if (t.tensor_class == TensorClass::kHead) head += n;
    if (t.tensor_class == TensorClass::kRoutedExpert) routed += n;
  }
  const int64_t chosen =
      config.n_routed_experts > 0 ? routed / config.n_routed_experts * config.num_experts_per_tok : 0;
  count.active = count.total - vectors - embedding - head - routed + chosen;
  count.active_with_head = count.active + (config.tie_word_embeddings ? embedding : head);
  count.active_with_head_and_embedding = count.active + embedding + head;
  return count;
}

int64_t kv_cache_bytes_per_token(const ModelConfig& config, DType cache_dtype) {
  return config.num_hidden_layers * LatentPages::token_bytes(cache_dtype, config.kv_lora_rank, config.qk_rope_head_dim);
}

}  // namespace fathom
