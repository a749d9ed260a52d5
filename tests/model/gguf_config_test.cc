// ModelConfig from GGUF metadata: what the keys mean, and what is refused.
#include "model/gguf_config.h"

#include <gtest/gtest.h>

#include <fstream>
#include <string>

#include "gguf_builder.h"
#include "model/test_models.h"

namespace fathom {
namespace {

using testing::GgufBuilder;
using testing::TemporaryDirectory;

/// Metadata of DeepSeek-V3's shape without its experts' bias; keys may be left out by name.
GgufBuilder v3(const std::string& without = "") {
  GgufBuilder b;
  b.text("general.architecture", "deepseek2");
  const auto u32 = [&](const std::string& key, uint32_t v) {
    if (key != without) b.integer("deepseek2." + key, v);
  };
  u32("block_count", 4);
  u32("context_length", 163840);
  u32("embedding_length", 256);
  u32("feed_forward_length", 512);
  u32("attention.head_count", 8);
  u32("attention.head_count_kv", 1);
  u32("attention.q_lora_rank", 96);
  u32("attention.kv_lora_rank", 512);
  u32("attention.key_length", 576);
  u32("attention.value_length", 512);
  u32("attention.key_length_mla", 192);
  u32("attention.value_length_mla", 128);
  u32("rope.dimension_count", 64);
  b.number("deepseek2.attention.layer_norm_rms_epsilon", 1e-6f).number("deepseek2.rope.freq_base", 10000);
  b.text("deepseek2.rope.scaling.type", "yarn").number("deepseek2.rope.scaling.factor", 40);
  u32("rope.scaling.original_context_length", 4096);
  b.number("deepseek2.rope.scaling.yarn_log_multiplier", 0.0707f);
  u32("expert_count", 64);
  u32("expert_used_count", 6);
  u32("expert_shared_count", 2);
  u32("expert_feed_forward_length", 128);
  u32("leading_dense_block_count", 1);
  b.boolean("deepseek2.expert_weights_norm", true);
  if (without != "expert_weights_scale") b.number("deepseek2.expert_weights_scale", 2.5f);
  u32("expert_gating_func", 2);
  u32("expert_group_count", 8);
  u32("expert_group_used_count", 4);
  b.tensor_at("token_embd.weight", 0, {2, 2}, 0);
  return b;
}

Result<ModelConfig> read(const GgufBuilder& builder) {
  const TemporaryDirectory dir;
  const Path path = dir.path() / "m.gguf";
  std::ofstream(path, std::ios::binary) << builder.build() << std::string(1 << 16, '\0');
  const auto model = GgufModel::open(path);
  EXPECT_TRUE(model) << model.error().text;
  auto config = config_from_gguf(*model);
  if (config) return config;
  const std::string prefix = path.string() + ": ";
  EXPECT_EQ(config.error().text.rfind(prefix, 0), 0u) << config.error().text;
  return Error{config.error().code, config.error().text.substr(prefix.size())};
}

GgufBuilder& with_tensor(GgufBuilder& builder, const std::string& name, uint64_t slot) {
  return builder.tensor_at(name, 0, {2, 2}, 32 * slot);
}

TEST(GgufConfig, TheKeysOfDeepseekV3) {
  GgufBuilder builder = v3();
  with_tensor(builder, "output.weight", 1);
  with_tensor(builder, "blk.1.exp_probs_b.bias", 2);
  builder.integer("tokenizer.ggml.bos_token_id", 0).integer("tokenizer.ggml.eos_token_id", 1);
  builder.boolean("tokenizer.ggml.add_bos_token", true);
  const auto c = read(builder);
  ASSERT_TRUE(c) << c.error().text;
  EXPECT_EQ(c->model_type, "deepseek_v3");
  EXPECT_EQ(c->vocab_size, 2);  // the rows of token_embd
  EXPECT_EQ(c->num_hidden_layers, 4);
  EXPECT_EQ(c->num_nextn_predict_layers, 0);
  EXPECT_EQ(c->first_k_dense_replace, 1);
  EXPECT_EQ(c->max_position_embeddings, 163840);
  EXPECT_EQ(c->q_lora_rank, 96);
  EXPECT_EQ(c->kv_lora_rank, 512);
  EXPECT_EQ(c->qk_nope_head_dim, 128);
  EXPECT_EQ(c->qk_rope_head_dim, 64);
  EXPECT_EQ(c->v_head_dim, 128);
  EXPECT_EQ(c->rms_norm_eps, 1e-6);
  EXPECT_EQ(c->n_group, 8);
  EXPECT_EQ(c->topk_group, 4);
  EXPECT_EQ(c->topk_method, TopkMethod::kNoauxTc);
  EXPECT_EQ(c->scoring_func, ScoringFunc::kSigmoid);
  EXPECT_TRUE(c->norm_topk_prob);
  EXPECT_EQ(c->routed_scaling_factor, 2.5);
  EXPECT_FALSE(c->tie_word_embeddings);
  ASSERT_TRUE(c->rope_scaling);
  EXPECT_EQ(
      *c->rope_scaling,
      (YarnScaling{.factor = 40, .original_max_position_embeddings = 4096, .mscale = 0.707, .mscale_all_dim = 0.707}));
  EXPECT_EQ(c->bos_token_id, 0);
  EXPECT_EQ(c->eos_token_id, (std::vector<int64_t>{1}));
}

TEST(GgufConfig, WhatIsNotSaid) {
  GgufBuilder builder = v3("expert_group_count");
  builder.integer("tokenizer.ggml.bos_token_id", 0);  // no add_bos_token: no BOS
  builder.integer("tokenizer.ggml.eos_token_id", 1).integer("tokenizer.ggml.eot_token_id", 0);
  const auto c = read(builder);
  ASSERT_FALSE(c);  // 4 of 1 groups
  EXPECT_NE(c.error().text.find("topk_group"), std::string::npos) << c.error().text;

  GgufBuilder lite;
  lite.text("general.architecture", "deepseek2").tensor_at("token_embd.weight", 0, {2, 2}, 0);
  for (const auto& [key, v] : {std::pair{"block_count", 2u},
                               {"context_length", 4096u},
                               {"embedding_length", 64u},
                               {"feed_forward_length", 64u},
                               {"attention.head_count", 2u},
                               {"attention.kv_lora_rank", 32u},
                               {"attention.key_length", 24u},
                               {"attention.value_length", 16u},
                               {"rope.dimension_count", 8u},
                               {"expert_count", 4u},
                               {"expert_used_count", 2u},
                               {"expert_feed_forward_length", 16u},
                               {"leading_dense_block_count", 1u}}) {
    lite.integer(std::string("deepseek2.") + key, v);
  }
  lite.number("deepseek2.attention.layer_norm_rms_epsilon", 1e-5f).integer("tokenizer.ggml.bos_token_id", 0);
  lite.integer("tokenizer.ggml.eos_token_id", 1).integer("tokenizer.ggml.eot_token_id", 0);
  const auto l = read(lite);
  ASSERT_TRUE(l) << l.error().text;
  EXPECT_EQ(l->model_type, "deepseek_v2");
  EXPECT_EQ(l->q_lora_rank, 0);
  EXPECT_EQ(l->qk_nope_head_dim, 16);  // key_length is a head's without the *_mla keys
  EXPECT_EQ(l->v_head_dim, 16);
  EXPECT_EQ(l->topk_method, TopkMethod::kGreedy);
  EXPECT_EQ(l->scoring_func, ScoringFunc::kSoftmax);
  EXPECT_EQ(l->routed_scaling_factor, 1);
  EXPECT_EQ(l->n_shared_experts, 0);
  EXPECT_EQ(l->rope_theta, 10000);
  EXPECT_FALSE(l->rope_scaling);
  EXPECT_TRUE(l->tie_word_embeddings);
  EXPECT_EQ(l->bos_token_id, std::nullopt);
  EXPECT_EQ(l->eos_token_id, (std::vector<int64_t>{1, 0}));
}

TEST(GgufConfig, MtpBlocksAreFoundByTheirTensors) {
  GgufBuilder inside = v3();  // block_count 4 counts it
  with_tensor(inside, "blk.3.nextn.eh_proj.weight", 1);
  const auto a = read(inside);
  ASSERT_TRUE(a) << a.error().text;
  EXPECT_EQ(a->num_hidden_layers, 3);
  EXPECT_EQ(a->num_nextn_predict_layers, 1);
  GgufBuilder behind = v3();
  with_tensor(behind, "blk.4.nextn.eh_proj.weight", 1);
  const auto b = read(behind);
  ASSERT_TRUE(b) << b.error().text;
  EXPECT_EQ(b->num_hidden_layers, 4);
  EXPECT_EQ(b->num_nextn_predict_layers, 1);
}

TEST(GgufConfig, WhatIsRefused) {
  const auto error = [](const GgufBuilder& builder) {
    const auto c = read(builder);
    return c ? "no error" : c.error().text;
  };
  EXPECT_EQ(error(GgufBuilder().text("general.architecture", "llama")),
            "general.architecture \"llama\" is not supported; accepted: deepseek2");
  EXPECT_EQ(error(GgufBuilder().text("general.architecture", "deepseek2")),
            "tensor token_embd.weight is missing or no matrix; is this a vocabulary only?");
  EXPECT_EQ(error(v3("embedding_length")), "metadata key \"deepseek2.embedding_length\" is missing");
  EXPECT_EQ(error(v3().integer("deepseek2.attention.temperature_length", 1)),
            "unknown metadata key \"deepseek2.attention.temperature_length\" may change what the model computes");
  EXPECT_EQ(error(v3("expert_gating_func").integer("deepseek2.expert_gating_func", 3)),
            "metadata key deepseek2.expert_gating_func is 3; accepted: 1 (softmax), 2 (sigmoid)");
  EXPECT_EQ(error(v3("rope.dimension_count").integer("deepseek2.rope.dimension_count", 192)),
            "metadata key deepseek2.rope.dimension_count is 192; accepted: less than the key length of a head, 192");
  EXPECT_EQ(error(v3().integer("deepseek2.vocab_size", 3)),
            "deepseek2.vocab_size is 3, but token_embd.weight has 2 rows");
  EXPECT_EQ(error(v3("block_count").integer("deepseek2.block_count", 1u << 31)).rfind("metadata: num_hidden_layers", 0),
            0u)
      << error(v3("block_count").integer("deepseek2.block_count", 1u << 31));
  EXPECT_EQ(error(v3().number("deepseek2.rope.scaling.yarn_attn_factor", 2)),
            "metadata key deepseek2.rope.scaling.yarn_attn_factor is 2; accepted: 1");
}

}  // namespace
}  // namespace fathom
