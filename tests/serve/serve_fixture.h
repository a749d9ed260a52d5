// A tiny random model whose tokens are bytes, with a chat template, as the API needs it; and a server around it.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "../model/test_models.h"
#include "client.h"
#include "kernels/registry.h"
#include "serve/server.h"
#include "text/tokenizer.h"

namespace fathom::testing {

inline constexpr int32_t kBos = 256;
/// Longer than any test has the patience to fill: a request without max_tokens ends when its client does.
inline constexpr int64_t kContext = 200'000;

/// A token per byte, then <bos>.
inline Tokenizer byte_tokenizer() {
  TokenizerSpec spec;
  for (int byte = 0; byte < 256; ++byte) spec.vocab.push_back({std::string(1, static_cast<char>(byte)), byte});
  spec.added_tokens.push_back({.content = "<bos>", .id = kBos});
  return *Tokenizer::create(spec);
}

class ServeFixture : public ::testing::Test {
 protected:
  ServeFixture() : tokenizer_(byte_tokenizer()), pool_(1) {
    ModelConfig config = awkward_config();
    config.vocab_size = 257;
    config.max_position_embeddings = kContext;
    config.rope_scaling.reset();
    model_ = random_model(config, 1);
    kernels_ = *make_kernels("cpu", pool_);
    auto parsed = ChatTemplate::parse(
        "{{ bos_token }}{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}"
        "{% if messages[0].role == 'robot' %}{{ raise_exception('no robots') }}{% endif %}"
        "{% if thinking %}<think>{% endif %}",
        "template");
    EXPECT_TRUE(parsed);
    format_ = std::make_unique<ChatFormat>(ChatFormat{*parsed, "<bos>", ""});
    engine_options_.max_cache_tokens = 4 * kContext;
    // Printable bytes only, so that answers are text, and no end: as long as a test asks.
    engine_options_.allowed_tokens.assign(257, false);
    for (size_t c = 'a'; c <= 'z'; ++c) engine_options_.allowed_tokens[c] = true;
    engine_options_.allowed_tokens[' '] = true;
    options_.http.port = 0;
    options_.version = "1.2.3";
  }

  serve::ServedModel served() {
    engine_ = std::make_unique<Engine>(*model_, *kernels_, engine_options_);
    return {.engine = engine_.get(),
            .tokenizer = &tokenizer_,
            .chat_format = format_.get(),
            .encode_prompt = [this](std::string_view text) -> Result<std::vector<int32_t>> {
              auto ids = tokenizer_.encode(text, AddedTokens::kParse);
              if (!ids) return ids.error();
              if (ids->empty() || ids->front() != kBos) ids->insert(ids->begin(), kBos);
              return ids;
            },
            .defaults = {.temperature = 0},
            .speculation = speculation_,
            .vocab_size = 257,
            .max_model_len = kContext,
            .names = {"tiny", "other-name"},
            .tools = tools_,
            .weights = guard_.get(),
            .weight_pause_ms = weight_pause_ms_};
  }
  void start(bool attach = true) {
    auto started = serve::Server::start(options_);
    ASSERT_TRUE(started) << started.error().text;
    server_ = std::move(*started);
    if (attach) server_->attach(served());
  }
  int64_t port() const { return server_->port(); }
  Response ask(std::string_view method, std::string_view path, std::string_view body = "",
               std::string_view headers = "") {
    Client client(port());
    return client.ask(method, path, body, headers);
  }
  /// The value of a metric without labels, or of the line that begins with `name`.
  double metric(const std::string& name) {
    const std::string text = "\n" + ask("GET", "/metrics").body;
    const size_t at = text.find("\n" + name + " ");
    return at == std::string::npos ? -1 : std::strtod(text.c_str() + at + name.size() + 2, nullptr);
  }

  Tokenizer tokenizer_;
  ThreadPool pool_;
  std::unique_ptr<Model> model_;
  std::unique_ptr<Kernels> kernels_;
  std::unique_ptr<ChatFormat> format_;
  EngineOptions engine_options_;
  std::unique_ptr<serve::WeightGuard> guard_;
  int64_t weight_pause_ms_ = 600'000;
  serve::ToolFormat tools_ = serve::ToolFormat::kNone;
  SpeculationParams speculation_;  // of requests that do not say otherwise
  std::unique_ptr<Engine> engine_;
  serve::ServerOptions options_;
  std::unique_ptr<serve::Server> server_;
};

}  // namespace fathom::testing
