// The engine loop: answers as the engine alone gives them, a bounded queue, cancellation that frees pages, and a NaN
// that ends one sequence only.
#include "serve/engine_loop.h"

#include <bit>
#include <limits>

#include "serve_fixture.h"

namespace fathom::serve {
namespace {

using fathom::testing::eventually;
using fathom::testing::random_tokens;

/// What a sink was told. The sink may outlive the test's own copy.
class Heard {
 public:
  std::function<void(const GenerationEvent&)> sink() {
    return [state = state_](const GenerationEvent& event) {
      const std::lock_guard lock(state->mutex);
      EXPECT_FALSE(state->last.ends()) << "an event after the end";
      state->last = event;
      if (event.token >= 0) state->tokens.push_back(event.token);
    };
  }
  bool ended() const { return last().ends(); }
  FinishReason finish() const { return last().finish; }
  std::string error() const { return last().error ? last().error->text : ""; }
  std::vector<int32_t> tokens() const {
    const std::lock_guard lock(state_->mutex);
    return state_->tokens;
  }

 private:
  struct State {
    std::mutex mutex;
    GenerationEvent last;
    std::vector<int32_t> tokens;
  };
  GenerationEvent last() const {
    const std::lock_guard lock(state_->mutex);
    return state_->last;
  }
  std::shared_ptr<State> state_ = std::make_shared<State>();
};

class EngineLoopTest : public fathom::testing::ServeFixture {
 protected:
  EngineLoop& loop(EngineLoopLimits limits = {}) {
    engine_ = std::make_unique<Engine>(*model_, *kernels_, engine_options_);
    loop_ = std::make_unique<EngineLoop>(*engine_, limits);
    return *loop_;
  }
  GenerationJob job(Heard& heard, int64_t max_new_tokens, uint64_t seed = 1) const {
    return {.request = {.prompt = random_tokens(20, 257, seed),
                        .sampling = {.temperature = 0},
                        .max_new_tokens = max_new_tokens},
            .sink = heard.sink()};
  }
  static int64_t submit(EngineLoop& loop, GenerationJob job) {
    std::vector<GenerationJob> jobs;
    jobs.push_back(std::move(job));
    const auto ids = loop.submit(std::move(jobs));
    EXPECT_TRUE(ids);
    return ids ? ids->front() : -1;
  }
  /// The engine's answer on kernels of its own: those of the loop are at work.
  std::vector<int32_t> alone(const GenerationJob& job) const {
    ThreadPool pool(1);
    const auto kernels = make_kernels("cpu", pool);
    EXPECT_TRUE(kernels);
    Engine engine(*model_, **kernels, engine_options_);
    EXPECT_TRUE(engine.submit(job.request));
    std::vector<int32_t> tokens;
    while (engine.has_work()) {
      const auto events = engine.step();
      for (const TokenEvent& event : *events) tokens.push_back(event.token);
    }
    return tokens;
  }

  std::unique_ptr<EngineLoop> loop_;
};

TEST_F(EngineLoopTest, GivesTheEnginesAnswersWhateverRunsBeside) {
  EngineLoop& l = loop({.max_running = 3});
  std::vector<std::unique_ptr<Heard>> heard;
  for (uint64_t i = 0; i < 8; ++i) {
    heard.push_back(std::make_unique<Heard>());
    submit(l, job(*heard.back(), 10 + static_cast<int64_t>(i), i));
  }
  for (uint64_t i = 0; i < 8; ++i) {
    ASSERT_TRUE(eventually([&] { return heard[i]->ended(); }));
    Heard nobody;
    EXPECT_EQ(heard[i]->tokens(), alone(job(nobody, 10 + static_cast<int64_t>(i), i))) << i;
    EXPECT_EQ(heard[i]->finish(), FinishReason::kMaxTokens);
  }
  EXPECT_TRUE(eventually([&] { return l.stats().pages_in_use == 0 && l.stats().running == 0; }));
}

/// Tokens and the bits of their log-probabilities.
using Bits = std::vector<std::pair<int32_t, uint64_t>>;

/// The contract of DESIGN.md, in one batch: prefixes found or not, greedy and sampled, with guesses and without.
TEST_F(EngineLoopTest, ABatchOf32GivesEveryoneTheBitsThatItGetsAlone) {
  constexpr uint64_t kBatch = 32;
  constexpr int64_t kTokens = 24;
  const std::vector<int32_t> shared = random_tokens(130, 257, 99);  // two full pages
  const auto request = [&](uint64_t i) {
    Request r{.prompt = i % 2 == 0 ? shared : std::vector<int32_t>{},
              .sampling = {.temperature = i % 3 == 0 ? 0.0 : 0.9, .seed = i},
              .max_new_tokens = kTokens,
              .num_logprobs = 0};
    const auto own = random_tokens(5 + static_cast<int64_t>(i), 257, i);
    r.prompt.insert(r.prompt.end(), own.begin(), own.end());
    if (i % 3 == 0) r.speculation = {.kind = SpeculationKind::kLookup, .num_draft = 3};  // greedy ones
    return r;
  };
  std::vector<Bits> alone(kBatch);
  for (uint64_t i = 0; i < kBatch; ++i) {
    Engine engine(*model_, *kernels_, engine_options_);
    Request plain = request(i);
    plain.speculation = {};
    ASSERT_TRUE(engine.submit(plain));
    while (engine.has_work()) {
      const auto events = engine.step();
      for (const TokenEvent& event : *events) {
        alone[i].emplace_back(event.token, std::bit_cast<uint64_t>(event.logprobs->chosen.logprob));
      }
    }
  }
  struct Heard32 {
    std::mutex mutex;
    std::vector<Bits> bits{kBatch};
    size_t num_ended = 0;
  };
  const auto heard = std::make_shared<Heard32>();
  std::vector<GenerationJob> jobs;
  for (uint64_t i = 0; i < kBatch; ++i) {
    jobs.push_back({.request = request(i), .sink = [heard, i](const GenerationEvent& event) {
                      const std::lock_guard lock(heard->mutex);
                      heard->bits[i].emplace_back(event.token, std::bit_cast<uint64_t>(event.logprobs->chosen.logprob));
                      heard->num_ended += event.ends() ? 1 : 0;
                    }});
  }
  EngineLoop& l = loop();
  ASSERT_TRUE(l.submit(std::move(jobs)));
  ASSERT_TRUE(eventually([&] {
    const std::lock_guard lock(heard->mutex);
    return heard->num_ended == kBatch;
  }));
  for (uint64_t i = 0; i < kBatch; ++i) {
    EXPECT_EQ(alone[i].size(), static_cast<size_t>(kTokens));
    EXPECT_EQ(heard->bits[i], alone[i]) << i;
  }
  EXPECT_TRUE(eventually([&] { return l.stats().running == 0; }));
  const EngineLoopStats stats = l.stats();
  EXPECT_LT(stats.steps, 3 * kTokens) << "they were in the steps together";
  EXPECT_GE(stats.prefix_hit_tokens, 15 * 128) << "of the sixteen with the prefix one computed it";
  EXPECT_GT(stats.speculation.proposed, 0);
}

TEST_F(EngineLoopTest, QueuesAllJobsOrNone) {
  EngineLoop& l = loop({.max_running = 1, .max_waiting = 2});
  Heard heard[4];
  submit(l, job(heard[0], 100'000));
  ASSERT_TRUE(eventually([&] { return l.stats().running == 1; }));
  std::vector<GenerationJob> three;
  for (int i = 1; i < 4; ++i) three.push_back(job(heard[i], 1));
  EXPECT_FALSE(l.submit(std::move(three)));
  EXPECT_EQ(l.stats().waiting, 0);
  std::vector<GenerationJob> two;
  for (int i = 1; i < 3; ++i) two.push_back(job(heard[i], 1));
  const auto ids = l.submit(std::move(two));
  ASSERT_TRUE(ids);
  EXPECT_EQ(ids->size(), 2u);
  std::vector<GenerationJob> one;
  one.push_back(job(heard[3], 1));
  EXPECT_FALSE(l.submit(std::move(one)));
}

TEST_F(EngineLoopTest, CancellingFreesPagesAndLetsTheNextIn) {
  EngineLoop& l = loop({.max_running = 1});
  Heard long_one, waiting, next;
  const int64_t first = submit(l, job(long_one, 100'000));
  const int64_t second = submit(l, job(waiting, 100'000));
  submit(l, job(next, 3));
  ASSERT_TRUE(eventually([&] { return !long_one.tokens().empty(); }));
  EXPECT_GT(l.stats().pages_in_use, 0);
  l.cancel(second);
  l.cancel(first);
  l.cancel(12345);  // nobody
  ASSERT_TRUE(eventually([&] { return next.ended(); }));
  EXPECT_TRUE(waiting.tokens().empty());
  EXPECT_FALSE(long_one.ended());
  EXPECT_TRUE(eventually([&] { return l.stats().pages_in_use == 0 && l.stats().waiting == 0; }));
}

TEST_F(EngineLoopTest, WaitsForPagesInsteadOfRunningOutOfThem) {
  engine_options_.max_cache_tokens = 4 * 64;
  EngineLoop& l = loop();
  EXPECT_EQ(l.stats().max_pages, 4);
  std::vector<std::unique_ptr<Heard>> heard;
  for (uint64_t i = 0; i < 6; ++i) {
    heard.push_back(std::make_unique<Heard>());
    submit(l, job(*heard.back(), 150, i));  // 170 tokens: three pages each
  }
  for (const auto& h : heard) {
    ASSERT_TRUE(eventually([&] { return h->ended(); }));
    EXPECT_EQ(h->error(), "");
    EXPECT_EQ(h->tokens().size(), 150u);
  }
}

TEST_F(EngineLoopTest, HigherPrioritiesLeaveTheQueueFirst) {
  EngineLoop& l = loop({.max_running = 1, .max_waiting = 10});
  Heard first, low, high, low_too;
  const int64_t running = submit(l, job(first, 100'000));
  ASSERT_TRUE(eventually([&] { return !first.tokens().empty(); }));
  // Each one waits for the one before it in the order of service.
  GenerationJob urgent = job(high, 100'000);
  urgent.request.priority = 5;
  submit(l, job(low, 3));
  submit(l, job(low_too, 3));
  const int64_t urgent_id = submit(l, std::move(urgent));
  l.cancel(running);
  ASSERT_TRUE(eventually([&] { return !high.tokens().empty(); }));
  EXPECT_TRUE(low.tokens().empty() && low_too.tokens().empty());
  l.cancel(urgent_id);
  ASSERT_TRUE(eventually([&] { return low_too.ended(); }));
  EXPECT_TRUE(low.ended()) << "within a priority the first to come";
}

TEST_F(EngineLoopTest, LowPrioritiesAgeInTheQueue) {
  EngineLoop& l = loop({.max_running = 1, .max_waiting = 10, .max_overtaken = 2});
  Heard first;
  const int64_t running = submit(l, job(first, 100'000));
  ASSERT_TRUE(eventually([&] { return !first.tokens().empty(); }));
  struct Order {
    std::mutex mutex;
    std::string ends;
  };
  const auto order = std::make_shared<Order>();
  const auto queue = [&](char name, int64_t priority) {
    Heard nobody;
    GenerationJob next = job(nobody, 2);
    next.request.priority = priority;
    next.sink = [order, name](const GenerationEvent& event) {
      const std::lock_guard lock(order->mutex);
      if (event.ends()) order->ends += name;
    };
    submit(l, std::move(next));
  };
  queue('a', -7);
  queue('b', 0);
  for (const char name : {'1', '2', '3', '4'}) queue(name, 5);
  queue('c', 0);  // came after the high ones, so none of them overtakes it
  l.cancel(running);
  ASSERT_TRUE(eventually([&] {
    const std::lock_guard lock(order->mutex);
    return order->ends.size() == 7;
  }));
  EXPECT_EQ(order->ends, "12ab34c") << "after two the first to come goes, then the other one";
}

TEST_F(EngineLoopTest, ADeadlineCountsInTheQueueToo) {
  EngineLoop& l = loop({.max_running = 1, .max_waiting = 10});
  Heard first, late;
  submit(l, job(first, 100'000));
  ASSERT_TRUE(eventually([&] { return !first.tokens().empty(); }));
  GenerationJob waiting = job(late, 5);
  waiting.request.deadline = Clock::now();
  submit(l, std::move(waiting));
  ASSERT_TRUE(eventually([&] { return late.ended(); }));
  EXPECT_EQ(late.finish(), FinishReason::kDeadline);
  EXPECT_TRUE(late.tokens().empty());
  EXPECT_FALSE(first.ended());
}

TEST_F(EngineLoopTest, TellsWhatTheEngineRefuses) {
  EngineLoop& l = loop();
  Heard heard;
  GenerationJob bad = job(heard, 5);
  bad.request.prompt = {100000};
  submit(l, std::move(bad));
  ASSERT_TRUE(eventually([&] { return heard.ended(); }));
  EXPECT_NE(heard.error().find("100000"), std::string::npos);
}

TEST_F(EngineLoopTest, ANaNEndsOneSequenceOnly) {
  // Token 200 is poison: its embedding makes every logit behind it NaN.
  visit_weights(model_->config, model_->weights, [](const TensorSpec& spec, Weight& value, Tensor*) {
    if (spec.tensor_class == TensorClass::kEmbedding && spec.shape[0] == 257) {
      value.codes.ptr<float>()[200 * spec.shape[1]] = std::numeric_limits<float>::quiet_NaN();
    }
  });
  EngineLoop& l = loop();
  Heard sick, healthy;
  GenerationJob poisoned = job(sick, 50), other = job(healthy, 50);
  std::replace(poisoned.request.prompt.begin(), poisoned.request.prompt.end(), 200, 1);
  std::replace(other.request.prompt.begin(), other.request.prompt.end(), 200, 1);
  poisoned.request.prompt[3] = 200;
  const auto expected = alone(other);
  std::vector<GenerationJob> both;
  both.push_back(std::move(poisoned));
  both.push_back(std::move(other));
  ASSERT_TRUE(l.submit(std::move(both)));
  ASSERT_TRUE(eventually([&] { return sick.ended() && healthy.ended(); }));
  EXPECT_EQ(sick.finish(), FinishReason::kNumericError);
  EXPECT_EQ(healthy.finish(), FinishReason::kMaxTokens);
  EXPECT_EQ(healthy.tokens(), expected);
  EXPECT_TRUE(eventually([&] { return l.stats().numeric_errors == 1 && l.stats().pages_in_use == 0; }));
}

TEST_F(EngineLoopTest, EndsInTheMiddleOfWork) {
  EngineLoop& l = loop();
  Heard heard;
  submit(l, job(heard, 100'000));
  ASSERT_TRUE(eventually([&] { return !heard.tokens().empty(); }));
  loop_.reset();
  EXPECT_FALSE(heard.ended());
}

}  // namespace
}  // namespace fathom::serve
