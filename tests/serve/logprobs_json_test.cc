// Log-probabilities in OpenAI's two shapes.
#include "serve/logprobs_json.h"

#include <limits>

#include "serve_fixture.h"

namespace fathom::serve {
namespace {

class LogprobsJsonTest : public ::testing::Test {
 protected:
  static Logprobs of(int32_t token, double logprob, std::vector<TokenLogprob> top = {}) {
    return {.chosen = {.token = token, .logprob = logprob}, .top = std::move(top)};
  }
  const Tokenizer tokenizer_ = fathom::testing::byte_tokenizer();
};

TEST_F(LogprobsJsonTest, ChatHasTheBytesOfEveryToken) {
  LogprobsWriter writer(tokenizer_, true);
  EXPECT_TRUE(writer.take().is_null());
  writer.add(of('a', -0.5, {{'b', -0.25}, {'a', -0.5}}));
  EXPECT_EQ(
      writer.take().dump(),
      R"({"content":[{"token":"a","logprob":-0.5,"bytes":[97],"top_logprobs":[)"
      R"({"token":"b","logprob":-0.25,"bytes":[98]},{"token":"a","logprob":-0.5,"bytes":[97]}]}],"refusal":null})");
  EXPECT_TRUE(writer.take().is_null()) << "taken once";
}

TEST_F(LogprobsJsonTest, TextCountsCharactersNotBytes) {
  LogprobsWriter writer(tokenizer_, false);
  for (const int32_t byte : {0x61, 0xC3, 0xA9, 0x62}) writer.add(of(byte, -1));
  const Json json = writer.take();
  EXPECT_EQ(json.find("text_offset")->dump(), "[0,1,2,2]");
  EXPECT_EQ(json.find("tokens")->dump(), R"(["a","bytes:\\xc3","bytes:\\xa9","b"])");
  writer.add(of('c', -1));
  EXPECT_EQ(writer.take().find("text_offset")->dump(), "[3]") << "goes on where the piece before ended";
}

TEST_F(LogprobsJsonTest, TheChosenTokenIsAlwaysAmongTheTop) {
  LogprobsWriter writer(tokenizer_, false);
  writer.add(of('a', -3, {{'b', -0.5}}));
  EXPECT_EQ(writer.take().find("top_logprobs")->dump(), R"([{"b":-0.5,"a":-3.0}])");
}

TEST_F(LogprobsJsonTest, InfinityBecomesANumber) {
  LogprobsWriter writer(tokenizer_, false);
  writer.add(of('a', -std::numeric_limits<double>::infinity()));
  EXPECT_EQ(writer.take().find("token_logprobs")->items()[0].as_double(), -9999);
}

TEST_F(LogprobsJsonTest, AnEchoedPromptBeginsWithNull) {
  const std::vector<int32_t> prompt = {fathom::testing::kBos, 'H', 'i'};
  LogprobsWriter writer(tokenizer_, false);
  writer.add_prompt(prompt, {of('H', -1), of('i', -2)});
  const Json json = writer.take();
  EXPECT_EQ(json.find("token_logprobs")->dump(), "[null,-1.0,-2.0]");
  EXPECT_TRUE(json.find("top_logprobs")->items()[0].is_null());
  EXPECT_EQ(echo_text(tokenizer_, prompt), tokenizer_.is_special(prompt[0]) ? "Hi" : "<bos>Hi");
}

}  // namespace
}  // namespace fathom::serve
