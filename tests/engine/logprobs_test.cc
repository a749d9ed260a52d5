// Log-probabilities against the softmax by its definition.
#include "engine/logprobs.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/rng.h"

namespace fathom {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

TEST(Logprobs, AreTheLogarithmsOfTheSoftmaxOverTheWholeVocabulary) {
  SequentialRng rng(1, stream_of("logprobs"));
  for (int trial = 0; trial < 300; ++trial) {
    const auto count = static_cast<size_t>(rng.between(1, 40));
    std::vector<float> logits(count);
    std::vector<bool> allowed(count);
    for (float& z : logits)
      z = trial % 2 == 0 ? static_cast<float>(rng.uniform() * 20 - 10) : static_cast<float>(rng.between(-1, 1));
    for (size_t v = 0; v < count; ++v) allowed[v] = rng.below(4) != 0;
    const auto token = static_cast<int32_t>(rng.below(count));
    const auto num_top = rng.between(-1, 8);
    long double sum = 0;
    for (float z : logits) sum += std::exp(static_cast<long double>(z));
    const auto wanted = [&](int32_t v) {
      return static_cast<double>(std::log(std::exp(static_cast<long double>(logits[static_cast<size_t>(v)])) / sum));
    };
    const Logprobs got = logprobs_of(logits, allowed, token, num_top);
    EXPECT_EQ(got.chosen.token, token);
    EXPECT_NEAR(got.chosen.logprob, wanted(token), 1e-12);
    // The top ones, one maximum after the other.
    std::vector<bool> left = allowed;
    for (const TokenLogprob& t : got.top) {
      int32_t best = -1;
      for (size_t v = 0; v < count; ++v) {
        if (left[v] && (best < 0 || logits[v] > logits[static_cast<size_t>(best)])) best = static_cast<int32_t>(v);
      }
      EXPECT_EQ(t.token, best);
      EXPECT_NEAR(t.logprob, wanted(best), 1e-12);
      left[static_cast<size_t>(best)] = false;
    }
    const auto num_allowed = std::count(allowed.begin(), allowed.end(), true);
    EXPECT_EQ(std::ssize(got.top), std::min<int64_t>(std::max<int64_t>(num_top, 0), num_allowed));
  }
}

TEST(Logprobs, AreDefinedForLogitsThatAreNoNumbers) {
  const std::vector<bool> all(4, true);
  EXPECT_EQ(logprobs_of(std::vector<float>{1, -kInf, 1, 1}, all, 1, 0).chosen.logprob, double{-kInf});
  EXPECT_NEAR(logprobs_of(std::vector<float>{1, kNan, 1, -kInf}, all, 0, 0).chosen.logprob, std::log(0.5), 1e-15);
  EXPECT_EQ(logprobs_of(std::vector<float>{1, kInf, 1, 1}, all, 1, 0).chosen.logprob, 0);
  EXPECT_EQ(logprobs_of(std::vector<float>{-kInf, -kInf, -kInf, kNan}, all, 0, 2).chosen.logprob, double{-kInf});
  EXPECT_NEAR(logprobs_of(std::vector<float>{3e38f, 3e38f, -3e38f, 0}, all, 0, 0).chosen.logprob, std::log(0.5), 1e-15);
  const auto top = logprobs_of(std::vector<float>{kNan, 2, kNan, 3}, all, 1, 4).top;
  ASSERT_EQ(top.size(), 4u);
  EXPECT_EQ(top[0].token, 3);
  EXPECT_EQ(top[1].token, 1);
  EXPECT_EQ(top[2].token, 0) << "equal ones by id";
}

}  // namespace
}  // namespace fathom
