// Choice: one sequence of a response on its way from token ids to text: decoding that never cuts a character, stop
// strings, and the reasoning apart from the answer.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "engine/sequence.h"
#include "engine/stop_scanner.h"
#include "serve/parsers.h"
#include "text/tokenizer.h"

namespace fathom::serve {

class Choice {
 public:
  /// The tokenizer must outlive the choice.
  Choice(const Tokenizer& tokenizer, const std::vector<std::string>& stops, ReasoningSplitter splitter)
      : decoder_(tokenizer, SpecialTokens::kSkip), scanner_(stops), splitter_(std::move(splitter)) {}

  /// The text that a token makes certain; a stop token has none. Errors: an id without a token.
  Result<SplitText> push(int32_t token, FinishReason finish);
  /// The end: what was held back.
  SplitText flush();

  bool stopped_by_string() const { return scanner_.stopped(); }
  int64_t num_tokens() const { return num_tokens_; }
  int64_t num_reasoning_tokens() const { return num_reasoning_tokens_; }

 private:
  StreamDecoder decoder_;
  StopScanner scanner_;
  ReasoningSplitter splitter_;
  int64_t num_tokens_ = 0;
  int64_t num_reasoning_tokens_ = 0;
};

}  // namespace fathom::serve
