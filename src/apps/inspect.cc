// fathom inspect: what a model is and whether it fits, before anything is loaded.
#include <array>
#include <cstdio>
#include <map>
#include <optional>

#include "apps/console.h"
#include "apps/verbs.h"
#include "base/machine.h"
#include "checkpoint/hf_hub.h"
#include "checkpoint/hf_index.h"
#include "model/gguf_config.h"
#include "model/gguf_weights.h"
#include "model/model.h"
#include "model/prepare_weights.h"
#include "model/stored_groups.h"
#include "model/tensor_plan.h"

namespace fathom::apps {
namespace {

constexpr std::array<std::pair<TensorClass, std::string_view>, 9> kClassNames{
    {{TensorClass::kEmbedding, "embedding"},
     {TensorClass::kAttention, "attention"},
     {TensorClass::kDenseFfn, "dense feed-forward"},
     {TensorClass::kRoutedExpert, "routed experts"},
     {TensorClass::kSharedExpert, "shared experts"},
     {TensorClass::kRouter, "routers"},
     {TensorClass::kNorm, "norms"},
     {TensorClass::kHead, "head"},
     {TensorClass::kMtp, "MTP projections"}}};

std::string_view method_name(const ModelConfig& c) {
  switch (c.topk_method) {
    case TopkMethod::kGreedy: return "greedy";
    case TopkMethod::kGroupLimitedGreedy: return "group_limited_greedy";
    case TopkMethod::kNoauxTc: return "noaux_tc";
  }
  return "?";
}

std::string shape_line(const ModelConfig& c) {
  std::string line = std::to_string(c.num_hidden_layers) + " layers, hidden " + std::to_string(c.hidden_size) + ", " +
                     std::to_string(c.num_attention_heads) + " heads, latent " + std::to_string(c.kv_lora_rank) + "+" +
                     std::to_string(c.qk_rope_head_dim) + ", vocabulary " + std::to_string(c.vocab_size);
  if (c.num_nextn_predict_layers > 0) line += ", " + std::to_string(c.num_nextn_predict_layers) + " MTP";
  return line;
}

std::string experts_line(const ModelConfig& c) {
  if (c.n_routed_experts == 0) return "none: every layer is dense";
  std::string line = std::to_string(c.n_routed_experts) + " routed, " + std::to_string(c.num_experts_per_tok) +
                     " per token, " + std::to_string(c.n_shared_experts) + " shared; gate " +
                     std::string(method_name(c)) + (c.scoring_func == ScoringFunc::kSigmoid ? "/sigmoid" : "/softmax");
  if (c.n_group > 1 && c.topk_method != TopkMethod::kGreedy) {
    line += ", " + std::to_string(c.topk_group) + " of " + std::to_string(c.n_group) + " groups";
  }
  return line;
}

struct Inspection {
  ModelConfig config;
  ParameterCount parameters;
  bool has_weights = false;
  int64_t weight_bytes = 0;   // stored
  int64_t decoded_bytes = 0;  // of copies in memory, for GGUF types that no product reads
  int64_t mapped_bytes = 0;   // not decoded, but packed to about the same size
  std::map<TensorClass, int64_t> class_bytes;
  std::optional<QuantPolicy> policy;  // of --quant; then also:
  Precision precision = Precision::kBF16;
  std::map<TensorClass, int64_t> memory_bytes;
  int64_t kept_bytes = 0;  // on the disk with --keep-prepared
  std::map<std::string, int64_t> dtype_bytes;
  CheckpointDifference difference;
  int64_t kv_bytes_per_token = 0;
  std::optional<int64_t> available_bytes;

  /// Tokens of the cache that the need is told with.
  int64_t cache_tokens() const { return std::min<int64_t>(4096, config.max_context()); }
  int64_t all_memory_bytes() const {
    int64_t sum = 0;
    for (const auto& [tensor_class, bytes] : memory_bytes) sum += bytes;
    return sum;
  }
  /// The weights, that cache and a tenth of slack.
  int64_t needed_bytes() const {
    const int64_t weights = policy ? all_memory_bytes() : mapped_bytes + decoded_bytes;
    return weights + weights / 10 + kv_bytes_per_token * cache_tokens();
  }
};

/// Without weights the sizes are those of the dtype that the config says.
int64_t planned_bytes(const ModelConfig& config, const TensorSpec& spec) {
  if (spec.is_optional) return 0;
  if (const auto& formats = config.stored_formats;
      formats && groups_of(formats->format_of(spec)) != GroupFormat::kNone) {
    return prepared_bytes(spec, DType::kI8, groups_of(formats->format_of(spec)), {}, Precision::kF32);
  }
  if (config.quantization && spec.fp8_when_quantized) {
    const auto scales = scale_shape(spec.shape);
    return spec.num_elements() + scales[0] * scales[1] * 4;
  }
  return spec.num_elements() * 2;
}

void add_tensor(Inspection& in, const TensorSpec& spec, int64_t stored, int64_t decoded) {
  in.class_bytes[spec.tensor_class] += stored;
  in.weight_bytes += stored;
  (decoded > 0 ? in.decoded_bytes : in.mapped_bytes) += decoded > 0 ? decoded : stored;
}

/// Memory of a tensor that a file has as `stored`, and of the copy that a tied head becomes.
void add_memory(Inspection& in, const TensorSpec& spec, DType stored) {
  if (!in.policy || spec.is_optional) return;
  const auto groups = [&](const TensorSpec& s) {
    return in.config.stored_formats ? groups_of(in.config.stored_formats->format_of(s)) : GroupFormat::kNone;
  };
  const auto bytes = [&](const TensorSpec& s) {
    in.kept_bytes += kept_bytes(s, stored, groups(s), *in.policy, in.precision);
    return prepared_bytes(s, stored, groups(s), *in.policy, in.precision);
  };
  if (spec.tensor_class == TensorClass::kEmbedding && stored == DType::kF32) in.precision = Precision::kF32;
  in.memory_bytes[spec.tensor_class] += bytes(spec);
  if (spec.tensor_class != TensorClass::kEmbedding || !in.config.tie_word_embeddings) return;
  const TensorSpec head = tied_head(in.config);
  const bool is_packed = in.precision == Precision::kBF16 || in.policy->format_of(head) != WeightFormat::kStored;
  if (is_packed) in.memory_bytes[head.tensor_class] += bytes(head);
}

Status inspect_gguf(const Path& path, Inspection& in) {
  const auto file = GgufModel::open(path);
  if (!file) return file.error();
  auto config = config_from_gguf(*file);
  if (!config) return config.error();
  in.config = *std::move(config);
  in.has_weights = true;
  in.difference = compare_with_plan(in.config, *file);
  for (const GgufTensor* tensor : file->tensors()) {
    in.dtype_bytes[std::string(info_of(tensor->type).name)] += static_cast<int64_t>(tensor->bytes.size());
  }
  for (const TensorSpec& spec : expected_tensors(in.config)) {
    const GgufBytes bytes = gguf_bytes(spec, in.config, *file);
    add_tensor(in, spec, bytes.stored, bytes.decoded);
    const int64_t in_place = bytes.decoded > 0 ? bytes.decoded : bytes.stored;
    add_memory(in, spec, in_place == 4 * spec.num_elements() ? DType::kF32 : DType::kBF16);
  }
  return {};
}

Status inspect_dir(const Path& dir, Inspection& in) {
  auto config = ModelConfig::load(dir);
  if (!config) return config.error();
  in.config = *std::move(config);
  in.has_weights = std::filesystem::exists(dir / kSingleFileName) || std::filesystem::exists(dir / kIndexFileName);
  if (!in.has_weights) {
    for (const TensorSpec& spec : expected_tensors(in.config)) {
      add_tensor(in, spec, planned_bytes(in.config, spec), 0);
      add_memory(in, spec, in.config.quantization && spec.fp8_when_quantized ? DType::kE4M3 : DType::kBF16);
    }
    return {};
  }
  const auto checkpoint = Checkpoint::open(dir);
  if (!checkpoint) return checkpoint.error();
  in.difference = compare_with_plan(in.config, *checkpoint);
  for (std::string_view name : checkpoint->names()) {
    const StoredTensor* stored = checkpoint->find(name);
    in.dtype_bytes[std::string(name_of(stored->dtype))] += static_cast<int64_t>(stored->bytes.size());
  }
  for (const TensorSpec& spec : expected_tensors(in.config)) {
    int64_t bytes = 0;
    for (const std::string& name : {spec.name, scale_name(spec.name), group_scale_name(spec.name)}) {
      const StoredTensor* stored = checkpoint->find(name);
      if (stored != nullptr) bytes += static_cast<int64_t>(stored->bytes.size());
    }
    add_tensor(in, spec, bytes, 0);
    if (const StoredTensor* stored = checkpoint->find(spec.name)) add_memory(in, spec, stored->dtype);
  }
  return {};
}

Result<Inspection> inspect_model(const Path& model, const std::optional<QuantPolicy>& policy) {
  const auto gguf = find_gguf(model);
  if (!gguf) return gguf.error();
  Inspection in;
  in.policy = policy;
  if (auto s = *gguf ? inspect_gguf(**gguf, in) : inspect_dir(model, in); !s) return s.error();
  if (policy) {
    if (auto s = check_parts(*policy, in.config); !s) return s.error();
  }
  in.parameters = count_parameters(in.config);
  in.kv_bytes_per_token = kv_cache_bytes_per_token(in.config);
  in.available_bytes = inspect_machine().memory_available_bytes;
  return in;
}

void print_json(const Path& dir, const Inspection& in) {
  Json json = Json::object();
  json.set("path", dir.string()).set("model_type", in.config.model_type).set("config", in.config.to_json());
  json.set("parameters", Json::object()
                             .set("total", in.parameters.total)
                             .set("active", in.parameters.active_with_head)
                             .set("active_without_head", in.parameters.active)
                             .set("active_with_head_and_embedding", in.parameters.active_with_head_and_embedding)
                             .set("mtp", in.parameters.mtp));
  Json classes = Json::object();
  for (const auto& [tensor_class, name] : kClassNames) {
    const auto found = in.class_bytes.find(tensor_class);
    if (found != in.class_bytes.end()) classes.set(name, found->second);
  }
  if (in.policy) {
    Json memory = Json::object();
    for (const auto& [tensor_class, name] : kClassNames) {
      const auto found = in.memory_bytes.find(tensor_class);
      if (found != in.memory_bytes.end()) memory.set(name, found->second);
    }
    json.set("quant", in.policy->text()).set("memory_by_class", memory).set("memory_bytes", in.all_memory_bytes());
    json.set("prepared_file_bytes", in.kept_bytes);
  }
  json.set("bytes_by_class", classes).set("weight_bytes", in.weight_bytes);
  Json types = Json::object();
  for (const auto& [name, bytes] : in.dtype_bytes) types.set(name, bytes);
  json.set("bytes_by_type", types).set("decoded_bytes", in.decoded_bytes);
  json.set("weights_present", in.has_weights).set("kv_bytes_per_token_bf16", in.kv_bytes_per_token);
  json.set("kv_bytes_per_token_fp8", kv_cache_bytes_per_token(in.config, DType::kE4M3));
  json.set("needed_bytes", in.needed_bytes());
  if (in.available_bytes) {
    json.set("available_bytes", *in.available_bytes).set("fits", in.needed_bytes() <= *in.available_bytes);
  }
  const auto list = [](const std::vector<std::string>& names) {
    Json array = Json::array();
    for (const std::string& name : names) array.push(name);
    return array;
  };
  json.set("missing_tensors", list(in.difference.missing)).set("unexpected_tensors", list(in.difference.unexpected));
  json.set("wrong_tensors", list(in.difference.wrong)).set("skipped_tensors", list(in.difference.skipped));
  std::printf("%s\n", json.dump(2).c_str());
}

void print_row(std::string_view name, const std::string& value) {
  std::printf("  %-22.*s %s\n", static_cast<int>(name.size()), name.data(), value.c_str());
}

void print_names(std::string_view what, const std::vector<std::string>& names) {
  if (names.empty()) return;
  constexpr size_t kShown = 5;
  std::string line;
  for (size_t i = 0; i < std::min(kShown, names.size()); ++i) line += (i == 0 ? "" : ", ") + names[i];
  if (names.size() > kShown) line += ", and " + std::to_string(names.size() - kShown) + " more (--json lists all)";
  print_row(what, std::to_string(names.size()) + ": " + line);
}

void print_text(const Path& dir, const Inspection& in) {
  std::printf("%s\n", styled(dir.string(), "1").c_str());
  print_row("model", in.config.model_type + ", " + shape_line(in.config));
  print_row("experts", experts_line(in.config));
  print_row("parameters", count_text(in.parameters.total) + ", active per token " +
                              count_text(in.parameters.active_with_head) + " with the head" +
                              (in.parameters.mtp > 0 ? ", MTP " + count_text(in.parameters.mtp) : ""));
  const bool is_limited = in.config.max_context() < in.config.max_position_embeddings;
  print_row("context",
            is_limited ? in.config.max_context_text() : std::to_string(in.config.max_position_embeddings) + " tokens");
  print_row("KV cache", std::to_string(in.kv_bytes_per_token) + " bytes per token in BF16, " +
                            std::to_string(kv_cache_bytes_per_token(in.config, DType::kE4M3)) + " in FP8");
  print_row("weights", bytes_text(in.weight_bytes) + (in.has_weights ? "" : " expected (no weights in the directory)"));
  for (const auto& [tensor_class, name] : kClassNames) {
    const auto found = in.class_bytes.find(tensor_class);
    if (found == in.class_bytes.end() || found->second == 0) continue;
    const auto memory = in.memory_bytes.find(tensor_class);
    print_row("  " + std::string(name),
              bytes_text(found->second) +
                  (memory == in.memory_bytes.end() ? "" : ", in memory " + bytes_text(memory->second)));
  }
  std::string dtypes;
  for (const auto& [name, bytes] : in.dtype_bytes)
    dtypes += (dtypes.empty() ? "" : ", ") + name + " " + bytes_text(bytes);
  if (!dtypes.empty()) print_row("stored as", dtypes);
  if (in.policy) {
    print_row("in memory", bytes_text(in.all_memory_bytes()) + " as " + in.policy->text());
    if (in.kept_bytes > 0) print_row("on disk", bytes_text(in.kept_bytes) + " more with --keep-prepared");
  } else if (in.decoded_bytes > 0) {
    print_row("in memory", bytes_text(in.decoded_bytes) + " decoded, " + bytes_text(in.mapped_bytes) +
                               " with the codes of the file, packed into memory too");
  }
  if (in.available_bytes) {
    const bool fits = in.needed_bytes() <= *in.available_bytes;
    print_row("this machine", std::string(fits ? styled("fits", "32") : styled("does not fit", "31")) +
                                  ": needs about " + bytes_text(in.needed_bytes()) + " with a " +
                                  std::to_string(in.cache_tokens()) + "-token cache, " +
                                  bytes_text(*in.available_bytes) + " available");
  }
  print_names("missing tensors", in.difference.missing);
  print_names("unexpected tensors", in.difference.unexpected);
  print_names("wrong tensors", in.difference.wrong);
  print_names("skipped tensors", in.difference.skipped);
}

}  // namespace

Status inspect(const InspectOptions& options) {
  const auto dir = resolve_model_dir(options.model, HubEnvironment::of_process());
  if (!dir) return dir.error();
  std::optional<QuantPolicy> policy;
  if (!options.quant.empty()) {
    const auto parsed = parse_quant_policy(options.quant);
    if (!parsed) return Error{parsed.error().code, "--quant: " + parsed.error().text};
    policy = *parsed;
  }
  const auto inspection = inspect_model(*dir, policy);
  if (!inspection) return inspection.error();
  options.json ? print_json(*dir, *inspection) : print_text(*dir, *inspection);
  return {};
}

}  // namespace fathom::apps
