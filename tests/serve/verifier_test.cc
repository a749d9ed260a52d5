// Replays: which sequences, what is compared, and that the engine loop tells of every difference.
#include "serve/verifier.h"

#include <atomic>
#include <cmath>
#include <utility>

#include "serve_fixture.h"

namespace fathom::serve {
namespace {

using fathom::testing::Client;
using fathom::testing::eventually;
using fathom::testing::random_tokens;

TokenEvent event(int64_t sequence, int32_t token, double logprob) {
  TokenEvent out;
  out.sequence_id = sequence;
  out.token = token;
  out.logprobs = Logprobs{.chosen = {.token = token, .logprob = logprob}, .top = {}};
  return out;
}

TEST(Verifier, ChoosesTheShareEvenly) {
  Verifier tenth(0.1), none(0), all(1);
  int64_t chosen = 0;
  for (int i = 1; i <= 100; ++i) {
    chosen += tenth.choose() ? 1 : 0;
    EXPECT_EQ(chosen, i / 10) << i;
    EXPECT_FALSE(none.choose());
    EXPECT_TRUE(all.choose());
  }
}

TEST(Verifier, ComparesTokensAndBits) {
  for (const int differing : {-1, 0, 1}) {
    Verifier verifier(1);
    verifier.begin(5, {.prompt = {1}, .max_new_tokens = 9, .priority = 3});
    verifier.record(event(5, 10, -0.5));
    verifier.record(event(6, 99, -0.5));
    verifier.record(event(5, 11, -0.25));
    EXPECT_FALSE(verifier.has_pending()) << "it has not ended";
    verifier.end(5, 100);
    ASSERT_TRUE(verifier.has_pending());
    const Request replay = verifier.next(100);
    EXPECT_EQ(replay.max_new_tokens, 2);
    EXPECT_FALSE(replay.use_prefix_cache);
    EXPECT_LT(replay.priority, 0);
    EXPECT_FALSE(verifier.is_due(99 + Verifier::kPatience));
    EXPECT_TRUE(verifier.is_due(100 + Verifier::kPatience));
    EXPECT_EQ(verifier.next(100 + Verifier::kPatience).priority, 0) << "now as any request";
    verifier.begin_replay(7);
    EXPECT_FALSE(verifier.has_pending());
    EXPECT_EQ(verifier.num_replays(), 1);
    EXPECT_FALSE(verifier.compare(event(7, 10, -0.5)));
    const double ulp = std::nextafter(-0.25, 0.0);
    const auto found = verifier.compare(event(7, differing == 0 ? 12 : 11, differing == 1 ? ulp : -0.25));
    EXPECT_EQ(found.has_value(), differing >= 0);
    if (found) {
      EXPECT_NE(found->find("token 1 of an answer of 2 tokens"), std::string::npos) << *found;
    }
    EXPECT_EQ(verifier.num_verified(), differing < 0 ? 1 : 0);
    verifier.finish_replay(7);
    EXPECT_EQ(verifier.num_replays(), 0);
  }
}

TEST(Verifier, ForgetsWhatMadeNothingAndSkipsWhatIsTooMuch) {
  Verifier verifier(1);
  verifier.begin(1, {.prompt = {1}});
  verifier.end(1, 0);
  EXPECT_FALSE(verifier.has_pending());
  for (int64_t id = 0; id < 100; ++id) {
    verifier.begin(id, {.prompt = {1}});
    verifier.record(event(id, 1, -1));
    verifier.end(id, 0);
  }
  EXPECT_EQ(verifier.num_skipped(), 100 - static_cast<int64_t>(Verifier::kMaxPending));
}

TEST(ParseShare, TakesPercentAndFractions) {
  EXPECT_DOUBLE_EQ(*parse_share("1%"), 0.01);
  EXPECT_DOUBLE_EQ(*parse_share("0.25"), 0.25);
  EXPECT_DOUBLE_EQ(*parse_share("100%"), 1);
  for (const char* bad : {"", "%", "-1%", "101%", "1.5", "x", "1 %", "nan"}) EXPECT_FALSE(parse_share(bad)) << bad;
}

class VerifiedServerTest : public fathom::testing::ServeFixture {
 protected:
  VerifiedServerTest() {
    options_.checks.verify_share = 1;
    options_.log = [this](const std::string& line) {
      const std::lock_guard lock(mutex_);
      log_ += line + "\n";
    };
  }
  ~VerifiedServerTest() override { server_.reset(); }  // it logs
  std::string log() {
    const std::lock_guard lock(mutex_);
    return log_;
  }
  std::mutex mutex_;
  std::string log_;
};

TEST_F(VerifiedServerTest, ReplaysAgreeWhateverTheRequest) {
  start();
  for (const char* members :
       {R"("temperature":0.8,"seed":3)", R"("speculate":"lookup","logit_bias":{"113":100})",
        R"("temperature":1,"n":3,"seed":9,"frequency_penalty":1)", R"("logprobs":2,"echo":true)", R"("stop":"q")"}) {
    const auto response = ask("POST", "/v1/completions",
                              "{\"prompt\":\"" + std::string(150, 'x') + "\",\"max_tokens\":20," + members + "}");
    ASSERT_EQ(response.status, 200) << response.body;
    if (std::string_view(members).find("logprobs") == std::string_view::npos) {
      EXPECT_TRUE(response.json().find("choices")->items()[0].find("logprobs")->is_null()) << "nobody asked";
    }
  }
  EXPECT_TRUE(eventually([&] { return metric("fathom_verified_total") == 7; }));
  EXPECT_EQ(metric("fathom_verify_mismatches_total"), 0);
  EXPECT_EQ(metric("fathom_healthy"), 1);
  EXPECT_TRUE(eventually([&] { return server_->stats().pages_in_use == 0; }));
}

/// A machine that errs in one bit of one replay.
TEST_F(VerifiedServerTest, AReplayThatDiffersIsCountedLoggedAndUnhealthy) {
  options_.checks.falsify = [first = true](TokenEvent& event) mutable {
    if (!event.logprobs || !std::exchange(first, false)) return;
    double& logprob = event.logprobs->chosen.logprob;
    logprob = std::nextafter(logprob, -100.0);
  };
  start();
  const std::string body = R"({"prompt":"ab","max_tokens":4})";
  ASSERT_EQ(ask("POST", "/v1/completions", body).status, 200);
  ASSERT_TRUE(eventually([&] { return ask("GET", "/health").status == 503; }));
  EXPECT_EQ(ask("GET", "/health").error_code(), "unhealthy");
  EXPECT_EQ(metric("fathom_verify_mismatches_total"), 1);
  EXPECT_EQ(metric("fathom_verified_total"), 0);
  EXPECT_EQ(metric("fathom_healthy"), 0);
  EXPECT_NE(log().find("ERROR verification failed: token 0 of an answer of 4 tokens"), std::string::npos) << log();
  ASSERT_EQ(ask("POST", "/v1/completions", body).status, 200);
  EXPECT_TRUE(eventually([&] { return metric("fathom_verified_total") == 1; })) << "the next replay is right";
  EXPECT_EQ(ask("GET", "/health").status, 503) << "for good";
}

TEST_F(VerifiedServerTest, AServerThatIsNeverIdleComputesAgainToo) {
  options_.engine = {.max_running = 2, .max_waiting = 100};
  options_.checks.verify_share = 0.5;
  start();
  // Two clients that always have something waiting, so that no place is ever free.
  std::atomic<bool> stop{false};
  std::vector<std::thread> clients;
  for (int i = 0; i < 2; ++i) {
    clients.emplace_back([&] {
      while (!stop) ask("POST", "/v1/completions", R"({"prompt":["a","b","c"],"max_tokens":20,"temperature":1})");
    });
  }
  EXPECT_TRUE(eventually([&] { return server_->stats().verified >= 5; }));
  stop = true;
  for (std::thread& client : clients) client.join();
  EXPECT_EQ(metric("fathom_verify_mismatches_total"), 0);
  EXPECT_EQ(metric("fathom_prefix_hit_tokens_total") + metric("fathom_prefix_miss_tokens_total"),
            metric("fathom_prompt_tokens_total"))
      << "replays are nobody's prompts";
}

TEST_F(VerifiedServerTest, ABusyServerChecksItsWeightsToo) {
  weight_pause_ms_ = 0;
  guard_ = std::make_unique<WeightGuard>(*model_);
  start();
  Client client(port());
  client.request("POST", "/v1/completions", R"({"prompt":"a","max_tokens":150000,"stream":true})");
  ASSERT_TRUE(client.read_until("\"text\""));
  const int64_t before = server_->stats().weight_passes;
  EXPECT_TRUE(eventually([&] { return server_->stats().weight_passes > before + 2; }));
  EXPECT_EQ(server_->stats().running, 1) << "it was never idle";
}

TEST_F(VerifiedServerTest, ADamagedWeightIsFoundLoggedAndUnhealthy) {
  weight_pause_ms_ = 0;
  guard_ = std::make_unique<WeightGuard>(*model_);
  guard_->digest();  // as they were
  visit_weights(model_->config, model_->weights, [](const TensorSpec& spec, Weight& value, Tensor*) {
    if (spec.tensor_class == TensorClass::kEmbedding) value.codes.ptr<float>()[0] += 1;
  });
  start();
  ASSERT_TRUE(eventually([&] { return ask("GET", "/health").status == 503; }));
  EXPECT_EQ(ask("GET", "/health").error_code(), "unhealthy");
  EXPECT_EQ(metric("fathom_healthy"), 0);
  EXPECT_GE(metric("fathom_weight_damages_total"), 1);
  EXPECT_NE(log().find("the weights have changed in memory"), std::string::npos) << log();
}

}  // namespace
}  // namespace fathom::serve
