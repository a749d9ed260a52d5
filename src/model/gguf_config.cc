#include "model/gguf_config.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <optional>
#include <string>
#include <unordered_set>

#include "base/json.h"
#include "model/config_reader.h"

namespace fathom {
namespace {

constexpr std::string_view kArchitecture = "deepseek2";
constexpr std::string_view kPrefix = "deepseek2.";

// Keys that do not change what the model computes, or that say in another way what tensors and other keys say.
constexpr std::array<std::string_view, 3> kInertGgufKeys = {
    "attention.head_count_kv",  // 1 where the writer thinks of MLA as one shared latent, else head_count
    "rope.scaling.finetuned",
    "nextn_predict_layers"  // the tensors tell; see mtp_blocks
};

/// Reads keys below deepseek2. and keeps the first error; knows which keys nobody asked for.
class Keys {
 public:
  explicit Keys(const GgufMetadata& metadata) : metadata_(metadata) {}

  const std::optional<Error>& error() const { return error_; }
  void fail(Error error) {
    if (!error_) error_ = std::move(error);
  }
  std::string name(std::string_view key) const { return std::string(kPrefix).append(key); }
  bool has(std::string_view key) {
    known_.insert(name(key));
    return metadata_.has(name(key));
  }

  int64_t integer(std::string_view key) {
    has(key);
    return take(metadata_.integer(name(key)), int64_t{0});
  }
  int64_t integer_or(std::string_view key, int64_t otherwise) { return has(key) ? integer(key) : otherwise; }
  double number(std::string_view key) {
    has(key);
    return take(metadata_.number(name(key)), 0.0);
  }
  double number_or(std::string_view key, double otherwise) { return has(key) ? number(key) : otherwise; }
  bool boolean_or(std::string_view key, bool otherwise) {
    return has(key) ? take(metadata_.boolean(name(key)), otherwise) : otherwise;
  }
  std::string text_or(std::string_view key, std::string_view otherwise) {
    return std::string(has(key) ? take(metadata_.text(name(key)), otherwise) : otherwise);
  }

  Error not_accepted(std::string_view key, const std::string& value, std::string_view accepted) const {
    return unsupported(metadata_.where() + ": metadata key " + name(key) + " is " + value +
                       "; accepted: " + std::string(accepted));
  }
  void check_unknown() {
    for (std::string_view key : kInertGgufKeys) has(key);
    for (const auto& [key, value] : metadata_.pairs()) {
      if (!key.starts_with(kPrefix) || known_.contains(std::string(key))) continue;
      fail(unsupported(metadata_.where() + ": unknown metadata key " + ConfigReader::quoted(key) +
                       " may change what the model computes"));
    }
  }

 private:
  template <class Value>
  Value take(Result<Value> result, Value otherwise) {
    if (result) return *result;
    fail(result.error());
    return otherwise;
  }

  const GgufMetadata& metadata_;
  std::optional<Error> error_;
  std::unordered_set<std::string> known_;
};

bool has_tensor(const GgufModel& model, int64_t block, std::string_view name) {
  return model.find("blk." + std::to_string(block) + "." + std::string(name)) != nullptr;
}

struct Blocks {
  int64_t layers = 0;
  int64_t mtp = 0;
};

/// block_count counts the MTP blocks (the last ones) in some files, and in others not.
Blocks split_blocks(const GgufModel& model, int64_t block_count) {
  const auto is_mtp = [&](int64_t block) { return has_tensor(model, block, "nextn.eh_proj.weight"); };
  Blocks blocks{block_count, 0};
  while (blocks.layers > 0 && is_mtp(blocks.layers - 1)) --blocks.layers;
  while (is_mtp(blocks.layers + blocks.mtp)) ++blocks.mtp;
  return blocks;
}

void add_attention(Keys& keys, Json& json) {
  json.set("num_attention_heads", keys.integer("attention.head_count"));
  json.set("q_lora_rank", keys.has("attention.q_lora_rank") ? Json(keys.integer("attention.q_lora_rank")) : Json());
  json.set("kv_lora_rank", keys.integer("attention.kv_lora_rank"));
  // With the *_mla keys, key_length and value_length are those of the latent; without them, of the heads.
  const int64_t key_length = keys.integer("attention.key_length");
  const int64_t value_length = keys.integer("attention.value_length");
  const int64_t qk_head_dim = keys.integer_or("attention.key_length_mla", key_length);
  const int64_t v_head_dim = keys.integer_or("attention.value_length_mla", value_length);
  const int64_t rope = keys.integer("rope.dimension_count");
  if (!keys.error() && (rope < 0 || qk_head_dim <= rope)) {
    keys.fail(keys.not_accepted("rope.dimension_count", std::to_string(rope),
                                "less than the key length of a head, " + std::to_string(qk_head_dim)));
  }
  json.set("qk_nope_head_dim", keys.error() ? int64_t{1} : qk_head_dim - rope);
  json.set("qk_rope_head_dim", rope);
  json.set("v_head_dim", v_head_dim);
  json.set("rms_norm_eps", keys.number("attention.layer_norm_rms_epsilon"));
}

void add_rope(Keys& keys, Json& json) {
  json.set("rope_theta", keys.number_or("rope.freq_base", 10000));
  const std::string type = keys.text_or("rope.scaling.type", "none");
  const double factor = keys.number_or("rope.scaling.factor", 1);
  const int64_t original = keys.integer_or("rope.scaling.original_context_length", 0);
  const double log_multiplier = keys.number_or("rope.scaling.yarn_log_multiplier", 0);
  const double beta_fast = keys.number_or("rope.scaling.yarn_beta_fast", 32);
  const double beta_slow = keys.number_or("rope.scaling.yarn_beta_slow", 1);
  for (std::string_view key :
       {"rope.scaling.attn_factor", "rope.scaling.yarn_ext_factor", "rope.scaling.yarn_attn_factor"}) {
    const double v = keys.number_or(key, 1);
    if (v != 1) keys.fail(keys.not_accepted(key, number_text(v), "1"));
  }
  if (type == "none") return;
  if (type != "yarn") {
    keys.fail(keys.not_accepted("rope.scaling.type", ConfigReader::quoted(type), "\"none\", \"yarn\""));
    return;
  }
  // Nine decimals: the key is a product in FP32, mscale_all_dim a short decimal.
  const double mscale = std::round(log_multiplier * 10 * 1e9) / 1e9;
  Json scaling = Json::object();
  scaling.set("type", "yarn").set("factor", factor).set("original_max_position_embeddings", original);
  scaling.set("beta_fast", beta_fast).set("beta_slow", beta_slow);
  scaling.set("mscale", mscale).set("mscale_all_dim", mscale);
  json.set("rope_scaling", std::move(scaling));
}

/// The experts' keys; true when the model is of the V3 kind (sigmoid scores or a router bias).
bool add_experts(Keys& keys, const GgufModel& model, Json& json) {
  const int64_t experts = keys.integer_or("expert_count", 0);
  const int64_t per_token = keys.integer_or("expert_used_count", 0);
  const int64_t shared = keys.integer_or("expert_shared_count", 0);
  const int64_t width = keys.integer_or("expert_feed_forward_length", 0);
  const int64_t first_dense = keys.integer_or("leading_dense_block_count", 0);
  const int64_t groups = keys.integer_or("expert_group_count", 1);
  const int64_t groups_used = keys.integer_or("expert_group_used_count", 1);
  const double scale = keys.number_or("expert_weights_scale", 1);
  const bool norm = keys.boolean_or("expert_weights_norm", false);
  const int64_t gating = keys.integer_or("expert_gating_func", 1);
  if (experts == 0) return false;
  if (gating < 0 || gating > 2) {
    keys.fail(keys.not_accepted("expert_gating_func", std::to_string(gating), "1 (softmax), 2 (sigmoid)"));
  }
  const auto& tensors = model.tensors();
  const bool has_bias = std::any_of(tensors.begin(), tensors.end(), [](const GgufTensor* tensor) {
    return tensor->name.ends_with(".exp_probs_b.bias");
  });
  const bool sigmoid = gating == 2;
  json.set("n_routed_experts", experts).set("num_experts_per_tok", per_token).set("moe_intermediate_size", width);
  json.set("n_shared_experts", shared > 0 ? Json(shared) : Json()).set("first_k_dense_replace", first_dense);
  json.set("n_group", groups).set("topk_group", groups_used);
  json.set("topk_method", has_bias ? "noaux_tc" : groups > 1 ? "group_limited_greedy" : "greedy");
  json.set("scoring_func", sigmoid ? "sigmoid" : "softmax").set("norm_topk_prob", norm);
  json.set("routed_scaling_factor", scale == 0 ? 1.0 : scale);  // 0 stands for "not scaled"
  return sigmoid || has_bias;
}

Status add_tokens(const GgufMetadata& metadata, Json& json) {
  const auto id = [&](std::string_view key, bool wanted) -> Result<Json> {
    if (!wanted || !metadata.has(key)) return Json();
    const auto v = metadata.integer(key);
    if (!v) return v.error();
    return Json(*v);
  };
  bool add_bos = false;
  if (constexpr std::string_view kAddBos = "tokenizer.ggml.add_bos_token"; metadata.has(kAddBos)) {
    const auto flag = metadata.boolean(kAddBos);
    if (!flag) return flag.error();
    add_bos = *flag;
  }
  auto bos = id("tokenizer.ggml.bos_token_id", add_bos);
  if (!bos) return bos.error();
  auto eos = id("tokenizer.ggml.eos_token_id", true);
  if (!eos) return eos.error();
  auto eot = id("tokenizer.ggml.eot_token_id", true);
  if (!eot) return eot.error();
  json.set("bos_token_id", *std::move(bos));
  Json ends = Json::array();
  for (const Json& end : {*eos, *eot}) {
    if (!end.is_null() && (ends.items().empty() || ends.items().front() != end)) ends.push(end);
  }
  json.set("eos_token_id", std::move(ends));
  return {};
}

}  // namespace

Result<ModelConfig> config_from_gguf(const GgufModel& model) {
  const GgufMetadata& metadata = model.metadata();
  const auto architecture = metadata.text("general.architecture");
  if (!architecture) return architecture.error();
  if (*architecture != kArchitecture) {
    return unsupported(metadata.where() + ": general.architecture " + ConfigReader::quoted(*architecture) +
                       " is not supported; accepted: " + std::string(kArchitecture));
  }
  const GgufTensor* embedding = model.find("token_embd.weight");
  if (embedding == nullptr || embedding->shape.size() != 2) {
    return corrupt(metadata.where() + ": tensor token_embd.weight is missing or no matrix; is this a vocabulary only?");
  }
  Keys keys(metadata);
  Json json = Json::object();
  const int64_t vocab = embedding->shape[0];
  const int64_t said = keys.integer_or("vocab_size", vocab);
  if (said != vocab) {
    keys.fail(corrupt(metadata.where() + ": deepseek2.vocab_size is " + std::to_string(said) +
                      ", but token_embd.weight has " + std::to_string(vocab) + " rows"));
  }
  json.set("vocab_size", vocab).set("hidden_size", keys.integer("embedding_length"));
  const Blocks blocks = split_blocks(model, keys.integer("block_count"));
  json.set("num_hidden_layers", blocks.layers).set("num_nextn_predict_layers", blocks.mtp);
  json.set("max_position_embeddings", keys.integer("context_length"));
  json.set("intermediate_size", keys.integer("feed_forward_length"));
  json.set("tie_word_embeddings", model.find("output.weight") == nullptr);
  add_attention(keys, json);
  add_rope(keys, json);
  const bool is_v3 = add_experts(keys, model, json);
  json.set("model_type", is_v3 ? "deepseek_v3" : "deepseek_v2");
  if (!is_v3 && json.find("n_routed_experts") == nullptr) json.set("n_routed_experts", Json());
  keys.check_unknown();
  if (keys.error()) return *keys.error();
  if (auto s = add_tokens(metadata, json); !s) return s.error();
  return ModelConfig::parse(json, metadata.where() + ": metadata");
}

}  // namespace fathom
