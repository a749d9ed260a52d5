#include "serve/choice.h"

namespace fathom::serve {

Result<SplitText> Choice::push(int32_t token, FinishReason finish) {
  ++num_tokens_;
  if (splitter_.in_reasoning()) ++num_reasoning_tokens_;
  if (finish == FinishReason::kStopToken) return SplitText{};
  const auto text = decoder_.push(token);
  if (!text) return text.error();
  return splitter_.push(scanner_.push(*text));
}

SplitText Choice::flush() {
  SplitText out = splitter_.push(scanner_.push(decoder_.flush()));
  const SplitText held = splitter_.push(scanner_.flush());
  const SplitText last = splitter_.flush();
  out.reasoning += held.reasoning + last.reasoning;
  out.content += held.content + last.content;
  return out;
}

}  // namespace fathom::serve
