// Parsers of model output: the reasoning between <think> and </think> apart from the answer, piece by piece. What comes
// out does not depend on how the text was cut into pieces.
#pragma once

#include <string>
#include <string_view>

#include "base/result.h"

namespace fathom::serve {

/// How a model marks its reasoning.
enum class ReasoningFormat {
  kNone,        // everything is the answer
  kAuto,        // reasoning when the prompt ends in an open <think> (V3.1 thinking, R1) or the output begins with one
  kDeepseekR1,  // the output begins inside the reasoning, whether or not the model repeats <think>
};

/// Parses "none", "auto", "deepseek_v3" (as auto), "deepseek_r1"; a hyphen counts as an underscore.
Result<ReasoningFormat> parse_reasoning_format(std::string_view name);

/// A piece of output, split.
struct SplitText {
  std::string reasoning;
  std::string content;
};

class ReasoningSplitter {
 public:
  /// `prompt_tail`: the end of the rendered prompt (its last 64 bytes are enough).
  ReasoningSplitter(ReasoningFormat format, std::string_view prompt_tail);

  /// What is certain after this piece. Line breaks next to the tags belong to the tags.
  SplitText push(std::string_view piece);
  /// The end of the stream: what was held back.
  SplitText flush();
  /// True while the next text would be reasoning.
  bool in_reasoning() const { return state_ == State::kReasoning; }

 private:
  enum class State { kStart, kReasoning, kContent };

  void advance(SplitText& out, bool last);

  State state_;
  State otherwise_;      // where kStart leads when no <think> comes
  bool at_tag_ = false;  // just behind a tag: line breaks are dropped
  std::string held_;
};

}  // namespace fathom::serve
