// The engine's life of a sequence: how it ends, what is refused, what a follow-up keeps, and what a full cache does.
// That its tokens are the right ones is determinism_test.cc.
#include "engine/engine.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <map>
#include <set>

#include "../model/test_models.h"
#include "kernels/registry.h"

namespace fathom {
namespace {

using testing::random_tokens;

struct Answer {
  std::vector<int32_t> tokens;
  FinishReason finish = FinishReason::kNone;
};

class EngineTest : public ::testing::Test {
 protected:
  EngineTest() : model_(testing::random_model(testing::awkward_config(), 1)), pool_(1) {
    auto kernels = make_kernels("cpu", pool_);
    EXPECT_TRUE(kernels);
    kernels_ = std::move(*kernels);
    options_.max_cache_tokens = 1024;
    options_.allowed_tokens.assign(static_cast<size_t>(vocab_size()), true);
  }
  int64_t vocab_size() const { return model_->config.vocab_size; }
  Engine engine() const { return Engine(*model_, *kernels_, options_); }
  std::vector<int32_t> prompt(int64_t length, uint64_t seed = 3) const {
    return random_tokens(length, vocab_size(), seed);
  }

  /// Steps until nothing is left; the answers by sequence.
  static std::map<int64_t, Answer> finish(Engine& engine) {
    std::map<int64_t, Answer> answers;
    while (engine.has_work()) {
      const auto events = engine.step();
      EXPECT_TRUE(events) << events.error().text;
      if (!events) break;
      for (const TokenEvent& e : *events) {
        EXPECT_EQ(answers[e.sequence_id].finish, FinishReason::kNone) << "a token after the end";
        answers[e.sequence_id].tokens.push_back(e.token);
        answers[e.sequence_id].finish = e.finish;
      }
    }
    return answers;
  }
  Answer answer_of_fresh_engine(const std::vector<int32_t>& tokens, const SamplingParams& sampling,
                                int64_t max_new_tokens) const {
    Engine fresh = engine();
    const auto id = fresh.submit(tokens, sampling, max_new_tokens);
    EXPECT_TRUE(id) << id.error().text;
    return finish(fresh)[*id];
  }

  std::unique_ptr<Model> model_;
  ThreadPool pool_;
  std::unique_ptr<Kernels> kernels_;
  EngineOptions options_;
  const SamplingParams greedy_{.temperature = 0};
};

TEST_F(EngineTest, EndsAtTheMostNewTokens) {
  Engine e = engine();
  const auto one = e.submit(prompt(5), greedy_, 1), ten = e.submit(prompt(70), greedy_, 10);
  ASSERT_TRUE(one && ten);
  auto answers = finish(e);
  EXPECT_EQ(answers[*one].tokens.size(), 1u);
  EXPECT_EQ(answers[*ten].tokens.size(), 10u);
  EXPECT_EQ(answers[*one].finish, FinishReason::kMaxTokens);
  EXPECT_EQ(answers[*ten].finish, FinishReason::kMaxTokens);
}

TEST_F(EngineTest, GeneratesNothingWhenNothingIsAskedFor) {
  Engine e = engine();
  for (int64_t count : {int64_t{0}, int64_t{-1}, std::numeric_limits<int64_t>::min()}) {
    ASSERT_TRUE(e.submit(prompt(5), greedy_, count));
    EXPECT_FALSE(e.has_work());
  }
  const auto events = e.step();
  ASSERT_TRUE(events);
  EXPECT_TRUE(events->empty());
}

TEST_F(EngineTest, EndsWhenTheContextIsFull) {
  ASSERT_EQ(model_->config.max_position_embeddings, 400);
  Engine e = engine();
  EXPECT_EQ(e.context_length(), 400);
  const auto id = e.submit(prompt(395), greedy_, std::numeric_limits<int64_t>::max());
  ASSERT_TRUE(id);
  const Answer answer = finish(e)[*id];
  EXPECT_EQ(answer.tokens.size(), 5u);
  EXPECT_EQ(answer.finish, FinishReason::kContextFull);
}

TEST_F(EngineTest, TheCacheBoundsTheContextToo) {
  options_.max_cache_tokens = 100;  // in pages of 64; the context is what was asked for
  Engine e = engine();
  EXPECT_EQ(e.context_length(), 100);
  const auto id = e.submit(prompt(92), greedy_, 1000);
  ASSERT_TRUE(id);
  const Answer answer = finish(e)[*id];
  EXPECT_EQ(answer.tokens.size(), 8u);
  EXPECT_EQ(answer.finish, FinishReason::kContextFull);
}

TEST_F(EngineTest, EndsAtAStopTokenWhichIsReported) {
  const Answer free_run = answer_of_fresh_engine(prompt(9), greedy_, 30);
  const int32_t stop = free_run.tokens[7];
  const auto first = std::find(free_run.tokens.begin(), free_run.tokens.end(), stop);
  options_.stop_tokens = {vocab_size() > 70 ? 70 : 0, stop};
  if (std::find(free_run.tokens.begin(), first, options_.stop_tokens[0]) != first) options_.stop_tokens = {stop};
  const Answer stopped = answer_of_fresh_engine(prompt(9), greedy_, 30);
  EXPECT_EQ(stopped.tokens, std::vector<int32_t>(free_run.tokens.begin(), first + 1));
  EXPECT_EQ(stopped.finish, FinishReason::kStopToken);
}

TEST_F(EngineTest, NeverGivesATokenThatIsNotAllowed) {
  const Answer free_run = answer_of_fresh_engine(prompt(9), greedy_, 20);
  for (int32_t token : free_run.tokens) options_.allowed_tokens[static_cast<size_t>(token)] = false;
  for (double temperature : {0.0, 5.0}) {
    const Answer other = answer_of_fresh_engine(prompt(9), {.temperature = temperature}, 60);
    EXPECT_EQ(other.tokens.size(), 60u);
    for (int32_t token : other.tokens) EXPECT_TRUE(options_.allowed_tokens[static_cast<size_t>(token)]) << token;
  }
}

TEST_F(EngineTest, RefusesWhatItCannotRunAndSaysWhy) {
  Engine e = engine();
  struct Row {
    std::vector<int32_t> prompt;
    SamplingParams sampling;
    std::string says;
  };
  const Row rows[] = {
      {{}, greedy_, "empty"},         {{1, 2, 71}, greedy_, "71"},
      {{-1}, greedy_, "-1"},          {{std::numeric_limits<int32_t>::max()}, greedy_, "2147483647"},
      {prompt(400), greedy_, "400"},  {{1}, {.temperature = -0.5}, "temperature -0.5"},
      {{1}, {.top_p = 0}, "top_p 0"},
  };
  for (const Row& row : rows) {
    const auto id = e.submit(row.prompt, row.sampling, 5);
    ASSERT_FALSE(id) << row.says;
    EXPECT_EQ(id.error().code, ErrorCode::kInvalidArgument);
    EXPECT_NE(id.error().text.find(row.says), std::string::npos) << id.error().text;
    EXPECT_FALSE(e.has_work()) << "nothing of a refused request stays";
  }
  const auto id = e.submit(prompt(399), greedy_, 5);
  ASSERT_TRUE(id);
  EXPECT_EQ(finish(e)[*id].tokens.size(), 1u);
  EXPECT_FALSE(e.resume(*id, {}, 5));
}

TEST_F(EngineTest, AFullCacheIsAnErrorThatRemovingASequenceCures) {
  options_.max_cache_tokens = 192;  // three pages
  options_.prompt_chunk = 64;
  Engine e = engine();
  const auto first = e.submit(prompt(100), greedy_, 10), second = e.submit(prompt(120, 4), greedy_, 10);
  ASSERT_TRUE(first && second);
  std::map<int64_t, std::vector<int32_t>> answers;
  const auto collect = [&](const std::vector<TokenEvent>& events) {
    for (const TokenEvent& event : events) answers[event.sequence_id].push_back(event.token);
  };
  Result<std::vector<TokenEvent>> events = e.step();
  for (; events; events = e.step()) collect(*events);
  EXPECT_EQ(events.error().code, ErrorCode::kOutOfMemory);
  EXPECT_NE(events.error().text.find("192"), std::string::npos) << events.error().text;
  EXPECT_FALSE(e.step()) << "still full";
  EXPECT_TRUE(e.has_work());
  e.remove(*first);
  while (e.has_work()) {
    events = e.step();
    ASSERT_TRUE(events) << events.error().text;
    collect(*events);
  }
  EXPECT_EQ(answers[*second], answer_of_fresh_engine(prompt(120, 4), greedy_, 10).tokens);
  e.remove(*second);
  const auto third = e.submit(prompt(170, 5), greedy_, 3);  // all three pages are found again
  ASSERT_TRUE(third);
  EXPECT_EQ(finish(e)[*third].tokens, answer_of_fresh_engine(prompt(170, 5), greedy_, 3).tokens);
}

TEST_F(EngineTest, RemovingANeighbourChangesNothing) {
  Engine e = engine();
  const auto first = e.submit(prompt(30), greedy_, 20), second = e.submit(prompt(80, 4), greedy_, 20);
  ASSERT_TRUE(first && second);
  std::vector<int32_t> tokens;
  for (int i = 0; e.has_work(); ++i) {
    const auto events = e.step();
    ASSERT_TRUE(events);
    for (const TokenEvent& event : *events) {
      if (event.sequence_id == *second) tokens.push_back(event.token);
    }
    if (i == 6) e.remove(*first);
  }
  EXPECT_EQ(tokens, answer_of_fresh_engine(prompt(80, 4), greedy_, 20).tokens);
  e.remove(12345);  // nobody's id
}

TEST_F(EngineTest, AFollowUpAnswersAsAFreshSequenceWould) {
  for (const double temperature : {0.0, 1.0}) {
    const SamplingParams sampling{.temperature = temperature, .seed = 9};
    Engine e = engine();
    const auto id = e.submit(prompt(70), sampling, 12);
    ASSERT_TRUE(id);
    std::vector<int32_t> history = prompt(70);
    for (int turn = 0; turn < 4; ++turn) {
      const auto answer = finish(e)[*id];
      EXPECT_EQ(answer.tokens, answer_of_fresh_engine(history, sampling, 12).tokens) << "turn " << turn;
      history.insert(history.end(), answer.tokens.begin(), answer.tokens.end());
      const auto more = prompt(5, static_cast<uint64_t>(100 + turn));
      history.insert(history.end(), more.begin(), more.end());
      ASSERT_TRUE(e.resume(*id, history, 12));
    }
    // An edited history, a shorter one, and the same again.
    history[40] = (history[40] + 1) % 71;
    for (const size_t length : {history.size(), size_t{64}, size_t{64}, size_t{1}}) {
      history.resize(length);
      ASSERT_TRUE(e.resume(*id, history, 12));
      EXPECT_EQ(finish(e)[*id].tokens, answer_of_fresh_engine(history, sampling, 12).tokens) << length;
    }
  }
}

// With one token per step, the steps before the first answer count what is computed.
TEST_F(EngineTest, AFollowUpComputesWhatIsNewAndWhatWasGenerated) {
  options_.prompt_chunk = 1;
  Engine e = engine();
  const auto steps_to_answer = [&e] {
    for (int64_t steps = 1;; ++steps) {
      const auto events = e.step();
      EXPECT_TRUE(events);
      if (!events || !events->empty()) return steps;
    }
  };
  const auto id = e.submit(prompt(70), greedy_, 4);
  ASSERT_TRUE(id);
  EXPECT_EQ(steps_to_answer(), 70);
  std::vector<int32_t> history = prompt(70);
  history.resize(75);  // whatever follows was not in the prompt
  finish(e);
  ASSERT_TRUE(e.resume(*id, history, 4));
  EXPECT_EQ(steps_to_answer(), 5);
  finish(e);
  ASSERT_TRUE(e.resume(*id, history, 4));
  EXPECT_EQ(steps_to_answer(), 1) << "the last token, whose logits are wanted";
  finish(e);
  history[60] = (history[60] + 1) % 71;
  ASSERT_TRUE(e.resume(*id, history, 4));
  EXPECT_EQ(steps_to_answer(), 15);
}

TEST_F(EngineTest, ARefusedFollowUpLeavesTheSequenceAsItWas) {
  Engine e = engine();
  const auto id = e.submit(prompt(20), greedy_, 4);
  ASSERT_TRUE(id);
  finish(e);
  EXPECT_FALSE(e.resume(*id, prompt(500), 4));
  EXPECT_FALSE(e.has_work());
  auto history = prompt(20);
  history.push_back(1);
  ASSERT_TRUE(e.resume(*id, history, 4));
  EXPECT_EQ(finish(e)[*id].tokens, answer_of_fresh_engine(history, greedy_, 4).tokens);
}

// A token whose embedding is NaN: what a damaged file or a bad chip does to whoever uses it.
TEST_F(EngineTest, NanEndsTheSequenceThatHasItAndNoOther) {
  options_.allowed_tokens[70] = false;
  float* row = model_->weights.embedding.value.codes.ptr<float>() + 70 * model_->config.hidden_size;
  std::fill(row, row + model_->config.hidden_size, std::numeric_limits<float>::quiet_NaN());
  auto healthy = prompt(30, 5), ill = prompt(20, 6);
  std::replace(healthy.begin(), healthy.end(), 70, 1);
  ill[10] = 70;
  const Answer alone = answer_of_fresh_engine(healthy, greedy_, 12);
  Engine e = engine();
  const auto first = e.submit(ill, greedy_, 12), second = e.submit(healthy, greedy_, 12);
  ASSERT_TRUE(first && second);
  auto answers = finish(e);
  EXPECT_EQ(answers[*first].finish, FinishReason::kNumericError);
  EXPECT_EQ(answers[*first].tokens, (std::vector<int32_t>{TokenEvent::kNoToken}));
  EXPECT_EQ(answers[*second].tokens, alone.tokens);
  EXPECT_EQ(answers[*second].finish, FinishReason::kMaxTokens);
  EXPECT_EQ(e.stats().numeric_errors, 1);
}

TEST_F(EngineTest, TheSeedDecidesWhatIsDrawn) {
  std::set<std::vector<int32_t>> answers;
  for (uint64_t seed = 0; seed < 5; ++seed) {
    const SamplingParams sampling{.temperature = 1, .seed = seed};
    const auto answer = answer_of_fresh_engine(prompt(9), sampling, 16);
    EXPECT_EQ(answer.tokens, answer_of_fresh_engine(prompt(9), sampling, 16).tokens);
    answers.insert(answer.tokens);
  }
  EXPECT_EQ(answers.size(), 5u);
}

}  // namespace
}  // namespace fathom
