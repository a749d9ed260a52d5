// Calls: ids, headers, counts and log lines of answers.
#include "serve/call.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "fake_exchange.h"

namespace fathom::serve {
namespace {

using fathom::testing::FakeExchange;

class CallTest : public ::testing::Test {
 protected:
  Call call() {
    return Call(exchange_, "/v1/models", "id-1", {{"X-Other", "1"}}, metrics_,
                [this](const std::string& line) { log_ += line + "\n"; });
  }
  std::string header(const std::string& name) const {
    for (const auto& [key, value] : exchange_->answer.headers) {
      if (key == name) return value;
    }
    return "";
  }
  bool counted(const std::string& line) const {
    return metrics_.text({}, "m", "v").find(line + "\n") != std::string::npos;
  }
  std::shared_ptr<FakeExchange> exchange_ = std::make_shared<FakeExchange>();
  Metrics metrics_;
  std::string log_;
};

TEST_F(CallTest, AnswersAreCountedAndLoggedWithoutTheirText) {
  exchange_->asked.method = "POST";
  exchange_->asked.body = "a secret prompt";
  call().respond(200, Json::object().set("secret", "answer"));
  EXPECT_EQ(exchange_->answer.body, "{\"secret\":\"answer\"}\n");
  EXPECT_EQ(header("X-Request-Id"), "id-1");
  EXPECT_EQ(header("X-Other"), "1");
  EXPECT_TRUE(counted("fathom_http_responses_total{route=\"/v1/models\",status=\"200\"} 1"));
  EXPECT_NE(log_.find("POST /v1/models 200 20 bytes "), std::string::npos) << log_;
  EXPECT_NE(log_.find(" id-1\n"), std::string::npos);
  EXPECT_EQ(log_.find("secret"), std::string::npos);
  EXPECT_EQ(std::count(log_.begin(), log_.end(), '\n'), 1);
}

TEST_F(CallTest, ErrorsTellWhatToDoNext) {
  call().fail({.status = 429, .code = "queue_full", .message = "m", .param = {}});
  EXPECT_EQ(header("Retry-After"), "1");
  EXPECT_TRUE(counted("fathom_errors_total{code=\"queue_full\"} 1"));
  call().fail({.status = 401, .code = "invalid_api_key", .message = "m", .param = {}});
  EXPECT_EQ(header("WWW-Authenticate"), "Bearer");
}

TEST_F(CallTest, StreamsAreEvents) {
  Call c = call();
  c.begin_stream();
  EXPECT_EQ(exchange_->answer.content_type, "text/event-stream");
  EXPECT_EQ(header("Cache-Control"), "no-cache");
  c.send(Json(1));
  c.send_error({.status = 500, .code = "numeric_error", .message = "NaN", .param = {}});
  EXPECT_FALSE(exchange_->ended);
  c.end_stream();
  EXPECT_TRUE(exchange_->ended);
  EXPECT_TRUE(exchange_->streamed.starts_with("data: 1\n\ndata: {\"error\":{")) << exchange_->streamed;
  EXPECT_TRUE(exchange_->streamed.ends_with("data: [DONE]\n\n"));
  EXPECT_TRUE(counted("fathom_errors_total{code=\"numeric_error\"} 1"));
}

TEST_F(CallTest, AClientThatLeavesIsCounted) {
  call().log_gone();
  EXPECT_TRUE(counted("fathom_http_responses_total{route=\"/v1/models\",status=\"499\"} 1"));
}

TEST(RequestId, IsTheClientsIfItIsHarmless) {
  const auto id = [](std::string value) {
    HttpRequest request;
    request.headers.emplace_back("x-request-id", std::move(value));
    return request_id(request, "own");
  };
  EXPECT_EQ(id("abc-1.2_Z"), "abc-1.2_Z");
  for (const char* bad : {"", "a b", "a\r\nSet-Cookie: x", "\xC3\xA4", "a;b"}) EXPECT_EQ(id(bad), "own") << bad;
  EXPECT_EQ(id(std::string(128, 'a')), std::string(128, 'a'));
  EXPECT_EQ(id(std::string(129, 'a')), "own");
  EXPECT_EQ(request_id({}, "own"), "own");
}

TEST(RandomHex, HasItsLengthAndDiffers) {
  EXPECT_EQ(random_hex(32).size(), 32u);
  EXPECT_EQ(random_hex(5).find_first_not_of("0123456789abcdef"), std::string::npos);
  EXPECT_NE(random_hex(32), random_hex(32));
}

}  // namespace
}  // namespace fathom::serve
