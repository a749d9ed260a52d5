// The scheduler, as properties of random populations of sequences run to their end.
#include "engine/scheduler.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "base/rng.h"

namespace fathom {
namespace {

int64_t tokens_of(const StepPlan& plan) {
  int64_t sum = 0;
  for (const StepItem& item : plan) sum += item.count;
  return sum;
}

TEST(Scheduler, GivesGeneratedTokensFirstAndThePromptsTheRest) {
  const std::vector<SequenceState> states{{.num_tokens = 100, .num_computed = 0, .prompt_length = 100},
                                          {.num_tokens = 21, .num_computed = 20, .prompt_length = 15},
                                          {.num_tokens = 8, .num_computed = 2, .prompt_length = 8},
                                          {.num_tokens = 5, .num_computed = 5, .prompt_length = 5}};
  const StepPlan plan = plan_step(states, 50, GenerationForm::kAbsorbed);
  ASSERT_EQ(plan.size(), 2u);
  EXPECT_EQ(plan[0].sequence, 1u);
  EXPECT_EQ(plan[0].first_position, 20);
  EXPECT_EQ(plan[0].count, 1);
  EXPECT_EQ(plan[0].form, MlaForm::kAbsorbed);
  EXPECT_TRUE(plan[0].samples);
  EXPECT_EQ(plan[1].sequence, 0u);
  EXPECT_EQ(plan[1].first_position, 0);
  EXPECT_EQ(plan[1].count, 49);
  EXPECT_EQ(plan[1].form, MlaForm::kNaive);
  EXPECT_FALSE(plan[1].samples);

  const StepPlan roomy = plan_step(states, 1000, GenerationForm::kNaive);
  ASSERT_EQ(roomy.size(), 3u);
  EXPECT_EQ(roomy[0].form, MlaForm::kNaive);
  EXPECT_TRUE(roomy[1].samples && roomy[2].samples);
  EXPECT_EQ(roomy[2].first_position, 2);
  EXPECT_EQ(roomy[2].count, 6);
}

TEST(Scheduler, PlansNothingWhenNothingIsLeft) {
  EXPECT_TRUE(plan_step({}, 1, GenerationForm::kAbsorbed).empty());
  const SequenceState done{.num_tokens = 5, .num_computed = 5, .prompt_length = 3};
  EXPECT_TRUE(plan_step({&done, 1}, 64, GenerationForm::kAbsorbed).empty());
}

// The random populations: every token is computed once and in order, the budget is used up while there is work, items
// are ordered, and everybody finishes in the fewest steps that such budgets allow.
TEST(Scheduler, ComputesEveryTokenOnceInOrderWithinTheBudget) {
  SequentialRng rng(1, stream_of("scheduler"));
  for (int trial = 0; trial < 300; ++trial) {
    const auto generation = trial % 2 == 0 ? GenerationForm::kAbsorbed : GenerationForm::kNaive;
    const int64_t budget = rng.between(1, trial % 3 == 0 ? 5 : 100);
    std::vector<SequenceState> states;
    std::vector<int64_t> final_length;
    int64_t to_compute = 0;
    for (int64_t i = rng.between(1, 12); i > 0; --i) {
      const int64_t prompt = rng.between(1, 150), answer = rng.between(1, 20);
      states.push_back({.num_tokens = prompt, .num_computed = rng.between(0, prompt - 1), .prompt_length = prompt});
      final_length.push_back(prompt + answer);
      to_compute += prompt + answer - 1 - states.back().num_computed;  // the last answer token is only given
    }
    int64_t steps = 0, computed = 0;
    for (;; ++steps) {
      std::vector<SequenceState> seen = states;
      for (size_t i = 0; i < states.size(); ++i) {
        if (states[i].num_tokens == final_length[i]) seen[i].num_computed = seen[i].num_tokens;  // finished
      }
      int64_t waiting = 0;
      for (const SequenceState& s : seen) waiting += s.num_tokens - s.num_computed;
      const StepPlan plan = plan_step(seen, budget, generation);
      ASSERT_EQ(tokens_of(plan), std::min(budget, waiting)) << "the budget is respected and used";
      if (plan.empty()) break;
      bool prompts_began = false;
      std::vector<bool> planned(states.size());
      for (const StepItem& item : plan) {
        ASSERT_LT(item.sequence, states.size());
        SequenceState& s = states[item.sequence];
        ASSERT_FALSE(planned[item.sequence]) << "one item per sequence";
        planned[item.sequence] = true;
        ASSERT_GT(item.count, 0);
        ASSERT_EQ(item.first_position, s.num_computed) << "in order, none twice";
        const bool generated = item.first_position >= s.prompt_length;
        ASSERT_EQ(item.form == MlaForm::kAbsorbed, generated && generation == GenerationForm::kAbsorbed);
        ASSERT_FALSE(generated && prompts_began) << "generated tokens come first";
        prompts_began |= !generated;
        ASSERT_TRUE(generated || item.first_position + item.count <= s.prompt_length) << "one form per item";
        s.num_computed += item.count;
        computed += item.count;
        ASSERT_LE(s.num_computed, s.num_tokens);
        ASSERT_EQ(item.samples, s.num_computed == s.num_tokens);
      }
      for (const StepItem& item : plan) {
        if (item.samples) ++states[item.sequence].num_tokens;
      }
    }
    EXPECT_EQ(computed, to_compute);
    for (size_t i = 0; i < states.size(); ++i) {
      EXPECT_EQ(states[i].num_tokens, final_length[i]) << "sequence " << i << " starved";
    }
    // A step that computes less than its budget leaves every unfinished sequence with one token more: 20 such at most.
    EXPECT_LE(steps, to_compute / budget + 21);
  }
}

TEST(Scheduler, LetsNoPromptDelayAGeneratedToken) {
  // 7 sequences generate; a budget of 8 leaves one prompt token per step, and each of the 7 gets its token every step.
  std::vector<SequenceState> states{{.num_tokens = 1000, .num_computed = 0, .prompt_length = 1000}};
  for (int i = 0; i < 7; ++i) states.push_back({.num_tokens = 11, .num_computed = 10, .prompt_length = 10});
  for (int step = 0; step < 50; ++step) {
    const StepPlan plan = plan_step(states, 8, GenerationForm::kAbsorbed);
    ASSERT_EQ(plan.size(), 8u);
    for (const StepItem& item : plan) {
      states[item.sequence].num_computed += item.count;
      if (item.samples) ++states[item.sequence].num_tokens;
    }
  }
  EXPECT_EQ(states[0].num_computed, 50);
  for (size_t i = 1; i < states.size(); ++i) EXPECT_EQ(states[i].num_computed, 60);
}

}  // namespace
}  // namespace fathom
