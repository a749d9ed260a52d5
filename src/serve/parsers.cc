#include "serve/parsers.h"

#include <algorithm>

namespace fathom::serve {
namespace {

constexpr std::string_view kOpen = "<think>", kClose = "</think>";
constexpr std::string_view kBlanks = " \t\r\n";

std::string_view without_blanks_behind(std::string_view text) {
  return text.substr(0, text.find_last_not_of(kBlanks) + 1);
}

/// Bytes at the end of `text` that could become line breaks and </think>, and so must wait.
size_t undecided_bytes(std::string_view text) {
  size_t tag = std::min(text.size(), kClose.size() - 1);
  while (!kClose.starts_with(text.substr(text.size() - tag))) --tag;
  const std::string_view before = text.substr(0, text.size() - tag);
  const size_t end = before.find_last_not_of('\n') + 1;
  return text.size() - end;
}

}  // namespace

Result<ReasoningFormat> parse_reasoning_format(std::string_view name) {
  std::string key(name);
  std::replace(key.begin(), key.end(), '-', '_');
  if (key == "none") return ReasoningFormat::kNone;
  // What vLLM and SGLang call the models that open <think> themselves or where the prompt has opened it.
  for (const char* each : {"auto", "deepseek_v3", "deepseek_v31", "deepseek_v32", "kimi_k2", "glm45"}) {
    if (key == each) return ReasoningFormat::kAuto;
  }
  if (key == "deepseek_r1") return ReasoningFormat::kDeepseekR1;
  return invalid("reasoning parser \"" + std::string(name) +
                 "\" is unknown; accepted: auto, deepseek_r1, deepseek_v3, none");
}

ReasoningSplitter::ReasoningSplitter(ReasoningFormat format, std::string_view prompt_tail)
    : state_(State::kContent), otherwise_(State::kContent) {
  if (format == ReasoningFormat::kNone) return;
  if (without_blanks_behind(prompt_tail).ends_with(kOpen)) {
    state_ = State::kReasoning;
    at_tag_ = true;
    return;
  }
  state_ = State::kStart;
  if (format == ReasoningFormat::kDeepseekR1) otherwise_ = State::kReasoning;
}

SplitText ReasoningSplitter::push(std::string_view piece) {
  SplitText out;
  held_ += piece;
  advance(out, false);
  return out;
}

SplitText ReasoningSplitter::flush() {
  SplitText out;
  advance(out, true);
  return out;
}

void ReasoningSplitter::advance(SplitText& out, bool last) {
  if (state_ == State::kStart) {
    const size_t begin = std::min(held_.find_first_not_of(kBlanks), held_.size());
    const std::string_view text = std::string_view(held_).substr(begin);
    if (text.starts_with(kOpen)) {
      held_.erase(0, begin + kOpen.size());
      state_ = State::kReasoning;
      at_tag_ = true;
    } else if (!last && kOpen.starts_with(text)) {
      return;
    } else {
      state_ = otherwise_;
    }
  }
  const auto drop_line_breaks = [this] {
    if (!at_tag_) return;
    held_.erase(0, std::min(held_.find_first_not_of('\n'), held_.size()));
    at_tag_ = held_.empty();
  };
  if (state_ == State::kReasoning) {
    drop_line_breaks();
    if (const size_t close = held_.find(kClose); close != std::string::npos) {
      const std::string_view before = std::string_view(held_).substr(0, close);
      out.reasoning += before.substr(0, before.find_last_not_of('\n') + 1);
      held_.erase(0, close + kClose.size());
      state_ = State::kContent;
      at_tag_ = true;
    } else {
      const size_t certain = held_.size() - (last ? 0 : undecided_bytes(held_));
      out.reasoning += held_.substr(0, certain);
      held_.erase(0, certain);
      return;
    }
  }
  drop_line_breaks();
  out.content += held_;
  held_.clear();
}

}  // namespace fathom::serve
