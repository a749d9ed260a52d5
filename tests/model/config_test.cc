#include "model/config.h"

#include <gtest/gtest.h>

#include <cmath>

#include "base/rng.h"
#include "checkpoint/temp_dir.h"

namespace fathom {
namespace {

const char* const kReleased[] = {"deepseek-v2-lite",  "deepseek-v2", "deepseek-v3",  "deepseek-v3.1",
                                 "moonlight-16b-a3b", "kimi-k2",     "glm-4.7-flash"};

std::string text_of(std::string_view name) {
  const auto text = read_file(Path(FATHOM_SOURCE_DIR) / "tests" / "model" / "configs" / (std::string(name) + ".json"));
  EXPECT_TRUE(text) << text.error().text;
  return text ? *text : std::string();
}

Json json_of(std::string_view name) {
  const auto json = Json::parse(text_of(name), name);
  EXPECT_TRUE(json) << json.error().text;
  return json ? *json : Json();
}

ModelConfig config_of(std::string_view name) {
  const auto config = ModelConfig::parse(json_of(name), "config.json");
  EXPECT_TRUE(config) << config.error().text;
  return config ? *config : ModelConfig();
}

std::string error_of(const Json& json) {
  const auto config = ModelConfig::parse(json, "config.json");
  return config ? "accepted" : config.error().text;
}

// The error of V3's config with one key set to a value given as JSON text.
std::string error_with(std::string_view key, std::string_view value) {
  Json json = json_of("deepseek-v3");
  json.set(key, *Json::parse(value, "value"));
  return error_of(json);
}

std::string error_without(std::string_view name, std::string_view key) {
  Json json = json_of(name);
  std::erase_if(json.members(), [&](const Json::Member& member) { return member.first == key; });
  return error_of(json);
}

TEST(ModelConfig, ReadsEveryReleasedConfigWithoutUnknownKeys) {
  for (const char* name : kReleased) {
    const auto config = ModelConfig::parse(json_of(name), name);
    ASSERT_TRUE(config) << config.error().text;
    const auto again = ModelConfig::parse(config->to_json(), name);
    ASSERT_TRUE(again) << again.error().text;
    EXPECT_EQ(*again, *config) << name;
    EXPECT_EQ(again->to_json(), config->to_json()) << name;
  }
}

TEST(ModelConfig, HoldsTheValuesOfV3) {
  const ModelConfig c = config_of("deepseek-v3.1");
  EXPECT_EQ(c.model_type, "deepseek_v3");
  EXPECT_EQ(c.hidden_size, 7168);
  EXPECT_EQ(c.num_hidden_layers, 61);
  EXPECT_EQ(c.first_k_dense_replace, 3);
  EXPECT_EQ(c.n_routed_experts, 256);
  EXPECT_EQ(c.n_group, 8);
  EXPECT_EQ(c.topk_group, 4);
  EXPECT_EQ(c.topk_method, TopkMethod::kNoauxTc);
  EXPECT_EQ(c.scoring_func, ScoringFunc::kSigmoid);
  EXPECT_TRUE(c.norm_topk_prob);
  EXPECT_EQ(c.routed_scaling_factor, 2.5);
  EXPECT_EQ(c.q_lora_rank, 1536);
  EXPECT_EQ(c.qk_head_dim(), 192);
  EXPECT_EQ(c.latent_width(), 576);
  EXPECT_EQ(c.rms_norm_eps, 1e-6);
  EXPECT_EQ(c.rope_theta, 10000);
  ASSERT_TRUE(c.rope_scaling);
  EXPECT_EQ(c.rope_scaling->factor, 40);
  EXPECT_EQ(c.rope_scaling->original_max_position_embeddings, 4096);
  EXPECT_EQ(c.num_nextn_predict_layers, 1);
  ASSERT_TRUE(c.quantization);
  EXPECT_TRUE(c.quantization->ue8m0_scales);
  EXPECT_FALSE(config_of("deepseek-v3").quantization->ue8m0_scales);
  EXPECT_EQ(c.bos_token_id, 0);
  EXPECT_EQ(c.eos_token_id, (std::vector<int64_t>{1}));
  EXPECT_FALSE(c.is_moe_layer(2));
  EXPECT_TRUE(c.is_moe_layer(3));
  EXPECT_TRUE(c.is_moe_layer(61)) << "the MTP layer follows the rule";
}

TEST(ModelConfig, HoldsWhatTheOthersDoDifferently) {
  const ModelConfig lite = config_of("deepseek-v2-lite");
  EXPECT_EQ(lite.q_lora_rank, 0);
  EXPECT_EQ(lite.scoring_func, ScoringFunc::kSoftmax);
  EXPECT_EQ(lite.topk_method, TopkMethod::kGreedy);
  EXPECT_EQ(lite.num_nextn_predict_layers, 0);
  EXPECT_FALSE(lite.quantization);
  EXPECT_EQ(config_of("deepseek-v2").topk_method, TopkMethod::kGroupLimitedGreedy);
  const ModelConfig glm = config_of("glm-4.7-flash");
  EXPECT_EQ(glm.scoring_func, ScoringFunc::kSigmoid) << "implied by the model_type";
  EXPECT_FALSE(glm.bos_token_id);
  EXPECT_EQ(glm.eos_token_id, (std::vector<int64_t>{154820, 154827, 154829}));
  EXPECT_FALSE(glm.rope_scaling);
  EXPECT_EQ(config_of("kimi-k2").rope_scaling->beta_fast, 1);
}

TEST(ModelConfig, ScalesTheSoftmaxWithYarn) {
  EXPECT_NEAR(config_of("deepseek-v3").softmax_scale(), 0.135234, 5e-7);
  EXPECT_NEAR(config_of("deepseek-v2-lite").softmax_scale(), 0.114721, 5e-7);
  EXPECT_NEAR(config_of("kimi-k2").softmax_scale(), 0.130861, 5e-7);
  EXPECT_DOUBLE_EQ(config_of("moonlight-16b-a3b").softmax_scale(), 1 / std::sqrt(192.0));
  ModelConfig c = config_of("deepseek-v3");
  c.rope_scaling->factor = 1;
  EXPECT_DOUBLE_EQ(c.softmax_scale(), 1 / std::sqrt(192.0));
}

TEST(ModelConfig, NamesTheModelTypesItAccepts) {
  EXPECT_EQ(error_with("model_type", "\"llama\""),
            "config.json: model_type \"llama\" is not supported; accepted: deepseek_v2, deepseek_v3, deepseek_v32, "
            "kimi_k2, glm4_moe_lite");
  EXPECT_EQ(
      error_with("model_type", "\"glm_moe_dsa\""),
      "config.json: model_type \"glm_moe_dsa\" is not supported: its attention is sparse and needs an indexer (DSA) "
      "that fathom does not have");
  EXPECT_EQ(error_without("deepseek-v3", "model_type"), "config.json: model_type is missing");
  EXPECT_EQ(error_of(Json::array()), "config.json: expected an object, found array");
}

TEST(ModelConfig, AcceptsSparseAttentionUpToIndexTopk) {
  Json json = json_of("deepseek-v3");
  json.set("model_type", "deepseek_v32").set("index_topk", 2048).set("index_n_heads", 64).set("index_head_dim", 128);
  const auto c = ModelConfig::parse(json, "config.json");
  ASSERT_TRUE(c) << c.error().text;
  EXPECT_EQ(c->index_topk, 2048);
  EXPECT_EQ(c->topk_method, TopkMethod::kNoauxTc);
  EXPECT_EQ(c->max_position_embeddings, 163840);
  EXPECT_EQ(c->max_context(), 2048);
  EXPECT_EQ(
      c->max_context_text(),
      "the 2048 tokens of index_topk (beyond it the attention of deepseek_v32 is sparse, which fathom does not have)");
  const auto again = ModelConfig::parse(c->to_json(), "config.json");
  ASSERT_TRUE(again) << again.error().text;
  EXPECT_EQ(*again, *c);
  const ModelConfig dense = config_of("deepseek-v3");
  EXPECT_EQ(dense.max_context(), 163840);
  EXPECT_EQ(dense.max_context_text(), "the 163840 tokens of max_position_embeddings");
  EXPECT_EQ(error_with("model_type", "\"deepseek_v32\""), "config.json: index_topk is missing");
}

TEST(ModelConfig, NamesEveryRequiredKeyThatIsMissing) {
  for (const char* key : {"vocab_size",
                          "hidden_size",
                          "num_hidden_layers",
                          "first_k_dense_replace",
                          "intermediate_size",
                          "moe_intermediate_size",
                          "n_routed_experts",
                          "n_shared_experts",
                          "num_experts_per_tok",
                          "n_group",
                          "topk_group",
                          "norm_topk_prob",
                          "routed_scaling_factor",
                          "num_attention_heads",
                          "q_lora_rank",
                          "kv_lora_rank",
                          "qk_nope_head_dim",
                          "qk_rope_head_dim",
                          "v_head_dim",
                          "rms_norm_eps",
                          "rope_theta",
                          "max_position_embeddings"}) {
    EXPECT_EQ(error_without("deepseek-v3", key), "config.json: " + std::string(key) + " is missing");
  }
  for (const char* key : {"scoring_func", "topk_method", "moe_layer_freq", "hidden_act", "attention_bias",
                          "num_nextn_predict_layers", "tie_word_embeddings", "num_key_value_heads", "bos_token_id",
                          "eos_token_id", "rope_scaling", "quantization_config", "aux_loss_alpha"}) {
    EXPECT_EQ(error_without("deepseek-v3", key), "accepted") << key;
  }
}

TEST(ModelConfig, RefusesMethodsItDoesNotHave) {
  EXPECT_EQ(error_with("topk_method", "\"best\""),
            "config.json: topk_method \"best\" is not supported; accepted: greedy, group_limited_greedy, noaux_tc");
  EXPECT_EQ(error_with("scoring_func", "\"relu\""),
            "config.json: scoring_func \"relu\" is not supported; accepted: softmax, sigmoid");
  EXPECT_EQ(error_with("hidden_act", "\"gelu\""), "config.json: hidden_act \"gelu\" is not supported; accepted: silu");
  EXPECT_EQ(error_with("attention_bias", "true"), "config.json: attention_bias true is not supported; accepted: false");
  EXPECT_EQ(error_with("rope_interleave", "false"),
            "config.json: rope_interleave false is not supported; accepted: true");
  EXPECT_EQ(error_with("rope_interleave", "true"), "accepted");
  EXPECT_EQ(error_with("partial_rotary_factor", "0.5"),
            "config.json: partial_rotary_factor must be 1: qk_rope_head_dim already is the rotated part");
  EXPECT_EQ(error_with("num_key_value_heads", "8"),
            "config.json: num_key_value_heads must equal num_attention_heads under MLA");
  EXPECT_EQ(error_with("tie_word_embeddings", "true"), "accepted");
  Json v2 = json_of("deepseek-v2");
  v2.set("norm_topk_prob", true);
  EXPECT_EQ(error_of(v2),
            "config.json: norm_topk_prob true with routed_scaling_factor 16 is ambiguous in deepseek_v2; accepted: "
            "factor 1");
}

TEST(ModelConfig, ReadsYarnUnderEitherSpellingAndNothingElse) {
  const std::string rest = R"("factor":40,"original_max_position_embeddings":4096)";
  EXPECT_EQ(error_with("rope_scaling", "{\"rope_type\":\"yarn\"," + rest + "}"), "accepted");
  EXPECT_EQ(error_with("rope_scaling", "{\"type\":\"linear\"," + rest + "}"),
            "config.json: rope_scaling: type \"linear\" is not supported; accepted: yarn");
  EXPECT_EQ(error_with("rope_scaling", "{" + rest + "}"), "config.json: rope_scaling: type is missing");
  EXPECT_EQ(error_with("rope_scaling", "{\"type\":\"yarn\",\"attention_factor\":2," + rest + "}"),
            "config.json: rope_scaling: unknown key \"attention_factor\"; remove it if it is harmless");
  EXPECT_EQ(error_with("rope_scaling", R"({"type":"yarn","factor":0.5,"original_max_position_embeddings":4096})"),
            "config.json: rope_scaling: factor 0.5 is out of range; accepted: at least 1, at most 1e+06");
  EXPECT_EQ(error_with("rope_scaling", "[]"), "config.json: rope_scaling: expected an object, found array");
  EXPECT_EQ(error_with("rope_scaling", "{\"type\":\"yarn\",\"beta_fast\":1,\"beta_slow\":2," + rest + "}"),
            "config.json: rope_scaling: beta_fast must be at least beta_slow");
}

TEST(ModelConfig, ReadsRopeParametersOfNewerFiles) {
  Json json = json_of("deepseek-v3");
  const ModelConfig expected = *ModelConfig::parse(json, "config.json");
  Json parameters = *json.find("rope_scaling");
  parameters.set("rope_type", "yarn").set("rope_theta", 10000);
  json.set("rope_scaling", Json()).set("rope_parameters", parameters);
  std::erase_if(json.members(), [](const Json::Member& member) { return member.first == "rope_theta"; });
  const auto config = ModelConfig::parse(json, "config.json");
  ASSERT_TRUE(config) << config.error().text;
  EXPECT_EQ(*config, expected);
  json.set("rope_theta", 5);
  EXPECT_EQ(error_of(json), "config.json: rope_theta differs from rope_parameters.rope_theta");
  json.set("rope_parameters", *Json::parse(R"({"rope_type":"default","rope_theta":5})", "value"));
  ASSERT_TRUE(ModelConfig::parse(json, "config.json"));
  EXPECT_FALSE(ModelConfig::parse(json, "config.json")->rope_scaling);
}

TEST(ModelConfig, RefusesOtherQuantizations) {
  const auto error = [](std::string_view key, std::string_view value) {
    Json quantization = *json_of("deepseek-v3").find("quantization_config");
    quantization.set(key, *Json::parse(value, "value"));
    return error_with("quantization_config", quantization.dump());
  };
  const std::string where = "config.json: quantization_config: ";
  EXPECT_EQ(error("quant_method", "\"awq\""), where + "quant_method \"awq\" is not supported; accepted: fp8, fathom");
  EXPECT_EQ(error("fmt", "\"e5m2\""), where + "fmt \"e5m2\" is not supported; accepted: e4m3");
  EXPECT_EQ(error("activation_scheme", "\"static\""),
            where + "activation_scheme \"static\" is not supported; accepted: dynamic");
  EXPECT_EQ(error("weight_block_size", "[64, 128]"),
            where + "weight_block_size [64,128] is not supported; accepted: [128, 128]");
  EXPECT_EQ(error("scale_fmt", "\"float\""), where + "scale_fmt \"float\" is not supported; accepted: ue8m0");
  EXPECT_EQ(error("kv_cache_scheme", "{}"), where + "unknown key \"kv_cache_scheme\"; remove it if it is harmless");
}

TEST(ModelConfig, RefusesAnyKeyThatItDoesNotKnow) {
  Json json = json_of("deepseek-v3");
  json.set("unsloth_version", "1").set("top_p", 0.9).set("auto_map", Json::object());  // known not to matter
  EXPECT_TRUE(ModelConfig::parse(json, "config.json"));
  for (const char* key : {"index_topk", "attn_output_gate", "scale_emb", "sliding_window", "layer_types",
                          "final_logit_softcapping", "mlp_bias", "use_qk_norm", "compression_config", "a_note"}) {
    EXPECT_EQ(error_with(key, "1"),
              "config.json: unknown key \"" + std::string(key) +
                  "\" may change what the model computes; if it does not, remove it from the file");
  }
}

TEST(ModelConfig, BoundsEveryNumber) {
  EXPECT_EQ(error_with("hidden_size", "0"), "config.json: hidden_size 0 is out of range; accepted: 1 to 1048576");
  EXPECT_EQ(error_with("hidden_size", "7168.0"), "config.json: hidden_size must be an integer, found number");
  EXPECT_EQ(error_with("vocab_size", "\"big\""), "config.json: vocab_size must be an integer, found string");
  for (const char* key : {"vocab_size", "hidden_size", "num_hidden_layers", "intermediate_size", "n_routed_experts",
                          "moe_intermediate_size", "num_attention_heads", "kv_lora_rank", "qk_rope_head_dim",
                          "v_head_dim", "n_group", "topk_group", "num_experts_per_tok", "first_k_dense_replace",
                          "num_nextn_predict_layers", "max_position_embeddings", "moe_layer_freq"}) {
    for (const char* value : {"-1", "9223372036854775807", "1e300", "[]"}) {
      EXPECT_EQ(error_with(key, value).rfind("config.json: " + std::string(key), 0), 0u) << key << " " << value;
    }
  }
  EXPECT_EQ(error_with("rms_norm_eps", "0"),
            "config.json: rms_norm_eps 0 is out of range; accepted: more than 0, at most 1");
  EXPECT_EQ(error_with("rms_norm_eps", "1"), "config.json: rms_norm_eps must be below 1");
  EXPECT_EQ(error_with("rope_theta", "1"),
            "config.json: rope_theta 1 is out of range; accepted: more than 1, at most 1e+15");
  EXPECT_EQ(error_with("qk_rope_head_dim", "63"), "config.json: qk_rope_head_dim must be even: RoPE rotates pairs");
  EXPECT_EQ(error_with("n_group", "7"), "config.json: n_routed_experts must be a multiple of n_group");
  EXPECT_EQ(error_with("topk_group", "9"), "config.json: topk_group 9 is out of range; accepted: 1 to 8");
  EXPECT_EQ(error_with("num_experts_per_tok", "65"),
            "config.json: num_experts_per_tok 65 is out of range; accepted: 1 to 64");  // what the kernels hold
  Json many_groups = json_of("deepseek-v3");
  many_groups.set("n_group", 128).set("topk_group", 65);
  EXPECT_EQ(error_of(many_groups), "config.json: topk_group 65 is out of range; accepted: 1 to 64");
  Json few = json_of("deepseek-v3");
  few.set("n_group", 64).set("topk_group", 1);
  EXPECT_EQ(error_of(few), "config.json: num_experts_per_tok is more than the experts in topk_group groups");
  Json lonely = json_of("deepseek-v3");
  lonely.set("n_group", 256).set("num_experts_per_tok", 4);
  EXPECT_EQ(error_of(lonely),
            "config.json: noaux_tc scores a group by its two best experts; n_group leaves one per group");
  EXPECT_EQ(error_with("bos_token_id", "129280"),
            "config.json: bos_token_id 129280 is out of range; accepted: 0 to 129279");
  EXPECT_EQ(error_with("eos_token_id", "[1, -1]"),
            "config.json: eos_token_id -1 is out of range; accepted: 0 to 129279");
}

TEST(ModelConfig, BoundsProductsSoThatNoSizeOverflows) {
  EXPECT_EQ(error_with("num_hidden_layers", "1025"),
            "config.json: layers * n_routed_experts is more than the accepted 262144");
  Json json = json_of("deepseek-v3");
  json.set("hidden_size", int64_t{1} << 20).set("vocab_size", int64_t{1} << 24);
  EXPECT_EQ(error_of(json), "config.json: vocab_size * hidden_size is more than the accepted 1099511627776");
  json = json_of("deepseek-v3");
  json.set("hidden_size", int64_t{1} << 18).set("moe_intermediate_size", int64_t{1} << 18);
  EXPECT_EQ(error_of(json),
            "config.json: n_routed_experts * moe_intermediate_size * hidden_size is more than the accepted "
            "1099511627776");
}

TEST(ModelConfig, AcceptsADenseModel) {
  Json json = json_of("deepseek-v3");
  json.set("n_routed_experts", Json());
  const auto config = ModelConfig::parse(json, "config.json");
  ASSERT_TRUE(config) << config.error().text;
  EXPECT_FALSE(config->is_moe_layer(10));
  EXPECT_EQ(*ModelConfig::parse(config->to_json(), "again"), *config);
}

TEST(ModelConfig, LoadsFromADirectory) {
  const TempDir dir;
  EXPECT_EQ(ModelConfig::load(dir.path()).error().code, ErrorCode::kNotFound);
  EXPECT_NE(ModelConfig::load(dir.path()).error().text.find("give a directory"), std::string::npos);
  dir.write("config.json", text_of("kimi-k2"));
  const auto config = ModelConfig::load(dir.path());
  ASSERT_TRUE(config) << config.error().text;
  EXPECT_EQ(config->n_routed_experts, 384);
  dir.write("config.json", "{");
  EXPECT_EQ(ModelConfig::load(dir.path()).error().text.rfind((dir.path() / "config.json").string(), 0), 0u);
}

TEST(ModelConfig, SurvivesMutationsOfAValidFile) {
  SequentialRng rng(2, stream_of("mutations"));
  int rejected = 0;
  for (int round = 0; round < 300; ++round) {
    std::string text = text_of(kReleased[static_cast<size_t>(round) % std::size(kReleased)]);
    for (int64_t edits = rng.between(1, 3); edits > 0; --edits) {
      const auto at = static_cast<size_t>(rng.below(text.size()));
      switch (rng.below(4)) {
        case 0: text[at] = static_cast<char>(rng.below(256)); break;
        case 1: text[at] = static_cast<char>('0' + rng.below(10)); break;
        case 2: text.erase(at, 1 + static_cast<size_t>(rng.below(8))); break;
        default: text.insert(at, 1, static_cast<char>('0' + rng.below(10)));
      }
    }
    const auto json = Json::parse(text, "config.json");
    const auto config = json ? ModelConfig::parse(*json, "config.json") : Result<ModelConfig>(json.error());
    if (!config) {
      ++rejected;
      EXPECT_EQ(config.error().text.rfind("config.json: ", 0), 0u) << config.error().text;
      continue;
    }
    const auto again = ModelConfig::parse(config->to_json(), "again");
    ASSERT_TRUE(again) << again.error().text;
    EXPECT_EQ(*again, *config);
  }
  EXPECT_GT(rejected, 50);
}

}  // namespace
}  // namespace fathom
