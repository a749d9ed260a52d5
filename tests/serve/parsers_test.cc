// The reasoning splitter: where reasoning begins and ends, and that the cuts of the text change nothing.
#include "serve/parsers.h"

#include <gtest/gtest.h>

namespace fathom::serve {
namespace {

struct Case {
  ReasoningFormat format;
  std::string prompt, output, reasoning, content;
};

const std::vector<Case> kCases = {
    {ReasoningFormat::kAuto, "Hi", "Hello", "", "Hello"},
    {ReasoningFormat::kAuto, "Hi", "  Hello <think>", "", "  Hello <think>"},
    {ReasoningFormat::kAuto, "Hi", "\n<think>\nwell\n\nyes\n</think>\n\nHello\n", "well\n\nyes", "Hello\n"},
    {ReasoningFormat::kAuto, "Hi", "<thin", "", "<thin"},
    {ReasoningFormat::kAuto, "Hi", "", "", ""},
    {ReasoningFormat::kAuto, "Hi<think>", "why</think>so", "why", "so"},
    {ReasoningFormat::kAuto, "Hi<think>\n", "\nwhy\n</think>\n\nso", "why", "so"},
    {ReasoningFormat::kAuto, "Hi</think>", "so", "", "so"},
    {ReasoningFormat::kAuto, "<think>", "a < b </ </thin\n</thinking>", "a < b </ </thin\n</thinking>", ""},
    {ReasoningFormat::kAuto, "<think>", "cut short\n</thi", "cut short\n</thi", ""},
    {ReasoningFormat::kAuto, "<think>", "</think>only", "", "only"},
    {ReasoningFormat::kAuto, "<think>", "a</think>b</think>c", "a", "b</think>c"},
    {ReasoningFormat::kDeepseekR1, "Hi", "why</think>so", "why", "so"},
    {ReasoningFormat::kDeepseekR1, "Hi", "<think>why</think>so", "why", "so"},
    {ReasoningFormat::kDeepseekR1, "Hi", "never ends", "never ends", ""},
    {ReasoningFormat::kNone, "<think>", "why</think>so", "", "why</think>so"},
};

TEST(ReasoningSplitter, SplitsWhateverTheCuts) {
  for (const Case& c : kCases) {
    for (size_t piece = 1; piece <= c.output.size() + 1; ++piece) {
      SCOPED_TRACE("output \"" + c.output + "\" in pieces of " + std::to_string(piece));
      ReasoningSplitter splitter(c.format, c.prompt);
      std::string reasoning, content;
      const auto add = [&](const SplitText& text) {
        EXPECT_TRUE(content.empty() || text.reasoning.empty()) << "reasoning after the answer";
        reasoning += text.reasoning;
        content += text.content;
      };
      for (size_t at = 0; at < c.output.size(); at += piece) add(splitter.push(c.output.substr(at, piece)));
      add(splitter.flush());
      EXPECT_EQ(reasoning, c.reasoning);
      EXPECT_EQ(content, c.content);
    }
  }
}

TEST(ReasoningSplitter, ShowsWhatIsCertainAtOnce) {
  ReasoningSplitter splitter(ReasoningFormat::kAuto, "<think>");
  EXPECT_TRUE(splitter.in_reasoning());
  EXPECT_EQ(splitter.push("because").reasoning, "because");
  EXPECT_EQ(splitter.push("<").reasoning, "");
  EXPECT_EQ(splitter.push(" 3").reasoning, "< 3");
  EXPECT_EQ(splitter.push("</think>").reasoning, "");
  EXPECT_FALSE(splitter.in_reasoning());
  EXPECT_EQ(splitter.push("so").content, "so");
}

TEST(ReasoningFormat, HasTheNamesThatUsersType) {
  EXPECT_EQ(*parse_reasoning_format("deepseek_r1"), ReasoningFormat::kDeepseekR1);
  EXPECT_EQ(*parse_reasoning_format("deepseek-r1"), ReasoningFormat::kDeepseekR1);
  EXPECT_EQ(*parse_reasoning_format("deepseek_v3"), ReasoningFormat::kAuto);
  for (const char* name : {"auto", "deepseek-v31", "deepseek_v32", "kimi_k2", "glm45"}) {
    EXPECT_EQ(*parse_reasoning_format(name), ReasoningFormat::kAuto) << name;
  }
  EXPECT_EQ(*parse_reasoning_format("none"), ReasoningFormat::kNone);
  const auto unknown = parse_reasoning_format("qwen3");
  ASSERT_FALSE(unknown);
  EXPECT_NE(unknown.error().text.find("\"qwen3\""), std::string::npos);
}

}  // namespace
}  // namespace fathom::serve
