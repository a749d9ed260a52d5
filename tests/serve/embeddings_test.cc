// Embeddings: their requests, their numbers, and the answers of a server.
#include "serve/embeddings.h"

#include <bit>
#include <cmath>

#include "serve_fixture.h"

namespace fathom::serve {
namespace {

using fathom::testing::eventually;
using fathom::testing::Response;

class EmbeddingsTest : public fathom::testing::ServeFixture {
 protected:
  Response embed(std::string_view body) { return ask("POST", "/v1/embeddings", body); }
  static std::vector<double> numbers(const Json& json, size_t index) {
    std::vector<double> out;
    for (const Json& number : json.find("data")->items()[index].find("embedding")->items()) {
      out.push_back(number.as_double());
    }
    return out;
  }
};

TEST(EmbeddingNumbers, AreOfLengthOne) {
  const std::vector<float> state = {3, 0, -4};
  EXPECT_EQ(normalized(state), (std::vector<float>{0.6f, 0, -0.8f}));
  EXPECT_EQ(normalized(std::vector<float>{0, 0}), (std::vector<float>{0, 0}));
}

TEST(EmbeddingNumbers, AreLittleEndianInBase64) {
  EXPECT_EQ(base64_of(std::vector<float>{1}), "AACAPw==");          // 00 00 80 3f
  EXPECT_EQ(base64_of(std::vector<float>{1, -2}), "AACAPwAAAMA=");  // 00 00 80 3f 00 00 00 c0
  EXPECT_EQ(base64_of(std::vector<float>{1, 1, 1}), "AACAPwAAgD8AAIA/");
  EXPECT_EQ(base64_of({}), "");
}

TEST_F(EmbeddingsTest, AnswersInOrderWithUnitVectors) {
  start();
  const Response response = embed(R"({"model":"other-name","input":["Hi","a longer input",""]})");
  EXPECT_EQ(response.status, 200) << response.body;
  const Json json = response.json();
  ASSERT_EQ(json.find("data")->items().size(), 3u);
  EXPECT_EQ(json.find("object")->as_string(), "list");
  EXPECT_EQ(json.find("model")->as_string(), "other-name");
  EXPECT_EQ(json.find("usage")->find("prompt_tokens")->as_int(), 3 + 15 + 1);
  for (size_t i = 0; i < 3; ++i) {
    double square = 0;
    for (const double x : numbers(json, i)) square += x * x;
    EXPECT_NEAR(square, 1, 1e-6);
    EXPECT_EQ(std::ssize(numbers(json, i)), model_->config.hidden_size);
  }
  EXPECT_EQ(numbers(embed(R"({"input":"a longer input"})").json(), 0), numbers(json, 1)) << "alone or not";
  EXPECT_EQ(numbers(embed(R"({"input":[256,72,105]})").json(), 0), numbers(json, 0)) << "as ids";
  EXPECT_NE(numbers(json, 0), numbers(json, 1));
  EXPECT_TRUE(eventually([&] { return server_->stats().pages_in_use == 0; }));
}

TEST_F(EmbeddingsTest, Base64HoldsTheSameBits) {
  start();
  const std::vector<double> plain = numbers(embed(R"({"input":"Hi"})").json(), 0);
  const std::vector<float> as_floats(plain.begin(), plain.end());
  const Json json = embed(R"({"input":"Hi","encoding_format":"base64"})").json();
  EXPECT_EQ(json.find("data")->items()[0].find("embedding")->as_string(), base64_of(as_floats));
}

TEST_F(EmbeddingsTest, TakesAsManyInputsAsOpenAIsClientsSend) {
  options_.engine = {.max_running = 64, .max_waiting = 8};  // less than the inputs
  start();
  const auto inputs = [](int64_t count) {
    std::string list;
    for (int64_t i = 0; i < count; ++i) list += (i > 0 ? ",[" : "[") + std::to_string(i % 97) + "]";
    return "{\"input\":[" + list + "]}";
  };
  const Response response = embed(inputs(kMaxInputs));
  ASSERT_EQ(response.status, 200) << response.body.substr(0, 300);
  const Json json = response.json();
  ASSERT_EQ(std::ssize(json.find("data")->items()), kMaxInputs);
  EXPECT_EQ(numbers(json, 96), numbers(json, 97 + 96)) << "in the order of the inputs";
  EXPECT_NE(numbers(json, 96), numbers(json, 95));
  EXPECT_EQ(embed(inputs(kMaxInputs + 1)).status, 400);
}

TEST_F(EmbeddingsTest, RefusesByName) {
  start();
  const std::vector<std::pair<std::string, std::string>> cases = {
      {R"({})", "input"},
      {R"({"input":[]})", "input"},
      {R"({"input":7})", "input"},
      {R"({"input":[300]})", "input"},
      {R"({"input":[[]]})", "input"},
      {R"({"input":"a","dimensions":8})", "dimensions"},
      {R"({"input":"a","encoding_format":"hex"})", "encoding_format"},
      {R"({"input":"a","model":"x"})", "model"},
  };
  for (const auto& [body, param] : cases) {
    SCOPED_TRACE(body);
    const Response response = embed(body);
    EXPECT_TRUE(response.status == 400 || response.status == 404);
    EXPECT_EQ(response.json().find("error")->find("param")->as_string(), param);
  }
  EXPECT_EQ(embed("{\"input\":\"" + std::string(fathom::testing::kContext, 'a') + "\"}").error_code(),
            "context_length_exceeded");
}

}  // namespace
}  // namespace fathom::serve
