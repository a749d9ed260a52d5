// Fuzz target: whatever a model writes, byte by byte, becomes an answer of valid UTF-8 that does not depend on how it
// was cut: reasoning, text and tool calls of the stream are those of the whole, and every event of the stream is read
// back as it was sent.
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "base/check.h"
#include "base/json.h"
#include "serve/parsers.h"
#include "serve/stream.h"
#include "serve/tool_parser.h"
#include "text/utf8.h"

namespace {

using namespace fathom;
using namespace fathom::serve;

struct Answer {
  std::string reasoning, content;
  std::vector<std::string> names, arguments;
  bool operator==(const Answer&) const = default;
};

/// A client of server-sent events (WHATWG HTML, 9.2.6), fed in pieces: the data of every event.
class EventReader {
 public:
  void push(std::string_view bytes) {
    for (const char c : bytes) {
      const bool second_half = c == '\n' && last_ == '\r';
      last_ = c;
      if (second_half) continue;
      if (c == '\n' || c == '\r') {
        end_line();
      } else {
        line_ += c;
      }
    }
  }
  std::vector<std::string> events;

 private:
  void end_line() {
    if (line_.empty()) {
      if (has_data_) events.push_back(data_);
      data_.clear();
      has_data_ = false;
    } else {
      check(line_.starts_with("data: "), "a stream has data lines only");
      if (has_data_) data_ += '\n';
      data_ += line_.substr(6);
      has_data_ = true;
    }
    line_.clear();
  }
  std::string line_, data_;
  bool has_data_ = false;
  char last_ = 0;
};

class Writer {
 public:
  Writer(ReasoningFormat reasoning, ToolFormat tools, std::string_view prompt_tail, std::string_view forced)
      : splitter_(reasoning, prompt_tail), calls_(tools, forced, 8) {}
  void push(std::string_view text) {
    const SplitText split = splitter_.push(text);
    add(split.reasoning, calls_.push(split.content));
  }
  Answer finish() {
    const SplitText split = splitter_.flush();
    add(split.reasoning, calls_.push(split.content));
    add("", calls_.flush());
    check(calls_.num_calls() == static_cast<int64_t>(answer.names.size()), "calls are counted as they are told");
    check(calls_.num_calls() <= 8, "calls are bounded");
    return answer;
  }
  Answer answer;
  std::string streamed;
  std::vector<std::string> sent;

 private:
  void add(std::string_view reasoning, const ToolText& text) {
    answer.reasoning += reasoning;
    answer.content += text.content;
    for (const ToolDelta& delta : text.calls) {
      if (delta.begins) {
        answer.names.push_back(delta.name);
        answer.arguments.emplace_back();
      }
      check(delta.index + 1 == static_cast<int64_t>(answer.names.size()), "a piece belongs to the last call");
      answer.arguments.back() += delta.arguments;
      send(delta.arguments);
    }
    send(std::string(reasoning));
    send(text.content);
  }
  void send(const std::string& text) {
    if (text.empty()) return;
    sent.push_back(text);
    streamed += sse_event(Json::object().set("delta", text).dump());
  }

  ReasoningSplitter splitter_;
  ToolCallParser calls_;
};

void check_utf8(const std::string& text) { check(!first_invalid_utf8(text), "an answer is UTF-8"); }

/// Raw text as the data of one event: line breaks of every kind come back as '\n'.
void check_raw_event(std::string_view text) {
  std::string expected;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\r' && i + 1 < text.size() && text[i + 1] == '\n') continue;
    expected += text[i] == '\r' ? '\n' : text[i];
  }
  EventReader reader;
  reader.push(sse_event(text));
  reader.push(sse_done());
  check(reader.events.size() == 2 && reader.events[0] == expected && reader.events[1] == "[DONE]",
        "an event is read as it was written");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 3 || size > 1024) return 0;  // an event a byte: longer ones only take longer
  constexpr ReasoningFormat kReasoning[] = {ReasoningFormat::kNone, ReasoningFormat::kAuto,
                                            ReasoningFormat::kDeepseekR1};
  constexpr ToolFormat kTools[] = {ToolFormat::kNone, ToolFormat::kDeepseekV3, ToolFormat::kDeepseekV31,
                                   ToolFormat::kKimiK2};
  const ReasoningFormat reasoning = kReasoning[data[0] % 3];
  const ToolFormat tools = kTools[data[0] / 3 % 4];
  const std::string_view tail = (data[0] & 64) != 0 ? "<think>\n" : "";
  const std::string forced = (data[0] & 128) != 0 && tools != ToolFormat::kNone ? forced_call(tools, "f") : "";
  const size_t piece = 1 + data[1] % 16;
  const std::string_view bytes(reinterpret_cast<const char*>(data + 2), size - 2);
  check_raw_event(bytes);

  // As the decoder gives it: whole characters, U+FFFD for what is none.
  Writer whole(reasoning, tools, tail, forced), cut(reasoning, tools, tail, forced);
  std::string pending(bytes), text;
  take_utf8(pending, true, text);
  whole.push(text);
  pending.clear();
  for (size_t at = 0; at < bytes.size(); at += piece) {
    pending += bytes.substr(at, piece);
    std::string ready;
    take_utf8(pending, false, ready);
    cut.push(ready);
  }
  std::string last;
  take_utf8(pending, true, last);
  cut.push(last);
  check(whole.finish() == cut.finish(), "cuts decide about nothing");
  check_utf8(cut.answer.content);
  check_utf8(cut.answer.reasoning);
  for (const std::string& arguments : cut.answer.arguments) check_utf8(arguments);

  EventReader reader;
  for (size_t at = 0; at < cut.streamed.size(); at += piece)
    reader.push(std::string_view(cut.streamed).substr(at, piece));
  check(reader.events.size() == cut.sent.size(), "every event arrives");
  for (size_t i = 0; i < cut.sent.size(); ++i) {
    const auto json = Json::parse(reader.events[i], "event");
    check(json && json->find("delta")->as_string() == cut.sent[i],
          "an event has the text that was sent, a character whole");
  }
  return 0;
}
