// What requests share through the prefix cache, and what they do not.
#include <gtest/gtest.h>

#include <algorithm>

#include "engine/engine_fixture.h"

namespace fathom {
namespace {

using testing::Answer;

/// Under a name of its own: a fixture's tests are in one file.
class PrefixCache : public testing::EngineTest {};

TEST_F(PrefixCache, ASharedPrefixIsComputedOnceAndChangesNoAnswer) {
  auto longer = prompt(200);
  longer.resize(150);
  for (int32_t i = 0; i < 20; ++i) longer.push_back(i);
  options_.prefix_cache = false;
  const Answer wanted = answer_of_fresh_engine(prompt(200), greedy_, 10);
  const Answer wanted_longer = answer_of_fresh_engine(longer, greedy_, 10);
  options_.prefix_cache = true;
  Engine e = engine();
  const auto first = e.submit(prompt(200), greedy_, 10);
  EXPECT_EQ(finish(e)[*first].tokens, wanted.tokens);
  EXPECT_EQ(e.stats().prefix_hit_tokens, 0);
  EXPECT_EQ(e.stats().prefix_miss_tokens, 200);
  e.remove(*first);
  EXPECT_EQ(e.stats().pages_in_use, 0);
  EXPECT_EQ(e.stats().prefix_pages, 3) << "full pages of the prompt, not 8 tokens more; none of the answer";
  const auto again = e.submit(prompt(200), greedy_, 10), other = e.submit(longer, greedy_, 10);
  auto answers = finish(e);
  EXPECT_EQ(answers[*again].tokens, wanted.tokens);
  EXPECT_EQ(answers[*other].tokens, wanted_longer.tokens);
  EXPECT_EQ(e.stats().prefix_hit_tokens, 192 + 150) << "three pages; two, and of a copy of the third 22 tokens";
  EXPECT_EQ(e.stats().prompt_tokens, 200 + 200 + 170);
  EXPECT_EQ(e.stats().pages_in_use, 3 + 2 + 1 + 1 - 2) << "two pages are both's";
}

// A copy takes the page that was used least recently, and where all others are in use, the copied one itself.
TEST_F(PrefixCache, ABeginningIsCopiedInAFullCacheToo) {
  auto other = prompt(190), busy = prompt(150, 9);
  other[150] ^= 1;
  const Answer wanted = answer_of_fresh_engine(other, greedy_, 2),
               wanted_busy = answer_of_fresh_engine(busy, greedy_, 30);
  for (const int64_t num_pages : {8, 7, 6}) {
    options_.max_cache_tokens = num_pages * LatentPages::kPageTokens;
    Engine e = engine();
    const auto known = e.submit(prompt(190), greedy_, 2);
    finish(e);
    e.remove(*known);
    ASSERT_EQ(e.stats().prefix_pages, 3);
    const auto beside = e.submit(busy, greedy_, 30);  // in use all the time: 3 pages
    const auto begun = e.step();
    ASSERT_TRUE(begun);
    ASSERT_EQ(begun->size(), 1u);
    const auto id = e.submit(other, greedy_, 2);
    auto answers = finish(e);
    EXPECT_EQ(answers[*id].tokens, wanted.tokens) << num_pages;
    answers[*beside].tokens.insert(answers[*beside].tokens.begin(), begun->front().token);
    EXPECT_EQ(answers[*beside].tokens, wanted_busy.tokens) << num_pages;
    EXPECT_EQ(e.stats().prefix_hit_tokens, 150) << num_pages;
    EXPECT_EQ(e.stats().preemptions, 0);
  }
}

// What follows a prompt in its last page is the sequence's own: others copy the prompt's rows while it goes on writing.
TEST_F(PrefixCache, TheLastPageOfAPromptIsCopiedAsFarAsThePromptGoes) {
  options_.max_cache_tokens = 1024;
  auto longer = prompt(100);
  for (int32_t i = 0; i < 10; ++i) longer.push_back(60 - i);
  const Answer wanted = answer_of_fresh_engine(prompt(100), greedy_, 60);
  const Answer wanted_longer = answer_of_fresh_engine(longer, greedy_, 60);
  Engine e = engine();
  const auto first = e.submit(prompt(100), greedy_, 60);
  std::vector<int32_t> of_first;
  for (int step = 0; step < 5; ++step) {
    const auto events = e.step();
    ASSERT_TRUE(events);
    for (const TokenEvent& event : *events) of_first.push_back(event.token);
  }
  ASSERT_FALSE(of_first.empty());
  const auto second = e.submit(longer, greedy_, 60);
  auto answers = finish(e);
  of_first.insert(of_first.end(), answers[*first].tokens.begin(), answers[*first].tokens.end());
  EXPECT_EQ(of_first, wanted.tokens);
  EXPECT_EQ(answers[*second].tokens, wanted_longer.tokens);
  EXPECT_EQ(e.stats().prefix_hit_tokens, 100);
  // The first turns to another prompt that differs inside the published rows, then the old one is asked for again.
  auto edited = prompt(100);
  edited[90] = (edited[90] + 1) % 71;
  ASSERT_TRUE(e.resume(*first, edited, 60));
  EXPECT_EQ(finish(e)[*first].tokens, answer_of_fresh_engine(edited, greedy_, 60).tokens);
  const auto third = e.submit(prompt(100), greedy_, 60), fourth = e.submit(edited, greedy_, 60);
  answers = finish(e);
  EXPECT_EQ(answers[*third].tokens, wanted.tokens);
  EXPECT_EQ(answers[*fourth].tokens, answer_of_fresh_engine(edited, greedy_, 60).tokens);
  for (const auto& id : {first, second, third, fourth}) e.remove(*id);
  EXPECT_EQ(e.stats().pages_in_use, 0);
}

TEST_F(PrefixCache, WhoUsesNoPrefixCacheGivesNothingToItEither) {
  Engine e = engine();
  ASSERT_TRUE(e.submit({.prompt = prompt(150), .sampling = greedy_, .max_new_tokens = 2, .use_prefix_cache = false}));
  finish(e);
  EXPECT_EQ(e.stats().prefix_pages, 0);
}

TEST_F(PrefixCache, TheLastPromptTokenIsAlwaysComputed) {
  for (const int64_t length : {64, 128}) {
    const Answer wanted = answer_of_fresh_engine(prompt(length), greedy_, 6);
    Engine e = engine();
    for (int turn = 0; turn < 2; ++turn) {
      const auto id = e.submit(prompt(length), greedy_, 6);
      EXPECT_EQ(finish(e)[*id].tokens, wanted.tokens) << length << " tokens, turn " << turn;
    }
    EXPECT_EQ(e.stats().prefix_hit_tokens, length - 1);
  }
}

TEST_F(PrefixCache, SeveralAnswersToOnePromptShareItsPages) {
  std::vector<Answer> wanted;
  for (uint64_t seed = 0; seed < 4; ++seed) {
    wanted.push_back(answer_of_fresh_engine(prompt(200), {.temperature = 1, .seed = seed}, 8));
  }
  options_.prompt_chunk = 50;
  Engine e = engine();
  std::vector<int64_t> ids;
  for (uint64_t seed = 0; seed < 4; ++seed) {
    ids.push_back(*e.submit(prompt(200), {.temperature = 1, .seed = seed}, 8));
  }
  auto answers = finish(e);
  for (size_t i = 0; i < 4; ++i) EXPECT_EQ(answers[ids[i]].tokens, wanted[i].tokens) << "seed " << i;
  EXPECT_EQ(e.stats().prefix_hit_tokens, 3 * 192) << "the others waited for the first";
  EXPECT_EQ(e.stats().pages_in_use, 3 + 4);
}

TEST_F(PrefixCache, PagesThatANanIsInAreNotShared) {
  options_.allowed_tokens[70] = false;
  auto ill = prompt(150, 6);
  std::replace(ill.begin(), ill.end(), 70, 1);
  ill[140] = 70;
  float* row = model_->weights.embedding.value.codes.ptr<float>() + 70 * model_->config.hidden_size;
  std::fill(row, row + model_->config.hidden_size, std::numeric_limits<float>::quiet_NaN());
  Engine e = engine();
  ASSERT_TRUE(e.submit(ill, greedy_, 5));
  finish(e);
  EXPECT_EQ(e.stats().numeric_errors, 1);
  EXPECT_EQ(e.stats().prefix_pages, 0);
}

}  // namespace
}  // namespace fathom
