// A recorded trace of requests through the scheduler, the sequence table and the prefix cache in virtual time, without
// a model: what is left of the engine when the numbers are taken away.
#include "engine/sequence_table.h"

#include <gtest/gtest.h>

#include <map>
#include <unordered_set>

#include "replay.h"

namespace fathom {
namespace {

using testing::mean;
using testing::mooncake;
using testing::replay;
using testing::Replayed;
using testing::Traced;

class Replay : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!std::filesystem::exists(testing::shared_data() / "traces")) {
      GTEST_SKIP() << "needs " << testing::shared_data() / "traces";
    }
    requests_ = mooncake(300);
    ASSERT_EQ(requests_.size(), 300u);
    for (const Traced& r : requests_) {
      longest_ = std::max(longest_, std::ssize(r.prompt) + r.answer_tokens);
      prompt_tokens_ += std::ssize(r.prompt);
    }
  }
  std::vector<Traced> requests_;
  int64_t longest_ = 0, prompt_tokens_ = 0;
};

TEST_F(Replay, EverybodyIsServedWithinTheBudgetAndThePages) {
  const Replayed roomy = replay(requests_, {.token_budget = 512}, 1'000'000);
  EXPECT_EQ(roomy.stats.preemptions, 0);
  EXPECT_EQ(roomy.stats.prompt_tokens, prompt_tokens_);
  EXPECT_EQ(roomy.stats.pages_in_use, 0);
  // Room for the longest request and not much more: others wait, and some are preempted.
  const Replayed tight = replay(requests_, {.token_budget = 512}, longest_ + 64);
  EXPECT_EQ(tight.stats.pages_in_use, 0);
  EXPECT_GT(mean(tight.first_token_us), mean(roomy.first_token_us));
}

TEST_F(Replay, PrefixesAreFoundWhereTheTraceRepeatsThem) {
  // By hand: how many tokens stand in whole pages that an earlier request had at the same place after the same ones,
  // and how many at all stand where an earlier one had them after the same ones.
  std::map<std::vector<int32_t>, bool> seen;
  std::unordered_set<uint64_t> beginnings;
  int64_t repeated = 0, all_repeated = 0;
  for (const Traced& r : requests_) {
    uint64_t beginning = 0;
    int64_t common = 0;
    for (const int32_t token : r.prompt) {
      beginning = page_hash(beginning, {&token, 1});
      common += !beginnings.insert(beginning).second;
    }
    all_repeated += std::min(common, std::ssize(r.prompt) - 1);
    std::vector<int32_t> blocks;
    bool known = true;
    for (int64_t end = 64; end <= std::ssize(r.prompt); end += 64) {
      blocks.push_back(r.prompt[static_cast<size_t>(end - 1)]);
      known &= seen.contains(blocks);
      seen[blocks] = true;
      if (known && end < std::ssize(r.prompt)) repeated += 64;
    }
  }
  ASSERT_GT(repeated, 0);
  const Replayed cached = replay(requests_, {.token_budget = 512}, 10'000'000);
  EXPECT_GE(cached.stats.prefix_hit_tokens, repeated) << "with room for everything no page is computed twice";
  EXPECT_LE(cached.stats.prefix_hit_tokens, all_repeated);
  EXPECT_GT(cached.stats.prefix_hit_tokens, repeated) << "and beginnings of pages are copied";
  const Replayed plain = replay(requests_, {.token_budget = 512, .prefix_cache = false}, 10'000'000);
  EXPECT_EQ(plain.stats.prefix_hit_tokens, 0);
  EXPECT_LT(mean(cached.first_token_us), mean(plain.first_token_us));
  EXPECT_LT(replay(requests_, {.token_budget = 512}, longest_ + 64).stats.prefix_hit_tokens, repeated);
}

TEST_F(Replay, HigherPriorityIsServedSooner) {
  for (size_t i = 0; i < requests_.size(); ++i) requests_[i].priority = i % 2 == 0 ? 1 : 0;
  const Replayed result = replay(requests_, {.token_budget = 256, .max_running = 8}, 2 * longest_);
  std::vector<int64_t> high, low;
  for (size_t i = 0; i < requests_.size(); ++i) (i % 2 == 0 ? high : low).push_back(result.first_token_us[i]);
  EXPECT_LT(2 * mean(high), mean(low));
}

TEST_F(Replay, AHugePromptDoesNotHoldUpShortOnes) {
  // One prompt of 200 steps' worth, and twenty short ones that arrive just after it: they are done when it is a tenth
  // done; and it is served at half speed at least.
  std::vector<Traced> mixed{{.prompt = std::vector<int32_t>(200 * 256, 1), .answer_tokens = 1}};
  for (int32_t i = 0; i < 20; ++i) {
    mixed.push_back({.arrival_us = 1, .prompt = std::vector<int32_t>(100, 10 + i), .answer_tokens = 2});
  }
  const Replayed result = replay(mixed, {.token_budget = 256}, 100'000);
  for (size_t i = 1; i < mixed.size(); ++i) EXPECT_LT(10 * result.last_token_us[i], result.first_token_us[0]);
  EXPECT_LE(result.steps, 400);
}

}  // namespace
}  // namespace fathom
