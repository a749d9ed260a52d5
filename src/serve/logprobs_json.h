// Log-probabilities of a choice's tokens in OpenAI's two shapes: "logprobs": {"content": [...]} of a chat, and
// {"tokens", "token_logprobs", "top_logprobs", "text_offset"} of a text completion. Collected as tokens come, taken in
// pieces.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/json.h"
#include "engine/logprobs.h"
#include "text/tokenizer.h"

namespace fathom::serve {

/// What is shown of a prompt that is echoed: its text without a special token at the front (BOS).
std::string echo_text(const Tokenizer& tokenizer, std::span<const int32_t> prompt);

class LogprobsWriter {
 public:
  /// The tokenizer must outlive the writer.
  LogprobsWriter(const Tokenizer& tokenizer, bool chat) : tokenizer_(tokenizer), chat_(chat) {}

  /// The prompt in front of a text completion's answer; `logprobs` are of its tokens from the second on. The first has
  /// none: null.
  void add_prompt(std::span<const int32_t> prompt, const std::vector<Logprobs>& logprobs);
  /// A generated token.
  void add(const Logprobs& logprobs);

  /// The object for the tokens since the last call; null when there are none.
  Json take();

 private:
  void add_text(int32_t token, const Logprobs* logprobs, bool shown);

  const Tokenizer& tokenizer_;
  bool chat_;
  int64_t num_characters_ = 0;  // of the text so far, in code points
  Json::Array content_;         // chat
  Json::Array tokens_, token_logprobs_, top_logprobs_, text_offset_;
};

}  // namespace fathom::serve
