// The load generator against an HTTP server whose answers the test writes: what is counted, how many are out at once,
// and every way in which a server can fail.
#include "serve/loadgen.h"

#include <gtest/gtest.h>

#include <atomic>
#include <mutex>

#include "serve/http.h"

namespace fathom::serve {
namespace {

std::string event(const std::string& json) { return "data: " + json + "\n\n"; }

/// Answers every completion by `answer`, on the server's thread.
class Generator : public ::testing::Test {
 protected:
  void start(std::function<void(std::shared_ptr<Exchange>, const Json& body, int64_t number)> answer) {
    HttpOptions options;
    options.port = 0;
    auto handle = [this, answer](std::shared_ptr<Exchange> exchange) {
      if (exchange->request().method == "GET") {
        return exchange->respond({.status = models_.empty() ? 404 : 200, .body = models_});
      }
      const auto body = Json::parse(exchange->request().body, "body");
      ASSERT_TRUE(body);
      {
        const std::lock_guard lock(mutex_);
        bodies_.push_back(*body);
      }
      answer(exchange, *body, num_requests_++);
    };
    auto started = HttpServer::start(
        options, {.handle = handle,
                  .refuse = [](const HttpProblem& p) { return HttpResponse{.status = p.status, .body = p.text}; },
                  .dropped = [](std::string_view) {}});
    ASSERT_TRUE(started) << started.error().text;
    server_ = std::move(*started);
    target_ = *parse_target("http://127.0.0.1:" + std::to_string(server_->port()));
    options_.tokens = {.first = 256, .end = 1000};
  }
  static void stream(Exchange& exchange, const std::string& events) {
    exchange.begin_stream({.content_type = "text/event-stream"});
    exchange.send(events);
    exchange.end();
  }
  static std::string answer_of(int64_t pieces, const std::string& usage = "") {
    std::string out;
    for (int64_t i = 0; i < pieces; ++i) out += event(R"({"choices":[{"text":"a"}]})");
    out += event(R"({"choices":[{"text":"","finish_reason":"length"}]})");
    return out + (usage.empty() ? "" : event(R"({"choices":[],"usage":)" + usage + "}")) + "data: [DONE]\n\n";
  }
  LoadOutcome run(const SyntheticLoad& load) {
    SilentProgress silent;
    auto outcome = run_load(LoadPlan::synthetic(load, 1), target_, options_, silent);
    EXPECT_TRUE(outcome) << outcome.error().text;
    return outcome ? *std::move(outcome) : LoadOutcome();
  }

  std::string models_;
  LoadTarget target_;
  LoadOptions options_;
  std::mutex mutex_;
  std::vector<Json> bodies_;
  std::atomic<int64_t> num_requests_ = 0;
  std::unique_ptr<HttpServer> server_;  // ends first: its threads use the others
};

TEST_F(Generator, CountsWhatTheServerSays) {
  start([](auto exchange, const Json&, int64_t) {
    stream(*exchange,
           answer_of(3, R"({"prompt_tokens":8,"completion_tokens":5,"prompt_tokens_details":{"cached_tokens":2}})"));
  });
  options_.model = "m";
  options_.num_warmups = 2;
  options_.extra = *Json::parse(R"({"temperature": 0.5, "top_k": 3})", "extra");
  const LoadOutcome outcome = run({.num_prompts = 6, .input_len = 9, .output_len = 4});
  ASSERT_EQ(outcome.records.size(), 6u);
  for (const LoadRecord& record : outcome.records) {
    EXPECT_TRUE(record.answered()) << record.error << ": " << record.error_text;
    EXPECT_EQ(record.input_tokens, 8);
    EXPECT_EQ(record.output_tokens, 5);
    EXPECT_EQ(record.cached_tokens, 2);
    EXPECT_FALSE(record.tokens_are_pieces);
    EXPECT_LE(record.start_s, record.first_s);
    EXPECT_LE(record.first_s, record.end_s);
  }
  EXPECT_EQ(outcome.gaps.count(), 12) << "two of each request, none of the warm-ups";
  EXPECT_EQ(num_requests_, 8);
  const Json& body = bodies_.back();
  EXPECT_EQ(body.find("model")->as_string(), "m");
  EXPECT_EQ(body.find("prompt")->items().size(), 9u);
  EXPECT_EQ(body.find("max_tokens")->as_int(), 4);
  EXPECT_TRUE(body.find("ignore_eos")->as_bool());
  EXPECT_EQ(body.find("temperature")->as_double(), 0.5) << "extra fields win";
  EXPECT_EQ(body.find("top_k")->as_int(), 3);
}

TEST_F(Generator, CountsPiecesOfAServerWithoutUsage) {
  start([](auto exchange, const Json&, int64_t) { stream(*exchange, answer_of(3)); });
  options_.as_words = true;
  const LoadOutcome outcome = run({.num_prompts = 2, .input_len = 9});
  for (const LoadRecord& record : outcome.records) {
    EXPECT_EQ(record.output_tokens, 3);
    EXPECT_EQ(record.input_tokens, 9);
    EXPECT_TRUE(record.tokens_are_pieces);
  }
  EXPECT_TRUE(bodies_.back().find("prompt")->is_string());
  EXPECT_EQ(bodies_.back().find("model"), nullptr);
}

TEST_F(Generator, KeepsAsManyInFlightAsAsked) {
  // Nobody is answered before three are there: so three must be out at once, and there must never be a fourth.
  std::vector<std::shared_ptr<Exchange>> held;
  int64_t most = 0;
  start([&](auto exchange, const Json&, int64_t) {
    held.push_back(exchange);
    most = std::max(most, std::ssize(held));
    if (held.size() < 3) return;
    for (const auto& each : held) stream(*each, answer_of(1));
    held.clear();
  });
  options_.num_warmups = 0;
  options_.max_in_flight = 3;
  const LoadOutcome outcome = run({.num_prompts = 30});
  EXPECT_EQ(outcome.most_in_flight, 3);
  server_->stop();
  EXPECT_EQ(most, 3);
  for (const LoadRecord& record : outcome.records) EXPECT_TRUE(record.answered()) << record.error;
}

TEST_F(Generator, ArrivalsKeepTheirTimes) {
  start([](auto exchange, const Json&, int64_t) { stream(*exchange, answer_of(1)); });
  options_.max_in_flight = 100;
  const SyntheticLoad load{.num_prompts = 20, .requests_per_s = 200};
  const LoadPlan plan = LoadPlan::synthetic(load, 1);
  const LoadOutcome outcome = run(load);
  for (size_t i = 1; i < outcome.records.size(); ++i) {
    EXPECT_GE(outcome.records[i].start_s - outcome.records[0].start_s + outcome.latest_start_s + 1e-3,
              plan.start_s(static_cast<int64_t>(i)) - plan.start_s(0));
  }
}

TEST_F(Generator, TheFirstRequestGoesAloneForAColdPrefix) {
  start([](auto exchange, const Json&, int64_t) { stream(*exchange, answer_of(1)); });
  options_.num_warmups = 0;
  options_.cold_first = true;
  options_.max_in_flight = 8;
  const LoadOutcome outcome = run({.num_prompts = 5, .shared_prefix_len = 10});
  ASSERT_TRUE(outcome.cold);
  EXPECT_EQ(outcome.records.size(), 4u);
  for (const LoadRecord& record : outcome.records) EXPECT_GE(record.start_s, outcome.cold->end_s);
}

TEST_F(Generator, FailuresAreRecordsOfTheirKind) {
  start([](auto exchange, const Json&, int64_t number) {
    switch (number) {
      case 0: return exchange->respond({.status = 429, .body = R"({"error":{"message":"the queue is full"}})"});
      case 1: return stream(*exchange, event(R"({"choices":[{"text":"a"}]})"));
      case 2: return stream(*exchange, event(R"({"error":{"message":"a NaN"}})") + answer_of(0));
      case 3: return stream(*exchange, "data: <html>\n\n");
      case 4: return exchange->respond({.status = 500, .body = std::string(1 << 20, 'x')});
      case 5: return;  // never answered
      default: return stream(*exchange, answer_of(2));
    }
  });
  options_.num_warmups = 0;
  options_.timeout_s = 2;
  const LoadOutcome outcome = run({.num_prompts = 7, .input_len = 4});
  std::vector<std::string> errors;
  for (const LoadRecord& record : outcome.records) errors.push_back(record.error);
  EXPECT_EQ(errors,
            (std::vector<std::string>{"http 429", "closed", "error event", "malformed", "http 500", "timeout", ""}));
  EXPECT_EQ(outcome.records[0].error_text, "the queue is full");
  EXPECT_EQ(outcome.records[2].error_text, "a NaN");
  EXPECT_LT(outcome.records[4].error_text.size(), 500u);
}

TEST_F(Generator, AWarmUpThatFailsEndsTheTest) {
  start([](auto exchange, const Json&, int64_t) {
    exchange->respond({.status = 404, .body = R"({"error":{"message":"no such model"}})"});
  });
  SilentProgress silent;
  const auto outcome = run_load(LoadPlan::synthetic({}, 1), target_, options_, silent);
  ASSERT_FALSE(outcome);
  EXPECT_NE(outcome.error().text.find("http 404: no such model"), std::string::npos) << outcome.error().text;
  EXPECT_EQ(num_requests_, 1);
}

TEST_F(Generator, AnInterruptEndsTheTest) {
  start([](auto, const Json&, int64_t) {});  // no answer, ever
  struct Impatient : Progress {
    void update(std::string_view, int64_t, int64_t, std::string_view) override {}
    bool stop_requested() const override { return true; }
  } impatient;
  const auto outcome = run_load(LoadPlan::synthetic({}, 1), target_, options_, impatient);
  ASSERT_FALSE(outcome);
  EXPECT_EQ(outcome.error().code, ErrorCode::kCancelled);
}

TEST_F(Generator, AsksTheServerWhatItIs) {
  start([](auto, const Json&, int64_t) {});
  auto facts = ask_server(target_, 60);
  ASSERT_TRUE(facts) << "a server without a list is a server";
  EXPECT_EQ(facts->model, "");
  models_ = R"({"data":[{"id":"a","meta":{"n_vocab":500,"n_ctx_train":64}},{"id":"b"}]})";
  facts = ask_server(target_, 60);
  ASSERT_TRUE(facts);
  EXPECT_EQ(facts->model, "a");
  EXPECT_EQ(facts->vocab_size, 500);
  EXPECT_EQ(facts->context_length, 64);
  server_.reset();
  EXPECT_FALSE(ask_server(target_, 60)) << "nobody listens";
}

TEST(LoadTarget, IsOnThisMachineOnly) {
  const auto plain = parse_target("http://127.0.0.1:8000/");
  ASSERT_TRUE(plain);
  EXPECT_EQ(plain->port, 8000);
  EXPECT_EQ(plain->base, "");
  EXPECT_EQ(parse_target("http://localhost:1/lm")->base, "/lm");
  EXPECT_EQ(parse_target("http://[::1]:9")->address, "::1");
  EXPECT_EQ(parse_target("http://127.0.0.9")->port, 80);
  for (const char* url :
       {"", "127.0.0.1:8000", "https://127.0.0.1", "http://10.0.0.1:80", "http://example.org", "http://",
        "http://127.0.0.1:0", "http://127.0.0.1:65536", "http://127.0.0.1:x", "http://127.0.0.1:80/a b",
        "http://[::2]:80", "http://0.0.0.0:80", "http://127.0.0.1@example.org"}) {
    EXPECT_FALSE(parse_target(url)) << url;
  }
}

}  // namespace
}  // namespace fathom::serve
