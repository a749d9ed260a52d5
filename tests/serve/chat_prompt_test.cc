// Prompts with tools: templates that list them and templates that do not, arguments as text or as objects, forced
// calls.
#include "serve/chat_prompt.h"

#include <gtest/gtest.h>

#include "base/file.h"
#include "serve_fixture.h"

namespace fathom::serve {
namespace {

constexpr std::string_view kOpen =
    "{% for m in messages %}[{{ m.role }}]{% if m.tool_calls %}{% for c in m.tool_calls %}";
constexpr std::string_view kClose =
    "{% endfor %}{% else %}{{ m.content }}{% endif %}{% endfor %}{% if thinking %}<think>{% endif %}";

ChatFormat format(std::string_view call, std::string_view in_front = "") {
  auto parsed = ChatTemplate::parse(
      std::string(in_front) + std::string(kOpen) + std::string(call) + std::string(kClose), "template");
  EXPECT_TRUE(parsed) << parsed.error().text;
  return {*parsed, "<bos>", ""};
}
/// Concatenates the arguments, as V3's and R1's templates.
ChatFormat v3() {
  return format(
      "{{ '<｜tool▁call▁begin｜>' + c.type + '<｜tool▁sep｜>' + c.function.name + '\n```json\n' + "
      "c.function.arguments + '\n```<｜tool▁call▁end｜>' }}");
}
ChatFormat v31(std::string_view in_front = "") {
  return format("{{ '<｜tool▁call▁begin｜>' + c.function.name + '<｜tool▁sep｜>' + (c.function.arguments | tojson) }}",
                in_front);
}

GenerationRequest request(std::string_view members) {
  auto parsed = parse_chat_request(*Json::parse("{" + std::string(members) + "}", "test"));
  if (const auto* error = std::get_if<ApiError>(&parsed)) ADD_FAILURE() << error->message;
  return std::get<0>(parsed);
}
const std::string kAsked = R"("messages":[{"role":"user","content":"Hi"}],"tools":[{"type":"function","function":
  {"name":"f","description":"does f","parameters":{"type":"object","properties":{"a":{"type":"number"}}}}}])";

ChatPrompt good(const ApiResult<ChatPrompt>& result) {
  if (const auto* error = std::get_if<ApiError>(&result)) ADD_FAILURE() << error->message;
  return std::holds_alternative<ApiError>(result) ? ChatPrompt{} : std::get<0>(result);
}

TEST(ToolFormatOf, IsWhatTheTemplateWrites) {
  EXPECT_EQ(tool_format_of(v3()), ToolFormat::kDeepseekV3);
  EXPECT_EQ(tool_format_of(v31()), ToolFormat::kDeepseekV31);
  EXPECT_EQ(tool_format_of(format("{{ c.function.name }}")), ToolFormat::kNone);
  EXPECT_EQ(tool_format_of(format("{{ '<|tool_call_begin|>' + c.id + '<|tool_call_argument_begin|>' }}")),
            ToolFormat::kKimiK2);
}

TEST(ChatPrompt, ArgumentsAreObjectsWhereTheTemplateTakesThem) {
  const auto r = request(R"("messages":[{"role":"assistant","content":null,"tool_calls":[{"id":"1","type":"function",
    "function":{"name":"f","arguments":"{\"a\": 1}"}}]}])");
  EXPECT_EQ(std::get<std::string>([&] {
              const auto f = v31();
              return render_chat(&f, r.messages, Json());
            }()),
            "[assistant]<｜tool▁call▁begin｜>f<｜tool▁sep｜>{\"a\": 1}");
  const auto old = v3();
  EXPECT_EQ(std::get<std::string>(render_chat(&old, r.messages, Json())),
            "[assistant]<｜tool▁call▁begin｜>function<｜tool▁sep｜>f\n```json\n{\"a\": 1}\n```<｜tool▁call▁end｜>");
}

TEST(ChatPrompt, ATemplateThatListsToolsDoesItAlone) {
  const auto f = v31("{% for t in tools or [] %}tool {{ t.function.name }};{% endfor %}");
  EXPECT_EQ(good(chat_prompt(&f, ToolFormat::kDeepseekV31, request(kAsked))).text, "tool f;[user]Hi");
  EXPECT_EQ(good(chat_prompt(&f, ToolFormat::kDeepseekV31, request(kAsked + R"(,"tool_choice":"none")"))).text,
            "[user]Hi");
}

TEST(ChatPrompt, OtherwiseTheSystemMessageDescribesThem) {
  const auto f = v31();
  const std::string text = good(chat_prompt(&f, ToolFormat::kDeepseekV31, request(kAsked))).text;
  EXPECT_TRUE(
      text.starts_with("[system]## Tools\nYou have access to the following tools:\n\n### f\nDescription: does f"))
      << text;
  EXPECT_NE(text.find(R"(Parameters: {"type":"object","properties":{"a":{"type":"number"}}})"), text.npos) << text;
  EXPECT_NE(text.find("<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>tool_call_name<｜tool▁sep｜>tool_call_arguments"),
            text.npos);
  EXPECT_TRUE(text.ends_with("[user]Hi"));
  auto with_system = request(kAsked);
  with_system.messages =
      *Json::parse(R"([{"role":"system","content":"Be kind."},{"role":"user","content":"Hi"}])", "t");
  EXPECT_TRUE(
      good(chat_prompt(&f, ToolFormat::kDeepseekV31, with_system)).text.starts_with("[system]Be kind.\n\n## Tools"));
}

TEST(ChatPrompt, AForcedCallIsBegunInThePrompt) {
  const auto f = v31();
  const auto any = good(chat_prompt(&f, ToolFormat::kDeepseekV31, request(kAsked + R"(,"tool_choice":"required")")));
  EXPECT_EQ(any.forced, "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>");
  EXPECT_TRUE(any.text.ends_with("[user]Hi" + any.forced));
  const auto named = good(chat_prompt(&f, ToolFormat::kDeepseekV31, request(kAsked + R"(,"chat_template_kwargs":
    {"thinking":true},"tool_choice":{"type":"function","function":{"name":"f"}})")));
  EXPECT_EQ(named.forced, "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>f<｜tool▁sep｜>");
  EXPECT_TRUE(named.text.ends_with("<think></think>" + named.forced)) << "a call is not a thought";
}

TEST(ChatPrompt, AModelWithoutCallsRefusesTools) {
  const auto f = format("");
  const auto refused = chat_prompt(&f, ToolFormat::kNone, request(kAsked));
  ASSERT_TRUE(std::holds_alternative<ApiError>(refused));
  EXPECT_EQ(std::get<ApiError>(refused).param, "tools");
}

TEST(ChatPrompt, KnowsTheFamilysTemplates) {
  const Path folder = Path(FATHOM_SHARED_DIR) / "data/templates";
  if (!std::filesystem::exists(folder)) GTEST_SKIP() << "no shared folder: data/templates is missing";
  for (const auto& [name, expected] : {std::pair{"DeepSeek-V3.1-official.jinja", ToolFormat::kDeepseekV31},
                                       {"vllm-tool_chat_template_deepseekv31.jinja", ToolFormat::kDeepseekV31},
                                       {"DeepSeek-V3-official-dec2024.jinja", ToolFormat::kDeepseekV3},
                                       {"DeepSeek-R1-Distill-Qwen-14B-official.jinja", ToolFormat::kDeepseekV3},
                                       {"llama-cpp-deepseek-r1.jinja", ToolFormat::kDeepseekV3},
                                       {"moonshotai-Kimi-K2.jinja", ToolFormat::kKimiK2}}) {
    SCOPED_TRACE(name);
    const auto source = read_file(folder / name);
    ASSERT_TRUE(source);
    auto parsed = ChatTemplate::parse(*source, name);
    ASSERT_TRUE(parsed) << parsed.error().text;
    const ChatFormat f{*parsed, "<bos>", "<eos>"};
    EXPECT_EQ(tool_format_of(f), expected);
    const ChatPrompt prompt = good(chat_prompt(&f, expected, request(kAsked + R"(,"tool_choice":"required")")));
    EXPECT_NE(prompt.text.find("does f"), std::string::npos) << prompt.text;
    EXPECT_TRUE(prompt.text.ends_with(prompt.forced));
  }
}

/// The bytes of a random model are arguments when the prompt has begun a call.
class ToolServerTest : public fathom::testing::ServeFixture {
 protected:
  ToolServerTest() { tools_ = ToolFormat::kDeepseekV31; }
  static constexpr std::string_view kForced =
      R"(,"tool_choice":{"type":"function","function":{"name":"f"}},"max_tokens":20})";
};

TEST_F(ToolServerTest, AnswersAForcedCallWholeAndInPieces) {
  start();
  const auto whole = ask("POST", "/v1/chat/completions", "{" + kAsked + std::string(kForced));
  ASSERT_EQ(whole.status, 200) << whole.body;
  const Json json = whole.json();
  const Json& message = *json.find("choices")->items()[0].find("message");
  EXPECT_TRUE(message.find("content")->is_null());
  const Json& call = message.find("tool_calls")->items()[0];
  EXPECT_TRUE(call.find("id")->as_string().starts_with("call_"));
  EXPECT_EQ(call.find("function")->find("name")->as_string(), "f");
  const std::string arguments = call.find("function")->find("arguments")->as_string();
  EXPECT_EQ(arguments.size(), 20u);
  EXPECT_EQ(json.find("choices")->items()[0].find("finish_reason")->as_string(), "length");

  std::string id, name, pieces;
  const auto stream = ask("POST", "/v1/chat/completions", "{\"stream\":true," + kAsked + std::string(kForced));
  for (const std::string& event : stream.events()) {
    if (event == "[DONE]") continue;
    const Json chunk = *Json::parse(event, "event");
    const Json* calls = chunk.find("choices")->items()[0].find("delta")->find("tool_calls");
    if (calls == nullptr) continue;
    ASSERT_EQ(calls->items().size(), 1u);
    const Json& delta = calls->items()[0];
    EXPECT_EQ(delta.find("index")->as_int(), 0);
    if (const Json* begins = delta.find("id")) {
      id += begins->as_string();
      name += delta.find("function")->find("name")->as_string();
    }
    pieces += delta.find("function")->find("arguments")->as_string();
  }
  EXPECT_EQ(name, "f");
  EXPECT_EQ(id.size(), std::string("call_").size() + 24) << "one id, once";
  EXPECT_EQ(pieces, arguments);
}

}  // namespace
}  // namespace fathom::serve
