// From a body to token ids: what prepare_request makes of it and what it refuses. The answers are server_test.cc's.
#include "serve/completion.h"

#include "fake_exchange.h"
#include "serve_fixture.h"

namespace fathom::serve {
namespace {

using fathom::testing::FakeExchange;
using fathom::testing::kBos;
using fathom::testing::kContext;

class CompletionTest : public fathom::testing::ServeFixture {
 protected:
  CompletionTest() : served_(served()) {}
  PreparedRequest good(std::string_view body, bool chat) const {
    auto result = prepare_request(served_, body, chat);
    if (const auto* error = std::get_if<ApiError>(&result)) ADD_FAILURE() << error->message;
    return std::holds_alternative<ApiError>(result) ? PreparedRequest{} : std::get<0>(std::move(result));
  }
  ApiError bad(std::string_view body, bool chat) const {
    auto result = prepare_request(served_, body, chat);
    EXPECT_TRUE(std::holds_alternative<ApiError>(result)) << body.substr(0, 200);
    return std::holds_alternative<ApiError>(result) ? std::get<ApiError>(result) : ApiError{};
  }
  ServedModel served_;
};

std::vector<int32_t> ids(std::string_view text) {
  std::vector<int32_t> out = {kBos};
  for (const char c : text) out.push_back(static_cast<uint8_t>(c));
  return out;
}

TEST_F(CompletionTest, RendersAndEncodesAChat) {
  const auto prepared =
      good(R"({"messages":[{"role":"user","content":"Hi"}],"chat_template_kwargs":{"thinking":true}})", true);
  ASSERT_EQ(prepared.prompts.size(), 1u);
  EXPECT_EQ(prepared.prompts[0], ids("[user]Hi<think>"));
  EXPECT_TRUE(prepared.prompt_tail.ends_with("Hi<think>"));
  EXPECT_EQ(prepared.max_new_tokens[0], kContext - static_cast<int64_t>(prepared.prompts[0].size()));
}

TEST_F(CompletionTest, EncodesPromptsOfText) {
  const auto prepared = good(R"({"prompt":["a","bc"],"n":2,"max_tokens":7,"model":"other-name"})", false);
  EXPECT_EQ(prepared.prompts, (std::vector<std::vector<int32_t>>{ids("a"), ids("bc")}));
  EXPECT_EQ(prepared.max_new_tokens, (std::vector<int64_t>{7, 7}));
  EXPECT_EQ(good(R"({"prompt":"a"})", false).max_new_tokens[0], 16);
  EXPECT_EQ(good(R"({"prompt":[1,2]})", false).prompts[0], (std::vector<int32_t>{1, 2}));
}

TEST_F(CompletionTest, RefusesTheWrongModel) {
  const ApiError error = bad(R"({"prompt":"a","model":"gpt-9"})", false);
  EXPECT_EQ(error.status, 404);
  EXPECT_EQ(error.code, "model_not_found");
  EXPECT_NE(error.message.find("gpt-9"), std::string::npos);
  EXPECT_NE(error.message.find("tiny"), std::string::npos);
}

TEST_F(CompletionTest, RefusesWhatDoesNotFit) {
  const std::string long_prompt(static_cast<size_t>(kContext), 'a');
  ApiError error = bad("{\"prompt\":\"" + long_prompt + "\"}", false);
  EXPECT_EQ(error.code, "context_length_exceeded");
  EXPECT_NE(error.message.find(std::to_string(kContext + 1)), std::string::npos) << error.message;
  error = bad("{\"prompt\":\"a\",\"max_tokens\":" + std::to_string(kContext) + "}", false);
  EXPECT_EQ(error.code, "context_length_exceeded");
  EXPECT_EQ(error.param, "max_tokens");
  good("{\"prompt\":\"a\",\"max_tokens\":" + std::to_string(kContext - 2) + "}", false);
}

TEST_F(CompletionTest, RefusesBrokenBodies) {
  EXPECT_EQ(bad("", true).code, "invalid_json");
  EXPECT_EQ(bad("{\"prompt\":", false).code, "invalid_json");
  EXPECT_EQ(bad("{\"prompt\":\"\xFF\"}", false).code, "invalid_json");
  EXPECT_EQ(bad("{\"prompt\":\"\\ud800\"}", false).code, "invalid_json");
  EXPECT_EQ(bad("{\"prompt\":\"\\udc00\\ud800\"}", false).code, "invalid_json");
  EXPECT_EQ(bad("{\"prompt\":\"a\",\"temperature\":NaN}", false).code, "invalid_json");
  EXPECT_EQ(bad("{\"prompt\":\"a\",\"temperature\":1e999}", false).status, 400);
  EXPECT_EQ(bad("{\"prompt\":\"a\",\"prompt\":\"b\"}", false).code, "invalid_json");
  EXPECT_EQ(bad(std::string(10000, '[') + std::string(10000, ']'), true).code, "invalid_json");
  EXPECT_EQ(bad(R"({"prompt":[257]})", false).param, "prompt");
  EXPECT_EQ(bad(R"({"prompt":[[]]})", false).param, "prompt");
  EXPECT_NE(bad(R"({"messages":[{"role":"robot","content":"x"}]})", true).message.find("no robots"), std::string::npos);
}

TEST_F(CompletionTest, SaysThatAModelCannotChat) {
  served_.chat_format = nullptr;
  EXPECT_EQ(bad(R"({"messages":[{"role":"user","content":"Hi"}]})", true).code, "chat_not_supported");
}

TEST_F(CompletionTest, SaysWhichTextOrNumberIsTooMuch) {
  const ApiError full = bad("{\"prompt\":\"" + std::string(static_cast<size_t>(kContext) - 1, 'a') + "\"}", false);
  EXPECT_EQ(full.param, "prompt");
  EXPECT_NE(full.message.find("an answer needs 1; shorten the prompt"), std::string::npos) << full.message;
  const ApiError many = bad(R"({"prompt":"a","max_tokens":500000})", false);
  EXPECT_NE(many.message.find("max_tokens up to " + std::to_string(kContext - 2)), std::string::npos) << many.message;
}

TEST_F(CompletionTest, ATemplatesErrorNamesTheMessageAndNoFile) {
  auto parsed =
      ChatTemplate::parse("{% for m in messages %}{{ m.content + m.number }}{% endfor %}", "/secret/dir/t.jinja");
  ASSERT_TRUE(parsed);
  const ChatFormat format{*parsed, "", ""};
  served_.chat_format = &format;
  const ApiError error =
      bad(R"({"messages":[{"role":"a","content":"x","number":"1"},{"role":"b","content":"y"}]})", true);
  EXPECT_EQ(error.param, "messages[1]");
  EXPECT_EQ(error.message.find("secret"), std::string::npos) << error.message;
  EXPECT_NE(error.message.find("messages[1]: line 1: "), std::string::npos) << error.message;
}

TEST_F(CompletionTest, ClientsLowerTheirPriorityButDoNotRaiseIt) {
  EXPECT_EQ(good(R"({"prompt":"a","priority":7})", false).engine.priority, -7);
  EXPECT_EQ(bad(R"({"prompt":"a","priority":-1})", false).param, "priority");
  served_.least_priority = -5;
  EXPECT_EQ(good(R"({"prompt":"a","priority":-5})", false).engine.priority, 5);
  EXPECT_EQ(bad(R"({"prompt":"a","priority":-6})", false).param, "priority");
}

TEST_F(CompletionTest, MoreThanTheQueueEverTakesIsNoMatterOfTrying) {
  EngineLoop loop(*engine_, {.max_running = 1, .max_waiting = 2});
  Metrics metrics;
  const auto exchange = std::make_shared<FakeExchange>();
  const auto call = std::make_shared<Call>(exchange, "r", "id", HttpHeaders{}, metrics, nullptr);
  std::make_shared<Completion>(call, served_, loop, good(R"({"prompt":"a","n":3})", false), ResponseHead{})->start();
  EXPECT_EQ(exchange->answer.status, 400);
  EXPECT_NE(exchange->answer.body.find("up to 2"), std::string::npos) << exchange->answer.body;
}

}  // namespace
}  // namespace fathom::serve
