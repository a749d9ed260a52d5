// The server over real sockets: the routes of OpenAI's API, streams, keys, limits, and clients that misbehave.
#include "serve/server.h"

#include <atomic>
#include <cmath>
#include <limits>

#include "serve_fixture.h"

namespace fathom::serve {
namespace {

using fathom::testing::Client;
using fathom::testing::eventually;
using fathom::testing::kContext;
using fathom::testing::Response;
using fathom::testing::TemporaryDirectory;

class ServerTest : public fathom::testing::ServeFixture {
 protected:
  /// A chat request with more members.
  static std::string chat(std::string_view members) {
    return R"({"messages":[{"role":"user","content":"Hi"}])" + std::string(members) + "}";
  }
  static const Json& choice(const Json& response, size_t index = 0) {
    return response.find("choices")->items().at(index);
  }
  static std::string content(const Json& response, size_t index = 0) {
    return choice(response, index).find("message")->find("content")->as_string();
  }
  static std::string text(const Json& response, size_t index = 0) {
    return choice(response, index).find("text")->as_string();
  }
  /// The joined deltas of a stream.
  static std::string streamed(const Response& response, const char* member = "content") {
    std::string all;
    for (const std::string& event : response.events()) {
      if (event == "[DONE]") continue;
      const auto json = Json::parse(event, "event");
      EXPECT_TRUE(json);
      const Json* choices = json->find("choices");
      if (choices == nullptr || choices->items().empty()) continue;
      const Json* delta = choices->items()[0].find("delta");
      const Json* piece = delta == nullptr ? choices->items()[0].find("text") : delta->find(member);
      if (piece != nullptr) all += piece->as_string();
    }
    return all;
  }
  bool is_quiet() const {
    const EngineLoopStats stats = server_->stats();
    return stats.pages_in_use == 0 && stats.running == 0 && stats.waiting == 0;
  }
};

TEST_F(ServerTest, IsUnavailableUntilAModelIsThere) {
  start(false);
  EXPECT_EQ(ask("GET", "/health").status, 503);
  const Response early = ask("POST", "/v1/chat/completions", chat(""));
  EXPECT_EQ(early.status, 503);
  EXPECT_EQ(early.error_code(), "loading");
  EXPECT_EQ(early.headers.at("retry-after"), "1");
  EXPECT_EQ(metric("fathom_ready"), 0);
  EXPECT_EQ(ask("GET", "/version").json().dump(), R"({"version":"1.2.3"})");
  server_->attach(served());
  EXPECT_EQ(ask("GET", "/health").json().dump(), R"({"status":"ok"})");
  EXPECT_EQ(metric("fathom_ready"), 1);
}

TEST_F(ServerTest, ListsItsModels) {
  start();
  const Json list = ask("GET", "/v1/models").json();
  ASSERT_EQ(list.find("data")->items().size(), 2u);
  EXPECT_EQ(list.find("data")->items()[0].find("id")->as_string(), "tiny");
  EXPECT_EQ(list.find("data")->items()[0].find("max_model_len")->as_int(), kContext);
  EXPECT_EQ(ask("GET", "/models").json(), list);
  EXPECT_EQ(ask("GET", "/v1/models/other-name").json().find("id")->as_string(), "other-name");
  EXPECT_EQ(ask("GET", "/v1/models/x").error_code(), "model_not_found");
}

TEST_F(ServerTest, AnswersAChat) {
  start();
  const Response response = ask("POST", "/v1/chat/completions", chat(R"(,"max_tokens":12,"model":"other-name")"));
  ASSERT_EQ(response.status, 200) << response.body;
  const Json json = response.json();
  EXPECT_TRUE(json.find("id")->as_string().starts_with("chatcmpl-"));
  EXPECT_EQ(json.find("object")->as_string(), "chat.completion");
  EXPECT_EQ(json.find("model")->as_string(), "other-name");
  EXPECT_EQ(content(json).size(), 12u);
  EXPECT_EQ(choice(json).find("finish_reason")->as_string(), "length");
  EXPECT_EQ(json.find("usage")->find("prompt_tokens")->as_int(), 9);  // <bos>[user]Hi
  EXPECT_EQ(json.find("usage")->find("completion_tokens")->as_int(), 12);
  EXPECT_EQ(ask("POST", "/chat/completions", chat(R"(,"max_tokens":12)")).json().find("choices")->dump(),
            json.find("choices")->dump());
  EXPECT_EQ(metric("fathom_generated_tokens_total"), 24);
  EXPECT_EQ(metric("fathom_prompt_tokens_total"), 18);
  EXPECT_EQ(metric("fathom_finished_total{reason=\"length\"}"), 2);
  EXPECT_EQ(metric("fathom_time_to_first_token_seconds_count"), 2);
  EXPECT_EQ(metric("fathom_inter_token_latency_seconds_count"), 22);
  EXPECT_TRUE(eventually([&] { return metric("fathom_cache_pages_in_use") == 0; }));
}

TEST_F(ServerTest, StreamsTheSameAnswer) {
  start();
  const std::string whole = content(ask("POST", "/v1/chat/completions", chat(R"(,"max_tokens":30)")).json());
  const Response stream = ask("POST", "/v1/chat/completions",
                              chat(R"(,"max_tokens":30,"stream":true,"stream_options":{"include_usage":true})"));
  EXPECT_EQ(stream.status, 200);
  EXPECT_EQ(stream.headers.at("content-type"), "text/event-stream");
  EXPECT_EQ(streamed(stream), whole);
  const auto events = stream.events();
  ASSERT_GE(events.size(), 4u);
  EXPECT_EQ(events.back(), "[DONE]");
  const Json first = *Json::parse(events.front(), "first");
  EXPECT_EQ(choice(first).find("delta")->dump(), R"({"role":"assistant","content":""})");
  EXPECT_TRUE(first.find("usage")->is_null());
  const Json finish = *Json::parse(events[events.size() - 3], "finish");
  EXPECT_EQ(choice(finish).find("finish_reason")->as_string(), "length");
  EXPECT_TRUE(choice(finish).find("delta")->members().empty());
  const Json usage = *Json::parse(events[events.size() - 2], "usage");
  EXPECT_TRUE(usage.find("choices")->items().empty());
  EXPECT_EQ(usage.find("usage")->find("completion_tokens")->as_int(), 30);
  for (size_t i = 0; i + 1 < events.size(); ++i) {
    EXPECT_EQ(Json::parse(events[i], "event")->find("id")->dump(), first.find("id")->dump());
  }
  const Response plain = ask("POST", "/v1/chat/completions", chat(R"(,"max_tokens":3,"stream":true)"));
  EXPECT_EQ(plain.body.find("usage"), std::string::npos);
}

TEST_F(ServerTest, CompletesText) {
  start();
  const Json one = ask("POST", "/v1/completions", R"({"prompt":"Hi","max_tokens":8})").json();
  EXPECT_EQ(one.find("object")->as_string(), "text_completion");
  EXPECT_EQ(text(one).size(), 8u);
  const Json list = ask("POST", "/v1/completions", R"({"prompt":["Ho","Hi"],"max_tokens":8,"n":2})").json();
  ASSERT_EQ(list.find("choices")->items().size(), 4u);
  for (size_t i = 0; i < 4; ++i) EXPECT_EQ(choice(list, i).find("index")->as_int(), static_cast<int64_t>(i));
  EXPECT_EQ(text(list, 2), text(one)) << "prompt-major order";
  EXPECT_EQ(text(list, 3), text(one));
  EXPECT_NE(text(list, 0), text(one));
  const Json by_ids = ask("POST", "/v1/completions", R"({"prompt":[256,72,105],"max_tokens":8})").json();
  EXPECT_EQ(text(by_ids), text(one));
  const Response stream = ask("POST", "/v1/completions", R"({"prompt":"Hi","max_tokens":8,"stream":true})");
  EXPECT_EQ(streamed(stream), text(one));
}

TEST_F(ServerTest, ASeedRepeatsAnAnswerAndChoicesDiffer) {
  start();
  const auto sampled = [&](const std::string& seed) {
    return ask("POST", "/v1/chat/completions", chat(R"(,"max_tokens":20,"temperature":1.5,"n":2,"seed":)" + seed))
        .json();
  };
  const Json first = sampled("11"), again = sampled("11"), other = sampled("12");
  EXPECT_EQ(content(first), content(again));
  EXPECT_EQ(content(first, 1), content(again, 1));
  EXPECT_NE(content(first), content(first, 1));
  EXPECT_NE(content(first), content(other));
  const std::string unseeded = chat(R"(,"max_tokens":20,"temperature":1.5)");
  EXPECT_NE(content(ask("POST", "/v1/chat/completions", unseeded).json()),
            content(ask("POST", "/v1/chat/completions", unseeded).json()));
}

TEST_F(ServerTest, EndsAtStopStringsAndNeverShowsThem) {
  start();
  const std::string whole = content(ask("POST", "/v1/chat/completions", chat(R"(,"max_tokens":30)")).json());
  const std::string stop = whole.substr(10, 3);
  const std::string expected = whole.substr(0, whole.find(stop));
  const Json stopped =
      ask("POST", "/v1/chat/completions", chat(R"(,"max_tokens":3000,"stop":[")" + stop + "\"]")).json();
  EXPECT_EQ(content(stopped), expected);
  EXPECT_EQ(choice(stopped).find("finish_reason")->as_string(), "stop");
  const Response stream =
      ask("POST", "/v1/chat/completions", chat(R"(,"max_tokens":3000,"stream":true,"stop":")" + stop + "\""));
  EXPECT_EQ(streamed(stream), expected);
  EXPECT_TRUE(eventually([&] { return is_quiet(); })) << "the engine goes on behind a stop string";
}

TEST_F(ServerTest, TellsReasoningUnderBothNames) {
  start();
  const std::string thinking = R"(,"max_tokens":10,"chat_template_kwargs":{"thinking":true})";
  const Json json = ask("POST", "/v1/chat/completions", chat(thinking)).json();
  const Json& message = *choice(json).find("message");
  EXPECT_EQ(message.find("content")->as_string(), "");
  EXPECT_EQ(message.find("reasoning_content")->as_string().size(), 10u);
  EXPECT_EQ(message.find("reasoning")->as_string(), message.find("reasoning_content")->as_string());
  EXPECT_EQ(json.find("usage")->find("completion_tokens_details")->find("reasoning_tokens")->as_int(), 10);
  const Response stream = ask("POST", "/v1/chat/completions", chat(thinking + R"(,"stream":true)"));
  EXPECT_EQ(streamed(stream, "reasoning_content"), message.find("reasoning")->as_string());
  EXPECT_EQ(streamed(stream), "");
}

TEST_F(ServerTest, StreamsWholeCharactersOnly) {
  // Bytes of two-byte characters only: tokens that are halves of characters.
  engine_options_.allowed_tokens.assign(257, false);
  for (size_t c = 0xC2; c <= 0xD0; ++c) engine_options_.allowed_tokens[c] = true;
  for (size_t c = 0x80; c <= 0xBF; ++c) engine_options_.allowed_tokens[c] = true;
  start();
  const Response stream =
      ask("POST", "/v1/completions", R"({"prompt":"a","max_tokens":200,"temperature":1.5,"seed":3,"stream":true})");
  const Json whole =
      ask("POST", "/v1/completions", R"({"prompt":"a","max_tokens":200,"temperature":1.5,"seed":3})").json();
  EXPECT_EQ(streamed(stream), text(whole));
  size_t num_whole = 0;
  for (const char c : text(whole)) num_whole += static_cast<uint8_t>(c) >= 0xC2 && static_cast<uint8_t>(c) <= 0xD0;
  EXPECT_GT(num_whole, 5u) << "the test needs characters of two tokens";
}

TEST_F(ServerTest, TokenizesAndBack) {
  start();
  const Json tokens = ask("POST", "/tokenize", R"({"prompt":"Hi"})").json();
  EXPECT_EQ(tokens.find("tokens")->dump(), "[256,72,105]");
  EXPECT_EQ(tokens.find("count")->as_int(), 3);
  EXPECT_EQ(ask("POST", "/tokenize", R"({"content":"Hi"})").json().find("tokens")->dump(), "[72,105]");
  EXPECT_EQ(ask("POST", "/tokenize", R"({"messages":[{"role":"u","content":"H"}]})").json().find("count")->as_int(), 5);
  const std::string pieces = R"({"content":"\u00e4b","with_pieces":true})";
  EXPECT_EQ(ask("POST", "/tokenize", pieces).json().find("tokens")->dump(),
            R"([{"id":195,"piece":[195]},{"id":164,"piece":[164]},{"id":98,"piece":"b"}])");
  EXPECT_EQ(ask("POST", "/detokenize", R"({"tokens":[72,105]})").json().find("content")->as_string(), "Hi");
  EXPECT_EQ(ask("POST", "/detokenize", R"({"tokens":[9999]})").status, 400);
  EXPECT_EQ(ask("POST", "/tokenize", "[1]").status, 400);
}

TEST_F(ServerTest, ErrorsAreNestedAndHaveCodes) {
  start();
  const auto post = [&](const std::string& body) { return ask("POST", "/v1/chat/completions", body); };
  Response response = post(chat(R"(,"temperature":3)"));
  EXPECT_EQ(response.status, 400);
  EXPECT_EQ(response.json().find("error")->find("param")->as_string(), "temperature");
  EXPECT_EQ(response.json().find("error")->find("type")->as_string(), "invalid_request_error");
  EXPECT_EQ(post(chat(R"(,"max_tokens":1000000)")).error_code(), "context_length_exceeded");
  EXPECT_EQ(post(chat(R"(,"model":"x")")).error_code(), "model_not_found");
  EXPECT_EQ(post(std::string(10000, '[')).error_code(), "invalid_json");
  EXPECT_EQ(post("{\"messages\":[{\"role\":\"user\",\"content\":\"\xC3\x28\"}]}").error_code(), "invalid_json");
  EXPECT_EQ(post("{\"messages\":[{\"role\":\"user\",\"content\":\"\\ud800\"}]}").error_code(), "invalid_json");
  response = ask("GET", "/v1/chat/completions");
  EXPECT_EQ(response.status, 405);
  EXPECT_EQ(response.headers.at("allow"), "POST, OPTIONS");
  response = ask("GET", "/nothing");
  EXPECT_EQ(response.status, 404);
  EXPECT_NE(response.error_message().find("/v1/chat/completions"), std::string::npos);
  EXPECT_EQ(metric("fathom_errors_total{code=\"invalid_json\"}"), 3);
}

TEST_F(ServerTest, RefusesHugeBodies) {
  options_.http.limits.max_body_bytes = 10000;
  start();
  EXPECT_EQ(ask("POST", "/v1/chat/completions", std::string(10001, ' ')).error_code(), "body_too_large");
  EXPECT_EQ(ask("GET", "/health").status, 200);
}

TEST_F(ServerTest, AsksForKeys) {
  const TemporaryDirectory dir;
  options_.api_keys = {"sk-own"};
  options_.api_key_file = dir.path() / "keys";
  ASSERT_TRUE(write_file(options_.api_key_file, "sk-file\n"));
  start();
  const auto status = [&](const std::string& headers) { return ask("GET", "/v1/models", "", headers).status; };
  const Response refused = ask("GET", "/v1/models");
  EXPECT_EQ(refused.status, 401);
  EXPECT_EQ(refused.error_code(), "invalid_api_key");
  EXPECT_EQ(refused.headers.at("www-authenticate"), "Bearer");
  EXPECT_EQ(status("Authorization: Bearer wrong\r\n"), 401);
  EXPECT_EQ(status("Authorization: Bearer sk-own\r\n"), 200);
  EXPECT_EQ(status("Authorization: Bearer sk-file\r\n"), 200);
  EXPECT_EQ(status("x-api-key: sk-own\r\n"), 200);
  EXPECT_EQ(ask("GET", "/metrics").status, 401);
  EXPECT_EQ(ask("GET", "/nothing").status, 401) << "what there is, is nobody's business without a key";
  EXPECT_EQ(ask("GET", "/health").status, 200);
  ASSERT_TRUE(write_file(options_.api_key_file, "sk-new\n"));
  EXPECT_EQ(status("Authorization: Bearer sk-new\r\n"), 200);
  EXPECT_EQ(status("Authorization: Bearer sk-file\r\n"), 401);
}

TEST_F(ServerTest, AllowsOriginsByName) {
  options_.allowed_origins = {"https://a.example", "https://b.example"};
  start();
  const auto origin = [&](const std::string& name) {
    const Response response = ask("GET", "/v1/models", "", "Origin: " + name + "\r\n");
    const auto found = response.headers.find("access-control-allow-origin");
    return found == response.headers.end() ? "" : found->second;
  };
  EXPECT_EQ(origin("https://b.example"), "https://b.example");
  EXPECT_EQ(origin("https://evil.example"), "");
  const Response preflight = ask("OPTIONS", "/v1/chat/completions", "", "Origin: https://a.example\r\n");
  EXPECT_EQ(preflight.status, 204);
  EXPECT_NE(preflight.headers.at("access-control-allow-headers").find("Authorization"), std::string::npos);
  EXPECT_FALSE(ask("OPTIONS", "/v1/models", "", "Origin: https://evil.example\r\n")
                   .headers.contains("access-control-allow-methods"));
}

TEST_F(ServerTest, RequestsHaveIdsAndLogLinesWithoutPrompts) {
  std::mutex mutex;
  std::vector<std::string> lines;
  options_.log_requests = true;
  options_.log = [&](const std::string& line) {
    const std::lock_guard lock(mutex);
    lines.push_back(line);
  };
  start();
  const Response response =
      ask("POST", "/v1/chat/completions", R"({"messages":[{"role":"user","content":"SECRET"}],"max_tokens":2})",
          "X-Request-Id: mine-7\r\n");
  EXPECT_EQ(response.headers.at("x-request-id"), "mine-7");
  EXPECT_EQ(ask("GET", "/health").headers.at("x-request-id").size(), 32u);
  const std::lock_guard lock(mutex);
  ASSERT_EQ(lines.size(), 2u);
  EXPECT_NE(lines[0].find("POST /v1/chat/completions 200 "), std::string::npos) << lines[0];
  EXPECT_TRUE(lines[0].ends_with(" mine-7")) << lines[0];
  EXPECT_EQ(lines[0].find("SECRET"), std::string::npos);
}

TEST_F(ServerTest, AClientThatLeavesFreesItsPages) {
  start();
  {
    Client client(port());
    client.request("POST", "/v1/chat/completions", chat(R"(,"stream":true,"n":3)"));
    ASSERT_TRUE(client.read_until("\"content\":\""));
    ASSERT_TRUE(eventually([&] { return server_->stats().pages_in_use > 0; }));
  }
  EXPECT_TRUE(eventually([&] { return is_quiet(); }));
  {
    Client client(port());  // one that does not stream
    client.request("POST", "/v1/chat/completions", chat(""));
    ASSERT_TRUE(eventually([&] { return server_->stats().running == 1; }));
  }
  EXPECT_TRUE(eventually([&] { return is_quiet(); }));
  EXPECT_EQ(metric("fathom_finished_total{reason=\"cancelled\"}"), 4);
  EXPECT_EQ(metric("fathom_http_responses_total{route=\"/v1/chat/completions\",status=\"499\"}"), 2);
  EXPECT_EQ(ask("POST", "/v1/chat/completions", chat(R"(,"max_tokens":2)")).status, 200);
}

TEST_F(ServerTest, AFullQueueIsToldWithRetryAfter) {
  options_.engine = {.max_running = 1, .max_waiting = 1};
  start();
  Client running(port()), waiting(port());
  running.request("POST", "/v1/chat/completions", chat(R"(,"stream":true)"));
  ASSERT_TRUE(eventually([&] { return server_->stats().running == 1; }));
  waiting.request("POST", "/v1/chat/completions", chat(R"(,"max_tokens":1)"));
  ASSERT_TRUE(eventually([&] { return server_->stats().waiting == 1; }));
  const Response refused = ask("POST", "/v1/chat/completions", chat(R"(,"max_tokens":1)"));
  EXPECT_EQ(refused.status, 429);
  EXPECT_EQ(refused.error_code(), "queue_full");
  EXPECT_EQ(refused.json().find("error")->find("type")->as_string(), "rate_limit_error");
  EXPECT_EQ(refused.headers.at("retry-after"), "1");
  running.close();
  EXPECT_EQ(waiting.response().status, 200) << "the next in the queue gets its turn";
}

TEST_F(ServerTest, ANaNFailsItsRequestOnly) {
  visit_weights(model_->config, model_->weights, [](const TensorSpec& spec, Weight& value, Tensor*) {
    if (spec.tensor_class == TensorClass::kEmbedding && spec.shape[0] == 257) {
      value.codes.ptr<float>()['#' * spec.shape[1]] = std::numeric_limits<float>::quiet_NaN();
    }
  });
  start();
  const Response failed = ask("POST", "/v1/completions", R"({"prompt":"a#b"})");
  EXPECT_EQ(failed.status, 500);
  EXPECT_EQ(failed.error_code(), "numeric_error");
  const Response stream = ask("POST", "/v1/completions", R"({"prompt":"a#b","stream":true})");
  const auto events = stream.events();
  ASSERT_EQ(events.size(), 3u);
  EXPECT_NE(events[0].find("\"numeric_error\""), std::string::npos) << events[0];
  EXPECT_NE(events[1].find("\"finish_reason\":\"error\""), std::string::npos) << events[1];
  EXPECT_EQ(events[2], "[DONE]");
  const Json mixed = ask("POST", "/v1/completions", R"({"prompt":"ab"})").json();
  EXPECT_EQ(text(mixed).size(), 16u);
  EXPECT_TRUE(eventually([&] { return metric("fathom_numeric_errors_total") == 2; }));
}

TEST_F(ServerTest, DrainsWhatIsInProgress) {
  start();
  Client client(port());
  client.request("POST", "/v1/chat/completions", chat(R"(,"max_tokens":300,"stream":true)"));
  ASSERT_TRUE(client.read_until("\r\n\r\n"));
  std::thread drain([&] { EXPECT_TRUE(server_->drain(60'000)); });
  const Response response = client.response();
  EXPECT_EQ(streamed(response).size(), 300u);
  client.close();
  drain.join();
  EXPECT_FALSE(Client(port()).connected()) << "the end of draining is the end of listening";
}

TEST_F(ServerTest, AProbeHearsThatTheServerDrains) {
  start();
  Client client(port());
  client.request("POST", "/v1/chat/completions", chat(R"(,"stream":true)"));
  ASSERT_TRUE(client.read_until("\"content\":\""));
  std::atomic<bool> hurry{false};
  std::thread drain([&] { EXPECT_FALSE(server_->drain(60'000, [&] { return hurry.load(); })); });
  Response probe;
  ASSERT_TRUE(eventually([&] {  // the API hears of the drain a moment before the connections do
    probe = ask("GET", "/health");
    return probe.status == 503 && probe.headers.at("connection") == "close";
  }));
  EXPECT_EQ(probe.error_code(), "shutting_down");
  const Response refused = ask("POST", "/v1/chat/completions", chat(""));
  EXPECT_EQ(refused.error_code(), "shutting_down");
  EXPECT_EQ(refused.headers.at("connection"), "close");
  EXPECT_EQ(metric("fathom_ready"), 0);
  hurry = true;  // as a second signal
  drain.join();
}

TEST_F(ServerTest, WhatDoesNotEndInTimeIsToldSo) {
  std::mutex mutex;
  std::string lines;
  options_.log = [&](const std::string& line) {
    const std::lock_guard lock(mutex);
    lines += line + "\n";
  };
  start();
  Client stream(port()), whole(port());
  stream.request("POST", "/v1/chat/completions", chat(R"(,"stream":true,"n":2)"));
  whole.request("POST", "/v1/chat/completions", chat(""));
  ASSERT_TRUE(stream.read_until("\"content\":\""));
  ASSERT_TRUE(eventually([&] { return server_->stats().running == 3; }));
  std::thread drain([&] { EXPECT_FALSE(server_->drain(1)); });
  const auto events = stream.response().events();
  ASSERT_GE(events.size(), 4u);
  EXPECT_NE(events[events.size() - 4].find("\"shutting_down\""), std::string::npos) << events[events.size() - 4];
  EXPECT_NE(events[events.size() - 2].find("\"finish_reason\":\"error\""), std::string::npos);
  EXPECT_EQ(events.back(), "[DONE]");
  const Response failed = whole.response();
  EXPECT_EQ(failed.status, 503);
  EXPECT_EQ(failed.error_code(), "shutting_down");
  EXPECT_EQ(failed.headers.at("connection"), "close");
  drain.join();
  EXPECT_TRUE(eventually([&] { return is_quiet(); }));
  server_.reset();
  EXPECT_EQ(lines, "ended 2 unfinished requests with the error shutting_down\n");
}

TEST_F(ServerTest, LogprobsEndWithTheText) {
  start();
  const std::string asked = R"({"prompt":"Hi","max_tokens":40,"logprobs":1)";
  const std::string whole = text(ask("POST", "/v1/completions", asked + "}").json());
  const std::string stop = whole.substr(10, 3), shown = whole.substr(0, whole.find(stop));
  const auto joined = [](const Json& choice) {
    std::string all;
    for (const Json& token : choice.find("logprobs")->find("tokens")->items()) all += token.as_string();
    return all;
  };
  const Json stopped = ask("POST", "/v1/completions", asked + R"(,"stop":")" + stop + "\"}").json();
  EXPECT_EQ(text(stopped), shown);
  EXPECT_EQ(joined(choice(stopped)), shown);
  std::string pieces;
  for (const std::string& event :
       ask("POST", "/v1/completions", asked + R"(,"stream":true,"stop":")" + stop + "\"}").events()) {
    if (event == "[DONE]") continue;
    const Json chunk = *Json::parse(event, "event");
    if (!choice(chunk).find("logprobs")->is_null()) pieces += joined(choice(chunk));
  }
  EXPECT_EQ(pieces, shown);
  const Json included =
      ask("POST", "/v1/completions", asked + R"(,"include_stop_str_in_output":true,"stop":")" + stop + "\"}").json();
  EXPECT_EQ(text(included), shown + stop);
  EXPECT_EQ(joined(choice(included)), shown + stop);
}

TEST_F(ServerTest, ManyClientsGetTheAnswersThatTheyGetAlone) {
  start();
  const auto body = [&](int i) {
    return R"({"prompt":"prompt )" + std::to_string(i) + R"(","max_tokens":20,"temperature":1,"seed":)" +
           std::to_string(i) + (i % 2 == 0 ? R"(,"stream":true})" : "}");
  };
  constexpr int kClients = 24;
  std::vector<std::string> alone;
  for (int i = 0; i < kClients; ++i) {
    const Response response = ask("POST", "/v1/completions", body(i));
    alone.push_back(i % 2 == 0 ? streamed(response) : text(response.json()));
  }
  std::vector<std::unique_ptr<Client>> clients;
  for (int i = 0; i < kClients; ++i) {
    clients.push_back(std::make_unique<Client>(port()));
    clients.back()->request("POST", "/v1/completions", body(i));
  }
  for (int i = 0; i < kClients; ++i) {
    const Response response = clients[static_cast<size_t>(i)]->response();
    EXPECT_EQ(i % 2 == 0 ? streamed(response) : text(response.json()), alone[static_cast<size_t>(i)]) << i;
  }
}

TEST_F(ServerTest, LimitsWhatAKeyMayUse) {
  options_.api_keys = {"one", "two"};
  options_.rate = {.requests_per_minute = 2, .tokens_per_minute = 0};
  start();
  const auto with_key = [&](const char* key, const char* path, const std::string& body) {
    return ask("POST", path, body, "Authorization: Bearer " + std::string(key) + "\r\n");
  };
  EXPECT_EQ(with_key("one", "/v1/chat/completions", chat(R"(,"max_tokens":2)")).status, 200);
  EXPECT_EQ(with_key("one", "/v1/embeddings", R"({"input":"a"})").status, 200);
  const Response limited = with_key("one", "/v1/chat/completions", chat(R"(,"max_tokens":2)"));
  EXPECT_EQ(limited.status, 429);
  EXPECT_EQ(limited.error_code(), "rate_limit_exceeded");
  const int wait = std::atoi(limited.headers.at("retry-after").c_str());
  EXPECT_TRUE(wait >= 1 && wait <= 30) << wait;
  EXPECT_EQ(with_key("two", "/v1/chat/completions", chat(R"(,"max_tokens":2)")).status, 200);
  EXPECT_EQ(with_key("three", "/v1/chat/completions", chat("")).status, 401);
}

TEST_F(ServerTest, TokensCountAgainstTheLimitToo) {
  options_.rate = {.requests_per_minute = 0, .tokens_per_minute = 20};
  start();
  EXPECT_EQ(ask("POST", "/v1/chat/completions", chat(R"(,"max_tokens":200)")).status, 200);
  const Response limited = ask("POST", "/v1/chat/completions", chat(R"(,"max_tokens":2)"));
  EXPECT_EQ(limited.status, 429) << "209 tokens were used of 20";
  EXPECT_GT(std::atoi(limited.headers.at("retry-after").c_str()), 300);
}

}  // namespace
}  // namespace fathom::serve
