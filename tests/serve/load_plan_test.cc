// Load plans: arrivals by their distribution, prompts by what they share, traces by their lines and what is wrong in
// them.
#include "serve/load_plan.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <set>

namespace fathom::serve {
namespace {

constexpr TokenRange kRange{.first = 256, .end = 30'000};

LoadPlan plan_of(std::string_view text, const TraceScale& scale = {}) {
  auto plan = LoadPlan::from_trace(text, "t", scale, 1);
  EXPECT_TRUE(plan) << plan.error().text;
  return plan ? *std::move(plan) : LoadPlan();
}
std::string error_of(std::string_view text, const TraceScale& scale = {}) {
  const auto plan = LoadPlan::from_trace(text, "t", scale, 1);
  EXPECT_FALSE(plan) << text;
  return plan ? "" : plan.error().text;
}

TEST(LoadPlan, PoissonArrivalsHaveExponentialGaps) {
  const LoadPlan plan = LoadPlan::synthetic({.num_prompts = 20'000, .requests_per_s = 5}, 3);
  double sum = 0, square = 0;
  int64_t above_mean = 0;
  for (int64_t i = 1; i < plan.size(); ++i) {
    const double gap = plan.start_s(i) - plan.start_s(i - 1);
    ASSERT_GE(gap, 0);
    sum += gap;
    square += gap * gap;
    above_mean += gap > 0.2;
  }
  const auto count = static_cast<double>(plan.size() - 1);
  // Of 20,000 values with deviation 1/5 the mean deviates by 0.0014; these are six of those.
  EXPECT_NEAR(sum / count, 0.2, 0.0085);
  EXPECT_NEAR(std::sqrt(square / count - (sum / count) * (sum / count)), 0.2, 0.015);
  EXPECT_NEAR(static_cast<double>(above_mean) / count, std::exp(-1), 0.021);
}

TEST(LoadPlan, IsAFunctionOfTheSeed) {
  const SyntheticLoad load{.num_prompts = 5, .requests_per_s = 2};
  const LoadPlan a = LoadPlan::synthetic(load, 7), b = LoadPlan::synthetic(load, 7), c = LoadPlan::synthetic(load, 8);
  for (int64_t i = 0; i < 5; ++i) {
    EXPECT_EQ(a.start_s(i), b.start_s(i));
    EXPECT_NE(a.start_s(i), c.start_s(i));
    EXPECT_EQ(a.prompt(i, kRange), b.prompt(i, kRange));
    EXPECT_NE(a.prompt(i, kRange), c.prompt(i, kRange));
  }
  EXPECT_EQ(LoadPlan::synthetic({.num_prompts = 3}, 7).start_s(2), 0) << "without a rate all are due at once";
}

TEST(LoadPlan, PromptsShareThePrefixAndNothingElse) {
  const LoadPlan plan = LoadPlan::synthetic({.num_prompts = 4, .input_len = 50, .shared_prefix_len = 100}, 1);
  EXPECT_EQ(plan.input_len(0), 150);
  EXPECT_EQ(plan.longest(), 150 + 64);
  std::set<int32_t> at_100;
  const auto first = plan.prompt(0, kRange);
  for (int64_t i = 0; i < 4; ++i) {
    const auto prompt = plan.prompt(i, kRange);
    ASSERT_EQ(std::ssize(prompt), 150);
    EXPECT_TRUE(std::equal(first.begin(), first.begin() + 100, prompt.begin()));
    at_100.insert(prompt[100]);
    for (const int32_t token : prompt) EXPECT_TRUE(token >= kRange.first && token < kRange.end);
  }
  EXPECT_EQ(at_100.size(), 4u);
  const auto other = plan.warm_up_prompt(0, kRange);
  EXPECT_EQ(other.size(), first.size());
  EXPECT_NE(other[0], first[0]) << "a warm-up does not compute the prefix";
}

TEST(LoadPlan, TokenRangesStayInTheVocabulary) {
  EXPECT_EQ(token_range(129'280).first, 256);
  EXPECT_EQ(token_range(129'280).end, 129'280);
  EXPECT_EQ(token_range(300).first, 0);
  EXPECT_EQ(token_range(1).end, 1);
  EXPECT_EQ(token_range(INT64_MAX).end, INT32_MAX);
}

TEST(LoadPlan, AMooncakeTraceRepeatsItsBlocks) {
  const LoadPlan plan = plan_of(R"({"timestamp": 4000, "input_length": 700, "output_length": 20, "hash_ids": [5, 6]}
{"timestamp": 3000, "input_length": 600, "output_length": 0, "hash_ids": [5, 7]}
)");
  ASSERT_EQ(plan.size(), 2);
  EXPECT_EQ(plan.start_s(0), 0) << "in order of time, the first at 0";
  EXPECT_EQ(plan.start_s(1), 1);
  EXPECT_EQ(plan.input_len(0), 600);
  EXPECT_EQ(plan.output_len(0), 1) << "nothing is not to be had";
  const auto a = plan.prompt(0, kRange), b = plan.prompt(1, kRange);
  EXPECT_TRUE(std::equal(a.begin(), a.begin() + 512, b.begin()));
  EXPECT_FALSE(std::equal(a.begin() + 512, a.end(), b.begin() + 512));
  EXPECT_NE(std::vector(a.begin(), a.begin() + 80), std::vector(a.begin() + 512, a.begin() + 592));

  const LoadPlan small = plan_of(R"({"timestamp": 0, "input_length": 700, "output_length": 20, "hash_ids": [5, 6]}
{"timestamp": 500, "input_length": 700, "output_length": 20, "hash_ids": [5, 7]})",
                                 {.speed_up = 10, .length_scale = 0.125});
  EXPECT_EQ(small.start_s(1), 0.05);
  EXPECT_EQ(small.input_len(0), 88);
  EXPECT_EQ(small.output_len(0), 3);
  const auto c = small.prompt(0, kRange), d = small.prompt(1, kRange);
  EXPECT_TRUE(std::equal(c.begin(), c.begin() + 64, d.begin())) << "blocks shrink with the prompts";
  EXPECT_NE(c[64], d[64]);
}

TEST(LoadPlan, AnAzureTraceHasTimesOfDay) {
  constexpr std::string_view kText =
      "TIMESTAMP,ContextTokens,GeneratedTokens\r\n2023-11-30 23:59:59.5000000,374,44\r\n2023-12-01 "
      "00:00:01,396,109\r\n";
  const LoadPlan plan = plan_of(kText);
  ASSERT_EQ(plan.size(), 2);
  EXPECT_NEAR(plan.start_s(1), 1.5, 1e-6);
  EXPECT_EQ(plan.input_len(0), 374);
  EXPECT_EQ(plan.output_len(1), 109);
  EXPECT_EQ(plan_of(kText, {.limit = 1}).size(), 1);
  EXPECT_NE(plan.prompt(0, kRange)[0], plan.prompt(1, kRange)[0]);
}

TEST(LoadPlan, WhatIsWrongInATraceIsNamed) {
  EXPECT_NE(error_of("").find("t has no requests"), std::string::npos);
  EXPECT_NE(error_of("\xFD"
                     "7zXZ")
                .find("line 1 is neither"),
            std::string::npos);
  EXPECT_NE(error_of("{}").find("\"timestamp\""), std::string::npos);
  EXPECT_NE(error_of(R"({"timestamp": 1})").find("\"input_length\""), std::string::npos);
  EXPECT_NE(error_of(R"({"timestamp": 1, "input_length": -1, "output_length": 1})").find("input_length -1"),
            std::string::npos);
  EXPECT_NE(error_of(R"({"timestamp": 1, "input_length": 1, "output_length": 1, "hash_ids": ["x"]})").find("hash_ids"),
            std::string::npos);
  const std::string title = "TIMESTAMP,ContextTokens,GeneratedTokens\n";
  for (const char* line : {"2023-11-16,1,1", "2023-13-16 18:15:46,1,1", "2023-11-16 18:15:46.,1,1",
                           "2023-11-16 25:15:46,1,1", "2023-11-16 18:15:46,1", "x", "2023-11-16 18:15:46.-1,1,1"}) {
    EXPECT_NE(error_of(title + line).find("line 2"), std::string::npos) << line;
  }
  EXPECT_NE(error_of(title + "2023-11-16 18:15:46,1,x").find("GeneratedTokens"), std::string::npos);
}

TEST(LoadPlan, WordsStandForTokens) {
  const std::string text = words_of({1, 2, 33});
  EXPECT_EQ(std::count(text.begin(), text.end(), ' '), 2);
  EXPECT_EQ(text.substr(0, text.find(' ')), text.substr(text.rfind(' ') + 1)) << "33 is 1 among 32 words";
}

}  // namespace
}  // namespace fathom::serve
