// Choice: one sequence of a response on its way from token ids to text: decoding that never cuts a character, stop
// strings, the reasoning and tool calls apart from the answer.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "engine/sequence.h"
#include "engine/stop_scanner.h"
#include "serve/parsers.h"
#include "serve/tool_parser.h"
#include "text/tokenizer.h"

namespace fathom::serve {

/// A piece of a choice.
struct ChoiceText {
  std::string reasoning;
  std::string content;
  std::vector<ToolDelta> calls = {};

  bool empty() const { return reasoning.empty() && content.empty() && calls.empty(); }
};

class Choice {
 public:
  /// The tokenizer must outlive the choice; `stops` has seen nothing yet. Special tokens are part of the text if
  /// `shown`: of tool calls.
  Choice(const Tokenizer& tokenizer, const StopScanner& stops, ReasoningSplitter splitter, ToolCallParser calls,
         SpecialTokens shown)
      : decoder_(tokenizer, shown), scanner_(stops), splitter_(std::move(splitter)), calls_(std::move(calls)) {}

  /// The text that a token makes certain; a stop token has none. Errors: an id without a token.
  Result<ChoiceText> push(int32_t token, FinishReason finish);
  /// The end: what was held back.
  ChoiceText flush();

  int64_t num_calls() const { return calls_.num_calls(); }
  bool stopped_by_string() const { return scanner_.stopped(); }
  int64_t num_tokens() const { return num_tokens_; }
  /// Bytes of text that tokens have made, and how many of them are certain not to be part of a stop string.
  size_t num_decoded_bytes() const { return num_decoded_bytes_; }
  size_t num_certain_bytes() const { return num_certain_bytes_; }
  int64_t num_reasoning_tokens() const { return num_reasoning_tokens_; }

 private:
  ChoiceText split(std::string_view text);
  ChoiceText scan(std::string_view text);

  StreamDecoder decoder_;
  StopScanner scanner_;
  ReasoningSplitter splitter_;
  ToolCallParser calls_;
  size_t num_decoded_bytes_ = 0, num_certain_bytes_ = 0;
  int64_t num_tokens_ = 0;
  int64_t num_reasoning_tokens_ = 0;
};

}  // namespace fathom::serve
