// Tool calls in model output: the markup of DeepSeek V3/R1, V3.1 and Kimi K2 apart from the text, piece by piece. What
// comes out does not depend on how the text was cut into pieces, and nothing of a cut-off answer is lost.
//   V3, R1: CALLS_BEGIN CALL_BEGIN function SEP name \n```json\n arguments \n``` CALL_END ... CALLS_END
//   V3.1:   CALLS_BEGIN CALL_BEGIN name SEP arguments CALL_END ... CALLS_END
//   K2:     SECTION_BEGIN CALL_BEGIN functions.name:index ARGUMENT_BEGIN arguments CALL_END ... SECTION_END
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace fathom::serve {

enum class ToolFormat { kNone, kDeepseekV3, kDeepseekV31, kKimiK2 };

/// Parses "none", "deepseek_v3", "deepseek_r1" (as V3), "deepseek_v31", "kimi_k2"; a hyphen counts as an underscore.
Result<ToolFormat> parse_tool_format(std::string_view name);

/// The marks of a format around calls, their names and arguments.
struct ToolMarkup {
  std::string_view calls_begin, call_begin;
  std::string_view before_name;   // between call_begin and the name
  std::string_view behind_name;   // between the name and the arguments
  std::string_view behind_fence;  // behind the arguments, if the model closes what behind_name opened
  std::string_view call_end, calls_end;
  bool numbered = false;  // the name is functions.NAME:INDEX
};
/// Of a format; nullptr of kNone.
const ToolMarkup* markup_of(ToolFormat format);

/// The markup in front of the arguments of a call to `name`, from the beginning of the calls on; with an empty name up
/// to where a name must follow. A prompt that ends in it can only be answered by a call.
std::string forced_call(ToolFormat format, std::string_view name);

/// A piece of a call.
struct ToolDelta {
  int64_t index = 0;
  bool begins = false;      // with it the name is known; further pieces of the call have arguments only
  std::string id{};         // of a call that begins, when the markup has one (K2)
  std::string name{};       // of a call that begins
  std::string arguments{};  // a piece of JSON text, as the model wrote it

  bool operator==(const ToolDelta&) const = default;
};

struct ToolText {
  std::string content;  // before the calls; what follows them is dropped
  std::vector<ToolDelta> calls;
};

class ToolCallParser {
 public:
  /// kNone: everything is content. `forced` is what the prompt already has of the markup. Calls from the max_calls-th
  /// on are dropped.
  ToolCallParser(ToolFormat format, std::string_view forced, int64_t max_calls);

  /// What is certain after this piece.
  ToolText push(std::string_view piece);
  /// The end of the stream: what was held back, as arguments or, where no call has begun, as content.
  ToolText flush();
  int64_t num_calls() const { return num_calls_; }

 private:
  enum class State { kContent, kBetween, kHeader, kArguments, kDone };

  bool advance(ToolText& out);
  void begin_call(std::string_view header, ToolText& out);
  void add_arguments(std::string_view text, ToolText& out);

  const ToolMarkup* markup_;  // none: everything is content
  State state_ = State::kContent;
  std::string held_;
  int64_t max_calls_;
  int64_t num_calls_ = 0;  // begun, dropped ones not counted
  bool dropping_ = false;
};

}  // namespace fathom::serve
