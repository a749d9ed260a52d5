// Two recorded traces through the scheduler in virtual time, under load that the pool cannot hold: everybody ends,
// pages and tokens stay within their bounds (replay.h asserts it in every step), priorities, aging and deadlines do
// what they say, and the same trace gives the same plans.
#include <gtest/gtest.h>

#include "../effort.h"
#include "replay.h"

namespace fathom {
namespace {

using testing::azure;
using testing::mean;
using testing::mooncake;
using testing::replay;
using testing::Replayed;
using testing::Traced;

int64_t longest(const std::vector<Traced>& requests) {
  int64_t most = 0;
  for (const Traced& r : requests) most = std::max(most, std::ssize(r.prompt) + r.answer_tokens);
  return most;
}

class SchedulerReplay : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!std::filesystem::exists(testing::shared_data() / "traces")) {
      GTEST_SKIP() << "needs " << testing::shared_data() / "traces";
    }
  }
};

TEST_F(SchedulerReplay, EverybodyEndsWhateverThePoolAndTheBudget) {
  const bool is_brief = testing::effort() == testing::Effort::kLittle;
  for (const auto& requests : {azure(is_brief ? 120 : 600, 8), mooncake(is_brief ? 40 : 200)}) {
    ASSERT_GE(requests.size(), is_brief ? 40u : 200u);
    const int64_t least = longest(requests) + 64;
    for (const int64_t budget : {int64_t{64}, int64_t{512}}) {
      for (const int64_t pool : {least, 4 * least}) {
        for (const bool prefixes : {false, true}) {
          const SequenceTableOptions options{.token_budget = budget, .max_running = 48, .prefix_cache = prefixes};
          const Replayed result = replay(requests, options, pool);
          EXPECT_EQ(result.stats.pages_in_use, 0);
          EXPECT_EQ(result.stats.promotions, 0) << "without priorities nobody is overtaken";
          for (const int64_t overtaken : result.most_overtaken) ASSERT_EQ(overtaken, 0);
        }
      }
    }
  }
}

TEST_F(SchedulerReplay, ASmallPoolPreemptsAndALargeOneDoesNot) {
  auto requests = azure(testing::effort() == testing::Effort::kLittle ? 100 : 300, 8);
  for (Traced& r : requests) r.answer_tokens *= 8;  // answers grow over several pages
  const Replayed small = replay(requests, {}, longest(requests) + 64);
  EXPECT_GT(small.stats.preemptions, 0);
  const Replayed large = replay(requests, {}, 1'000'000);
  EXPECT_EQ(large.stats.preemptions, 0);
  EXPECT_LT(mean(large.ended_us), mean(small.ended_us));
}

TEST_F(SchedulerReplay, TheSameTraceGivesTheSamePlans) {
  auto requests = azure(testing::effort() == testing::Effort::kLittle ? 100 : 300, 8);
  for (size_t i = 0; i < requests.size(); ++i) requests[i].priority = static_cast<int64_t>(i % 3);
  const int64_t pool = longest(requests) + 640;
  const SequenceTableOptions options{.max_overtaken = 50};
  const Replayed once = replay(requests, options, pool), again = replay(requests, options, pool);
  EXPECT_EQ(once.plans_hash, again.plans_hash);
  EXPECT_EQ(once.ended_us, again.ended_us);
  EXPECT_NE(once.plans_hash, replay(requests, options, pool + 64).plans_hash) << "the hash sees a page more";
  requests[requests.size() / 2].answer_tokens += 1;
  EXPECT_NE(once.plans_hash, replay(requests, options, pool).plans_hash) << "and a token more";
}

TEST_F(SchedulerReplay, LowPrioritiesAgeInsteadOfStarving) {
  if (testing::effort() == testing::Effort::kLittle) {
    GTEST_SKIP() << "means of 1,500 requests: nothing that the shorter replays do not walk; the usual round runs it";
  }
  // More high-priority work than the machine can do, and every twentieth request has a low one.
  auto requests = azure(1500, 5);
  for (size_t i = 0; i < requests.size(); ++i) requests[i].priority = i % 20 == 0 ? -1'000'000 : 1;
  const SequenceTableOptions strict{.token_budget = 128, .max_running = 8, .max_overtaken = INT64_MAX};
  SequenceTableOptions aging = strict;
  aging.max_overtaken = 200;
  const int64_t pool = 2 * longest(requests);
  const Replayed starving = replay(requests, strict, pool), fair = replay(requests, aging, pool);
  EXPECT_EQ(starving.stats.promotions, 0);
  EXPECT_GT(fair.stats.promotions, 20);
  // The bound of plan_step: max_overtaken steps, and the lengths of those before it that are overtaken too. A sequence
  // that goes first has a token in every step, and half of the budget for its prompt.
  int64_t bound = aging.max_overtaken, worst_strict = 0, worst_fair = 0;
  std::vector<int64_t> high_strict, high_fair, low_strict, low_fair;
  for (size_t i = 0; i < requests.size(); ++i) {
    const bool is_low = i % 20 == 0;
    (is_low ? low_strict : high_strict).push_back(starving.ended_us[i]);
    (is_low ? low_fair : high_fair).push_back(fair.ended_us[i]);
    if (!is_low) continue;
    bound += requests[i].answer_tokens + std::ssize(requests[i].prompt) / 64 + 2;
    EXPECT_LE(fair.most_overtaken[i], bound) << "request " << i;
    worst_strict = std::max(worst_strict, starving.most_overtaken[i]);
    worst_fair = std::max(worst_fair, fair.most_overtaken[i]);
  }
  EXPECT_LT(4 * worst_fair, worst_strict) << "strict " << worst_strict << ", with aging " << worst_fair;
  EXPECT_LT(2 * mean(low_fair), mean(low_strict));
  EXPECT_LT(mean(high_fair), 2 * mean(high_strict)) << "one at a time, which costs the others little";
}

TEST_F(SchedulerReplay, DeadlinesEndWhatIsLateAndNothingElse) {
  auto requests = azure(600, 16);
  for (size_t i = 0; i < requests.size(); i += 3) requests[i].deadline_us = requests[i].arrival_us + 400'000;
  const int64_t pool = longest(requests) + 640;
  const SequenceTableOptions options{.token_budget = 256, .max_running = 16};
  const Replayed result = replay(requests, options, pool);
  EXPECT_GT(result.num_expired, 10);
  EXPECT_LT(result.num_expired, 200);
  EXPECT_EQ(result.stats.pages_in_use, 0) << "wherever they were, their pages are back";
  constexpr int64_t kLongestStepUs = 10'000 + 20 * 256;
  for (size_t i = 0; i < requests.size(); ++i) {
    if (i % 3 == 0) {
      EXPECT_LE(result.ended_us[i], 400'000 + kLongestStepUs);
    } else {
      EXPECT_GE(result.last_token_us[i], 0);
    }
  }
  for (Traced& r : requests) r.deadline_us = INT64_MAX;
  EXPECT_LT(mean(result.ended_us), mean(replay(requests, options, pool).ended_us)) << "who gives up makes room";
}

TEST_F(SchedulerReplay, HigherPrioritiesWaitForALowPromptNoLongerThanAStep) {
  // A huge low prompt runs alone; high ones arrive one after the other and begin in the step after their arrival.
  std::vector<Traced> requests{{.prompt = std::vector<int32_t>(60'000, 1), .answer_tokens = 1}};
  for (int32_t i = 0; i < 20; ++i) {
    requests.push_back({.arrival_us = 100'000 * (i + 1),
                        .prompt = std::vector<int32_t>(100, 10 + i),
                        .answer_tokens = 2,
                        .priority = 1});
  }
  const Replayed result = replay(requests, {.token_budget = 256}, 100'000);
  for (size_t i = 1; i < requests.size(); ++i) EXPECT_LE(result.first_token_us[i], 3 * (10'000 + 20 * 256));
}

}  // namespace
}  // namespace fathom
