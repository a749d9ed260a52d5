#include "engine/model_text.h"

#include <string>
#include <utility>

#include "checkpoint/gguf_model.h"
#include "text/ggml_vocab.h"
#include "text/tiktoken.h"
#include "text/tokenizer_json.h"

namespace fathom {
namespace {

constexpr int64_t kMaxConfigBytes = int64_t{16} << 20;
constexpr int64_t kMaxRanksBytes = int64_t{64} << 20;  // Kimi-K2's has 3 MB

Result<TokenizerSpec> gguf_spec(const GgufMetadata& metadata) {
  const auto key = [](std::string_view name) { return "tokenizer.ggml." + std::string(name); };
  GgmlVocab vocab;
  for (const auto& [name, value] : {std::pair{"model", &vocab.model}, {"pre", &vocab.pre}}) {
    const auto text = metadata.text(key(name));
    if (!text) return text.error();
    *value = *text;
  }
  for (const auto& [name, list] : {std::pair{"tokens", &vocab.tokens}, {"merges", &vocab.merges}}) {
    auto texts = metadata.texts(key(name));
    if (!texts) return texts.error();
    *list = *std::move(texts);
  }
  if (metadata.has(key("token_type"))) {
    auto types = metadata.integers(key("token_type"));
    if (!types) return types.error();
    vocab.token_type = *std::move(types);
  }
  return spec_from_ggml_vocab(vocab, metadata.where());
}

Result<TokenizerSpec> directory_spec(const Path& dir) {
  const Path json_path = dir / "tokenizer.json";
  const Path ranks_path = dir / "tiktoken.model";
  const auto json = read_file(json_path);
  if (json) return spec_from_tokenizer_json(*json, json_path.string());
  if (json.error().code != ErrorCode::kNotFound) return json.error();
  const auto ranks = read_file(ranks_path, kMaxRanksBytes);
  if (!ranks) return ranks.error().code == ErrorCode::kNotFound ? json.error() : ranks.error();
  const Path config_path = dir / "tokenizer_config.json";
  const auto config = read_file(config_path, kMaxConfigBytes);
  if (!config) return config.error();
  return spec_from_tiktoken(*ranks, ranks_path.string(), *config, config_path.string());
}

/// The text of the token whose id is under `key`; empty without the key.
Result<std::string> gguf_token(const GgufMetadata& metadata, std::string_view key) {
  if (!metadata.has(key)) return std::string();
  const auto id = metadata.integer(key);
  if (!id) return id.error();
  const auto tokens = metadata.texts("tokenizer.ggml.tokens");
  if (!tokens) return tokens.error();
  if (*id < 0 || *id >= static_cast<int64_t>(tokens->size())) {
    return corrupt(metadata.where() + ": " + std::string(key) + " is " + std::to_string(*id) + ", but there are " +
                   std::to_string(tokens->size()) + " tokens");
  }
  return std::string((*tokens)[static_cast<size_t>(*id)]);
}

Result<ChatFormat> gguf_chat_format(const GgufMetadata& metadata) {
  const auto source = metadata.text("tokenizer.chat_template");
  if (!source) return source.error();
  auto bos = gguf_token(metadata, "tokenizer.ggml.bos_token_id");
  if (!bos) return bos.error();
  auto eos = gguf_token(metadata, "tokenizer.ggml.eos_token_id");
  if (!eos) return eos.error();
  auto parsed = ChatTemplate::parse(*source, metadata.where() + ": tokenizer.chat_template");
  if (!parsed) return parsed.error();
  return ChatFormat{*std::move(parsed), *std::move(bos), *std::move(eos)};
}

}  // namespace

Path tokenizer_path(const Path& model) {
  if (const auto gguf = find_gguf(model); gguf && *gguf) return **gguf;
  std::error_code ignored;
  const bool is_tiktoken = !std::filesystem::exists(model / "tokenizer.json", ignored) &&
                           std::filesystem::exists(model / "tiktoken.model", ignored);
  return model / (is_tiktoken ? "tiktoken.model" : "tokenizer.json");
}

Result<Tokenizer> load_tokenizer(const Path& model) {
  const auto gguf = find_gguf(model);
  if (!gguf) return gguf.error();
  Result<TokenizerSpec> spec = TokenizerSpec{};
  if (*gguf) {
    const auto file = GgufModel::open(**gguf);
    if (!file) return file.error();
    spec = gguf_spec(file->metadata());
  } else {
    spec = directory_spec(model);
  }
  if (!spec) return spec.error();
  auto tokenizer = Tokenizer::create(*spec);
  if (!tokenizer) return Error{tokenizer.error().code, tokenizer_path(model).string() + ": " + tokenizer.error().text};
  return tokenizer;
}

Result<ChatFormat> load_model_chat_format(const Path& model) {
  const auto gguf = find_gguf(model);
  if (!gguf) return gguf.error();
  if (!*gguf) return load_chat_format(model);
  const auto file = GgufModel::open(**gguf);
  if (!file) return file.error();
  return gguf_chat_format(file->metadata());
}

}  // namespace fathom
