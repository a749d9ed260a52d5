#include "model/tensor_plan.h"

#include <gtest/gtest.h>

#include <map>
#include <set>

#include "checkpoint/safetensors.h"

namespace fathom {
namespace {

ModelConfig config_of(const std::string& name) {
  const Path path = Path(FATHOM_SOURCE_DIR) / "tests" / "model" / "configs" / (name + ".json");
  const auto text = read_file(path);
  EXPECT_TRUE(text) << text.error().text;
  const auto config = ModelConfig::parse(*Json::parse(*text, name), name);
  EXPECT_TRUE(config) << config.error().text;
  return *config;
}

std::map<std::string, TensorSpec> plan_of(const ModelConfig& config) {
  std::map<std::string, TensorSpec> plan;
  for (TensorSpec& t : expected_tensors(config)) {
    const std::string name = t.name;
    EXPECT_TRUE(plan.emplace(name, std::move(t)).second) << name << " twice";
  }
  return plan;
}

TEST(TensorPlan, CountsTheParametersOfTheReleasedModels) {
  struct Row {
    const char* name;
    double total, active, with_head, with_both;  // billions, as published
    double digits;                               // half of the last printed digit of the active counts
  };
  const Row rows[] = {
      {"deepseek-v2-lite", 15.706, 2.242, 2.451, 2.661, 5e-4}, {"deepseek-v2", 235.741, 20.326, 20.851, 21.375, 5e-4},
      {"deepseek-v3", 671.026, 35.698, 36.625, 37.551, 5e-4},  {"moonlight-16b-a3b", 15.960, 2.244, 2.579, 2.915, 5e-4},
      {"kimi-k2", 1026.4, 30.51, 31.69, 32.86, 5e-3},          {"glm-4.7-flash", 29.943, 3.262, 3.579, 3.897, 5e-4}};
  for (const Row& row : rows) {
    const ParameterCount count = count_parameters(config_of(row.name));
    EXPECT_NEAR(static_cast<double>(count.total) * 1e-9, row.total, row.total > 1000 ? 5e-2 : 5e-4) << row.name;
    EXPECT_NEAR(static_cast<double>(count.active) * 1e-9, row.active, row.digits) << row.name;
    EXPECT_NEAR(static_cast<double>(count.active_with_head) * 1e-9, row.with_head, row.digits) << row.name;
    EXPECT_NEAR(static_cast<double>(count.active_with_head_and_embedding) * 1e-9, row.with_both, row.digits)
        << row.name;
  }
  EXPECT_NEAR(static_cast<double>(count_parameters(config_of("deepseek-v3")).mtp) * 1e-9, 11.610, 5e-4);
  EXPECT_EQ(count_parameters(config_of("kimi-k2")).mtp, 0);
}

TEST(TensorPlan, SizesTheLatentCache) {
  EXPECT_EQ(kv_cache_bytes_per_token(config_of("deepseek-v2-lite")), 31'104);
  EXPECT_EQ(kv_cache_bytes_per_token(config_of("deepseek-v2")), 69'120);
  EXPECT_EQ(kv_cache_bytes_per_token(config_of("deepseek-v3")), 70'272);
  EXPECT_EQ(kv_cache_bytes_per_token(config_of("glm-4.7-flash")), 54'144);
  EXPECT_EQ(kv_cache_bytes_per_token(config_of("deepseek-v3"), DType::kF32), 2 * 70'272);
  // FlashMLA's token has 656 bytes; a scale is one byte here and four there.
  EXPECT_EQ(kv_cache_bytes_per_token(config_of("deepseek-v3"), DType::kE4M3), 61 * (656 - 4 * 3));
}

TEST(TensorPlan, HasTheNamesAndShapesOfV3) {
  using Shape = std::vector<int64_t>;
  const auto plan = plan_of(config_of("deepseek-v3"));
  const auto expect = [&](const std::string& name, const Shape& shape, TensorClass tensor_class, bool fp8) {
    const auto it = plan.find(name);
    ASSERT_NE(it, plan.end()) << name;
    EXPECT_EQ(it->second.shape, shape) << name;
    EXPECT_EQ(it->second.tensor_class, tensor_class) << name;
    EXPECT_EQ(it->second.fp8_when_quantized, fp8) << name;
  };
  expect("model.embed_tokens.weight", {129280, 7168}, TensorClass::kEmbedding, false);
  expect("model.layers.0.input_layernorm.weight", {7168}, TensorClass::kNorm, false);
  expect("model.layers.60.post_attention_layernorm.weight", {7168}, TensorClass::kNorm, false);
  expect("model.layers.0.self_attn.q_a_proj.weight", {1536, 7168}, TensorClass::kAttention, true);
  expect("model.layers.0.self_attn.q_a_layernorm.weight", {1536}, TensorClass::kNorm, false);
  expect("model.layers.0.self_attn.q_b_proj.weight", {24576, 1536}, TensorClass::kAttention, true);
  expect("model.layers.0.self_attn.kv_a_proj_with_mqa.weight", {576, 7168}, TensorClass::kAttention, true);
  expect("model.layers.0.self_attn.kv_a_layernorm.weight", {512}, TensorClass::kNorm, false);
  expect("model.layers.0.self_attn.kv_b_proj.weight", {32768, 512}, TensorClass::kAttention, true);
  expect("model.layers.0.self_attn.o_proj.weight", {7168, 16384}, TensorClass::kAttention, true);
  expect("model.layers.2.mlp.gate_proj.weight", {18432, 7168}, TensorClass::kDenseFfn, true);
  expect("model.layers.2.mlp.down_proj.weight", {7168, 18432}, TensorClass::kDenseFfn, true);
  expect("model.layers.3.mlp.gate.weight", {256, 7168}, TensorClass::kRouter, false);
  expect("model.layers.3.mlp.gate.e_score_correction_bias", {256}, TensorClass::kRouter, false);
  expect("model.layers.60.mlp.experts.255.up_proj.weight", {2048, 7168}, TensorClass::kRoutedExpert, true);
  expect("model.layers.60.mlp.experts.255.down_proj.weight", {7168, 2048}, TensorClass::kRoutedExpert, true);
  expect("model.layers.3.mlp.shared_experts.gate_proj.weight", {2048, 7168}, TensorClass::kSharedExpert, true);
  expect("model.norm.weight", {7168}, TensorClass::kNorm, false);
  expect("lm_head.weight", {129280, 7168}, TensorClass::kHead, false);
  expect("model.layers.61.embed_tokens.weight", {129280, 7168}, TensorClass::kMtp, false);
  expect("model.layers.61.enorm.weight", {7168}, TensorClass::kMtp, false);
  expect("model.layers.61.hnorm.weight", {7168}, TensorClass::kMtp, false);
  expect("model.layers.61.eh_proj.weight", {7168, 14336}, TensorClass::kMtp, false);
  expect("model.layers.61.mlp.experts.0.gate_proj.weight", {2048, 7168}, TensorClass::kRoutedExpert, true);
  expect("model.layers.61.shared_head.norm.weight", {7168}, TensorClass::kMtp, false);
  expect("model.layers.61.shared_head.head.weight", {129280, 7168}, TensorClass::kMtp, false);
  for (const auto& [name, spec] : plan) {
    EXPECT_EQ(spec.is_optional, name.ends_with("61.embed_tokens.weight") || name.ends_with("shared_head.head.weight"));
  }
  EXPECT_FALSE(plan.contains("model.layers.2.mlp.gate.weight"));
  EXPECT_FALSE(plan.contains("model.layers.62.enorm.weight"));
  EXPECT_EQ(scale_shape({576, 7168}), (Shape{5, 56}));
  EXPECT_EQ(scale_name("a.weight"), "a.weight_scale_inv");
}

TEST(TensorPlan, FollowsTheConfigWhereModelsDiffer) {
  const auto lite = plan_of(config_of("deepseek-v2-lite"));
  EXPECT_EQ(lite.at("model.layers.0.self_attn.q_proj.weight").shape, (std::vector<int64_t>{3072, 2048}));
  EXPECT_EQ(lite.at("model.layers.1.mlp.shared_experts.up_proj.weight").shape, (std::vector<int64_t>{2816, 2048}));
  EXPECT_FALSE(lite.contains("model.layers.0.self_attn.q_a_proj.weight"));
  EXPECT_FALSE(lite.contains("model.layers.1.mlp.gate.e_score_correction_bias"));

  ModelConfig tied = config_of("deepseek-v2-lite");
  const ParameterCount before = count_parameters(tied);
  tied.tie_word_embeddings = true;
  EXPECT_FALSE(plan_of(tied).contains("lm_head.weight"));
  const ParameterCount after = count_parameters(tied);
  EXPECT_EQ(after.total, before.total - 102400 * 2048);
  EXPECT_EQ(after.active, before.active);
  EXPECT_EQ(after.active_with_head, before.active_with_head);
  EXPECT_EQ(after.active_with_head_and_embedding, after.active_with_head);

  ModelConfig dense = config_of("deepseek-v2-lite");
  dense.n_routed_experts = 0;
  EXPECT_TRUE(plan_of(dense).contains("model.layers.26.mlp.gate_proj.weight"));
  const int64_t norms = 27 * (2048 + 2048 + 512) + 2048;
  EXPECT_EQ(count_parameters(dense).active_with_head_and_embedding, count_parameters(dense).total - norms);
}

// The tensors of FILE are exactly those of the plan, plus the scales of its E4M3 weights.
void expect_file_follows_plan(const Path& dir, const std::string& config_file, const std::string& file_name) {
  const auto text = read_file(dir / config_file);
  ASSERT_TRUE(text) << text.error().text;
  const auto config = ModelConfig::parse(*Json::parse(*text, config_file), config_file);
  ASSERT_TRUE(config) << config.error().text;
  const auto file = SafetensorsFile::open(dir / file_name);
  ASSERT_TRUE(file) << file.error().text;
  std::set<std::string> expected;
  int64_t num_parameters = 0;
  for (const TensorSpec& t : expected_tensors(*config)) {
    const StoredTensor* stored = file->find(t.name);
    ASSERT_NE(stored, nullptr) << t.name;
    EXPECT_EQ(stored->shape, t.shape) << t.name;
    expected.insert(t.name);
    num_parameters += t.num_elements();
    const bool is_fp8 = config->quantization && t.fp8_when_quantized;
    const bool is_bias = t.name.ends_with("e_score_correction_bias");
    EXPECT_EQ(stored->dtype, is_fp8 ? DType::kE4M3 : is_bias ? DType::kF32 : DType::kBF16) << t.name;
    if (!is_fp8) continue;
    const StoredTensor* scales = file->find(scale_name(t.name));
    ASSERT_NE(scales, nullptr) << t.name;
    EXPECT_EQ(scales->shape, scale_shape(t.shape)) << t.name;
    expected.insert(scale_name(t.name));
  }
  EXPECT_EQ(expected.size(), file->tensors().size());
  EXPECT_EQ(num_parameters, count_parameters(*config).total);
}

TEST(TensorPlan, IsExactlyWhatTheOracleCheckpointsHold) {
  const Path dir = Path(FATHOM_SHARED_DIR) / "data" / "oracle" / "tiny-dsv3";
  if (!std::filesystem::exists(dir)) GTEST_SKIP() << "shared data oracle/tiny-dsv3 is absent";
  expect_file_follows_plan(dir, "config.json", "model-bf16.safetensors");
  expect_file_follows_plan(dir, "config-fp8.json", "model-fp8.safetensors");
}

}  // namespace
}  // namespace fathom
