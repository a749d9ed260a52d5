#include "serve/tool_parser.h"

#include <algorithm>
#include <utility>

namespace fathom::serve {

namespace {

// The bars are U+FF5C and the blanks U+2581, as in the tokenizers.
constexpr std::string_view kCallsBegin = "<｜tool▁calls▁begin｜>", kCallsEnd = "<｜tool▁calls▁end｜>";
constexpr std::string_view kCallBegin = "<｜tool▁call▁begin｜>", kCallEnd = "<｜tool▁call▁end｜>";

constexpr ToolMarkup kV3 = {.calls_begin = kCallsBegin,
                            .call_begin = kCallBegin,
                            .before_name = "function<｜tool▁sep｜>",
                            .behind_name = "\n```json\n",
                            .behind_fence = "\n```",
                            .call_end = kCallEnd,
                            .calls_end = kCallsEnd};
constexpr ToolMarkup kV31 = {.calls_begin = kCallsBegin,
                             .call_begin = kCallBegin,
                             .before_name = "",
                             .behind_name = "<｜tool▁sep｜>",
                             .behind_fence = "",
                             .call_end = kCallEnd,
                             .calls_end = kCallsEnd};
constexpr ToolMarkup kK2 = {.calls_begin = "<|tool_calls_section_begin|>",
                            .call_begin = "<|tool_call_begin|>",
                            .before_name = "functions.",
                            .behind_name = "<|tool_call_argument_begin|>",
                            .behind_fence = "",
                            .call_end = "<|tool_call_end|>",
                            .calls_end = "<|tool_calls_section_end|>",
                            .numbered = true};

/// A longer name is none.
constexpr size_t kMaxHeaderBytes = 4096;

/// Bytes at the end of `text` that could become `mark`.
size_t undecided_bytes(std::string_view text, std::string_view mark) {
  if (mark.empty()) return 0;
  size_t count = std::min(text.size(), mark.size() - 1);
  while (!mark.starts_with(text.substr(text.size() - count))) --count;
  return count;
}

}  // namespace

Result<ToolFormat> parse_tool_format(std::string_view name) {
  std::string key(name);
  std::replace(key.begin(), key.end(), '-', '_');
  if (key == "none") return ToolFormat::kNone;
  if (key == "deepseek_v3" || key == "deepseekv3" || key == "deepseek_r1") return ToolFormat::kDeepseekV3;
  if (key == "deepseek_v31" || key == "deepseekv31") return ToolFormat::kDeepseekV31;
  if (key == "kimi_k2") return ToolFormat::kKimiK2;
  return invalid("tool call parser \"" + std::string(name) +
                 "\" is unknown; accepted: auto, deepseek_v3, deepseek_v31, kimi_k2, none");
}

const ToolMarkup* markup_of(ToolFormat format) {
  switch (format) {
    case ToolFormat::kNone: return nullptr;
    case ToolFormat::kDeepseekV3: return &kV3;
    case ToolFormat::kDeepseekV31: return &kV31;
    case ToolFormat::kKimiK2: return &kK2;
  }
  return nullptr;
}

std::string forced_call(ToolFormat format, std::string_view name) {
  const ToolMarkup* markup = markup_of(format);
  if (markup == nullptr) return {};
  std::string text;
  for (std::string_view part : {markup->calls_begin, markup->call_begin, markup->before_name}) text += part;
  if (name.empty()) return text;
  text += name;
  if (markup->numbered) text += ":0";
  return text + std::string(markup->behind_name);
}

ToolCallParser::ToolCallParser(ToolFormat format, std::string_view forced, int64_t max_calls)
    : markup_(markup_of(format)), held_(forced), max_calls_(max_calls) {}

ToolText ToolCallParser::push(std::string_view piece) {
  ToolText out;
  held_ += piece;
  if (markup_ == nullptr) {
    out.content = std::exchange(held_, {});
    return out;
  }
  while (advance(out)) continue;
  return out;
}

ToolText ToolCallParser::flush() {
  ToolText out = push("");
  // The beginning of a mark that did not come, or of a call without a name: text after all.
  if (state_ == State::kArguments) {
    add_arguments(held_, out);
  } else if (state_ != State::kDone && !(state_ == State::kBetween && num_calls_ > 0)) {
    out.content += held_;
  }
  held_.clear();
  return out;
}

/// One step; false when more text is needed.
bool ToolCallParser::advance(ToolText& out) {
  const auto go_on = [this](size_t used, State state) {
    held_.erase(0, used);
    state_ = state;
    return true;
  };
  switch (state_) {
    case State::kContent: {
      const size_t at = held_.find(markup_->calls_begin);
      if (at != std::string::npos) {
        out.content += held_.substr(0, at);
        return go_on(at + markup_->calls_begin.size(), State::kBetween);
      }
      const size_t certain = held_.size() - undecided_bytes(held_, markup_->calls_begin);
      out.content += held_.substr(0, certain);
      held_.erase(0, certain);
      return false;
    }
    case State::kBetween: {
      const size_t begin = held_.find(markup_->call_begin), end = held_.find(markup_->calls_end);
      if (begin < end) return go_on(begin + markup_->call_begin.size(), State::kHeader);
      if (end != std::string::npos) return go_on(end + markup_->calls_end.size(), State::kDone);
      held_.erase(0, held_.size() - std::max(undecided_bytes(held_, markup_->call_begin),
                                             undecided_bytes(held_, markup_->calls_end)));
      return false;
    }
    case State::kHeader: {
      const size_t at = held_.find(markup_->behind_name);
      if (at == std::string::npos) {
        if (held_.size() <= kMaxHeaderBytes) return false;
        out.content += held_;
        return go_on(held_.size(), State::kContent);
      }
      begin_call(std::string_view(held_).substr(0, at), out);
      return go_on(at + markup_->behind_name.size(), State::kArguments);
    }
    case State::kArguments: {
      const size_t at = held_.find(markup_->call_end);
      if (at != std::string::npos) {
        std::string_view arguments = std::string_view(held_).substr(0, at);
        if (arguments.ends_with(markup_->behind_fence)) arguments.remove_suffix(markup_->behind_fence.size());
        add_arguments(arguments, out);
        return go_on(at + markup_->call_end.size(), State::kBetween);
      }
      const std::string fenced = std::string(markup_->behind_fence) + std::string(markup_->call_end);
      const size_t held = std::max(undecided_bytes(held_, fenced), undecided_bytes(held_, markup_->call_end));
      add_arguments(std::string_view(held_).substr(0, held_.size() - held), out);
      held_.erase(0, held_.size() - held);
      return false;
    }
    case State::kDone: held_.clear(); return false;
  }
  return false;
}

void ToolCallParser::begin_call(std::string_view header, ToolText& out) {
  dropping_ = num_calls_ >= max_calls_;
  if (dropping_) return;
  ToolDelta delta{.index = num_calls_++, .begins = true, .id = {}, .name = {}, .arguments = {}};
  if (markup_->numbered) delta.id = header;
  if (header.starts_with(markup_->before_name)) header.remove_prefix(markup_->before_name.size());
  if (markup_->numbered) header = header.substr(0, header.rfind(':'));
  const size_t first = std::min(header.find_first_not_of(" \n"), header.size());
  delta.name = header.substr(first, header.find_last_not_of(" \n") + 1 - first);
  out.calls.push_back(std::move(delta));
}

void ToolCallParser::add_arguments(std::string_view text, ToolText& out) {
  if (dropping_ || text.empty()) return;
  if (out.calls.empty() || out.calls.back().index != num_calls_ - 1) {
    out.calls.push_back({.index = num_calls_ - 1, .begins = false, .id = {}, .name = {}, .arguments = {}});
  }
  out.calls.back().arguments += text;
}

}  // namespace fathom::serve
