#include "serve/logprobs_json.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <string_view>
#include <utility>

#include "text/utf8.h"

namespace fathom::serve {
namespace {

/// JSON has no infinity; this is what other servers write for it.
constexpr double kLeastLogprob = -9999;

double finite(double logprob) { return std::isfinite(logprob) ? std::max(logprob, kLeastLogprob) : kLeastLogprob; }

std::string_view bytes_of(const Tokenizer& tokenizer, int32_t token) {
  const auto bytes = tokenizer.bytes_of(token);
  return bytes ? *bytes : std::string_view{};
}

/// The name of a token where names are keys: its text, or "bytes:\xe2\x80" when that is no valid UTF-8, so that two cut
/// characters have two names.
std::string key_of(std::string_view bytes) {
  if (!first_invalid_utf8(bytes)) return std::string(bytes);
  std::string key = "bytes:";
  for (const char c : bytes) {
    char escaped[8];
    std::snprintf(escaped, sizeof(escaped), "\\x%02x", static_cast<unsigned>(static_cast<unsigned char>(c)));
    key += escaped;
  }
  return key;
}

Json chat_entry(const Tokenizer& tokenizer, const TokenLogprob& entry) {
  const std::string_view bytes = bytes_of(tokenizer, entry.token);
  Json codes = Json::array();
  for (const char c : bytes) codes.push(int64_t{static_cast<unsigned char>(c)});
  Json json = Json::object();
  return json.set("token", bytes).set("logprob", finite(entry.logprob)).set("bytes", std::move(codes));
}

/// Code points that begin in `bytes`.
int64_t count_characters(std::string_view bytes) {
  return std::count_if(bytes.begin(), bytes.end(),
                       [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; });
}

size_t num_hidden(const Tokenizer& tokenizer, std::span<const int32_t> prompt) {
  return !prompt.empty() && tokenizer.is_special(prompt.front()) ? 1 : 0;
}

}  // namespace

std::string echo_text(const Tokenizer& tokenizer, std::span<const int32_t> prompt) {
  const auto text = tokenizer.decode(prompt.subspan(num_hidden(tokenizer, prompt)));
  return text ? *text : "";
}

void LogprobsWriter::add_prompt(std::span<const int32_t> prompt, const std::vector<Logprobs>& logprobs) {
  for (size_t i = 0; i < prompt.size(); ++i) {
    add_text(prompt[i], i > 0 && i <= logprobs.size() ? &logprobs[i - 1] : nullptr,
             i >= num_hidden(tokenizer_, prompt));
  }
}

void LogprobsWriter::add(const Logprobs& logprobs) {
  if (!chat_) return add_text(logprobs.chosen.token, &logprobs, !tokenizer_.is_special(logprobs.chosen.token));
  Json entry = chat_entry(tokenizer_, logprobs.chosen);
  Json top = Json::array();
  for (const TokenLogprob& other : logprobs.top) top.push(chat_entry(tokenizer_, other));
  content_.push_back(std::move(entry.set("top_logprobs", std::move(top))));
}

void LogprobsWriter::add_text(int32_t token, const Logprobs* logprobs, bool shown) {
  const std::string_view bytes = bytes_of(tokenizer_, token);
  tokens_.push_back(key_of(bytes));
  text_offset_.push_back(num_characters_);
  if (shown) num_characters_ += count_characters(bytes);
  token_logprobs_.push_back(logprobs == nullptr ? Json() : Json(finite(logprobs->chosen.logprob)));
  if (logprobs == nullptr) return top_logprobs_.push_back(Json());
  Json top = Json::object();
  for (const TokenLogprob& entry : logprobs->top) {
    top.set(key_of(bytes_of(tokenizer_, entry.token)), finite(entry.logprob));
  }
  top.set(key_of(bytes), finite(logprobs->chosen.logprob));  // always there, as with OpenAI
  top_logprobs_.push_back(std::move(top));
}

Json LogprobsWriter::take() {
  Json json = Json::object();
  if (chat_) {
    if (content_.empty()) return {};
    return json.set("content", std::exchange(content_, {})).set("refusal", Json());
  }
  if (tokens_.empty()) return {};
  json.set("tokens", std::exchange(tokens_, {})).set("token_logprobs", std::exchange(token_logprobs_, {}));
  return json.set("top_logprobs", std::exchange(top_logprobs_, {})).set("text_offset", std::exchange(text_offset_, {}));
}

}  // namespace fathom::serve
