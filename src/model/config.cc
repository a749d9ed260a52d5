#include "model/config.h"

#include <algorithm>
#include <cmath>
#include <span>
#include <utility>

#include "kernels/expert_tree.h"
#include "model/config_reader.h"
#include "numerics/intq.h"
#include "tensor/tensor.h"

namespace fathom {
namespace {

// Limits. They are far above every released model and keep all later arithmetic inside 63 bits.
constexpr int64_t kMaxConfigBytes = int64_t{16} << 20;
constexpr int64_t kMaxVocab = int64_t{1} << 24;
constexpr int64_t kMaxWidth = int64_t{1} << 20;  // any hidden, intermediate or latent width
constexpr int64_t kMaxHeadDim = int64_t{1} << 16;
constexpr int64_t kMaxHeads = int64_t{1} << 16;
constexpr int64_t kMaxLayers = 4096;
constexpr int64_t kMaxExperts = int64_t{1} << 16;
constexpr int64_t kMaxExpertsInAllLayers = int64_t{1} << 18;  // bounds the number of tensors (Kimi-K2: 23,040)
constexpr int64_t kMaxPositions = int64_t{1} << 31;
constexpr int64_t kMaxMatrixElements = int64_t{1} << 40;  // of one tensor; of all routed experts of one layer
constexpr size_t kMaxEosTokens = 64;
constexpr double kMaxRopeTheta = 1e15;
constexpr double kMaxFactor = 1e6;

constexpr ConfigReader::Choice<ScoringFunc> kScoringFuncs[] = {{ScoringFunc::kSoftmax, "softmax"},
                                                               {ScoringFunc::kSigmoid, "sigmoid"}};
constexpr ConfigReader::Choice<TopkMethod> kTopkMethods[] = {{TopkMethod::kGreedy, "greedy"},
                                                             {TopkMethod::kGroupLimitedGreedy, "group_limited_greedy"},
                                                             {TopkMethod::kNoauxTc, "noaux_tc"}};

// What a model_type stands for in the Hugging Face modeling code.
struct Family {
  std::string_view model_type;
  std::string_view architecture;
  ScoringFunc scoring_func;  // of a config that does not say
  TopkMethod topk_method;
};
constexpr Family kFamilies[] = {
    {"deepseek_v2", "DeepseekV2ForCausalLM", ScoringFunc::kSoftmax, TopkMethod::kGreedy},
    {"deepseek_v3", "DeepseekV3ForCausalLM", ScoringFunc::kSigmoid, TopkMethod::kNoauxTc},
    {"deepseek_v32", "DeepseekV32ForCausalLM", ScoringFunc::kSigmoid, TopkMethod::kNoauxTc},
    {"kimi_k2", "DeepseekV3ForCausalLM", ScoringFunc::kSigmoid, TopkMethod::kNoauxTc},
    {"glm4_moe_lite", "Glm4MoeLiteForCausalLM", ScoringFunc::kSigmoid, TopkMethod::kNoauxTc},
};
// The family whose attention reads only the keys that a lightning indexer picks, index_topk of them.
constexpr std::string_view kSparseAttention = "deepseek_v32";
// A relative of which no released config was seen.
constexpr std::string_view kUnknownSparseAttention = "glm_moe_dsa";

// Keys that do not change what the model computes: metadata, training and generation defaults that the transformers
// library writes into every config.json.
constexpr std::string_view kInertKeys[] = {"_attn_implementation_autoset",
                                           "_commit_hash",
                                           "_name_or_path",
                                           "add_cross_attention",
                                           "architectures",
                                           "attention_dropout",
                                           "attn_implementation",
                                           "auto_map",
                                           "bad_words_ids",
                                           "begin_suppress_tokens",
                                           "chunk_size_feed_forward",
                                           "cross_attention_hidden_size",
                                           "decoder_start_token_id",
                                           "diversity_penalty",
                                           "do_sample",
                                           "dtype",
                                           "early_stopping",
                                           "encoder_no_repeat_ngram_size",
                                           "ep_size",
                                           "exponential_decay_length_penalty",
                                           "finetuning_task",
                                           "forced_bos_token_id",
                                           "forced_eos_token_id",
                                           "head_dim",  // of other attention kinds; MLA has its own widths
                                           "id2label",
                                           "is_decoder",
                                           "is_encoder_decoder",
                                           "label2id",
                                           "length_penalty",
                                           "max_length",
                                           "min_length",
                                           "no_repeat_ngram_size",
                                           "num_beam_groups",
                                           "num_beams",
                                           "num_return_sequences",
                                           "output_attentions",
                                           "output_hidden_states",
                                           "output_router_logits",
                                           "output_scores",
                                           "pad_token_id",
                                           "prefix",
                                           "pretraining_tp",
                                           "problem_type",
                                           "pruned_heads",
                                           "remove_invalid_values",
                                           "repetition_penalty",
                                           "return_dict",
                                           "return_dict_in_generate",
                                           "router_aux_loss_coef",
                                           "sep_token_id",
                                           "seq_aux",
                                           "suppress_tokens",
                                           "task_specific_params",
                                           "temperature",
                                           "tf_legacy_loss",
                                           "tie_encoder_decoder",
                                           "tokenizer_class",
                                           "top_k",
                                           "top_p",
                                           "torch_dtype",
                                           "torchscript",
                                           "transformers.js_config",
                                           "transformers_version",
                                           "typical_p",
                                           "unsloth_fixed",
                                           "unsloth_version",
                                           "use_bfloat16",
                                           "use_cache"};

template <class Enum>
std::string_view name_in(std::span<const ConfigReader::Choice<Enum>> names, Enum value) {
  for (const auto& [known, name] : names) {
    if (known == value) return name;
  }
  check(false, "the enumerator has a name");
  return {};
}

const Family* family_of(std::string_view model_type) {
  for (const Family& family : kFamilies) {
    if (family.model_type == model_type) return &family;
  }
  return nullptr;
}

Error model_type_error(const std::string& where, const std::string& model_type) {
  if (model_type == kUnknownSparseAttention) {
    return unsupported(
        where + ": model_type " + ConfigReader::quoted(model_type) +
        " is not supported: its attention is sparse and needs an indexer (DSA) that fathom does not have");
  }
  std::string accepted;
  for (const Family& family : kFamilies) accepted += (accepted.empty() ? "" : ", ") + std::string(family.model_type);
  return unsupported(where + ": model_type " + ConfigReader::quoted(model_type) +
                     " is not supported; accepted: " + accepted);
}

YarnScaling parse_yarn(ConfigReader& r) {
  YarnScaling yarn;
  yarn.factor = r.number("factor", 1, kMaxFactor);
  yarn.original_max_position_embeddings = r.integer("original_max_position_embeddings", 1, kMaxPositions);
  yarn.beta_fast = r.positive_or("beta_fast", yarn.beta_fast, 0, kMaxFactor);
  yarn.beta_slow = r.positive_or("beta_slow", yarn.beta_slow, 0, kMaxFactor);
  yarn.mscale = r.number_or("mscale", yarn.mscale, 0, kMaxFactor);
  yarn.mscale_all_dim = r.number_or("mscale_all_dim", yarn.mscale_all_dim, 0, kMaxFactor);
  r.only("truncate", true);
  r.require(yarn.beta_fast >= yarn.beta_slow, "beta_fast must be at least beta_slow");
  return yarn;
}

// Positions: rope_theta and rope_scaling, or (newer files) both inside rope_parameters.
void parse_rope(ConfigReader& r, ModelConfig* config) {
  r.only("rope_interleave", true);
  const Json* scaling = r.get("rope_scaling");
  const Json* parameters = r.get("rope_parameters");
  const double partial = r.number_or("partial_rotary_factor", 1, 0, 1);
  r.require(partial == 1, "partial_rotary_factor must be 1: qk_rope_head_dim already is the rotated part");
  if (parameters) {
    r.require(!scaling, "rope_scaling and rope_parameters are both given; keep one");
    ConfigReader p(*parameters, r.where() + ": rope_parameters");
    p.only("rope_type", {"default", "yarn"}, false);
    const double inner_partial = p.number_or("partial_rotary_factor", 1, 0, 1);
    p.require(inner_partial == 1, "partial_rotary_factor must be 1: qk_rope_head_dim already is the rotated part");
    const std::string rope_type = p.text_or_empty("rope_type");
    p.only("type", {rope_type}, true);
    // rope_theta may stand in either place, or in both with one value.
    config->rope_theta =
        p.get("rope_theta") ? p.positive("rope_theta", 1, kMaxRopeTheta) : r.positive("rope_theta", 1, kMaxRopeTheta);
    if (r.get("rope_theta")) {
      r.require(r.positive("rope_theta", 1, kMaxRopeTheta) == config->rope_theta,
                "rope_theta differs from rope_parameters.rope_theta");
    }
    if (rope_type == "yarn") config->rope_scaling = parse_yarn(p);
    r.finish(p);
    return;
  }
  config->rope_theta = r.positive("rope_theta", 1, kMaxRopeTheta);
  if (!scaling) return;
  ConfigReader s(*scaling, r.where() + ": rope_scaling");
  const bool has_type = s.get("type") != nullptr;
  const bool has_rope_type = s.get("rope_type") != nullptr;
  s.only("type", {"yarn"}, has_rope_type);
  s.only("rope_type", {"yarn"}, has_type);
  config->rope_scaling = parse_yarn(s);
  r.finish(s);
}

constexpr std::string_view kOwnQuantMethod = "fathom";

// What model/quantize_checkpoint wrote: {"formats": {"experts": "int4", "experts.3": "int8", ...}}.
void parse_own_quantization(ConfigReader& r, ConfigReader& q, ModelConfig* config) {
  q.integer("group_size", kGroupSize, kGroupSize);
  q.only("scale_fmt", {"ue8m0"}, true);
  if (q.get("scale_fmt")) config->quantization = Fp8Quantization{.ue8m0_scales = true};
  const Json* formats = q.get("formats");
  if (!formats) q.missing("formats");
  std::string text;
  if (formats && !formats->is_object()) q.fail(corrupt(q.where() + ": formats must be an object of class to format"));
  if (!q.error()) {
    for (const auto& [name, format] : formats->members()) {
      if (!format.is_string()) {
        q.fail(corrupt(q.where() + ": formats: " + ConfigReader::quoted(name) + " must be the name of a format"));
        break;
      }
      text += (text.empty() ? "" : ",") + name + "=" + format.as_string();
    }
  }
  const auto policy = parse_quant_policy(text);
  if (!policy) q.fail(corrupt(q.where() + ": formats: " + policy.error().text));
  if (policy && !q.error()) config->stored_formats = *policy;
  r.finish(q);
}

void parse_quantization(ConfigReader& r, ModelConfig* config) {
  const Json* json = r.get("quantization_config");
  if (!json) return;
  ConfigReader q(*json, r.where() + ": quantization_config");
  q.only("quant_method", {"fp8", kOwnQuantMethod}, false);
  if (q.text_or_empty("quant_method") == kOwnQuantMethod) return parse_own_quantization(r, q, config);
  q.only("fmt", {"e4m3"}, true);
  q.only("activation_scheme", {"dynamic"}, false);
  q.only("scale_fmt", {"ue8m0"}, true);
  q.get("modules_to_not_convert");  // the dtype of each stored tensor says the same
  const Json block{Json::Array{kScaleBlock, kScaleBlock}};
  if (const Json* given = q.get("weight_block_size"); !given) {
    q.missing("weight_block_size");
  } else if (*given != block) {
    const std::string_view accepted[] = {"[128, 128]"};
    q.not_accepted("weight_block_size", given->dump().substr(0, 100), accepted);
  }
  config->quantization = Fp8Quantization{.ue8m0_scales = q.get("scale_fmt") != nullptr};
  r.finish(q);
}

void parse_attention(ConfigReader& r, ModelConfig* config) {
  config->num_attention_heads = r.integer("num_attention_heads", 1, kMaxHeads);
  const int64_t kv_heads = r.integer_or("num_key_value_heads", config->num_attention_heads, 1, kMaxHeads);
  r.require(kv_heads == config->num_attention_heads, "num_key_value_heads must equal num_attention_heads under MLA");
  // null is V2-Lite's way to say "no query compression"; without the key the modeling code would use its own default.
  config->q_lora_rank = r.integer_or_null("q_lora_rank", 0, 0, kMaxWidth);
  config->kv_lora_rank = r.integer("kv_lora_rank", 1, kMaxWidth);
  config->qk_nope_head_dim = r.integer("qk_nope_head_dim", 1, kMaxHeadDim);
  config->qk_rope_head_dim = r.integer("qk_rope_head_dim", 2, kMaxHeadDim);
  r.require(config->qk_rope_head_dim % 2 == 0, "qk_rope_head_dim must be even: RoPE rotates pairs");
  config->v_head_dim = r.integer("v_head_dim", 1, kMaxHeadDim);
  const int64_t qk_head_dim = r.integer_or("qk_head_dim", config->qk_head_dim(), 1, 2 * kMaxHeadDim);
  r.require(qk_head_dim == config->qk_head_dim(), "qk_head_dim must be qk_nope_head_dim + qk_rope_head_dim");
  r.only("attention_bias", false);
}

// The indexer's sizes matter only for its tensors, which are skipped.
void parse_indexer(ConfigReader& r, ModelConfig* config) {
  if (config->model_type != kSparseAttention) return;
  config->index_topk = r.integer("index_topk", 1, kMaxPositions);
  r.integer_or("index_n_heads", 1, 1, kMaxHeads);
  r.integer_or("index_head_dim", 1, 1, kMaxHeadDim);
}

// Keys of the experts; without experts they are ignored, whatever they say.
constexpr std::string_view kMoeKeys[] = {
    "moe_intermediate_size", "n_shared_experts", "num_experts_per_tok",  "first_k_dense_replace",
    "moe_layer_freq",        "n_group",          "topk_group",           "topk_method",
    "scoring_func",          "norm_topk_prob",   "routed_scaling_factor"};

void parse_moe(ConfigReader& r, const Family& family, ModelConfig* config) {
  ModelConfig& c = *config;
  c.n_routed_experts = r.integer_or_null("n_routed_experts", 0, 0, kMaxExperts);
  if (c.n_routed_experts == 0) {
    for (std::string_view key : kMoeKeys) r.get(key);
    return;
  }
  c.moe_intermediate_size = r.integer("moe_intermediate_size", 1, kMaxWidth);
  c.n_shared_experts = r.integer_or_null("n_shared_experts", 0, 0, kMaxExperts);
  c.num_experts_per_tok = r.integer("num_experts_per_tok", 1, std::min(c.n_routed_experts, kMaxExpertsPerToken));
  c.first_k_dense_replace = r.integer("first_k_dense_replace", 0, kMaxLayers);
  c.moe_layer_freq = r.integer_or("moe_layer_freq", 1, 1, kMaxLayers);
  c.n_group = r.integer_or_null("n_group", 1, 1, c.n_routed_experts);
  c.topk_group = r.integer_or_null("topk_group", 1, 1, std::min(c.n_group, kMaxExpertsPerToken));
  c.topk_method = r.choice_or<TopkMethod>("topk_method", kTopkMethods, family.topk_method);
  c.scoring_func = r.choice_or<ScoringFunc>("scoring_func", kScoringFuncs, family.scoring_func);
  c.norm_topk_prob = r.boolean("norm_topk_prob");
  c.routed_scaling_factor = r.positive("routed_scaling_factor", 0, kMaxFactor);
  if (r.error()) return;

  r.require(c.n_routed_experts % c.n_group == 0, "n_routed_experts must be a multiple of n_group");
  const int64_t group_size = c.n_routed_experts / c.n_group;
  if (c.topk_method != TopkMethod::kGreedy) {
    r.require(c.num_experts_per_tok <= c.topk_group * group_size,
              "num_experts_per_tok is more than the experts in topk_group groups");
  }
  if (c.topk_method == TopkMethod::kNoauxTc && c.n_group > 1) {
    r.require(group_size >= 2, "noaux_tc scores a group by its two best experts; n_group leaves one per group");
  }
  // The V2 reference normalises instead of scaling; the V3 reference does both. They agree only without a factor.
  if (family.model_type == "deepseek_v2" && c.norm_topk_prob && c.routed_scaling_factor != 1) {
    r.fail(unsupported(r.where() + ": norm_topk_prob true with routed_scaling_factor " +
                       number_text(c.routed_scaling_factor) + " is ambiguous in deepseek_v2; accepted: factor 1"));
  }
}

void parse_tokens(ConfigReader& r, ModelConfig* config) {
  if (const Json* bos = r.get("bos_token_id")) {
    config->bos_token_id = r.integer_of("bos_token_id", *bos, 0, config->vocab_size - 1);
  }
  const Json* eos = r.get("eos_token_id");
  if (!eos) return;
  if (!eos->is_array()) {
    config->eos_token_id.push_back(r.integer_of("eos_token_id", *eos, 0, config->vocab_size - 1));
    return;
  }
  if (eos->items().size() > kMaxEosTokens) {
    r.fail(corrupt(r.where() + ": eos_token_id has " + std::to_string(eos->items().size()) +
                   " entries, more than the accepted " + std::to_string(kMaxEosTokens)));
    return;
  }
  for (const Json& id : eos->items()) {
    config->eos_token_id.push_back(r.integer_of("eos_token_id", id, 0, config->vocab_size - 1));
  }
}

// Whether the product is at most `limit`, without computing it: it may overflow.
bool product_fits(std::initializer_list<int64_t> factors, int64_t limit) {
  for (int64_t factor : factors) {
    if (factor == 0) return true;
    if (factor > limit) return false;
    limit /= factor;
  }
  return true;
}

void check_sizes(ConfigReader& r, const ModelConfig& c) {
  const auto bounded = [&](std::string_view what, std::initializer_list<int64_t> factors) {
    if (!product_fits(factors, kMaxMatrixElements)) {
      r.fail(corrupt(r.where() + ": " + std::string(what) + " is more than the accepted " +
                     std::to_string(kMaxMatrixElements)));
    }
  };
  bounded("vocab_size * hidden_size", {c.vocab_size, c.hidden_size});
  bounded("intermediate_size * hidden_size", {c.intermediate_size, c.hidden_size});
  bounded("n_routed_experts * moe_intermediate_size * hidden_size",
          {c.n_routed_experts, c.moe_intermediate_size, c.hidden_size});
  bounded("n_shared_experts * moe_intermediate_size * hidden_size",
          {c.n_shared_experts, c.moe_intermediate_size, c.hidden_size});
  bounded("num_attention_heads * qk head dim * query width",
          {c.num_attention_heads, c.qk_head_dim(), c.q_lora_rank > 0 ? c.q_lora_rank : c.hidden_size});
  bounded("num_attention_heads * (qk_nope_head_dim + v_head_dim) * kv_lora_rank",
          {c.num_attention_heads, c.qk_nope_head_dim + c.v_head_dim, c.kv_lora_rank});
  bounded("num_attention_heads * v_head_dim * hidden_size", {c.num_attention_heads, c.v_head_dim, c.hidden_size});
  if (!product_fits({c.num_hidden_layers + c.num_nextn_predict_layers, c.n_routed_experts}, kMaxExpertsInAllLayers)) {
    r.fail(corrupt(r.where() + ": layers * n_routed_experts is more than the accepted " +
                   std::to_string(kMaxExpertsInAllLayers)));
  }
}

void check_unknown_keys(ConfigReader& r) {
  for (std::string_view key : kInertKeys) r.get(key);
  for (const std::string& key : r.unknown()) {
    r.fail(unsupported(r.where() + ": unknown key " + ConfigReader::quoted(key) +
                       " may change what the model computes; if it does not, remove it from the file"));
  }
}

// YaRN's attention temperature: 0.1 m ln f + 1, and 1 without extension (HF modeling code).
double yarn_mscale(double factor, double mscale) { return factor <= 1 ? 1.0 : 0.1 * mscale * std::log(factor) + 1.0; }

}  // namespace

int64_t ModelConfig::max_context() const {
  return index_topk > 0 ? std::min(index_topk, max_position_embeddings) : max_position_embeddings;
}

std::string ModelConfig::max_context_text() const {
  const std::string tokens = "the " + std::to_string(max_context()) + " tokens of ";
  if (max_context() == max_position_embeddings) return tokens + "max_position_embeddings";
  return tokens + "index_topk (beyond it the attention of " + model_type + " is sparse, which fathom does not have)";
}

double ModelConfig::softmax_scale() const {
  double scale = 1.0 / std::sqrt(static_cast<double>(qk_head_dim()));
  if (rope_scaling) {
    const double m = yarn_mscale(rope_scaling->factor, rope_scaling->mscale_all_dim);
    scale *= m * m;
  }
  return scale;
}

Result<ModelConfig> ModelConfig::parse(const Json& json, std::string_view where) {
  ConfigReader r(json, std::string(where));
  if (r.error()) return *r.error();
  ModelConfig c;
  c.model_type = r.text_or_empty("model_type");
  if (!r.get("model_type")) r.missing("model_type");
  if (r.error()) return *r.error();
  const Family* family = family_of(c.model_type);
  if (!family) return model_type_error(r.where(), c.model_type);

  c.vocab_size = r.integer("vocab_size", 1, kMaxVocab);
  c.hidden_size = r.integer("hidden_size", 1, kMaxWidth);
  c.num_hidden_layers = r.integer("num_hidden_layers", 1, kMaxLayers);
  c.intermediate_size = r.integer("intermediate_size", 1, kMaxWidth);
  c.max_position_embeddings = r.integer("max_position_embeddings", 1, kMaxPositions);
  c.rms_norm_eps = r.positive("rms_norm_eps", 0, 1);
  r.require(c.rms_norm_eps < 1, "rms_norm_eps must be below 1");
  c.num_nextn_predict_layers = r.integer_or("num_nextn_predict_layers", 0, 0, kMaxLayers);
  c.initializer_range = r.number_or("initializer_range", c.initializer_range, 0, kMaxFactor);
  c.aux_loss_alpha = r.number_or("aux_loss_alpha", c.aux_loss_alpha, 0, kMaxFactor);
  c.tie_word_embeddings = r.boolean_or("tie_word_embeddings", false);
  r.only("hidden_act", {"silu"}, true);
  parse_attention(r, &c);
  parse_moe(r, *family, &c);
  parse_rope(r, &c);
  parse_indexer(r, &c);
  parse_quantization(r, &c);
  if (!r.error()) parse_tokens(r, &c);
  if (!r.error()) check_sizes(r, c);
  check_unknown_keys(r);
  if (r.error()) return *r.error();
  return c;
}

Result<ModelConfig> ModelConfig::load(const Path& model_dir) {
  const Path path = model_dir / "config.json";
  const auto text = read_file(path, kMaxConfigBytes);
  if (!text) {
    Error error = text.error();
    if (error.code == ErrorCode::kNotFound) error.text += "; give a directory that has it, or a *.gguf file";
    return error;
  }
  const auto json = Json::parse(*text, path.string());
  if (!json) return json.error();
  return parse(*json, path.string());
}

Json ModelConfig::to_json() const {
  const Family* family = family_of(model_type);
  check(family != nullptr, "a config to write has a known model_type");
  Json out = Json::object();
  out.set("architectures", Json::Array{Json(family->architecture)});
  out.set("model_type", model_type);
  out.set("vocab_size", vocab_size);
  out.set("hidden_size", hidden_size);
  out.set("num_hidden_layers", num_hidden_layers);
  out.set("intermediate_size", intermediate_size);
  out.set("hidden_act", "silu");
  out.set("rms_norm_eps", rms_norm_eps);
  out.set("num_attention_heads", num_attention_heads);
  out.set("num_key_value_heads", num_attention_heads);
  out.set("attention_bias", false);
  out.set("q_lora_rank", q_lora_rank > 0 ? Json(q_lora_rank) : Json());
  out.set("kv_lora_rank", kv_lora_rank);
  out.set("qk_nope_head_dim", qk_nope_head_dim);
  out.set("qk_rope_head_dim", qk_rope_head_dim);
  out.set("v_head_dim", v_head_dim);
  out.set("n_routed_experts", n_routed_experts > 0 ? Json(n_routed_experts) : Json());
  if (n_routed_experts > 0) {
    out.set("moe_intermediate_size", moe_intermediate_size);
    out.set("n_shared_experts", n_shared_experts > 0 ? Json(n_shared_experts) : Json());
    out.set("num_experts_per_tok", num_experts_per_tok);
    out.set("first_k_dense_replace", first_k_dense_replace);
    out.set("moe_layer_freq", moe_layer_freq);
    out.set("n_group", n_group);
    out.set("topk_group", topk_group);
    out.set("topk_method", name_in<TopkMethod>(kTopkMethods, topk_method));
    out.set("scoring_func", name_in<ScoringFunc>(kScoringFuncs, scoring_func));
    out.set("norm_topk_prob", norm_topk_prob);
    out.set("routed_scaling_factor", routed_scaling_factor);
  }
  out.set("num_nextn_predict_layers", num_nextn_predict_layers);
  out.set("max_position_embeddings", max_position_embeddings);
  if (index_topk > 0) out.set("index_topk", index_topk);
  out.set("rope_theta", rope_theta);
  Json scaling;
  if (rope_scaling) {
    scaling.set("type", "yarn");
    scaling.set("factor", rope_scaling->factor);
    scaling.set("original_max_position_embeddings", rope_scaling->original_max_position_embeddings);
    scaling.set("beta_fast", rope_scaling->beta_fast);
    scaling.set("beta_slow", rope_scaling->beta_slow);
    scaling.set("mscale", rope_scaling->mscale);
    scaling.set("mscale_all_dim", rope_scaling->mscale_all_dim);
  }
  out.set("rope_scaling", std::move(scaling));
  out.set("tie_word_embeddings", tie_word_embeddings);
  out.set("initializer_range", initializer_range);
  out.set("aux_loss_alpha", aux_loss_alpha);
  if (stored_formats) {
    Json formats = Json::object();
    for (const auto& [name, format] : stored_formats->entries()) formats.set(name, name_of(format));
    Json q = Json::object();
    q.set("quant_method", kOwnQuantMethod).set("group_size", kGroupSize).set("formats", std::move(formats));
    if (quantization && quantization->ue8m0_scales) q.set("scale_fmt", "ue8m0");
    out.set("quantization_config", std::move(q));
  } else if (quantization) {
    Json q = Json::object();
    q.set("quant_method", "fp8");
    q.set("fmt", "e4m3");
    q.set("activation_scheme", "dynamic");
    q.set("weight_block_size", Json::Array{kScaleBlock, kScaleBlock});
    if (quantization->ue8m0_scales) q.set("scale_fmt", "ue8m0");
    out.set("quantization_config", std::move(q));
  }
  out.set("bos_token_id", bos_token_id ? Json(*bos_token_id) : Json());
  Json eos;
  if (eos_token_id.size() == 1) {
    eos = eos_token_id.front();
  } else {
    for (int64_t id : eos_token_id) eos.push(id);
  }
  out.set("eos_token_id", std::move(eos));
  out.set("torch_dtype", "bfloat16");
  return out;
}

}  // namespace fathom
