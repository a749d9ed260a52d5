// The engine's life of a sequence: how it ends, what is refused, what a follow-up keeps, and what a full cache
// does. That its tokens are the right ones is determinism_test.cc, what requests share prefix_cache_test.cc.
#include "engine/engine.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <iterator>
#include <limits>
#include <map>
#include <set>

#include "engine/engine_fixture.h"

namespace fathom {
namespace {

using testing::Answer;
using testing::EngineTest;

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

TEST_F(EngineTest, SparseAttentionEndsTheContextAtIndexTopk) {
  model_->config.index_topk = 50;
  Engine e = engine();
  EXPECT_EQ(e.context_length(), 50);
  const auto id = e.submit(prompt(45), greedy_, 1000);
  ASSERT_TRUE(id);
  const Answer answer = finish(e)[*id];
  EXPECT_EQ(answer.tokens.size(), 5u);
  EXPECT_EQ(answer.finish, FinishReason::kContextFull);
  const auto refused = e.submit(prompt(50), greedy_, 1);
  ASSERT_FALSE(refused);
  EXPECT_NE(refused.error().text.find("the 50 tokens of index_topk"), std::string::npos) << refused.error().text;
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
      {{1}, {.top_p = 0}, "top_p 0"}, {{1}, {.logit_bias = {{71, 1}}}, "71"},
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
  const auto many = e.submit({.prompt = {1}, .num_logprobs = Engine::kMaxLogprobs + 1});
  ASSERT_FALSE(many);
  EXPECT_NE(many.error().text.find("129"), std::string::npos) << many.error().text;
}

TEST_F(EngineTest, AFullCacheMakesSequencesWaitAndChangesNoAnswer) {
  options_.prompt_chunk = 64;
  std::vector<std::vector<int32_t>> wanted;
  for (uint64_t i = 0; i < 4; ++i) wanted.push_back(answer_of_fresh_engine(prompt(60, i), greedy_, 100).tokens);
  options_.max_cache_tokens = 7 * 64;  // each needs three pages in the end; two begin beside each other
  Engine e = engine();
  std::vector<int64_t> ids;
  for (uint64_t i = 0; i < 4; ++i) ids.push_back(*e.submit(prompt(60, i), greedy_, 100));
  ASSERT_TRUE(e.step());
  EXPECT_GT(e.stats().waiting, 0);
  auto answers = finish(e);
  for (size_t i = 0; i < 4; ++i) {
    auto& got = answers[ids[i]].tokens;
    EXPECT_EQ(got, wanted[i]) << "request " << i;
  }
  EXPECT_GT(e.stats().preemptions, 0);
  EXPECT_GT(e.stats().preempted_tokens, 0);
  EXPECT_EQ(e.stats().generated_tokens, 400);
  EXPECT_EQ(e.stats().running + e.stats().waiting, 0);
}

TEST_F(EngineTest, PagesOfFinishedSequencesGiveWayAndAFollowUpIsComputedAgain) {
  options_.max_cache_tokens = 4 * 64;
  options_.prefix_cache = false;
  Engine e = engine();
  const auto first = e.submit(prompt(150), greedy_, 5);
  ASSERT_TRUE(first);
  auto history = prompt(150);
  const auto answer = finish(e)[*first].tokens;
  history.insert(history.end(), answer.begin(), answer.end());
  const auto second = e.submit(prompt(200, 4), greedy_, 5);
  ASSERT_TRUE(second);
  EXPECT_EQ(finish(e)[*second].tokens, answer_of_fresh_engine(prompt(200, 4), greedy_, 5).tokens);
  EXPECT_EQ(e.stats().preemptions, 0) << "nobody who was running had to go";
  ASSERT_TRUE(e.resume(*first, history, 5));
  EXPECT_EQ(finish(e)[*first].tokens, answer_of_fresh_engine(history, greedy_, 5).tokens);
}

TEST_F(EngineTest, ADeadlineEndsASequenceWhereverItIs) {
  options_.max_running = 1;
  const Clock::time_point start{};
  const auto at = [&](int64_t ms) { return start + std::chrono::milliseconds(ms); };
  const Answer wanted = answer_of_fresh_engine(prompt(9), greedy_, 50);
  Engine e = engine();
  Request request{.prompt = prompt(9), .sampling = greedy_, .max_new_tokens = 50, .deadline = at(10)};
  const auto running = e.submit(request), waiting = e.submit(request);
  request.deadline = {};
  const auto patient = e.submit(request);
  std::map<int64_t, Answer> answers;
  for (int64_t ms = 0; e.has_work(); ++ms) {
    const auto events = e.step(at(ms));
    ASSERT_TRUE(events);
    for (const TokenEvent& event : *events) {
      if (event.token != TokenEvent::kNoToken) answers[event.sequence_id].tokens.push_back(event.token);
      answers[event.sequence_id].finish = event.finish;
    }
  }
  EXPECT_EQ(answers[*running].finish, FinishReason::kDeadline);
  EXPECT_EQ(answers[*running].tokens, std::vector<int32_t>(wanted.tokens.begin(), wanted.tokens.begin() + 10));
  EXPECT_EQ(answers[*waiting].finish, FinishReason::kDeadline);
  EXPECT_TRUE(answers[*waiting].tokens.empty());
  EXPECT_EQ(answers[*patient].tokens, wanted.tokens);
  EXPECT_EQ(e.stats().deadlines_missed, 2);
}

TEST_F(EngineTest, PriorityGoesFirst) {
  options_.max_running = 1;
  Engine e = engine();
  std::vector<int64_t> ends;
  std::map<int64_t, int64_t> priority_of;
  for (const int64_t priority : {0, -1, 2, 1}) {
    const auto id = e.submit({.prompt = prompt(9), .sampling = greedy_, .max_new_tokens = 3, .priority = priority});
    ASSERT_TRUE(id);
    priority_of[*id] = priority;
  }
  while (e.has_work()) {
    const auto events = e.step();
    ASSERT_TRUE(events);
    for (const TokenEvent& event : *events) {
      if (event.finish != FinishReason::kNone) ends.push_back(priority_of[event.sequence_id]);
    }
  }
  EXPECT_EQ(ends, (std::vector<int64_t>{2, 1, 0, -1}));
}

TEST_F(EngineTest, LogprobsAreTheModelsOwnWhateverTheSamplingIs) {
  const auto events_of = [&](const SamplingParams& sampling, int64_t num_logprobs) {
    Engine e = engine();
    EXPECT_TRUE(
        e.submit({.prompt = prompt(30), .sampling = sampling, .max_new_tokens = 6, .num_logprobs = num_logprobs}));
    std::vector<TokenEvent> all;
    while (e.has_work()) {
      auto events = e.step();
      std::move(events->begin(), events->end(), std::back_inserter(all));
    }
    return all;
  };
  const auto plain = events_of(greedy_, 3), none = events_of(greedy_, -1);
  ASSERT_EQ(plain.size(), 6u);
  for (size_t i = 0; i < 6; ++i) {
    EXPECT_FALSE(none[i].logprobs);
    ASSERT_TRUE(plain[i].logprobs);
    ASSERT_EQ(plain[i].logprobs->top.size(), 3u);
    EXPECT_EQ(plain[i].logprobs->top[0].token, plain[i].token) << "greedy takes the most probable one";
    EXPECT_EQ(plain[i].logprobs->chosen.logprob, plain[i].logprobs->top[0].logprob);
  }
  // The same first distribution under other sampling.
  const auto biased = events_of({.temperature = 0, .logit_bias = {{plain[0].token, -100}}}, 3);
  EXPECT_EQ(biased[0].token, plain[0].logprobs->top[1].token);
  EXPECT_EQ(biased[0].logprobs->chosen.logprob, plain[0].logprobs->top[1].logprob);
  EXPECT_EQ(biased[0].logprobs->top[0].logprob, plain[0].logprobs->top[0].logprob);
}

// The prompt's log-probabilities are those that the tokens have as answers of --mla naive, token by token.
TEST_F(EngineTest, PromptLogprobsAreThoseOfEachPrefix) {
  options_.generation = GenerationForm::kNaive;
  const auto tokens = prompt(140);
  const auto run = [&](Engine& e, const Request& request) {
    EXPECT_TRUE(e.submit(request));
    std::vector<TokenEvent> all;
    while (e.has_work()) {
      auto events = e.step();
      std::move(events->begin(), events->end(), std::back_inserter(all));
    }
    return all;
  };
  Engine whole = engine();
  run(whole, {.prompt = tokens, .sampling = greedy_, .max_new_tokens = 1});  // its pages would be found
  options_.prompt_chunk = 33;
  Engine chunked = engine();
  for (Engine* e : {&whole, &chunked}) {
    const auto events = run(
        *e, {.prompt = tokens, .sampling = greedy_, .max_new_tokens = 0, .num_logprobs = 2, .prompt_logprobs = true});
    ASSERT_EQ(events.size(), 1u);
    EXPECT_EQ(events[0].token, TokenEvent::kNoToken);
    EXPECT_EQ(events[0].finish, FinishReason::kMaxTokens);
    ASSERT_EQ(events[0].prompt_logprobs.size(), 139u);
    for (const size_t length : {1u, 31u, 32u, 64u, 100u, 139u}) {
      Engine fresh = engine();
      const auto prefix = run(fresh, {.prompt = {tokens.begin(), tokens.begin() + static_cast<std::ptrdiff_t>(length)},
                                      .sampling = {.temperature = 0, .logit_bias = {{tokens[length], 100}}},
                                      .max_new_tokens = 1,
                                      .num_logprobs = 2});
      ASSERT_EQ(prefix[0].token, tokens[length]);
      const Logprobs& got = events[0].prompt_logprobs[length - 1];
      EXPECT_EQ(got.chosen.token, tokens[length]);
      EXPECT_EQ(got.chosen.logprob, prefix[0].logprobs->chosen.logprob) << "after " << length << " tokens";
      ASSERT_EQ(got.top.size(), 2u);
      EXPECT_EQ(got.top[1].token, prefix[0].logprobs->top[1].token);
    }
  }
  const auto refused = whole.submit({.prompt = tokens, .prompt_logprobs = true});
  ASSERT_FALSE(refused);
  EXPECT_NE(refused.error().text.find("num_logprobs"), std::string::npos);
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
  EXPECT_EQ(steps_to_answer(), 15) << "others may have the first page: a copy of its beginning goes on";
  history.back() = (history.back() + 1) % 71;
  finish(e);
  ASSERT_TRUE(e.resume(*id, history, 4));
  EXPECT_EQ(steps_to_answer(), 1);
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

TEST_F(EngineTest, ARequestHasEndsOfItsOwn) {
  const Answer plain = answer_of_fresh_engine(prompt(20), greedy_, 12);
  const int32_t third = plain.tokens[2];
  const auto ends_at = [&](const Request& request) {
    Engine e = engine();
    const auto id = e.submit(request);
    EXPECT_TRUE(id) << id.error().text;
    return finish(e)[*id];
  };
  Request request{.prompt = prompt(20), .sampling = greedy_, .max_new_tokens = 12, .stop_tokens = {third}};
  EXPECT_EQ(ends_at(request).finish, FinishReason::kStopToken);
  EXPECT_LE(ends_at(request).tokens.size(), 3u);
  options_.stop_tokens = {third};
  request.stop_tokens = {};
  EXPECT_EQ(ends_at(request).finish, FinishReason::kStopToken);
  request.ignore_stop_tokens = true;
  EXPECT_EQ(ends_at(request).tokens, plain.tokens);
  request.ignore_stop_tokens = false;
  request.min_new_tokens = 8;
  const Answer longer = ends_at(request);
  ASSERT_GE(longer.tokens.size(), 8u);
  EXPECT_EQ(std::count(longer.tokens.begin(), longer.tokens.begin() + 8, third), 0);
  request.stop_tokens = {static_cast<int32_t>(vocab_size())};
  EXPECT_FALSE(engine().submit(request));
  request.stop_tokens = {};
  request.min_new_tokens = 13;
  EXPECT_FALSE(engine().submit(request));
}

TEST_F(EngineTest, AnEmbeddingIsTheSameAloneInCompanyAndFromTheCache) {
  options_.prompt_chunk = 48;
  const auto embed = [&](Engine& e, int64_t length) {
    const auto id = e.submit({.prompt = prompt(length), .sampling = greedy_, .max_new_tokens = 0, .embedding = true});
    EXPECT_TRUE(id) << id.error().text;
    std::vector<float> embedding;
    while (e.has_work()) {
      const auto events = e.step();
      for (const TokenEvent& event : *events) {
        if (event.sequence_id != *id) continue;
        EXPECT_TRUE(embedding.empty());
        EXPECT_EQ(event.token, TokenEvent::kNoToken);
        EXPECT_EQ(event.finish, FinishReason::kMaxTokens);
        embedding = event.embedding;
      }
    }
    return embedding;
  };
  Engine alone = engine(), busy = engine();
  const std::vector<float> expected = embed(alone, 150);
  ASSERT_EQ(std::ssize(expected), model_->config.hidden_size);
  EXPECT_NE(expected, embed(alone, 149));
  EXPECT_EQ(expected, embed(alone, 150)) << "with two pages found";
  EXPECT_GE(alone.stats().prefix_hit_tokens, 128);
  ASSERT_TRUE(busy.submit(prompt(70, 5), greedy_, 20));
  ASSERT_TRUE(busy.submit(prompt(30, 6), greedy_, 20));
  EXPECT_EQ(expected, embed(busy, 150));
}

}  // namespace
}  // namespace fathom
