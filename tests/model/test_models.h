// Models for tests: one with seeded random weights and awkward sizes, and the oracle tiny-dsv3 of the shared data.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <memory>
#include <string>

#include "base/rng.h"
#include "model/model.h"
#include "numerics/blocks.h"
#include "shared_data.h"

namespace fathom::testing {

/// A V3-like config whose widths are no multiples of a SIMD vector, of a tile or of each other.
inline ModelConfig awkward_config() {
  ModelConfig config;
  config.model_type = "deepseek_v3";
  config.vocab_size = 71;
  config.hidden_size = 44;
  config.num_hidden_layers = 3;
  config.first_k_dense_replace = 1;
  config.intermediate_size = 37;
  config.moe_intermediate_size = 7;
  config.n_routed_experts = 10;
  config.n_shared_experts = 1;
  config.num_experts_per_tok = 4;
  config.n_group = 5;
  config.topk_group = 3;
  config.topk_method = TopkMethod::kNoauxTc;
  config.scoring_func = ScoringFunc::kSigmoid;
  config.norm_topk_prob = true;
  config.routed_scaling_factor = 1.5;
  config.num_attention_heads = 3;
  config.q_lora_rank = 21;
  config.kv_lora_rank = 19;
  config.qk_nope_head_dim = 11;
  config.qk_rope_head_dim = 6;
  config.v_head_dim = 13;
  config.rope_scaling =
      YarnScaling{.factor = 4, .original_max_position_embeddings = 100, .mscale = 1, .mscale_all_dim = 1};
  config.max_position_embeddings = 400;
  return config;
}

/// Fills every parameter with numbers that are a function of (seed, name, index): matrices of variance 1 / inputs, so
/// that activations keep their size, the embedding of variance 1, norm gains near 1, a router bias that changes
/// choices.
inline void randomize(Model& model, uint64_t seed) {
  visit_weights(model.config, model.weights, [&](const TensorSpec& spec, Weight& value, Tensor* grad) {
    const Rng rng(seed, stream_of(spec.name));
    const bool is_vector = spec.shape.size() == 1;
    const double mean = is_vector && grad != nullptr ? 1 : 0;
    const double spread = is_vector                                      ? 0.1
                          : spec.tensor_class == TensorClass::kEmbedding ? 1.0
                                                                         : 1 / std::sqrt(double(spec.shape[1]));
    for (int64_t i = 0; i < value.codes.numel(); ++i) {
      const double v = mean + spread * rng.normal(static_cast<uint64_t>(i));
      if (value.codes.dtype == DType::kF64) {
        value.codes.ptr<double>()[i] = v;
      } else {
        value.codes.ptr<float>()[i] = static_cast<float>(v);
      }
    }
  });
}

/// Blocks of a GGUF file, of any codes and factors, with scales (halves of the block) near 0.001.
inline std::string random_blocks(GroupFormat format, size_t count, uint64_t seed) {
  const auto bytes = static_cast<size_t>(block_bytes(format));
  std::string out(count * bytes, '\0');
  const Rng rng(seed, stream_of("blocks"));
  for (size_t i = 0; i < out.size(); ++i) out[i] = static_cast<char>(rng.below(i, 256));
  const f16 scales[2] = {to_f16(1e-3f), to_f16(2e-3f)};
  const size_t at = format == GroupFormat::kQ6K ? bytes - 2 : 0;
  for (size_t b = 0; b < count; ++b) {
    std::memcpy(out.data() + b * bytes + at, scales, has_offsets(format) ? 4 : 2);
  }
  return out;
}

/// A model with random weights; its matrices are rounded to BF16 if asked (norms and router bias stay FP32).
inline std::unique_ptr<Model> random_model(const ModelConfig& config, uint64_t seed, DType matrices = DType::kF32) {
  auto model = make_model(config, DType::kF32, false);
  randomize(*model, seed);
  if (matrices == DType::kF32) return model;
  visit_weights(model->config, model->weights, [&](const TensorSpec& spec, Weight& value, Tensor*) {
    if (spec.shape.size() != 2) return;
    Tensor narrow;
    model->storage.push_back(Storage::for_tensor(DType::kBF16, {spec.shape[0], spec.shape[1]}, &narrow));
    for (int64_t i = 0; i < narrow.numel(); ++i) narrow.ptr<bf16>()[i] = to_bf16(value.codes.ptr<float>()[i]);
    value.codes = narrow;
  });
  return model;
}

inline std::vector<int32_t> random_tokens(int64_t count, int64_t vocab_size, uint64_t seed) {
  const Rng rng(seed, stream_of("tokens"));
  std::vector<int32_t> tokens;
  for (int64_t i = 0; i < count; ++i) {
    tokens.push_back(static_cast<int32_t>(rng.below(static_cast<uint64_t>(i), static_cast<uint64_t>(vocab_size))));
  }
  return tokens;
}

inline Path oracle_dir() { return shared_data() / "oracle/tiny-dsv3"; }

/// The oracle model in one of its two storages: "bf16" or "fp8".
inline Result<std::unique_ptr<Model>> load_oracle(const std::string& storage) {
  const TemporaryDirectory link;
  const Path config = oracle_dir() / (storage == "fp8" ? "config-fp8.json" : "config.json");
  std::error_code failed;  // then loading says what is missing
  std::filesystem::create_symlink(config, link.path() / "config.json", failed);
  std::filesystem::create_symlink(oracle_dir() / ("model-" + storage + ".safetensors"),
                                  link.path() / "model.safetensors", failed);
  return load_model(link.path());
}

}  // namespace fathom::testing
