// Responses in OpenAI's JSON, member by member.
#include "serve/openai_response.h"

#include <gtest/gtest.h>

namespace fathom::serve {
namespace {

const ResponseHead kChat{.id = "chatcmpl-1", .created = 5, .model = "m", .fingerprint = "f", .chat = true};
const ResponseHead kText{.id = "cmpl-1", .created = 5, .model = "m", .fingerprint = "f", .chat = false};

TEST(Response, ChatHasMessages) {
  const Json json = completion_json(kChat, {{"Hi", "", "stop"}, {"Ho", "well", "length"}},
                                    {.prompt_tokens = 3,
                                     .completion_tokens = 4,
                                     .reasoning_tokens = 1,
                                     .cached_tokens = 2,
                                     .accepted_tokens = 5,
                                     .rejected_tokens = 6});
  EXPECT_EQ(json.dump(),
            R"({"id":"chatcmpl-1","object":"chat.completion","created":5,"model":"m","system_fingerprint":"f",)"
            R"("choices":[{"index":0,"message":{"role":"assistant","content":"Hi"},"logprobs":null,)"
            R"("finish_reason":"stop"},{"index":1,"message":{"role":"assistant","content":"Ho",)"
            R"("reasoning_content":"well","reasoning":"well"},"logprobs":null,"finish_reason":"length"}],)"
            R"("usage":{"prompt_tokens":3,"completion_tokens":4,"total_tokens":7,)"
            R"("prompt_tokens_details":{"cached_tokens":2},"completion_tokens_details":{"reasoning_tokens":1,)"
            R"("accepted_prediction_tokens":5,"rejected_prediction_tokens":6}}})");
}

TEST(Response, TextHasText) {
  const Json json = completion_json(kText, {{"Hi", "", "stop"}}, {});
  EXPECT_EQ(json.find("object")->as_string(), "text_completion");
  EXPECT_EQ(json.find("choices")->dump(), R"([{"index":0,"text":"Hi","logprobs":null,"finish_reason":"stop"}])");
}

TEST(Response, ChunksOfAChat) {
  const std::string head = R"({"id":"chatcmpl-1","object":"chat.completion.chunk","created":5,"model":"m",)"
                           R"("system_fingerprint":"f","choices":[)";
  EXPECT_EQ(role_chunk(kChat, 1, false).dump(),
            head + R"({"index":1,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}]})");
  EXPECT_EQ(text_chunk(kChat, 0, "", "Hi", Json(), true).dump(),
            head + R"({"index":0,"delta":{"content":"Hi"},"logprobs":null,"finish_reason":null}],"usage":null})");
  EXPECT_EQ(text_chunk(kChat, 0, "well", "", Json(), false).dump(),
            head + R"({"index":0,"delta":{"reasoning_content":"well","reasoning":"well"},"logprobs":null,)"
                   R"("finish_reason":null}]})");
  EXPECT_EQ(finish_chunk(kChat, 0, "stop", Json(), false).dump(),
            head + R"({"index":0,"delta":{},"logprobs":null,"finish_reason":"stop"}]})");
  const Json usage = usage_chunk(kChat, {.prompt_tokens = 1, .completion_tokens = 2});
  EXPECT_TRUE(usage.find("choices")->items().empty());
  EXPECT_EQ(usage.find("usage")->find("total_tokens")->as_int(), 3);
}

TEST(Response, ChunksOfText) {
  const Json chunk = text_chunk(kText, 2, "", "Hi", Json(), false);
  EXPECT_EQ(chunk.find("object")->as_string(), "text_completion");
  EXPECT_EQ(chunk.find("choices")->dump(), R"([{"index":2,"text":"Hi","logprobs":null,"finish_reason":null}])");
  EXPECT_EQ(
      finish_chunk(kText, 2, "length", Json::object().set("tokens", Json::array()), false).find("choices")->dump(),
      R"([{"index":2,"text":"","logprobs":{"tokens":[]},"finish_reason":"length"}])");
}

TEST(Response, CallsOfTools) {
  const Json json = completion_json(
      kChat, {{.content = "", .reasoning = "", .finish_reason = "tool_calls", .calls = {{"call_1", "f", "{}"}}}}, {});
  EXPECT_EQ(json.find("choices")->items()[0].find("message")->dump(),
            R"({"role":"assistant","content":null,"tool_calls":[{"id":"call_1","type":"function",)"
            R"("function":{"name":"f","arguments":"{}"}}]})");
  const Json begin = tools_chunk(kChat, 0, {{.index = 1, .begins = true, .id = "call_1", .name = "f"}}, Json(), false);
  EXPECT_EQ(begin.find("choices")->items()[0].find("delta")->dump(),
            R"({"tool_calls":[{"index":1,"id":"call_1","type":"function","function":{"name":"f","arguments":""}}]})");
  const Json more = tools_chunk(kChat, 0, {{.index = 1, .arguments = "{"}}, Json(), false);
  EXPECT_EQ(more.find("choices")->items()[0].find("delta")->dump(),
            R"({"tool_calls":[{"index":1,"function":{"arguments":"{"}}]})");
}

TEST(Response, ReasonsToFinish) {
  EXPECT_EQ(finish_reason(FinishReason::kStopToken, false), "stop");
  EXPECT_EQ(finish_reason(FinishReason::kNone, true), "stop");
  EXPECT_EQ(finish_reason(FinishReason::kMaxTokens, false), "length");
  EXPECT_EQ(finish_reason(FinishReason::kMaxTokens, true), "stop");
  EXPECT_EQ(finish_reason(FinishReason::kDeadline, false), "timeout");
  EXPECT_EQ(finish_reason(FinishReason::kContextFull, false), "length");
  EXPECT_EQ(finish_reason(FinishReason::kNumericError, false), "error");
}

TEST(Response, AModelSaysItsLengthAndVocabulary) {
  EXPECT_EQ(model_json("m", 5, 100, 7).dump(),
            R"({"id":"m","object":"model","created":5,"owned_by":"fathom","max_model_len":100,"meta":{"n_vocab":7}})");
}

}  // namespace
}  // namespace fathom::serve
