// Requests in OpenAI's JSON: what is understood, and what is refused by name.
#include "serve/openai_request.h"

#include <gtest/gtest.h>

namespace fathom::serve {
namespace {

Json json(std::string_view text) {
  auto parsed = Json::parse(text, "test");
  EXPECT_TRUE(parsed) << parsed.error().text;
  return *parsed;
}

GenerationRequest good(const ApiResult<GenerationRequest>& result) {
  if (const auto* error = std::get_if<ApiError>(&result)) ADD_FAILURE() << error->message;
  return std::holds_alternative<ApiError>(result) ? GenerationRequest{} : std::get<0>(result);
}

/// A chat request of one message with more members.
ApiResult<GenerationRequest> chat(std::string_view members) {
  return parse_chat_request(json(R"({"messages":[{"role":"user","content":"Hi"}])" + std::string(members) + "}"));
}
ApiResult<GenerationRequest> text(std::string_view members) {
  return parse_completion_request(json(R"({"prompt":"Hi")" + std::string(members) + "}"));
}

template <class T>
void expect_refused(const ApiResult<T>& result, std::string_view param) {
  const auto* error = std::get_if<ApiError>(&result);
  ASSERT_NE(error, nullptr) << param << " was accepted";
  EXPECT_EQ(error->status, 400);
  EXPECT_EQ(error->param, param);
  EXPECT_FALSE(error->code.empty());
  EXPECT_NE(error->message.find(param.substr(0, param.find('['))), std::string::npos) << error->message;
  EXPECT_EQ(error->message.find('\n'), std::string::npos);
}

TEST(ChatRequest, HasDefaults) {
  const GenerationRequest r = good(chat(""));
  EXPECT_TRUE(r.chat);
  EXPECT_EQ(r.n, 1);
  EXPECT_FALSE(r.stream);
  EXPECT_FALSE(r.max_tokens);
  EXPECT_FALSE(r.temperature);
  EXPECT_TRUE(r.stop.empty());
  EXPECT_EQ(r.messages.dump(), R"([{"role":"user","content":"Hi"}])");
}

TEST(ChatRequest, ReadsEveryParameter) {
  const GenerationRequest r = good(chat(
      R"(,"model":"m","n":3,"max_tokens":5,"stop":["a","b"],"stream":true,"stream_options":{"include_usage":true},
      "temperature":0.5,"top_p":0.9,"top_k":40,"min_p":0.1,"repetition_penalty":1.1,"seed":-7,
      "chat_template_kwargs":{"thinking":true})"));
  EXPECT_EQ(r.model, "m");
  EXPECT_EQ(r.n, 3);
  EXPECT_EQ(r.max_tokens, 5);
  EXPECT_EQ(r.stop, (std::vector<std::string>{"a", "b"}));
  EXPECT_TRUE(r.stream);
  EXPECT_TRUE(r.include_usage);
  EXPECT_EQ(r.temperature, 0.5);
  EXPECT_EQ(r.top_p, 0.9);
  EXPECT_EQ(r.top_k, 40);
  EXPECT_EQ(r.min_p, 0.1);
  EXPECT_EQ(r.repetition_penalty, 1.1);
  EXPECT_EQ(r.seed, static_cast<uint64_t>(-7));
  EXPECT_EQ(r.template_arguments.dump(), R"({"thinking":true})");
}

TEST(ChatRequest, KnowsOtherWaysToSayThings) {
  EXPECT_EQ(good(chat(R"(,"max_completion_tokens":9)")).max_tokens, 9);
  EXPECT_EQ(good(chat(R"(,"n_predict":9)")).max_tokens, 9);
  EXPECT_FALSE(good(chat(R"(,"n_predict":-1)")).max_tokens);
  EXPECT_EQ(good(chat(R"(,"n_predict":9,"max_tokens":8)")).max_tokens, 8);
  EXPECT_EQ(good(chat(R"(,"repeat_penalty":1.5)")).repetition_penalty, 1.5);
  EXPECT_TRUE(good(chat(R"(,"include_stop_str_in_output":true)")).include_stop);
  EXPECT_EQ(good(chat(R"(,"stop":"x")")).stop, std::vector<std::string>{"x"});
  EXPECT_EQ(good(chat(R"(,"top_k":-1)")).top_k, 0);
  EXPECT_FALSE(good(chat(R"(,"temperature":null,"stop":null,"max_tokens":null,"tools":null)")).temperature);
}

TEST(ChatRequest, WhatWouldChangeTheAnswerIsRefusedByName) {
  for (const auto& [param, value] : std::vector<std::pair<std::string, std::string>>{{"allowed_token_ids", "[1]"},
                                                                                     {"truncate_prompt_tokens", "5"},
                                                                                     {"regex", "\"a\""},
                                                                                     {"ebnf", "\"a\""},
                                                                                     {"chat_template", "\"{{x}}\""},
                                                                                     {"add_generation_prompt", "false"},
                                                                                     {"skip_special_tokens", "false"},
                                                                                     {"no_repeat_ngram_size", "2"},
                                                                                     {"mirostat", "2"},
                                                                                     {"xtc_probability", "0.5"},
                                                                                     {"n_predict", "0"},
                                                                                     {"n_predict", "-2"}}) {
    const auto result = chat(",\"" + param + "\":" + value);
    const auto* error = std::get_if<ApiError>(&result);
    ASSERT_NE(error, nullptr) << param;
    EXPECT_EQ(error->param, param);
  }
  good(chat(R"(,"add_generation_prompt":true,"skip_special_tokens":true,"mirostat":0)"));
}

TEST(ChatRequest, MessagesBecomeWhatTemplatesRead) {
  const auto r = good(parse_chat_request(json(
      R"({"messages":[{"role":"developer","content":"Be kind"},{"role":"user","content":[{"type":"text","text":"a"},
      {"type":"text","text":"b"}],"name":"x"},{"role":"assistant","content":null,"tool_calls":[]}]})")));
  EXPECT_EQ(r.messages.dump(), R"([{"role":"system","content":"Be kind"},{"role":"user","content":"ab","name":"x"},)"
                               R"({"role":"assistant","content":null,"tool_calls":[]}])");
}

TEST(ChatRequest, RefusesBrokenMessages) {
  const auto parse = [](std::string_view text) { return parse_chat_request(json(text)); };
  expect_refused(parse("{}"), "messages");
  expect_refused(parse(R"({"messages":[]})"), "messages");
  expect_refused(parse(R"({"messages":"Hi"})"), "messages");
  expect_refused(parse(R"({"messages":["Hi"]})"), "messages[0]");
  expect_refused(parse(R"({"messages":[{"content":"Hi"}]})"), "messages[0].role");
  expect_refused(parse(R"({"messages":[{"role":1,"content":"Hi"}]})"), "messages[0].role");
  expect_refused(parse(R"({"messages":[{"role":"user"}]})"), "messages[0].content");
  expect_refused(parse(R"({"messages":[{"role":"user","content":7}]})"), "messages[0].content");
  expect_refused(
      parse(R"({"messages":[{"role":"user","content":"a"},{"role":"user","content":[{"type":"image_url"}]}]})"),
      "messages[1].content");
  EXPECT_TRUE(std::holds_alternative<ApiError>(parse("[]")));
  EXPECT_TRUE(std::holds_alternative<ApiError>(parse("null")));
}

TEST(GenerationRequest, RefusesWhatIsOutOfRange) {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"temperature", "-0.1"},
      {"temperature", "2.1"},
      {"temperature", "1e300"},
      {"temperature", "\"1\""},
      {"top_p", "1.5"},
      {"top_p", "-1"},
      {"top_k", "-2"},
      {"top_k", "1.5"},
      {"min_p", "2"},
      {"min_p", "-0.5"},
      {"repetition_penalty", "0"},
      {"repetition_penalty", "1e9"},
      {"n", "0"},
      {"n", "129"},
      {"n", "1.5"},
      {"max_tokens", "0"},
      {"max_tokens", "-5"},
      {"max_tokens", "1e99"},
      {"max_completion_tokens", "0"},
      {"seed", "1.5"},
      {"seed", "\"a\""},
      {"stop", "7"},
      {"stop", "[\"a\",7]"},
      {"stop", "\"\""},
      {"stream", "1"},
      {"model", "7"},
      {"best_of", "2"},
      {"stream_options", "{}"},
      {"typical_p", "1.1"},
      {"presence_penalty", "2.5"},
      {"frequency_penalty", "-2.1"},
      {"frequency_penalty", "\"1\""},
      {"dry_multiplier", "-1"},
      {"dry_base", "0.5"},
      {"dry_allowed_length", "0"},
      {"dry_sequence_breakers", "\"x\""},
      {"dry_sequence_breakers", "[\"\"]"},
      {"logit_bias", "[]"},
      {"logit_bias", R"({"x":1})"},
      {"logit_bias", R"({"-1":1})"},
      {"logit_bias", R"({"1.5":1})"},
      {"logit_bias", R"({"99999999999":1})"},
      {"logit_bias", R"({"5":101})"},
      {"logit_bias", R"({"5":"1"})"},
      {"min_tokens", "-1"},
      {"min_tokens", "1e10"},
      {"ignore_eos", "1"},
      {"stop_token_ids", "7"},
      {"stop_token_ids", "[-1]"},
      {"stop_token_ids", "[\"a\"]"},
      {"priority", "1.5"},
      {"priority", "10000000"},
      {"timeout_seconds", "0"},
      {"timeout_seconds", "-1"},
      {"timeout_seconds", "1e9"},
      {"speculate", "\"magic\""},
      {"speculate", "true"},
      {"draft_tokens", "17"},
      {"echo", "1"},
  };
  for (const auto& [key, value] : cases) {
    SCOPED_TRACE(key + " = " + value);
    const std::string member = ",\"" + key + "\":" + value;
    expect_refused(chat(member), key);
    expect_refused(text(member), key);
  }
  std::string stops = "[\"a\"";
  for (int64_t i = 0; i < kMaxStops; ++i) stops += ",\"a\"";
  expect_refused(chat(",\"stop\":" + stops + "]"), "stop");
  expect_refused(chat(R"(,"stream":true,"stream_options":7)"), "stream_options");
  expect_refused(chat(R"(,"chat_template_kwargs":7)"), "chat_template_kwargs");
}

TEST(GenerationRequest, NamesWhatIsNotSupportedAndNeverIgnoresIt) {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"functions", "[{}]"},
      {"response_format", R"({"type":"json_object"})"},
      {"guided_json", "{}"},
      {"grammar", "\"root ::= x\""},
      {"suffix", "\"x\""},
      {"continue_final_message", "true"},
      {"modalities", R"(["text","audio"])"},
      {"audio", "{}"},
  };
  for (const auto& [key, value] : cases) {
    SCOPED_TRACE(key);
    expect_refused(chat(",\"" + key + "\":" + value), key);
    expect_refused(text(",\"" + key + "\":" + value), key);
  }
  expect_refused(chat(",\"echo\":true"), "echo");
}

TEST(GenerationRequest, ReadsWhatTheEngineCan) {
  const GenerationRequest r = good(text(
      R"(,"logprobs":3,"echo":true,"typical_p":0.9,"presence_penalty":-0.5,"frequency_penalty":1.5,"dry_multiplier":0.8,
      "dry_base":2,"dry_allowed_length":4,"dry_sequence_breakers":["\n","."],"logit_bias":{"5":-100,"7":2.5},
      "min_tokens":2,"max_tokens":9,"ignore_eos":true,"stop_token_ids":[3,4],"priority":-2,"timeout_seconds":1.5,
      "speculate":"lookup","draft_tokens":3)"));
  EXPECT_EQ(r.num_logprobs, 3);
  EXPECT_TRUE(r.echo);
  EXPECT_EQ(r.min_tokens, 2);
  EXPECT_TRUE(r.ignore_eos);
  EXPECT_EQ(r.stop_token_ids, (std::vector<int32_t>{3, 4}));
  EXPECT_EQ(r.priority, -2);
  EXPECT_EQ(r.timeout_seconds, 1.5);
  EXPECT_EQ(r.speculate, SpeculationKind::kLookup);
  EXPECT_EQ(r.draft_tokens, 3);
  EXPECT_EQ(r.dry_sequence_breakers, (std::vector<std::string>{"\n", "."}));
  const SamplingParams p = std::get<0>(sampling_of(r, {}, 0));
  EXPECT_EQ(p.typical_p, 0.9);
  EXPECT_EQ(p.presence_penalty, -0.5);
  EXPECT_EQ(p.frequency_penalty, 1.5);
  EXPECT_EQ(p.dry_multiplier, 0.8);
  EXPECT_EQ(p.dry_base, 2);
  EXPECT_EQ(p.dry_allowed_length, 4);
  ASSERT_EQ(p.logit_bias.size(), 2u);
  EXPECT_EQ(p.logit_bias[0].token, 5);
  EXPECT_EQ(p.logit_bias[1].bias, 2.5);
}

TEST(GenerationRequest, LogprobsAreACountInTextAndASwitchInChat) {
  EXPECT_EQ(good(text("")).num_logprobs, -1);
  EXPECT_EQ(good(text(R"(,"logprobs":0)")).num_logprobs, 0);
  EXPECT_EQ(good(chat(R"(,"logprobs":false)")).num_logprobs, -1);
  EXPECT_EQ(good(chat(R"(,"logprobs":true)")).num_logprobs, 0);
  EXPECT_EQ(good(chat(R"(,"logprobs":true,"top_logprobs":20)")).num_logprobs, 20);
  expect_refused(chat(R"(,"top_logprobs":3)"), "top_logprobs");
  expect_refused(chat(R"(,"logprobs":true,"top_logprobs":21)"), "top_logprobs");
  expect_refused(chat(R"(,"logprobs":1)"), "logprobs");
  expect_refused(text(R"(,"logprobs":true)"), "logprobs");
  expect_refused(text(R"(,"logprobs":21)"), "logprobs");
  expect_refused(text(R"(,"logprobs":-1)"), "logprobs");
}

TEST(GenerationRequest, OnlyAnEchoMayWantNoToken) {
  EXPECT_EQ(good(text(R"(,"echo":true,"max_tokens":0)")).max_tokens, 0);
  expect_refused(text(R"(,"echo":false,"max_tokens":0)"), "max_tokens");
}

TEST(ChatRequest, ReadsToolsAsTemplatesWantThem) {
  const std::string tools = R"(,"tools":[{"type":"function","function":{"name":"f"}},{"type":"function","function":
    {"name":"g-2","description":"d","parameters":{"type":"object"},"strict":true}}])";
  const GenerationRequest r = good(chat(tools + R"(,"parallel_tool_calls":false)"));
  EXPECT_EQ(r.tools.dump(),
            R"([{"type":"function","function":{"name":"f","description":"","parameters":{"type":"object",)"
            R"("properties":{}}}},{"type":"function","function":{"name":"g-2","description":"d",)"
            R"("parameters":{"type":"object"},"strict":true}}])");
  const std::string undescribed =
      R"(,"tools":[{"type":"function","function":{"name":"f","parameters":{"type":"array"}}}])";
  EXPECT_EQ(good(chat(undescribed)).tools.dump(),
            R"([{"type":"function","function":{"name":"f","parameters":{"type":"array"},"description":""}}])");
  EXPECT_EQ(r.tool_choice, ToolChoice::kAuto);
  EXPECT_TRUE(r.may_call());
  EXPECT_FALSE(r.parallel_tool_calls);
  EXPECT_FALSE(good(chat(tools + R"(,"tool_choice":"none")")).may_call());
  EXPECT_FALSE(good(chat(R"(,"tools":[],"tool_choice":"auto")")).may_call());
  EXPECT_EQ(good(chat(tools + R"(,"tool_choice":"required")")).tool_choice, ToolChoice::kRequired);
  const auto named = good(chat(tools + R"(,"tool_choice":{"type":"function","function":{"name":"g-2"}})"));
  EXPECT_EQ(named.tool_choice, ToolChoice::kNamed);
  EXPECT_EQ(named.tool_name, "g-2");
  expect_refused(chat(tools + R"(,"tool_choice":{"type":"function","function":{"name":"h"}})"), "tool_choice");
  expect_refused(chat(tools + R"(,"tool_choice":"always")"), "tool_choice");
  expect_refused(chat(R"(,"tool_choice":"required")"), "tool_choice");
  expect_refused(chat(R"(,"tools":{})"), "tools");
  expect_refused(chat(R"(,"tools":[7])"), "tools[0]");
  expect_refused(chat(R"(,"tools":[{"type":"function"}])"), "tools[0]");
  expect_refused(chat(R"(,"tools":[{"type":"function","function":{"name":"a b"}}])"), "tools[0].function.name");
  expect_refused(text(tools), "tools");
}

TEST(Speculation, OfTheRequestGoesBeforeTheServers) {
  const SpeculationParams mtp{.kind = SpeculationKind::kMtp, .num_draft = 2};
  const auto of = [&](std::string_view members, int64_t modules) {
    return speculation_of(good(text(members)), mtp, modules);
  };
  EXPECT_EQ(std::get<0>(of("", 1)), mtp);
  EXPECT_EQ(std::get<0>(of(R"(,"speculate":"none")", 1)).kind, SpeculationKind::kNone);
  EXPECT_EQ(std::get<0>(of(R"(,"speculate":"lookup")", 1)).num_draft, 0) << "2 was meant for mtp";
  EXPECT_EQ(std::get<0>(of(R"(,"draft_tokens":5)", 1)).num_draft, 5);
  expect_refused(speculation_of(good(text(R"(,"speculate":"mtp")")), {}, 0), "speculate");
}

TEST(GenerationRequest, LetsThroughWhatAsksForNothing) {
  good(chat(R"(,"logit_bias":{},"logprobs":false,"top_logprobs":0,"frequency_penalty":0,"presence_penalty":0.0,
    "tools":[],"tool_choice":"auto","response_format":{"type":"text"},"ignore_eos":false,"modalities":["text"],"n":1,
    "best_of":1,"user":"someone","metadata":{"a":1},"store":false,"a field of tomorrow":[1,2])"));
  good(text(R"(,"echo":false,"suffix":"","logprobs":null)"));
}

TEST(CompletionRequest, TakesEveryFormOfPrompt) {
  const auto prompts = [](std::string_view prompt) {
    return good(parse_completion_request(json("{\"prompt\":" + std::string(prompt) + "}"))).prompts;
  };
  EXPECT_EQ(prompts("\"a\""), std::vector<Prompt>{"a"});
  EXPECT_EQ(prompts(R"(["a","b"])"), (std::vector<Prompt>{"a", "b"}));
  EXPECT_EQ(prompts("[1,2]"), (std::vector<Prompt>{std::vector<int32_t>{1, 2}}));
  EXPECT_EQ(prompts("[[1],[2,3]]"), (std::vector<Prompt>{std::vector<int32_t>{1}, std::vector<int32_t>{2, 3}}));
}

TEST(CompletionRequest, RefusesOtherPrompts) {
  for (const char* prompt : {"7", "null", "{}", "[]", R"(["a",1])", R"([1,"a"])", "[-1]", "[1.5]", "[[1],\"a\"]",
                             "[[99999999999]]", "[null]", "true"}) {
    SCOPED_TRACE(prompt);
    expect_refused(parse_completion_request(json("{\"prompt\":" + std::string(prompt) + "}")), "prompt");
  }
  std::string many = "[\"a\"";
  for (int64_t i = 0; i < kMaxChoices; ++i) many += ",\"a\"";
  expect_refused(parse_completion_request(json("{\"prompt\":" + many + "]}")), "prompt");
  expect_refused(parse_completion_request(json(R"({"prompt":["a","b"],"n":100})")), "n");
}

TEST(Sampling, TakesTheModelsDefaultsAndJudgesTheResult) {
  const SamplingParams defaults{.temperature = 0.7, .top_k = 9, .top_p = 0.8};
  const auto params = sampling_of(good(chat(R"(,"top_p":0.5)")), defaults, 77);
  ASSERT_TRUE(std::holds_alternative<SamplingParams>(params));
  EXPECT_EQ(std::get<0>(params).temperature, 0.7);
  EXPECT_EQ(std::get<0>(params).top_k, 9);
  EXPECT_EQ(std::get<0>(params).top_p, 0.5);
  EXPECT_EQ(std::get<0>(params).seed, 77u);
  EXPECT_EQ(std::get<0>(sampling_of(good(chat(R"(,"seed":5)")), defaults, 77)).seed, 5u);
  expect_refused(sampling_of(good(chat(R"(,"top_p":0)")), defaults, 0), "top_p");
}

TEST(Sampling, ChoicesOfOnePromptDrawDifferently) {
  const SamplingParams params{.seed = 5};
  EXPECT_EQ(choice_sampling(params, 0).seed, 5u);
  EXPECT_NE(choice_sampling(params, 1).seed, choice_sampling(params, 2).seed);
  EXPECT_NE(choice_sampling(params, 1).seed, 6u) << "the seed of a neighbour";
}

TEST(TokenizeRequest, SpeaksTwoDialects) {
  const auto parse = [](std::string_view text) { return parse_tokenize_request(json(text)); };
  const auto vllm = std::get<TokenizeRequest>(parse(R"({"prompt":"a"})"));
  EXPECT_EQ(vllm.text, "a");
  EXPECT_TRUE(vllm.add_special_tokens);
  EXPECT_FALSE(std::get<0>(parse(R"({"prompt":"a","add_special_tokens":false})")).add_special_tokens);
  const auto llama = std::get<TokenizeRequest>(parse(R"({"content":"b"})"));
  EXPECT_EQ(llama.text, "b");
  EXPECT_FALSE(llama.add_special_tokens);
  EXPECT_TRUE(std::get<0>(parse(R"({"messages":[{"role":"user","content":"c"}]})")).messages.is_array());
  expect_refused(parse("{}"), "prompt");
  expect_refused(parse(R"({"content":7})"), "content");
}

TEST(DetokenizeRequest, TakesIds) {
  EXPECT_EQ(std::get<0>(parse_detokenize_request(json(R"({"tokens":[1,2]})"))), (std::vector<int32_t>{1, 2}));
  expect_refused(parse_detokenize_request(json("{}")), "tokens");
  expect_refused(parse_detokenize_request(json(R"({"tokens":[-1]})")), "tokens");
  expect_refused(parse_detokenize_request(json(R"({"tokens":["a"]})")), "tokens");
}

}  // namespace
}  // namespace fathom::serve
