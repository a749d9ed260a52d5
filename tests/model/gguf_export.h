// Writes a model as a GGUF file of architecture deepseek2, the way the converters of that format do, from the slots of
// its weights: the names and layouts here are a second statement of those in model/gguf_weights.cc.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "gguf_builder.h"
#include "model/model.h"
#include "numerics/decode.h"

namespace fathom::testing {

struct GgufExport {
  bool split_kv_b = false;  // attn_k_b and attn_v_b instead of attn_kv_b
  bool fold_heads = false;  // the halves as matrices [H C, Dn], [H Dv, C]
  bool mla_keys = true;     // key_length_mla, value_length_mla; without them key_length is that of a head
  /// Encodes rows of FP32 as another type where it says so; returns false to keep the dtype.
  std::function<bool(const std::string& name, const std::vector<float>& values, uint32_t* type, std::string* data)>
      encode = {};
};

/// The numbers of a matrix or vector as FP32.
inline std::vector<float> weight_values(const Weight& weight) {
  const Tensor& t = weight.codes;
  std::vector<float> out(static_cast<size_t>(t.numel()));
  if (weight.groups != GroupFormat::kNone) {
    for (int64_t n = 0; n < t.extent(0); ++n) decode_row(weight, n, out.data() + n * t.extent(1));
    return out;
  }
  for (size_t i = 0; i < out.size(); ++i) {
    out[i] = t.dtype == DType::kF32    ? t.ptr<const float>()[i]
             : t.dtype == DType::kBF16 ? to_float(t.ptr<const bf16>()[i])
                                       : to_float(t.ptr<const f16>()[i]);
  }
  return out;
}

/// FP32 numbers in the bytes of a dtype that holds them exactly.
inline std::string encoded(const std::vector<float>& values, DType dtype) {
  std::string out;
  for (float v : values) {
    out += dtype == DType::kF32    ? GgufBuilder::raw(v)
           : dtype == DType::kBF16 ? GgufBuilder::raw(to_bf16(v).bits)
                                   : GgufBuilder::raw(to_f16(v).bits);
  }
  return out;
}

inline void add_metadata(GgufBuilder& out, const ModelConfig& c, const GgufExport& how) {
  const auto u32 = [&](const std::string& key, int64_t v) {
    out.integer("deepseek2." + key, static_cast<uint32_t>(v));
  };
  const auto f32 = [&](const std::string& key, double v) { out.number("deepseek2." + key, static_cast<float>(v)); };
  out.text("general.architecture", "deepseek2");
  u32("block_count", c.num_hidden_layers + c.num_nextn_predict_layers);
  u32("context_length", c.max_position_embeddings);
  u32("embedding_length", c.hidden_size);
  u32("feed_forward_length", c.intermediate_size);
  u32("vocab_size", c.vocab_size);
  u32("attention.head_count", c.num_attention_heads);
  u32("attention.head_count_kv", how.mla_keys ? 1 : c.num_attention_heads);
  f32("attention.layer_norm_rms_epsilon", c.rms_norm_eps);
  if (c.q_lora_rank > 0) u32("attention.q_lora_rank", c.q_lora_rank);
  u32("attention.kv_lora_rank", c.kv_lora_rank);
  u32("attention.key_length", how.mla_keys ? c.latent_width() : c.qk_head_dim());
  u32("attention.value_length", how.mla_keys ? c.kv_lora_rank : c.v_head_dim);
  if (how.mla_keys) {
    u32("attention.key_length_mla", c.qk_head_dim());
    u32("attention.value_length_mla", c.v_head_dim);
  }
  u32("rope.dimension_count", c.qk_rope_head_dim);
  f32("rope.freq_base", c.rope_theta);
  if (c.rope_scaling) {
    out.text("deepseek2.rope.scaling.type", "yarn");
    f32("rope.scaling.factor", c.rope_scaling->factor);
    u32("rope.scaling.original_context_length", c.rope_scaling->original_max_position_embeddings);
    f32("rope.scaling.yarn_log_multiplier", 0.1 * c.rope_scaling->mscale_all_dim);
  }
  if (c.num_nextn_predict_layers > 0) u32("nextn_predict_layers", c.num_nextn_predict_layers);
  if (c.n_routed_experts > 0) {
    u32("expert_count", c.n_routed_experts);
    u32("expert_used_count", c.num_experts_per_tok);
    u32("expert_shared_count", c.n_shared_experts);
    u32("expert_feed_forward_length", c.moe_intermediate_size);
    u32("leading_dense_block_count", c.first_k_dense_replace);
    f32("expert_weights_scale", c.routed_scaling_factor);
    out.boolean("deepseek2.expert_weights_norm", c.norm_topk_prob);
    u32("expert_gating_func", c.scoring_func == ScoringFunc::kSigmoid ? 2 : 1);
    u32("expert_group_count", c.n_group);
    u32("expert_group_used_count", c.topk_group);
  }
  if (c.bos_token_id) {
    out.integer("tokenizer.ggml.bos_token_id", static_cast<uint32_t>(*c.bos_token_id));
    out.boolean("tokenizer.ggml.add_bos_token", true);
  }
  if (!c.eos_token_id.empty()) {
    out.integer("tokenizer.ggml.eos_token_id", static_cast<uint32_t>(c.eos_token_id.front()));
  }
}

class GgufModelWriter {
 public:
  GgufModelWriter(const Model& model, const GgufExport& how) : model_(model), c_(model.config), how_(how) {}

  GgufBuilder run() {
    add_metadata(out_, c_, how_);
    matrix("token_embd.weight", model_.weights.embedding.value);
    for (size_t i = 0; i < model_.weights.blocks.size(); ++i) {
      block("blk." + std::to_string(i) + ".", model_.weights.blocks[i]);
    }
    for (size_t i = 0; i < model_.weights.mtp.size(); ++i) {
      const MtpWeights& mtp = model_.weights.mtp[i];
      const std::string b = "blk." + std::to_string(model_.weights.blocks.size() + i) + ".";
      block(b, mtp.block);
      matrix(b + "nextn.eh_proj.weight", mtp.projection.value);
      vector(b + "nextn.enorm.weight", mtp.embedding_norm.value);
      vector(b + "nextn.hnorm.weight", mtp.hidden_norm.value);
      vector(b + "nextn.shared_head_norm.weight", mtp.head_norm.value);
    }
    vector("output_norm.weight", model_.weights.norm.value);
    if (!c_.tie_word_embeddings) matrix("output.weight", model_.weights.head.value);
    return std::move(out_);
  }

 private:
  static uint32_t number_of(DType dtype) { return dtype == DType::kF32 ? 0 : dtype == DType::kF16 ? 1 : 30; }

  void add(const std::string& name, std::vector<int64_t> shape, const std::vector<float>& values, DType dtype) {
    uint32_t type = 0;
    std::string data;
    if (how_.encode && shape.size() > 1 && how_.encode(name, values, &type, &data)) {
      out_.tensor(name, type, shape, data);
      return;
    }
    while (shape.size() > 1 && shape.front() == 1) shape.erase(shape.begin());  // as ggml's writers do
    out_.tensor(name, number_of(dtype), shape, encoded(values, dtype));
  }
  void matrix(const std::string& name, const Weight& w) {
    add(name, {w.out_features(), w.in_features()}, weight_values(w), w.codes.dtype);
  }
  void vector(const std::string& name, const Weight& w) {
    add(name, {w.codes.extent(0)}, weight_values(w), DType::kF32);
  }
  void stack(const std::string& name, const ExpertMatrices& experts) {
    std::vector<float> values;
    for (const Weight& w : experts.value) {
      const std::vector<float> one = weight_values(w);
      values.insert(values.end(), one.begin(), one.end());
    }
    const Weight& first = experts.value.front();
    add(name, {static_cast<int64_t>(experts.value.size()), first.out_features(), first.in_features()}, values,
        first.codes.dtype);
  }
  void ffn(const std::string& b, const std::string& suffix, const FfnWeights& w) {
    matrix(b + "ffn_gate" + suffix, w.gate.value);
    matrix(b + "ffn_up" + suffix, w.up.value);
    matrix(b + "ffn_down" + suffix, w.down.value);
  }

  void kv_b(const std::string& b, const Weight& w) {
    if (!how_.split_kv_b) return matrix(b + "attn_kv_b.weight", w);
    const int64_t heads = c_.num_attention_heads, nope = c_.qk_nope_head_dim, dv = c_.v_head_dim,
                  latent = c_.kv_lora_rank;
    const std::vector<float> rows = weight_values(w);
    const auto at = [&](int64_t row, int64_t column) { return rows[static_cast<size_t>(row * latent + column)]; };
    std::vector<float> k, v;
    for (int64_t h = 0; h < heads; ++h) {
      for (int64_t l = 0; l < latent; ++l) {
        for (int64_t n = 0; n < nope; ++n) k.push_back(at(h * (nope + dv) + n, l));
      }
      for (int64_t n = 0; n < dv; ++n) {
        for (int64_t l = 0; l < latent; ++l) v.push_back(at(h * (nope + dv) + nope + n, l));
      }
    }
    using Shape = std::vector<int64_t>;
    add(b + "attn_k_b.weight", how_.fold_heads ? Shape{heads * latent, nope} : Shape{heads, latent, nope}, k,
        w.codes.dtype);
    add(b + "attn_v_b.weight", how_.fold_heads ? Shape{heads * dv, latent} : Shape{heads, dv, latent}, v,
        w.codes.dtype);
  }

  void block(const std::string& b, const BlockWeights& w) {
    vector(b + "attn_norm.weight", w.input_norm.value);
    vector(b + "ffn_norm.weight", w.post_attention_norm.value);
    if (c_.q_lora_rank > 0) {
      matrix(b + "attn_q_a.weight", w.attention.q_a.value);
      vector(b + "attn_q_a_norm.weight", w.attention.q_a_norm.value);
      matrix(b + "attn_q_b.weight", w.attention.q_b.value);
    } else {
      matrix(b + "attn_q.weight", w.attention.q_a.value);
    }
    matrix(b + "attn_kv_a_mqa.weight", w.attention.kv_a.value);
    vector(b + "attn_kv_a_norm.weight", w.attention.kv_a_norm.value);
    kv_b(b, w.attention.kv_b.value);
    matrix(b + "attn_output.weight", w.attention.o.value);
    if (!w.is_moe) return ffn(b, ".weight", w.dense);
    matrix(b + "ffn_gate_inp.weight", w.moe.router.value);
    if (w.moe.bias) vector(b + "exp_probs_b.bias", Weight{.codes = w.moe.bias, .scales = {}});
    stack(b + "ffn_gate_exps.weight", w.moe.gate);
    stack(b + "ffn_up_exps.weight", w.moe.up);
    stack(b + "ffn_down_exps.weight", w.moe.down);
    if (c_.n_shared_experts > 0) ffn(b, "_shexp.weight", w.moe.shared);
  }

  const Model& model_;
  const ModelConfig& c_;
  const GgufExport& how_;
  GgufBuilder out_;
};

inline GgufBuilder to_gguf(const Model& model, const GgufExport& how = {}) { return GgufModelWriter(model, how).run(); }

}  // namespace fathom::testing
