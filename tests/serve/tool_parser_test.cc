// Tool calls out of text: every markup, however the text is cut, also when it ends too soon.
#include "serve/tool_parser.h"

#include <gtest/gtest.h>

namespace fathom::serve {
namespace {

struct Call {
  std::string id, name, arguments;
  bool operator==(const Call&) const = default;
};
std::ostream& operator<<(std::ostream& out, const Call& c) { return out << c.id << ":" << c.name << c.arguments; }

struct Parsed {
  std::string content;
  std::vector<Call> calls;
};

Parsed parse(ToolFormat format, std::string_view forced, std::string_view output, size_t piece, int64_t max = 100) {
  ToolCallParser parser(format, forced, max);
  Parsed out;
  const auto add = [&](const ToolText& text) {
    out.content += text.content;
    for (const ToolDelta& delta : text.calls) {
      if (delta.begins) out.calls.push_back({delta.id, delta.name, ""});
      ASSERT_EQ(delta.index + 1, std::ssize(out.calls));
      out.calls.back().arguments += delta.arguments;
    }
  };
  for (size_t i = 0; i < output.size(); i += piece) add(parser.push(output.substr(i, piece)));
  add(parser.flush());
  EXPECT_EQ(parser.num_calls(), std::ssize(out.calls));
  return out;
}

struct Case {
  ToolFormat format;
  std::string forced, output, content;
  std::vector<Call> calls;
};

const std::string kBegin = "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>", kSep = "<｜tool▁sep｜>";
const std::string kNext = "<｜tool▁call▁end｜><｜tool▁call▁begin｜>";
const std::string kEnd = "<｜tool▁call▁end｜><｜tool▁calls▁end｜>";

const std::vector<Case> kCases = {
    {ToolFormat::kDeepseekV31, "", "Hello", "Hello", {}},
    {ToolFormat::kDeepseekV31, "", "a < b <｜tool", "a < b <｜tool", {}},
    {ToolFormat::kDeepseekV31, "", "So:" + kBegin + "f" + kSep + R"({"a":1})" + kEnd, "So:", {{"", "f", R"({"a":1})"}}},
    {ToolFormat::kDeepseekV31,
     "",
     kBegin + "f" + kSep + "{}" + kNext + "g" + kSep + R"({"b":"<｜tool"})" + kEnd + "tail",
     "",
     {{"", "f", "{}"}, {"", "g", R"({"b":"<｜tool"})"}}},
    {ToolFormat::kDeepseekV31, "", kBegin + "f" + kSep + R"({"a":)", "", {{"", "f", R"({"a":)"}}},
    {ToolFormat::kDeepseekV31, "", "x<｜tool▁calls▁begin｜>", "x", {}},
    {ToolFormat::kDeepseekV31, "", kBegin + "no separator", "no separator", {}},
    {ToolFormat::kDeepseekV3,
     "",
     kBegin + "function" + kSep + "f\n```json\n{\"a\": \"```\"}\n```" + kEnd,
     "",
     {{"", "f", "{\"a\": \"```\"}"}}},
    {ToolFormat::kDeepseekV3,
     "",
     kBegin + "function" + kSep + "f\n```json\n{}\n```<｜tool▁call▁end｜>\n<｜tool▁call▁begin｜>function" + kSep +
         "g\n```json\n[1,\n2]\n```" + kEnd,
     "",
     {{"", "f", "{}"}, {"", "g", "[1,\n2]"}}},
    {ToolFormat::kDeepseekV3,
     "",
     kBegin + "function" + kSep + "f\n```json\n{}<｜tool▁call▁end｜>",
     "",
     {{"", "f", "{}"}}},
    {ToolFormat::kKimiK2,
     "",
     "Ok <|tool_calls_section_begin|><|tool_call_begin|>functions.get_x:0<|tool_call_argument_begin|>{\"a\": 1}"
     "<|tool_call_end|><|tool_call_begin|>functions.y:1<|tool_call_argument_begin|>{}<|tool_call_end|>"
     "<|tool_calls_section_end|>",
     "Ok ",
     {{"functions.get_x:0", "get_x", "{\"a\": 1}"}, {"functions.y:1", "y", "{}"}}},
    {ToolFormat::kNone, "", kBegin + "f" + kSep + "{}" + kEnd, kBegin + "f" + kSep + "{}" + kEnd, {}},
    {ToolFormat::kDeepseekV31, forced_call(ToolFormat::kDeepseekV31, "f"), "{}" + kEnd, "", {{"", "f", "{}"}}},
    {ToolFormat::kDeepseekV31,
     forced_call(ToolFormat::kDeepseekV31, ""),
     "f" + kSep + "{}" + kEnd,
     "",
     {{"", "f", "{}"}}},
    {ToolFormat::kDeepseekV3, forced_call(ToolFormat::kDeepseekV3, "f"), "{}\n```" + kEnd, "", {{"", "f", "{}"}}},
    {ToolFormat::kDeepseekV3,
     forced_call(ToolFormat::kDeepseekV3, ""),
     "f\n```json\n{}\n```" + kEnd,
     "",
     {{"", "f", "{}"}}},
    {ToolFormat::kKimiK2,
     forced_call(ToolFormat::kKimiK2, "f"),
     "{}<|tool_call_end|>",
     "",
     {{"functions.f:0", "f", "{}"}}},
};

TEST(ToolCallParser, FindsCallsWhateverTheCuts) {
  for (const Case& c : kCases) {
    for (size_t piece = 1; piece <= c.output.size() + 1; ++piece) {
      SCOPED_TRACE("output \"" + c.output + "\" in pieces of " + std::to_string(piece));
      const Parsed parsed = parse(c.format, c.forced, c.output, piece);
      EXPECT_EQ(parsed.content, c.content);
      EXPECT_EQ(parsed.calls, c.calls);
    }
  }
}

TEST(ToolCallParser, ShowsArgumentsAsTheyCome) {
  ToolCallParser parser(ToolFormat::kDeepseekV31, "", 100);
  EXPECT_TRUE(parser.push(kBegin + "f").calls.empty());
  const ToolText first = parser.push(kSep + "{\"a\":");
  ASSERT_EQ(first.calls.size(), 1u);
  EXPECT_EQ(first.calls[0], (ToolDelta{.index = 0, .begins = true, .id = "", .name = "f", .arguments = "{\"a\":"}));
  const ToolText second = parser.push("1}<｜tool");
  ASSERT_EQ(second.calls.size(), 1u);
  EXPECT_EQ(second.calls[0], (ToolDelta{.index = 0, .begins = false, .id = "", .name = "", .arguments = "1}"}));
}

TEST(ToolCallParser, DropsCallsThatAreTooMany) {
  const std::string output = kBegin + "f" + kSep + "{}" + kNext + "g" + kSep + "[]" + kEnd;
  EXPECT_EQ(parse(ToolFormat::kDeepseekV31, "", output, 3, 1).calls, (std::vector<Call>{{"", "f", "{}"}}));
}

TEST(ToolCallParser, ANameWithoutEndIsText) {
  const std::string endless(10'000, 'x');
  EXPECT_EQ(parse(ToolFormat::kDeepseekV31, "", kBegin + endless, 100).content, endless);
}

TEST(ToolFormat, KnowsItsNames) {
  EXPECT_EQ(*parse_tool_format("deepseek-v3"), ToolFormat::kDeepseekV3);
  EXPECT_EQ(*parse_tool_format("deepseek_v31"), ToolFormat::kDeepseekV31);
  EXPECT_EQ(*parse_tool_format("kimi_k2"), ToolFormat::kKimiK2);
  EXPECT_NE(parse_tool_format("hermes").error().text.find("hermes"), std::string::npos);
}

}  // namespace
}  // namespace fathom::serve
