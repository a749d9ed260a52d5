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
  /// The tokenizer must outlive the choice. Special tokens are part of the text if `shown`: of tool calls.
  Choice(const Tokenizer& tokenizer, const std::vector<std::string>& stops, ReasoningSplitter splitter,
         ToolCallParser calls, SpecialTokens shown)
      : decoder_(tokenizer, shown), scanner_(stops), splitter_(std::move(splitter)), calls_(std::move(calls)) {}

  /// The text that a token makes certain; a stop token has none. Errors: an id without a token.
  Result<ChoiceText> push(int32_t token, FinishReason finish);
  /// The end: what was held back.
  ChoiceText flush();

  int64_t num_calls() const { return calls_.num_calls(); }
  bool stopped_by_string() const { return scanner_.stopped(); }
  int64_t num_tokens() const { return num_tokens_; }
  int64_t num_reasoning_tokens() const { return num_reasoning_tokens_; }

 private:
  ChoiceText split(std::string_view text);

  StreamDecoder decoder_;
  StopScanner scanner_;
  ReasoningSplitter splitter_;
  ToolCallParser calls_;
  int64_t num_tokens_ = 0;
  int64_t num_reasoning_tokens_ = 0;
};

}  // namespace fathom::serve
