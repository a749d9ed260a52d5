// The scheduler: who goes first, who waits, who has to go, one rule at a time; then random populations run to their end
// on counted pages. A recorded trace is in sequence_table_test.cc.
#include "engine/scheduler.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>

#include "base/rng.h"
#include "engine/latent_cache.h"

namespace fathom {
namespace {

constexpr auto kWaiting = SequencePhase::kWaiting;
constexpr auto kFinished = SequencePhase::kFinished;
constexpr int64_t kMany = 1'000'000;

/// Pages first .. first + count - 1.
std::vector<int32_t> pages(int32_t first, int64_t count) {
  std::vector<int32_t> ids(static_cast<size_t>(count));
  std::iota(ids.begin(), ids.end(), first);
  return ids;
}
std::vector<int64_t> counts_of(const StepPlan& plan, size_t num_sequences) {
  std::vector<int64_t> counts(num_sequences);
  for (const StepItem& item : plan.items) counts[item.sequence] = item.count;
  return counts;
}
using Indices = std::vector<size_t>;
using Counts = std::vector<int64_t>;

TEST(Scheduler, GivesGeneratedTokensFirstAndThePromptsTheRest) {
  const std::vector<SequenceState> states{
      {.num_tokens = 100, .num_computed = 0, .prompt_length = 100},
      {.arrival = 1, .num_tokens = 21, .num_computed = 20, .prompt_length = 15},
      {.arrival = 2, .num_tokens = 8, .num_computed = 2, .prompt_length = 8},
      {.phase = kFinished, .arrival = 3, .num_tokens = 5, .num_computed = 5, .prompt_length = 5}};
  const StepPlan plan = plan_step(states, {.token_budget = 50, .available_pages = kMany});
  ASSERT_EQ(plan.items.size(), 3u);
  EXPECT_EQ(plan.items[0].sequence, 1u);
  EXPECT_EQ(plan.items[0].first_position, 20);
  EXPECT_EQ(plan.items[0].count, 1);
  EXPECT_EQ(plan.items[0].form, MlaForm::kAbsorbed);
  EXPECT_TRUE(plan.items[0].samples);
  EXPECT_EQ(plan.items[1].sequence, 0u);
  EXPECT_EQ(plan.items[1].count, 43) << "all that the shorter prompt leaves";
  EXPECT_EQ(plan.items[1].form, MlaForm::kNaive);
  EXPECT_FALSE(plan.items[1].samples);
  EXPECT_EQ(plan.items[2].sequence, 2u);
  EXPECT_EQ(plan.items[2].first_position, 2);
  EXPECT_EQ(plan.items[2].count, 6);
  EXPECT_TRUE(plan.items[2].samples);
  const StepPlan naive =
      plan_step(states, {.token_budget = 50, .available_pages = kMany, .generation = GenerationForm::kNaive});
  for (const StepItem& item : naive.items) EXPECT_EQ(item.form, MlaForm::kNaive);
}

TEST(Scheduler, PlansNothingWhenNothingIsLeft) {
  EXPECT_TRUE(plan_step({}, {.available_pages = 1}).items.empty());
  const SequenceState done{.phase = kFinished, .num_tokens = 5, .num_computed = 5, .prompt_length = 3};
  EXPECT_TRUE(plan_step({&done, 1}, {.available_pages = 1}).items.empty());
}

TEST(Scheduler, TheFirstPromptGetsHalfAndTheShortestTheOtherHalf) {
  const std::vector<SequenceState> states{{.num_tokens = 1000, .prompt_length = 1000},
                                          {.arrival = 1, .num_tokens = 90, .prompt_length = 90},
                                          {.arrival = 2, .num_tokens = 30, .prompt_length = 30},
                                          {.priority = -1, .arrival = 3, .num_tokens = 5, .prompt_length = 5}};
  const StepLimits limits{.token_budget = 100, .available_pages = kMany};
  EXPECT_EQ(counts_of(plan_step(states, limits), 4), (Counts{50, 20, 30, 0}));
  EXPECT_EQ(counts_of(plan_step(std::span(states).first(1), limits), 1), (Counts{100}));
}

TEST(Scheduler, GuessesGetTheTokensAndPagesThatAreLeft) {
  const auto has = pages(0, 1);
  const std::vector<SequenceState> states{
      {.num_tokens = 21, .num_computed = 20, .prompt_length = 15, .pages = has, .num_draft = 4},
      {.arrival = 1, .num_tokens = 62, .num_computed = 61, .prompt_length = 15, .pages = has, .num_draft = 4},
      {.arrival = 2, .num_tokens = 9, .num_computed = 8, .prompt_length = 9, .num_draft = 4},
      {.arrival = 3, .num_tokens = 64, .num_computed = 63, .prompt_length = 15, .pages = has, .num_draft = 4}};
  const auto drafts = [&](const StepLimits& limits) {
    Counts counts(states.size());
    for (const StepItem& item : plan_step(states, limits).items) {
      EXPECT_EQ(item.count, 1);
      counts[item.sequence] = item.num_draft;
    }
    return counts;
  };
  EXPECT_EQ(drafts({.token_budget = 100, .available_pages = kMany}), (Counts{4, 4, 0, 4})) << "a prompt has none";
  EXPECT_EQ(drafts({.token_budget = 10, .available_pages = kMany}), (Counts{4, 2, 0, 0}));
  EXPECT_EQ(drafts({.token_budget = 4, .available_pages = kMany}), (Counts{0, 0, 0, 0}));
  // The prompt's token takes the first page; the second sequence has room for two more in its own.
  EXPECT_EQ(drafts({.token_budget = 100, .available_pages = 1}), (Counts{4, 2, 0, 0}));
  EXPECT_EQ(drafts({.token_budget = 100, .available_pages = 2}), (Counts{4, 4, 0, 0}));
  EXPECT_EQ(drafts({.token_budget = 100, .available_pages = 3}), (Counts{4, 4, 0, 4}));
}

TEST(Scheduler, NobodyGivesUpPagesForAGuess) {
  const auto own = pages(0, 1), others = pages(1, 1), kept = pages(2, 1);
  const std::vector<SequenceState> states{
      {.num_tokens = 64, .num_computed = 63, .prompt_length = 15, .pages = own, .num_draft = 4},
      {.arrival = 1, .num_tokens = 30, .num_computed = 29, .prompt_length = 15, .pages = others},
      {.phase = kFinished, .arrival = 2, .num_tokens = 30, .num_computed = 30, .prompt_length = 15, .pages = kept}};
  const StepPlan plan = plan_step(states, {.token_budget = 100, .available_pages = 0});
  EXPECT_TRUE(plan.preempted.empty());
  ASSERT_EQ(plan.items.size(), 2u);
  EXPECT_EQ(plan.items[0].num_draft, 0);
}

TEST(Scheduler, OneFormPerItem) {
  // Preempted after 40 generated tokens: first the prompt, in prompt form, then the others, in theirs, all together.
  SequenceState s{.num_tokens = 140, .num_computed = 70, .prompt_length = 100};
  const StepLimits limits{.token_budget = 60, .available_pages = kMany};
  StepPlan plan = plan_step({&s, 1}, limits);
  ASSERT_EQ(plan.items.size(), 1u);
  EXPECT_EQ(plan.items[0].count, 30);
  EXPECT_EQ(plan.items[0].form, MlaForm::kNaive);
  EXPECT_FALSE(plan.items[0].samples);
  s.num_computed = 100;
  plan = plan_step({&s, 1}, limits);
  EXPECT_EQ(plan.items[0].count, 40);
  EXPECT_EQ(plan.items[0].form, MlaForm::kAbsorbed);
  EXPECT_TRUE(plan.items[0].samples);
}

TEST(Scheduler, CatchingUpDelaysNoGeneratedToken) {
  std::vector<SequenceState> states{{.num_tokens = 500, .num_computed = 100, .prompt_length = 100}};
  for (int64_t i = 1; i < 8; ++i)
    states.push_back({.arrival = i, .num_tokens = 11, .num_computed = 10, .prompt_length = 10});
  EXPECT_EQ(counts_of(plan_step(states, {.token_budget = 8, .available_pages = kMany}), 8),
            (Counts{1, 1, 1, 1, 1, 1, 1, 1}));
}

TEST(Scheduler, AdmitsByPriorityAndThenByArrival) {
  const auto state = [](int64_t priority, int64_t arrival) {
    return SequenceState{
        .phase = kWaiting, .priority = priority, .arrival = arrival, .num_tokens = 10, .prompt_length = 10};
  };
  const std::vector<SequenceState> states{state(0, 3), state(0, 1), state(5, 9), state(-1, 0), state(0, 2)};
  EXPECT_EQ(plan_step(states, {.max_running = 3, .available_pages = kMany}).admitted, (Indices{2, 1, 4}));
  EXPECT_EQ(plan_step(states, {.available_pages = kMany}).admitted, (Indices{2, 1, 4, 0, 3}));
  EXPECT_EQ(plan_step(states, {.token_budget = 2, .available_pages = kMany}).admitted, (Indices{2, 1}))
      << "no more than could each get a token";
}

TEST(Scheduler, AdmitsWhatFitsBesideWhatTheOthersStillNeed) {
  const auto held = pages(0, 1);
  // It holds one page of the four that its prompt needs.
  std::vector<SequenceState> states{{.num_tokens = 256, .num_computed = 64, .prompt_length = 256, .pages = held},
                                    {.phase = kWaiting, .arrival = 1, .num_tokens = 100, .prompt_length = 100},
                                    {.phase = kWaiting, .arrival = 2, .num_tokens = 1, .prompt_length = 1}};
  // Three for the first, two for the second, and one to spare for each.
  EXPECT_TRUE(plan_step(states, {.available_pages = 6}).admitted.empty()) << "and nobody overtakes the second";
  EXPECT_EQ(plan_step(states, {.available_pages = 7}).admitted, (Indices{1}));
  EXPECT_EQ(plan_step(states, {.available_pages = 9}).admitted, (Indices{1, 2}));
  EXPECT_EQ(plan_step(std::span(states).subspan(1, 1), {.available_pages = 2}).admitted, (Indices{0}))
      << "alone it needs nothing to spare";
}

TEST(Scheduler, CountsAFoundPrefixOnceAndOnlyIfNobodyUsesIt) {
  const auto prefix = pages(0, 3), held = pages(0, 4);
  const SequenceState waiting{
      .phase = kWaiting, .arrival = 1, .num_tokens = 200, .num_computed = 192, .prompt_length = 200, .pages = prefix};
  EXPECT_TRUE(plan_step({&waiting, 1}, {.available_pages = 3}).admitted.empty());
  const StepPlan alone = plan_step({&waiting, 1}, {.available_pages = 4});
  ASSERT_EQ(alone.items.size(), 1u);
  EXPECT_EQ(alone.items[0].first_position, 192);
  EXPECT_EQ(alone.items[0].count, 8);
  const std::vector<SequenceState> beside{{.num_tokens = 210, .num_computed = 209, .prompt_length = 200, .pages = held},
                                          waiting};
  EXPECT_TRUE(plan_step(beside, {.available_pages = 2}).admitted.empty());
  EXPECT_EQ(plan_step(beside, {.available_pages = 3}).admitted, (Indices{1})) << "one of its own and two to spare";
}

TEST(Scheduler, PassesOverWhoWaitsForAPrefix) {
  const std::vector<SequenceState> states{
      {.phase = kWaiting, .num_tokens = 100, .prompt_length = 100, .passed_over = true},
      {.phase = kWaiting, .arrival = 1, .num_tokens = 100, .prompt_length = 100}};
  EXPECT_EQ(plan_step(states, {.available_pages = kMany}).admitted, (Indices{1}));
}

TEST(Scheduler, AFullCacheCostsTheLastInRankItsPages) {
  const auto a = pages(0, 1), b = pages(1, 2), c = pages(3, 2);
  // The first needs its second page; 2 arrived last, 1 has the lowest priority.
  std::vector<SequenceState> states{
      {.num_tokens = 65, .num_computed = 64, .prompt_length = 64, .pages = a},
      {.priority = -1, .arrival = 1, .num_tokens = 80, .num_computed = 79, .prompt_length = 64, .pages = b},
      {.arrival = 2, .num_tokens = 80, .num_computed = 79, .prompt_length = 64, .pages = c}};
  StepPlan plan = plan_step(states, {});
  EXPECT_EQ(plan.preempted, (Indices{1}));
  EXPECT_EQ(counts_of(plan, 3), (Counts{1, 0, 1}));
  states[1].priority = 0;
  plan = plan_step(states, {});
  EXPECT_EQ(plan.preempted, (Indices{2}));
  EXPECT_EQ(counts_of(plan, 3), (Counts{1, 1, 0}));
  plan = plan_step(states, {.available_pages = 1});
  EXPECT_TRUE(plan.preempted.empty());
}

TEST(Scheduler, FinishedSequencesGiveTheirPagesFirst) {
  const auto a = pages(0, 1), b = pages(1, 2), c = pages(3, 2);
  const std::vector<SequenceState> states{
      {.num_tokens = 65, .num_computed = 64, .prompt_length = 64, .pages = a},
      {.phase = kFinished, .arrival = 1, .num_tokens = 80, .num_computed = 80, .prompt_length = 64, .pages = b},
      {.arrival = 2, .num_tokens = 80, .num_computed = 79, .prompt_length = 64, .pages = c}};
  const StepPlan plan = plan_step(states, {});
  EXPECT_EQ(plan.preempted, (Indices{1}));
  EXPECT_EQ(counts_of(plan, 3), (Counts{1, 0, 1}));
}

TEST(Scheduler, WhoIsLastStandsStillRatherThanGivingUpItsPages) {
  const auto a = pages(0, 1), b = pages(1, 1), c = pages(2, 1);
  const std::vector<SequenceState> states{
      {.num_tokens = 30, .num_computed = 29, .prompt_length = 20, .pages = a},
      {.arrival = 1, .num_tokens = 65, .num_computed = 64, .prompt_length = 64, .pages = b},
      {.arrival = 2, .num_tokens = 300, .num_computed = 40, .prompt_length = 300, .pages = c}};
  EXPECT_EQ(plan_step(std::span(states).first(2), {}).preempted, Indices{});
  EXPECT_EQ(counts_of(plan_step(std::span(states).first(2), {}), 2), (Counts{1, 0}));
  // A prompt goes on as far as its pages do.
  const std::vector<SequenceState> with_prompt{states[0], states[2]};
  EXPECT_EQ(counts_of(plan_step(with_prompt, {}), 2), (Counts{1, 24}));
}

TEST(Scheduler, SharedPagesAreFreeWhenTheLastUserGoes) {
  // 1 and 2 share a page: only when both go is there one for the first.
  const auto a = pages(0, 1), shared = pages(7, 1);
  const std::vector<SequenceState> states{
      {.num_tokens = 65, .num_computed = 64, .prompt_length = 64, .pages = a},
      {.arrival = 1, .num_tokens = 70, .num_computed = 64, .prompt_length = 70, .pages = shared},
      {.arrival = 2, .num_tokens = 70, .num_computed = 64, .prompt_length = 70, .pages = shared}};
  const StepPlan plan = plan_step(states, {});
  EXPECT_EQ(plan.preempted, (Indices{2, 1}));
  EXPECT_EQ(counts_of(plan, 3), (Counts{1, 0, 0}));
}

TEST(Scheduler, AHigherPriorityTakesRoomAndSlotsFromALowerOne) {
  const auto a = pages(0, 2), b = pages(2, 2);
  std::vector<SequenceState> states{
      {.num_tokens = 100, .num_computed = 99, .prompt_length = 90, .pages = a},
      {.arrival = 1, .num_tokens = 100, .num_computed = 99, .prompt_length = 90, .pages = b},
      {.phase = kWaiting, .priority = 1, .arrival = 2, .num_tokens = 10, .prompt_length = 10}};
  StepPlan plan = plan_step(states, {.available_pages = 1});
  EXPECT_EQ(plan.admitted, (Indices{2}));
  EXPECT_EQ(plan.preempted, (Indices{1}));
  plan = plan_step(states, {.max_running = 2, .available_pages = kMany});
  EXPECT_EQ(plan.admitted, (Indices{2}));
  EXPECT_EQ(plan.preempted, (Indices{1}));
  states[2].priority = 0;
  EXPECT_TRUE(plan_step(states, {.max_running = 2, .available_pages = kMany}).preempted.empty());
}

TEST(Scheduler, WhoWasOvertakenTooOftenGoesFirst) {
  const auto a = pages(0, 1), b = pages(1, 1);
  std::vector<SequenceState> states{
      {.priority = 5, .arrival = 1, .num_tokens = 40, .num_computed = 39, .prompt_length = 30, .pages = a},
      {.priority = 5, .arrival = 3, .num_tokens = 40, .num_computed = 39, .prompt_length = 30, .pages = b},
      {.phase = kWaiting, .priority = 9, .arrival = 4, .num_tokens = 10, .prompt_length = 10},
      {.phase = kWaiting, .arrival = 2, .num_tokens = 10, .prompt_length = 10, .num_overtaken = 100},
      {.phase = kWaiting, .arrival = 0, .num_tokens = 10, .prompt_length = 10, .num_overtaken = 99}};
  const StepLimits limits{.max_running = 2, .available_pages = kMany, .max_overtaken = 100};
  StepPlan plan = plan_step(states, limits);
  EXPECT_EQ(plan.promoted, 3u);
  EXPECT_EQ(plan.admitted, (Indices{3, 2}));
  EXPECT_EQ(plan.preempted, (Indices{1, 0})) << "any priority makes room for it";
  states[4].num_overtaken = 101;
  EXPECT_EQ(plan_step(states, limits).promoted, 4u) << "of several the first to arrive, not the one that waited most";

  // It keeps its place while it runs, and nobody else is promoted before it ends.
  states[3] = {
      .arrival = 2, .num_tokens = 65, .num_computed = 64, .prompt_length = 10, .pages = a, .is_promoted = true};
  states[0].phase = kWaiting;
  plan = plan_step(states, {.max_running = 2, .available_pages = 0, .max_overtaken = 100});
  EXPECT_FALSE(plan.promoted);
  EXPECT_EQ(plan.preempted, (Indices{1})) << "for its page";
  ASSERT_EQ(plan.items.size(), 1u);
  EXPECT_EQ(plan.items[0].sequence, 3u);
  states[3].phase = kFinished;
  EXPECT_EQ(plan_step(states, limits).promoted, 4u);
}

TEST(Scheduler, OvertakenAreThoseWhomLaterAndHigherOnesKeepFromWorking) {
  const std::vector<SequenceState> states{
      {.priority = 1, .arrival = 5, .num_tokens = 10, .num_computed = 9, .prompt_length = 5},
      {.phase = kWaiting, .arrival = 4, .num_tokens = 10, .prompt_length = 10},
      {.phase = kWaiting, .arrival = 6, .num_tokens = 10, .prompt_length = 10},                 // came later
      {.phase = kWaiting, .priority = 1, .arrival = 3, .num_tokens = 10, .prompt_length = 10},  // not for priority
      {.phase = kFinished, .arrival = 2, .num_tokens = 10, .num_computed = 10, .prompt_length = 5},
      {.arrival = 1, .num_tokens = 10, .num_computed = 5, .prompt_length = 10}};  // runs, stands still
  const StepPlan plan{.preempted = {}, .admitted = {}, .items = {{.sequence = 0, .count = 1}}, .promoted = {}};
  EXPECT_EQ(overtaken(states, plan), (Indices{1, 5}));
  EXPECT_TRUE(overtaken(states, {}).empty()) << "nobody is overtaken when nobody works";
}

// Random populations on a small number of pages: every plan keeps the rules, every token is computed in order, and
// everybody finishes.
TEST(Scheduler, RandomPopulationsKeepTheRulesAndFinish) {
  struct Simulated {
    SequenceState state;
    std::vector<int32_t> pages;
    int64_t final_length = 0;
  };
  SequentialRng rng(1, stream_of("scheduler"));
  int64_t preemptions = 0;
  for (int trial = 0; trial < 300; ++trial) {
    StepLimits limits{.token_budget = rng.between(1, trial % 3 == 0 ? 5 : 100), .max_running = rng.between(2, 12)};
    const int64_t num_pages = rng.between(5, 8);  // the longest sequence has 5
    std::vector<int32_t> free = pages(0, num_pages);
    std::vector<Simulated> all;
    for (int64_t i = 0, n = rng.between(4, 12); i < n; ++i) {
      const int64_t prompt = rng.between(1, 60), answer = rng.between(1, 250);
      all.push_back({.state = {.phase = kWaiting,
                               .priority = rng.between(0, 1),
                               .arrival = i,
                               .num_tokens = prompt,
                               .prompt_length = prompt},
                     .pages = {},
                     .final_length = prompt + answer});
    }
    int64_t steps = 0;
    for (; steps < 20'000; ++steps) {
      std::vector<SequenceState> states;
      for (Simulated& s : all) {
        states.push_back(s.state);
        states.back().pages = s.pages;
      }
      limits.available_pages = std::ssize(free);
      const StepPlan plan = plan_step(states, limits);
      const auto give_back = [&](Simulated& s) {
        free.insert(free.end(), s.pages.begin(), s.pages.end());
        s.pages.clear();
      };
      for (size_t i : plan.preempted) {
        ASSERT_EQ(all[i].state.phase, SequencePhase::kRunning);
        give_back(all[i]);
        all[i].state.phase = kWaiting;
        all[i].state.num_computed = 0;
        ++preemptions;
      }
      for (size_t i : plan.admitted) {
        ASSERT_EQ(all[i].state.phase, kWaiting);
        all[i].state.phase = SequencePhase::kRunning;
        for (const Simulated& other : all) {
          ASSERT_FALSE(other.state.phase == kWaiting && other.state.priority == all[i].state.priority &&
                       other.state.arrival < all[i].state.arrival && &other != &all[i])
              << "nobody is overtaken within a priority";
        }
      }
      int64_t tokens = 0;
      bool naive_began = false;
      std::vector<bool> planned(all.size());
      for (const StepItem& item : plan.items) {
        Simulated& s = all[item.sequence];
        ASSERT_EQ(s.state.phase, SequencePhase::kRunning);
        ASSERT_FALSE(planned[item.sequence]) << "one item per sequence";
        planned[item.sequence] = true;
        ASSERT_GT(item.count, 0);
        ASSERT_EQ(item.first_position, s.state.num_computed) << "in order, none twice";
        const bool generated = item.first_position >= s.state.prompt_length;
        ASSERT_EQ(item.form == MlaForm::kAbsorbed, generated);
        ASSERT_FALSE(generated && naive_began) << "absorbed rows come first";
        naive_began |= !generated;
        s.state.num_computed += item.count;
        ASSERT_TRUE(generated || s.state.num_computed <= s.state.prompt_length) << "one form per item";
        ASSERT_LE(s.state.num_computed, s.state.num_tokens);
        ASSERT_EQ(item.samples, s.state.num_computed == s.state.num_tokens);
        while (std::ssize(s.pages) < pages_for(s.state.num_computed)) {
          ASSERT_FALSE(free.empty()) << "more pages are planned than there are";
          s.pages.push_back(free.back());
          free.pop_back();
        }
        tokens += item.count;
      }
      ASSERT_LE(tokens, limits.token_budget);
      bool somebody_is_left = false;
      for (const StepItem& item : plan.items) {
        Simulated& s = all[item.sequence];
        if (item.samples && ++s.state.num_tokens == s.final_length) {
          s.state.phase = kFinished;
          s.state.num_computed = s.state.num_tokens;
          give_back(s);
        }
      }
      for (const Simulated& s : all) somebody_is_left |= s.state.phase != kFinished;
      if (!somebody_is_left) break;
      ASSERT_GT(tokens, 0) << "a step without work while somebody is left";
    }
    for (const Simulated& s : all) EXPECT_EQ(s.state.num_tokens, s.final_length) << "starved in trial " << trial;
  }
  EXPECT_GT(preemptions, 300) << "the populations were too easy to show anything";
}

}  // namespace
}  // namespace fathom
