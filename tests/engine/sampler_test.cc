// The sampler: every filter against its definition computed the slow way, the draws against their distribution, and the
// edges: ties, NaN, padding rows, logits that are all -infinity.
#include "engine/sampler.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "base/rng.h"

namespace fathom {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

std::vector<bool> all_allowed(size_t count) { return std::vector<bool>(count, true); }

/// The filters by definition, each a pass over explicit probabilities that are renormalised after it. A token stays
/// when the definition holds for it; tokens are compared by probability, then by lower id.
std::vector<Candidate> by_definition(const std::vector<float>& logits, const std::vector<bool>& allowed,
                                     const std::vector<int32_t>& context, const SamplingParams& params) {
  std::vector<Candidate> kept;
  for (size_t v = 0; v < logits.size(); ++v) {
    if (!allowed[v] || std::isnan(logits[v]) || logits[v] == -kInf) continue;
    double z = logits[v];
    if (std::find(context.begin(), context.end(), static_cast<int32_t>(v)) != context.end()) {
      z = z > 0 ? z / params.repetition_penalty : z * params.repetition_penalty;
    }
    kept.push_back({static_cast<int32_t>(v), z / params.temperature});
  }
  double largest = -std::numeric_limits<double>::infinity();
  for (const Candidate& c : kept) largest = std::max(largest, c.probability);
  for (Candidate& c : kept) c.probability = std::exp(c.probability - largest);
  const auto normalise = [&kept] {
    double sum = 0;
    for (const Candidate& c : kept) sum += c.probability;
    for (Candidate& c : kept) c.probability /= sum;
  };
  const auto precedes = [](const Candidate& a, const Candidate& b) {
    return a.probability > b.probability || (a.probability == b.probability && a.token < b.token);
  };
  const auto keep_if = [&](auto&& holds) {
    normalise();
    std::vector<Candidate> next;
    for (const Candidate& c : kept) {
      if (holds(c)) next.push_back(c);
    }
    kept = next;
  };
  if (params.top_k > 0) {
    keep_if([&](const Candidate& c) {
      return std::count_if(kept.begin(), kept.end(), [&](const Candidate& o) { return precedes(o, c); }) < params.top_k;
    });
  }
  // A token stays while those before it have not reached the mass.
  keep_if([&](const Candidate& c) {
    double before = 0;
    for (const Candidate& o : kept) before += precedes(o, c) ? o.probability : 0;
    return params.top_p >= 1 || before < params.top_p;
  });
  double best = 0;
  normalise();
  for (const Candidate& c : kept) best = std::max(best, c.probability);
  keep_if([&](const Candidate& c) { return c.probability >= params.min_p * best; });
  normalise();
  std::sort(kept.begin(), kept.end(), precedes);
  return kept;
}

void expect_same(const std::vector<Candidate>& got, const std::vector<Candidate>& wanted, const std::string& what) {
  ASSERT_EQ(got.size(), wanted.size()) << what;
  for (size_t i = 0; i < got.size(); ++i) {
    EXPECT_EQ(got[i].token, wanted[i].token) << what << ", rank " << i;
    EXPECT_NEAR(got[i].probability, wanted[i].probability, 1e-12) << what << ", rank " << i;
  }
}

TEST(Sampler, EveryFilterKeepsWhatItsDefinitionKeeps) {
  SequentialRng rng(1, stream_of("sampler"));
  for (int trial = 0; trial < 2000; ++trial) {
    const auto count = static_cast<size_t>(rng.between(1, 30));
    std::vector<float> logits(count);
    std::vector<bool> allowed(count);
    // Odd trials draw from few values, so that ties are common.
    for (float& z : logits) {
      z = trial % 2 == 0 ? static_cast<float>(rng.uniform() * 12 - 6) : static_cast<float>(rng.between(-2, 2));
    }
    for (size_t v = 0; v < count; ++v) allowed[v] = rng.below(5) != 0;
    if (rng.below(4) == 0) logits[rng.below(count)] = kNan;
    if (rng.below(4) == 0) logits[rng.below(count)] = -kInf;
    const size_t sure = rng.below(count);
    allowed[sure] = true;
    logits[sure] = 1.5f;
    std::vector<int32_t> context;
    for (int64_t n = rng.between(0, 6); n > 0; --n) context.push_back(static_cast<int32_t>(rng.below(count)));
    SamplingParams params{.temperature = 0.2 + 2 * rng.uniform()};
    const int which = trial % 6;  // each filter alone, then all together
    if (which == 0 || which >= 4) params.top_k = rng.between(1, 12);
    if (which == 1 || which >= 4) params.top_p = 0.05 + 0.95 * rng.uniform();
    if (which == 2 || which >= 4) params.min_p = rng.uniform();
    if (which == 3 || which >= 4) params.repetition_penalty = 0.5 + rng.uniform() * 1.5;
    expect_same(sampling_candidates(logits, allowed, context, params), by_definition(logits, allowed, context, params),
                "trial " + std::to_string(trial));
  }
}

TEST(Sampler, TiesGoToTheLowerId) {
  const std::vector<float> logits{1, 3, 3, 3, 2};
  EXPECT_EQ(sample_token(logits, all_allowed(5), {}, {.temperature = 0}, 0), 1);
  const auto two = sampling_candidates(logits, all_allowed(5), {}, {.temperature = 1, .top_k = 2});
  ASSERT_EQ(two.size(), 2u);
  EXPECT_EQ(two[0].token, 1);
  EXPECT_EQ(two[1].token, 2);
  // Three equal shares of the first three ranks: a mass just above a third takes two of them.
  const auto nucleus = sampling_candidates(logits, all_allowed(5), {}, {.temperature = 0.01, .top_p = 0.34});
  ASSERT_EQ(nucleus.size(), 2u);
  EXPECT_EQ(nucleus[1].token, 2);
}

TEST(Sampler, TheRepetitionPenaltyLooksAtEachTokenOnce) {
  const std::vector<float> logits{2, -1, 1};
  const std::vector<int32_t> context{0, 0, 1, 99, -3};
  const auto got = sampling_candidates(logits, all_allowed(3), context, {.temperature = 1, .repetition_penalty = 2});
  // Logits become 1, -2, 1.
  const double sum = 2 + std::exp(-3);
  ASSERT_EQ(got.size(), 3u);
  EXPECT_NEAR(got[0].probability, 1 / sum, 1e-12);
  EXPECT_EQ(got[0].token, 0);
  EXPECT_EQ(got[2].token, 1);
  EXPECT_NEAR(got[2].probability, std::exp(-3) / sum, 1e-12);
  EXPECT_EQ(sample_token({std::vector<float>{2, 1.5f}}, all_allowed(2), std::vector<int32_t>{0},
                         {.temperature = 0, .repetition_penalty = 2}, 0),
            1)
      << "greedy choice is penalised too";
}

/// What must hold whatever the logits are: only allowed tokens come out.
void expect_only(const std::vector<float>& logits, const std::vector<bool>& allowed, std::vector<int32_t> possible,
                 const std::string& what) {
  for (const double temperature : {0.0, 0.7, 100.0}) {
    for (int64_t position = 0; position < 200; ++position) {
      for (const SamplingParams& params :
           {SamplingParams{.temperature = temperature},
            SamplingParams{.temperature = temperature, .top_k = 3, .top_p = 0.9, .min_p = 0.1}}) {
        const int32_t token = sample_token(logits, allowed, std::vector<int32_t>{0, 1, 2}, params, position);
        ASSERT_NE(std::find(possible.begin(), possible.end(), token), possible.end())
            << what << ": token " << token << " at temperature " << temperature;
      }
    }
  }
}

TEST(Sampler, NeverSamplesPadding) {
  const std::vector<bool> allowed{false, true, false, true, false};
  expect_only({9, 1, 9, 2, kInf}, allowed, {1, 3}, "padding has the largest logits");
  expect_only({9, -kInf, 9, 2, 1}, allowed, {3}, "one finite logit");
  expect_only({9, -kInf, 9, -kInf, 1}, allowed, {1}, "the allowed ones are -infinity");
  expect_only({kNan, kNan, kNan, kNan, kNan}, allowed, {1}, "all NaN");
  expect_only({-kInf, -kInf, -kInf, kNan, -kInf}, allowed, {1}, "all -infinity or NaN");
  expect_only({1, 2, 3, kInf, 5}, allowed, {3}, "+infinity has all the mass");
  expect_only({9, 1, 9, 2}, {false, true}, {1}, "a vocabulary that is shorter than the logits");
}

TEST(Sampler, NanIsNotChosen) {
  expect_only({kNan, 1, kNan, 2}, all_allowed(4), {1, 3}, "NaN among numbers");
  EXPECT_EQ(sample_token(std::vector<float>{kNan, 1, 2, kNan}, all_allowed(4), {}, {.temperature = 0}, 0), 2);
}

TEST(SamplerDeathTest, NeedsATokenThatMayBeSampled) {
  const std::vector<float> logits{1, 2};
  EXPECT_DEATH(sample_token(logits, {false, false}, {}, {.temperature = 0}, 0), "some token may be sampled");
  EXPECT_DEATH(sample_token(logits, {}, {}, {.temperature = 1}, 0), "some token may be sampled");
}

TEST(Sampler, DrawsFollowTheCandidates) {
  const std::vector<float> logits{0.3f, 2.0f, 1.0f, -1.0f, 0.0f, 1.5f, -0.5f, 1.0f};
  const SamplingParams rows[] = {{.temperature = 1, .seed = 1},
                                 {.temperature = 2.5, .seed = 2},
                                 {.temperature = 0.4, .seed = 3},
                                 {.temperature = 1, .top_k = 3, .seed = 4},
                                 {.temperature = 1.3, .top_p = 0.8, .seed = 5},
                                 {.temperature = 1, .min_p = 0.2, .seed = 6}};
  constexpr int64_t kDraws = 20'000;
  for (const SamplingParams& params : rows) {
    const auto candidates = sampling_candidates(logits, all_allowed(8), {}, params);
    EXPECT_NEAR(std::accumulate(candidates.begin(), candidates.end(), 0.0,
                                [](double sum, const Candidate& c) { return sum + c.probability; }),
                1, 1e-12);
    std::vector<double> seen(logits.size());
    for (int64_t position = 0; position < kDraws; ++position) {
      ++seen[static_cast<size_t>(sample_token(logits, all_allowed(8), {}, params, position))];
    }
    double chi_square = 0, counted = 0;
    for (const Candidate& c : candidates) {
      const double expected = c.probability * kDraws, n = seen[static_cast<size_t>(c.token)];
      if (expected > 5) chi_square += (n - expected) * (n - expected) / expected;
      counted += n;
    }
    EXPECT_EQ(counted, kDraws) << "nothing but candidates, seed " << params.seed;
    // Mean k, variance 2 k with k degrees of freedom: five standard deviations and the small-k tail.
    const auto k = static_cast<double>(candidates.size() - 1);
    EXPECT_LT(chi_square, k + 5 * std::sqrt(2 * k) + 5) << "seed " << params.seed;
  }
}

TEST(Sampler, ADrawIsAFunctionOfSeedAndPosition) {
  std::vector<float> logits(50);
  for (size_t v = 0; v < logits.size(); ++v) logits[v] = static_cast<float>(v % 7) * 0.1f;
  const auto draw = [&](uint64_t seed, int64_t position) {
    return sample_token(logits, all_allowed(50), {}, {.temperature = 1, .seed = seed}, position);
  };
  std::vector<int32_t> forwards, backwards;
  for (int64_t p = 0; p < 100; ++p) forwards.push_back(draw(1, p));
  for (int64_t p = 99; p >= 0; --p) backwards.push_back(draw(1, p));
  std::reverse(backwards.begin(), backwards.end());
  EXPECT_EQ(forwards, backwards);
  int64_t same_seed = 0, same_position = 0;
  for (int64_t p = 0; p < 99; ++p) {
    same_position += draw(1, p) == draw(2, p);
    same_seed += draw(1, p) == draw(1, p + 1);
  }
  EXPECT_LT(same_position, 20) << "another seed is another draw";
  EXPECT_LT(same_seed, 20) << "another position is another draw";
}

TEST(Sampler, RefusesParametersOutOfRange) {
  const double nan = kNan, infinity = kInf;
  EXPECT_TRUE(check_sampling({}));
  EXPECT_TRUE(check_sampling({.temperature = 0, .top_k = 0, .top_p = 1, .min_p = 0, .repetition_penalty = 0.1}));
  EXPECT_TRUE(check_sampling({.temperature = 100, .top_k = 1, .top_p = 1e-9, .min_p = 1}));
  const std::pair<SamplingParams, const char*> rows[] = {{{.temperature = -1}, "temperature"},
                                                         {{.temperature = nan}, "temperature"},
                                                         {{.temperature = infinity}, "temperature"},
                                                         {{.top_k = -1}, "top_k"},
                                                         {{.top_p = 0}, "top_p"},
                                                         {{.top_p = 1.01}, "top_p"},
                                                         {{.top_p = nan}, "top_p"},
                                                         {{.min_p = -0.1}, "min_p"},
                                                         {{.min_p = 1.1}, "min_p"},
                                                         {{.min_p = nan}, "min_p"},
                                                         {{.repetition_penalty = 0}, "repetition_penalty"},
                                                         {{.repetition_penalty = nan}, "repetition_penalty"}};
  for (const auto& [params, name] : rows) {
    const Status status = check_sampling(params);
    ASSERT_FALSE(status) << name;
    EXPECT_EQ(status.error().code, ErrorCode::kInvalidArgument);
    EXPECT_EQ(status.error().text.find(name), 0u) << status.error().text;
  }
}

}  // namespace
}  // namespace fathom
