// From tokens to text: whole characters, stop strings, reasoning, counts.
#include "serve/choice.h"

#include "serve_fixture.h"
#include "text/utf8.h"

namespace fathom::serve {
namespace {

class ChoiceTest : public ::testing::Test {
 protected:
  Choice choice(const std::vector<std::string>& stops, std::string_view prompt = "",
                ToolFormat tools = ToolFormat::kNone) const {
    return Choice(tokenizer_, StopScanner(stops), ReasoningSplitter(ReasoningFormat::kAuto, prompt),
                  ToolCallParser(tools, "", 10), SpecialTokens::kSkip);
  }
  /// Pushes bytes as tokens until the choice has stopped.
  static ChoiceText run(Choice& choice, std::string_view bytes) {
    ChoiceText all;
    const auto add = [&](const ChoiceText& text) {
      EXPECT_FALSE(first_invalid_utf8(text.content)) << "a cut character";
      all.reasoning += text.reasoning;
      all.content += text.content;
      for (const ToolDelta& delta : text.calls) {
        if (delta.begins) all.calls.push_back({.name = delta.name});
        all.calls.back().arguments += delta.arguments;
      }
    };
    for (const char c : bytes) {
      if (choice.stopped_by_string()) break;
      auto text = choice.push(static_cast<uint8_t>(c), FinishReason::kNone);
      EXPECT_TRUE(text);
      add(*text);
    }
    add(choice.flush());
    return all;
  }
  const Tokenizer tokenizer_ = fathom::testing::byte_tokenizer();
};

TEST_F(ChoiceTest, NeverCutsACharacter) {
  Choice c = choice({});
  EXPECT_EQ(c.push(0xE2, FinishReason::kNone)->content, "");
  EXPECT_EQ(c.push(0x82, FinishReason::kNone)->content, "");
  EXPECT_EQ(c.push(0xAC, FinishReason::kNone)->content, "\u20AC");
  EXPECT_EQ(run(c, "\xE2\x82").content, "\uFFFD");
}

TEST_F(ChoiceTest, EndsAtAStopString) {
  Choice c = choice({"END", "\n\n"});
  EXPECT_EQ(run(c, "one EN two END three").content, "one EN two ");
  EXPECT_TRUE(c.stopped_by_string());
  EXPECT_EQ(c.num_tokens(), 14);
  Choice open = choice({"END"});
  EXPECT_EQ(run(open, "almost EN").content, "almost EN");
  EXPECT_FALSE(open.stopped_by_string());
}

TEST_F(ChoiceTest, TellsReasoningAndCountsIt) {
  Choice c = choice({}, "<think>");
  const ChoiceText text = run(c, "ab</think>cd");
  EXPECT_EQ(text.reasoning, "ab");
  EXPECT_EQ(text.content, "cd");
  EXPECT_EQ(c.num_tokens(), 12);
  EXPECT_EQ(c.num_reasoning_tokens(), 10);
}

TEST_F(ChoiceTest, CallsComeAfterReasoningAndEndAtStopStringsToo) {
  const std::string output =
      "why</"
      "think>So<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>f<｜tool▁sep｜>{}<｜tool▁call▁end｜><｜tool▁call▁begin｜>g<｜"
      "tool▁sep｜>[1,STOP";
  Choice c = choice({"STOP"}, "<think>", ToolFormat::kDeepseekV31);
  const ChoiceText text = run(c, output);
  EXPECT_EQ(text.reasoning, "why");
  EXPECT_EQ(text.content, "So");
  ASSERT_EQ(text.calls.size(), 2u);
  EXPECT_EQ(text.calls[0].name, "f");
  EXPECT_EQ(text.calls[0].arguments, "{}");
  EXPECT_EQ(text.calls[1].arguments, "[1,");
  EXPECT_EQ(c.num_calls(), 2);
}

TEST_F(ChoiceTest, AStopTokenHasNoTextButCounts) {
  Choice c = choice({});
  EXPECT_EQ(c.push('x', FinishReason::kStopToken)->content, "");
  EXPECT_EQ(c.num_tokens(), 1);
  EXPECT_FALSE(c.push(100000, FinishReason::kNone)) << "an id without a token";
}

}  // namespace
}  // namespace fathom::serve
