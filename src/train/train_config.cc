// Presets, and the checks that need more than one setting.
#include "train/train_config.h"

#include <array>
#include <cmath>

namespace fathom {
namespace {

struct Preset {
  std::string_view name;
  int64_t vocab_size, hidden_size, num_layers, nope, rope, value, lora, experts, expert_width, dense_width, sequence;
};

constexpr std::array<Preset, 3> kPresets{{{"pico", 1024, 128, 4, 16, 16, 32, 64, 8, 128, 256, 128},
                                          {"nano", 2048, 256, 5, 32, 32, 64, 128, 16, 128, 512, 256},
                                          {"nano20", 4096, 256, 6, 32, 32, 64, 128, 32, 128, 768, 256}}};

ModelConfig shape_of(const Preset& preset) {
  ModelConfig c;
  c.model_type = "deepseek_v3";
  c.vocab_size = preset.vocab_size;
  c.hidden_size = preset.hidden_size;
  c.num_hidden_layers = preset.num_layers;
  c.first_k_dense_replace = 1;
  c.intermediate_size = preset.dense_width;
  c.moe_intermediate_size = preset.expert_width;
  c.n_routed_experts = preset.experts;
  c.n_shared_experts = 1;
  c.num_experts_per_tok = 2;
  c.topk_method = TopkMethod::kNoauxTc;
  c.scoring_func = ScoringFunc::kSigmoid;
  c.norm_topk_prob = true;
  c.num_attention_heads = 4;
  c.q_lora_rank = preset.lora;
  c.kv_lora_rank = preset.lora;
  c.qk_nope_head_dim = preset.nope;
  c.qk_rope_head_dim = preset.rope;
  c.v_head_dim = preset.value;
  c.max_position_embeddings = 4096;
  c.num_nextn_predict_layers = 1;
  c.initializer_range = 0.02;
  c.bos_token_id = 0;
  c.eos_token_id = {1};
  return c;
}

}  // namespace

std::vector<std::string> model_presets() {
  std::vector<std::string> names;
  for (const Preset& preset : kPresets) names.emplace_back(preset.name);
  return names;
}

void TrainConfig::set_shape(const ModelConfig& config) {
  shape = config;
  const Json json = config.to_json();
  // Without experts config.json has no methods; any will do then.
  if (const Json* method = json.find("topk_method")) topk_method = method->as_string();
  if (const Json* scores = json.find("scoring_func")) scoring_func = scores->as_string();
  bos_token_id = config.bos_token_id.value_or(-1);
  eos_token_id = config.eos_token_id.empty() ? -1 : config.eos_token_id.front();
}

Result<ModelConfig> TrainConfig::model_config() const {
  ModelConfig c = shape;
  c.stored_formats.reset();
  c.quantization.reset();  // masters are FP32, whatever the checkpoint to start from was
  c.aux_loss_alpha = balance_alpha;
  // The gates of V2 belong to its model type: the library's V3 class would compute another function of the same file.
  if (c.model_type == "deepseek_v3" && scoring_func == "softmax" && topk_method != "noaux_tc")
    c.model_type = "deepseek_v2";
  Json json = c.to_json();
  if (c.n_routed_experts > 0) {
    json.set("topk_method", topk_method);
    json.set("scoring_func", scoring_func);
  }
  json.set("bos_token_id", bos_token_id < 0 ? Json() : Json(bos_token_id));
  // A checkpoint may have several ends; the setting speaks of the first.
  const bool keeps_ends = !c.eos_token_id.empty() && c.eos_token_id.front() == eos_token_id;
  if (!keeps_ends) json.set("eos_token_id", eos_token_id < 0 ? Json() : Json(eos_token_id));
  return ModelConfig::parse(json, "settings of [model]");
}

Status TrainConfig::validate() const {
  if (train_shards.empty()) return invalid("data.train is empty; name at least one shard (made by data pack)");
  if (!train_weights.empty() && train_weights.size() != train_shards.size()) {
    return invalid("data.weights has " + std::to_string(train_weights.size()) + " entries, data.train " +
                   std::to_string(train_shards.size()) + "; give one weight per shard or none");
  }
  // Far above any use, and it keeps the products of sizes inside 63 bits.
  constexpr int64_t kMaxTokens = int64_t{1} << 31;
  if (sequence_length > kMaxTokens / sequences_per_slot) {
    return invalid("train.sequence_length " + std::to_string(sequence_length) + " times train.sequences_per_slot " +
                   std::to_string(sequences_per_slot) + " is more than the accepted " + std::to_string(kMaxTokens));
  }
  return check_learning_rate(learning_rate, num_steps);
}

Result<TrainConfig> preset_config(std::string_view name) {
  for (const Preset& preset : kPresets) {
    if (preset.name != name) continue;
    TrainConfig config;
    config.preset = name;
    config.set_shape(shape_of(preset));
    config.sequence_length = preset.sequence;
    return config;
  }
  return invalid("model.preset \"" + std::string(name) + "\" is not accepted; it must be pico, nano or nano20");
}

Result<TrainConfig> load_train_config(const ConfigSources& sources) {
  // The first reading only tells where the shape comes from; the second lays the settings over that shape.
  const auto first = load_config(sources, *preset_config("pico"));
  if (!first) return first.error();
  auto defaults = preset_config(first->preset);
  if (!defaults) return defaults.error();
  if (!first->from.empty()) {
    const auto shape = ModelConfig::load(first->from);
    if (!shape) return shape.error();
    defaults->set_shape(*shape);
  }
  return load_config(sources, *std::move(defaults));
}

}  // namespace fathom
