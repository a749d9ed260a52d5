// Faults of clients and of arithmetic against the whole server: what one of them does costs no other a byte of its
// answer, and no page stays behind.
#include <limits>

#include "model/weights.h"
#include "serve_fixture.h"

namespace fathom::serve {
namespace {

using fathom::testing::Client;
using fathom::testing::eventually;
using fathom::testing::Response;

class Faults : public fathom::testing::ServeFixture {
 protected:
  bool is_quiet() const {
    const EngineLoopStats stats = server_->stats();
    return stats.pages_in_use == 0 && stats.running == 0 && stats.waiting == 0;
  }
  Response chat(const std::string& members) { return ask("POST", "/v1/chat/completions", "{" + members + "}"); }
  /// A chat of one message with more members.
  Response with(const std::string& members) {
    return chat(R"("messages":[{"role":"user","content":"Hi"}],"max_tokens":1,)" + members);
  }
  static std::string nested(const std::string& open, const std::string& close, int depth) {
    std::string text;
    for (int i = 0; i < depth; ++i) text += open;
    text += "1";
    for (int i = 0; i < depth; ++i) text += close;
    return text;
  }
};

constexpr const char* kText = R"({"prompt":"ab","max_tokens":40,"logprobs":2})";

TEST_F(Faults, ASlowReaderIsDroppedAndTheOthersGetTheirBits) {
  options_.http.max_buffered_bytes = 32 << 10;
  options_.http.send_buffer_bytes = 4 << 10;
  start();
  const std::string alone = ask("POST", "/v1/completions", kText).json().find("choices")->dump();
  Client slow(port(), 4096);
  slow.request("POST", "/v1/completions", R"({"prompt":"ab","max_tokens":100000,"stream":true})");
  ASSERT_TRUE(eventually([&] { return server_->stats().running == 1; }));
  EXPECT_EQ(ask("POST", "/v1/completions", kText).json().find("choices")->dump(), alone);
  ASSERT_TRUE(eventually([&] { return metric("fathom_dropped_clients_total{why=\"buffer\"}") == 1; }));
  EXPECT_TRUE(eventually([&] { return is_quiet(); }));
  EXPECT_EQ(ask("POST", "/v1/completions", kText).json().find("choices")->dump(), alone);
}

TEST_F(Faults, AHalfClosedClientOfAnAnswerInProgressCountsAsGone) {
  start();
  Client client(port());
  client.request("POST", "/v1/completions", R"({"prompt":"ab","max_tokens":100000,"stream":true})");
  ASSERT_TRUE(client.read_until("\"text\":\""));
  client.end_sending();
  EXPECT_TRUE(eventually([&] { return is_quiet(); }));
}

TEST_F(Faults, AHalfRequestHoldsNoPageAndStopsNobody) {
  start();
  std::vector<std::unique_ptr<Client>> silent;
  for (const char* text :
       {"", "POST /v1/comp", "POST /v1/completions HTTP/1.1\r\nHost: h\r\nContent-Length: 50\r\n\r\n{",
        "POST /v1/completions HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab"}) {
    silent.push_back(std::make_unique<Client>(port()));
    silent.back()->send(text);
  }
  EXPECT_EQ(ask("POST", "/v1/completions", kText).status, 200);
  EXPECT_TRUE(eventually([&] { return is_quiet(); }));
}

TEST_F(Faults, ASmuggledRequestIsNeverAnswered) {
  start();
  const std::string post = "POST /tokenize HTTP/1.1\r\nHost: h\r\n",
                    chunked = post + "Transfer-Encoding: chunked\r\n\r\n";
  const std::string body = "{\"a\":1}";  // 7 bytes
  const std::vector<std::string> openings = {
      post + "Content-Length: 7\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
      post + "Transfer-Encoding: chunked\r\nContent-Length: 7\r\n\r\n0\r\n\r\n",
      post + "Content-Length: 7\r\nContent-Length: 0\r\n\r\n" + body,
      post + "Content-Length: 7\r\nContent-Length: 7\r\n\r\n" + body,
      post + "Content-Length: 7, 7\r\n\r\n" + body,
      post + "Content-Length: 0007a\r\n\r\n" + body,
      post + "Content-Length: 7\r\n 0\r\n\r\n" + body,
      post + "Content-Length:\r\n 7\r\n\r\n" + body,
      post + "X: a\r\n\tContent-Length: 7\r\n\r\n",
      post + "Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n",
      post + "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
      post + "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
      post +
          "Transfer-Encoding: \x0b"
          "chunked\r\n\r\n0\r\n\r\n",
      post + "Content-Length: 7\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
      chunked + "-1\r\n" + body + "\r\n0\r\n\r\n",
      chunked + "0x7\r\n" + body + "\r\n0\r\n\r\n",
      chunked + "10000000000000007\r\n" + body + "\r\n0\r\n\r\n",
      chunked + "\r\n" + body + "\r\n0\r\n\r\n",
      chunked + "7\n" + body + "\r\n0\r\n\r\n",
      chunked + "7;a=b\n" + body + "\r\n0\r\n\r\n",
      chunked + "7\r\n" + body + "\n0\r\n\r\n",
      chunked + "7\r\n" + body + "xx0\r\n\r\n",
      "POST /tokenize HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
  };
  for (const std::string& opening : openings) {
    SCOPED_TRACE(opening);
    Client client(port());
    client.send(opening + "GET /v1/models HTTP/1.1\r\nHost: h\r\n\r\n");
    const Response response = client.response();
    EXPECT_TRUE(response.status == 400 || response.status == 501) << response.status;
    EXPECT_EQ(response.error_code(), "bad_http");
    EXPECT_TRUE(client.ends()) << "the rest of the connection is not to be read as requests";
  }
}

TEST_F(Faults, JsonTenThousandDeepIsRefusedWhereverItIs) {
  start();
  for (const std::string& deep : {nested("[", "]", 10'000), nested("{\"a\":", "}", 10'000)}) {
    EXPECT_EQ(ask("POST", "/v1/chat/completions", deep).error_code(), "invalid_json");
    EXPECT_EQ(ask("POST", "/v1/embeddings", "{\"input\":" + deep + "}").error_code(), "invalid_json");
    EXPECT_EQ(ask("POST", "/tokenize", "{\"prompt\":" + deep + "}").error_code(), "invalid_json");
    for (const char* member : {"messages", "metadata", "stop", "chat_template_kwargs", "tools", "logit_bias"}) {
      EXPECT_EQ(chat("\"" + std::string(member) + "\":" + deep).error_code(), "invalid_json") << member;
    }
  }
  EXPECT_EQ(with("\"metadata\":" + nested("[", "]", 200)).status, 200) << "an ignored member of a possible depth";
}

TEST_F(Faults, InvalidUtf8AndLoneSurrogatesAreRefusedAndNothingInvalidIsAnswered) {
  start();
  for (const char* bytes : {"\xFF", "\x80", "\xC3", "\xC0\x80", "\xED\xA0\x80", "\xF4\x90\x80\x80", "\\ud800",
                            "\\udc00", "\\ud800\\u0041", "\\udc00\\ud800", "\\ud83d"}) {
    SCOPED_TRACE(bytes);
    const std::string text = "\"a" + std::string(bytes) + "\"";
    EXPECT_EQ(chat("\"messages\":[{\"role\":\"user\",\"content\":" + text + "}]").error_code(), "invalid_json");
    EXPECT_EQ(with("\"stop\":" + text).error_code(), "invalid_json");
    EXPECT_EQ(with(text + ":1").error_code(), "invalid_json") << "a key";
    EXPECT_EQ(ask("POST", "/v1/completions", "{\"prompt\":" + text + "}").error_code(), "invalid_json");
  }
  EXPECT_EQ(chat(R"("messages":[{"role":"user","content":"\ud83d\ude00"}],"max_tokens":1)").status, 200);
  // What is quoted in an error is cut, and comes from the path as it is: the answer must be UTF-8 all the same.
  std::string faces = "x";
  for (int i = 0; i < 100; ++i) faces += "\xF0\x9F\x98\x80";
  EXPECT_EQ(with("\"model\":\"" + faces + "\"").error_code(), "model_not_found");
  EXPECT_EQ(ask("GET", "/v1/models/" + faces).error_code(), "model_not_found");
  EXPECT_EQ(ask("GET", "/v1/models/\xFF\xFE").error_code(), "model_not_found");
  EXPECT_EQ(with("\"logit_bias\":{\"" + faces + "\":1}").status, 400);
}

TEST_F(Faults, AbsurdParametersAreRefusedByName) {
  start();
  const std::string zeros(400, '0');
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"temperature", "-1"},
      {"temperature", "1e308"},
      {"temperature", "\"hot\""},
      {"top_p", "0"},
      {"top_p", "1.0000001"},
      {"top_k", "-2"},
      {"top_k", "9223372036854775808"},
      {"min_p", "-0.1"},
      {"typical_p", "2"},
      {"repetition_penalty", "0"},
      {"presence_penalty", "1e300"},
      {"frequency_penalty", "[]"},
      {"n", "0"},
      {"n", "1000000000"},
      {"n", "1" + zeros.substr(0, 30)},
      {"n", "1.5"},
      {"max_completion_tokens", "-1"},
      {"max_completion_tokens", "1e18"},
      {"seed", "1e30"},
      {"seed", "{}"},
      {"priority", "99999999999"},
      {"timeout_seconds", "0"},
      {"timeout_seconds", "-1e300"},
      {"min_tokens", "2"},
      {"top_logprobs", "1000000"},
      {"stop", "[" + std::string(R"("a",)") + std::string(R"("")") + "]"},
      {"stop_token_ids", "[-1]"},
      {"stop_token_ids", "[99999999999]"},
      {"logit_bias", R"({"5":1e300})"},
      {"logit_bias", R"({"99999":1})"},
      {"logit_bias", R"({"-1":1})"},
      {"dry_multiplier", "-1"},
      {"draft_tokens", "100000000"},
      {"stream", "2"},
  };
  for (const auto& [name, value] : cases) {
    const Response response = with("\"" + name + "\":" + value);
    EXPECT_EQ(response.status, 400) << name << " " << value << " " << response.body;
    EXPECT_NE(response.error_message().find(name.substr(0, name.find('['))), std::string::npos)
        << name << " " << value << " " << response.body;
  }
  for (const char* number : {"1e400", "-1e999", "NaN", "Infinity", "-Infinity", "01", "1.", "0x10"}) {
    EXPECT_EQ(with("\"temperature\":" + std::string(number)).status, 400) << number;
  }
  EXPECT_TRUE(is_quiet());
}

TEST_F(Faults, ANaNFailsItsRequestAndTheOthersOfTheBatchGetTheirBits) {
  visit_weights(model_->config, model_->weights, [](const TensorSpec& spec, Weight& value, Tensor*) {
    if (spec.tensor_class == TensorClass::kEmbedding && spec.shape[0] == 257) {
      value.codes.ptr<float>()['#' * spec.shape[1]] = std::numeric_limits<float>::quiet_NaN();
    }
  });
  start();
  const std::string alone = ask("POST", "/v1/completions", kText).json().find("choices")->dump();
  Client holder(port());  // keeps the batch going, so that the others join it
  holder.request("POST", "/v1/completions", R"({"prompt":"b","max_tokens":100000,"stream":true})");
  ASSERT_TRUE(holder.read_until("\"text\":\""));
  std::vector<std::unique_ptr<Client>> clients;
  for (int i = 0; i < 6; ++i) {
    clients.push_back(std::make_unique<Client>(port()));
    clients.back()->request("POST", "/v1/completions", i % 3 == 1 ? R"({"prompt":"a#b"})" : kText);
  }
  for (int i = 0; i < 6; ++i) {
    const Response response = clients[static_cast<size_t>(i)]->response();
    if (i % 3 == 1) {
      EXPECT_EQ(response.status, 500);
      EXPECT_EQ(response.error_code(), "numeric_error");
    } else {
      EXPECT_EQ(response.json().find("choices")->dump(), alone) << i;
    }
  }
  EXPECT_EQ(metric("fathom_numeric_errors_total"), 2);
  EXPECT_EQ(metric("fathom_errors_total{code=\"numeric_error\"}"), 2);
  EXPECT_EQ(metric("fathom_healthy"), 1) << "a request's NaN is no damage of the server";
  holder.close();
  EXPECT_TRUE(eventually([&] { return is_quiet(); }));
}

}  // namespace
}  // namespace fathom::serve
