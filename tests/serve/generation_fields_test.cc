// What requests ask of the engine, through the whole server: log-probabilities, echo, penalties, ends, speculation,
// order and deadlines, as clients see them.
#include <cmath>

#include "serve_fixture.h"

namespace fathom::serve {
namespace {

using fathom::testing::eventually;
using fathom::testing::Response;

class GenerationFieldsTest : public fathom::testing::ServeFixture {
 protected:
  Json complete(const std::string& members) {
    const Response r = ask("POST", "/v1/completions", "{\"prompt\":\"Once upon\"," + members + "}");
    EXPECT_EQ(r.status, 200) << r.body;
    return r.json();
  }
  static const Json& choice(const Json& json, size_t index = 0) { return json.find("choices")->items()[index]; }
  static std::string text(const Json& json, size_t index = 0) { return choice(json, index).find("text")->as_string(); }
  static int64_t detail(const Json& json, std::string_view group, std::string_view name) {
    return json.find("usage")->find(group)->find(name)->as_int();
  }
  Response chat(const std::string& members) {
    return ask("POST", "/v1/chat/completions", R"({"messages":[{"role":"user","content":"Hi"}],)" + members + "}");
  }
};

TEST_F(GenerationFieldsTest, LogprobsOfAChatSpellItsContentAlsoInPieces) {
  start();
  const Json whole = chat(R"("max_tokens":12,"logprobs":true,"top_logprobs":2)").json();
  const Json& content = *choice(whole).find("logprobs")->find("content");
  std::string spelled;
  for (const Json& entry : content.items()) {
    spelled += entry.find("token")->as_string();
    EXPECT_LE(entry.find("logprob")->as_double(), 0);
    const Json::Array& top = entry.find("top_logprobs")->items();
    ASSERT_EQ(top.size(), 2u);
    EXPECT_EQ(top[0].find("logprob")->as_double(), entry.find("logprob")->as_double()) << "greedy takes the first";
    EXPECT_GE(top[0].find("logprob")->as_double(), top[1].find("logprob")->as_double());
  }
  EXPECT_EQ(spelled, choice(whole).find("message")->find("content")->as_string());
  EXPECT_EQ(content.items().size(), 12u);

  Json::Array streamed;
  for (const std::string& event : chat(R"("max_tokens":12,"logprobs":true,"top_logprobs":2,"stream":true)").events()) {
    if (event == "[DONE]") continue;
    const Json json = *Json::parse(event, "event");
    const Json& logprobs = *choice(json).find("logprobs");
    if (logprobs.is_null()) continue;
    for (const Json& entry : logprobs.find("content")->items()) streamed.push_back(entry);
  }
  EXPECT_EQ(Json(streamed).dump(), content.dump());
}

TEST_F(GenerationFieldsTest, AnEchoIsScoredWithOrWithoutAnAnswer) {
  start();
  const Json scored = complete(R"("echo":true,"logprobs":1,"max_tokens":0)");
  EXPECT_TRUE(text(scored).ends_with("Once upon"));
  EXPECT_EQ(choice(scored).find("finish_reason")->as_string(), "length");
  const Json& logprobs = *choice(scored).find("logprobs");
  const Json::Array& values = logprobs.find("token_logprobs")->items();
  ASSERT_EQ(values.size(), 10u) << "<bos> and nine letters";
  EXPECT_TRUE(values[0].is_null());
  for (size_t i = 1; i < values.size(); ++i) EXPECT_LT(values[i].as_double(), 0);
  EXPECT_EQ(detail(scored, "completion_tokens_details", "reasoning_tokens"), 0);
  EXPECT_EQ(scored.find("usage")->find("completion_tokens")->as_int(), 0);

  const Json more = complete(R"("echo":true,"logprobs":1,"max_tokens":3)");
  const Json::Array& all = choice(more).find("logprobs")->find("token_logprobs")->items();
  ASSERT_EQ(all.size(), 13u);
  for (size_t i = 1; i < values.size(); ++i) EXPECT_EQ(all[i].as_double(), values[i].as_double()) << "the same bits";
  EXPECT_TRUE(text(more).starts_with(text(scored)));
  const Json::Array& tokens = choice(more).find("logprobs")->find("tokens")->items();
  const Json::Array& offsets = choice(more).find("logprobs")->find("text_offset")->items();
  for (size_t i = 1; i < tokens.size(); ++i) {
    EXPECT_EQ(text(more).substr(static_cast<size_t>(offsets[i].as_int()), 1), tokens[i].as_string());
  }
  EXPECT_EQ(text(complete(R"("echo":true,"max_tokens":0)")), text(scored));
  EXPECT_TRUE(eventually([&] { return server_->stats().pages_in_use == 0; }));
}

TEST_F(GenerationFieldsTest, BiasAndPenaltiesReachTheSampler) {
  start();
  EXPECT_EQ(text(complete(R"("max_tokens":4,"logit_bias":{"113":100})")), "qqqq");
  const std::string varied = text(complete(R"("max_tokens":20,"logit_bias":{"113":1.5,"114":1.5},"frequency_penalty":2,
                                           "presence_penalty":2)"));
  EXPECT_NE(varied.find_first_not_of(varied[0]), std::string::npos) << varied;
  EXPECT_EQ(ask("POST", "/v1/completions", R"({"prompt":"a","logit_bias":{"257":1}})")
                .json()
                .find("error")
                ->find("param")
                ->as_string(),
            "logit_bias");
  EXPECT_EQ(text(complete(R"("max_tokens":2,"dry_multiplier":1,"logit_bias":{"113":100})")), "qq");
}

TEST_F(GenerationFieldsTest, DryBreaksARepetition) {
  start();
  // 'q' is favoured by less than DRY takes away once it would repeat itself.
  const std::string plain = text(complete(R"("max_tokens":12,"logit_bias":{"113":30})"));
  const std::string dry = text(complete(R"("max_tokens":12,"logit_bias":{"113":30},"dry_multiplier":50)"));
  EXPECT_EQ(plain, std::string(12, 'q'));
  EXPECT_NE(dry, plain);
}

TEST_F(GenerationFieldsTest, EndsOfItsOwnAndNoneBeforeTheLeast) {
  engine_options_.stop_tokens = {'q'};
  start();
  const Json ended = complete(R"("max_tokens":9,"logit_bias":{"113":100})");
  EXPECT_EQ(text(ended), "");
  EXPECT_EQ(choice(ended).find("finish_reason")->as_string(), "stop");
  EXPECT_EQ(text(complete(R"("max_tokens":4,"logit_bias":{"113":100},"ignore_eos":true)")), "qqqq");
  EXPECT_EQ(text(complete(R"("max_tokens":4,"logit_bias":{"114":100},"stop_token_ids":[114])")), "");
  const std::string later = text(complete(R"("max_tokens":9,"min_tokens":5,"logit_bias":{"113":100})"));
  EXPECT_EQ(later.size(), 5u);
  EXPECT_EQ(later.find('q'), std::string::npos);
  EXPECT_EQ(ask("POST", "/v1/completions", R"({"prompt":"a","stop_token_ids":[300]})").status, 400);
  EXPECT_EQ(ask("POST", "/v1/completions", R"({"prompt":"a","min_tokens":5,"max_tokens":4})").status, 400);
}

TEST_F(GenerationFieldsTest, UsageSaysWhatThePrefixCacheGave) {
  start();
  const std::string body = "{\"prompt\":\"" + std::string(200, 'x') + "\",\"max_tokens\":2}";
  const Json first = ask("POST", "/v1/completions", body).json();
  const Json second = ask("POST", "/v1/completions", body).json();
  EXPECT_EQ(detail(first, "prompt_tokens_details", "cached_tokens"), 0);
  EXPECT_EQ(detail(second, "prompt_tokens_details", "cached_tokens"), 192) << "three pages of 64";
  EXPECT_EQ(text(first), text(second));
}

TEST_F(GenerationFieldsTest, SpeculationChangesNothingButItsCounts) {
  speculation_.adaptive = false;  // drafts whatever the clock says
  start();
  const std::string bias = R"("max_tokens":24,"logit_bias":{"113":20,"114":20},"frequency_penalty":2)";
  const Json plain = complete(bias), guessed = complete(bias + R"(,"speculate":"lookup","draft_tokens":4)");
  EXPECT_EQ(text(plain), text(guessed));
  EXPECT_EQ(detail(plain, "completion_tokens_details", "accepted_prediction_tokens"), 0);
  const Json repeated = complete(R"("max_tokens":40,"logit_bias":{"113":100},"speculate":"lookup")");
  EXPECT_EQ(text(repeated), std::string(40, 'q'));
  EXPECT_GT(detail(repeated, "completion_tokens_details", "accepted_prediction_tokens"), 0);
  const Response refused = ask("POST", "/v1/completions", R"({"prompt":"a","speculate":"mtp"})");
  EXPECT_EQ(refused.status, 400);
  EXPECT_EQ(refused.json().find("error")->find("param")->as_string(), "speculate");
}

TEST_F(GenerationFieldsTest, ADeadlineEndsAnAnswerWithWhatThereIs) {
  start();
  const Json late = complete(R"("max_tokens":100000,"timeout_seconds":0.05)");
  EXPECT_EQ(choice(late).find("finish_reason")->as_string(), "timeout");
  EXPECT_LT(text(late).size(), 100000u);
  EXPECT_TRUE(eventually([&] { return server_->stats().pages_in_use == 0; }));
  EXPECT_EQ(server_->stats().deadlines_missed, 1);
}

TEST_F(GenerationFieldsTest, ChoicesShareThePagesOfTheirPrompt) {
  start();
  const std::string body =
      "{\"prompt\":\"" + std::string(199, 'x') + "\",\"max_tokens\":2,\"n\":3,\"temperature\":1,\"seed\":4}";
  const Json json = ask("POST", "/v1/completions", body).json();
  ASSERT_EQ(json.find("choices")->items().size(), 3u);
  EXPECT_EQ(server_->stats().prefix_hit_tokens, 2 * 192);
  EXPECT_EQ(json.find("usage")->find("completion_tokens")->as_int(), 6);
}

}  // namespace
}  // namespace fathom::serve
