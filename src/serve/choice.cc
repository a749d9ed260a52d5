#include "serve/choice.h"

namespace fathom::serve {
namespace {

void append(ChoiceText& out, std::string_view reasoning, ToolText rest) {
  out.reasoning += reasoning;
  out.content += rest.content;
  for (ToolDelta& delta : rest.calls) {
    const bool goes_on = !delta.begins && !out.calls.empty() && out.calls.back().index == delta.index;
    if (goes_on) {
      out.calls.back().arguments += delta.arguments;
    } else {
      out.calls.push_back(std::move(delta));
    }
  }
}

}  // namespace

ChoiceText Choice::split(std::string_view text) {
  ChoiceText out;
  SplitText parts = splitter_.push(text);
  append(out, parts.reasoning, calls_.push(parts.content));
  return out;
}

Result<ChoiceText> Choice::push(int32_t token, FinishReason finish) {
  ++num_tokens_;
  if (splitter_.in_reasoning()) ++num_reasoning_tokens_;
  if (finish == FinishReason::kStopToken) return ChoiceText{};
  const auto text = decoder_.push(token);
  if (!text) return text.error();
  return scan(*text);
}

ChoiceText Choice::scan(std::string_view text) {
  num_decoded_bytes_ += text.size();
  const std::string certain = scanner_.push(text);
  num_certain_bytes_ += certain.size();
  return split(certain);
}

ChoiceText Choice::flush() {
  ChoiceText out = scan(decoder_.flush());
  ChoiceText held = split(scanner_.flush());
  append(out, held.reasoning, {.content = std::move(held.content), .calls = std::move(held.calls)});
  SplitText last = splitter_.flush();
  append(out, last.reasoning, calls_.push(last.content));
  append(out, {}, calls_.flush());
  return out;
}

}  // namespace fathom::serve
