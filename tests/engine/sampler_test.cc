// The sampler: every filter against its definition computed the slow way, the draws against their distribution, and the
// edges: ties, NaN, padding rows, logits that are all -infinity.
#include "engine/sampler.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <numeric>

#include "base/rng.h"

namespace fathom {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

std::vector<bool> all_allowed(size_t count) { return std::vector<bool>(count, true); }

/// DRY as its author writes it down: for every earlier occurrence of the last token, how far the tokens before it agree
/// with the end of the context; the token after it would make that longer.
std::map<int32_t, int64_t> repetition_lengths(std::span<const int32_t> context, const std::vector<int32_t>& breakers) {
  std::map<int32_t, int64_t> lengths;
  const auto is_breaker = [&](int32_t t) { return std::find(breakers.begin(), breakers.end(), t) != breakers.end(); };
  const auto n = std::ssize(context);
  const auto at = [&](std::ptrdiff_t i) { return context[static_cast<size_t>(i)]; };
  for (std::ptrdiff_t i = 0; i + 1 < n; ++i) {
    int64_t length = 0;
    while (i - length >= 0 && at(i - length) == at(n - 1 - length) && !is_breaker(at(i - length))) ++length;
    if (length > 0 && !is_breaker(at(i + 1))) lengths[at(i + 1)] = std::max(lengths[at(i + 1)], length);
  }
  return lengths;
}

/// The filters by definition, each a pass over explicit probabilities that are renormalised after it. A token stays
/// when the definition holds for it; tokens are compared by probability, then by lower id.
std::vector<Candidate> by_definition(const std::vector<float>& logits, const std::vector<bool>& allowed,
                                     const SamplingContext& context, const SamplingParams& params) {
  std::vector<Candidate> kept;
  const auto repeated = repetition_lengths(context.tokens, params.dry_sequence_breakers);
  for (size_t v = 0; v < logits.size(); ++v) {
    if (!allowed[v] || std::isnan(logits[v]) || logits[v] == -kInf) continue;
    const auto token = static_cast<int32_t>(v);
    double z = logits[v];
    for (const LogitBias& entry : params.logit_bias) z += entry.token == token ? entry.bias : 0;
    const auto answer = context.tokens.subspan(static_cast<size_t>(context.prompt_length));
    if (std::find(context.tokens.begin(), context.tokens.end(), token) != context.tokens.end()) {
      z = z > 0 ? z / params.repetition_penalty : z * params.repetition_penalty;
    }
    const auto times = static_cast<double>(std::count(answer.begin(), answer.end(), token));
    z -= times * params.frequency_penalty;
    z -= times > 0 ? params.presence_penalty : 0;
    const auto length = repeated.contains(token) ? repeated.at(token) : 0;
    if (params.dry_multiplier > 0 && length >= params.dry_allowed_length) {
      z -= params.dry_multiplier * std::pow(params.dry_base, static_cast<double>(length - params.dry_allowed_length));
    }
    kept.push_back({token, z / params.temperature});
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
  if (params.typical_p < 1) {
    double entropy = 0;
    for (const Candidate& c : kept) entropy -= c.probability * std::log(c.probability);
    const auto distance = [&](const Candidate& c) { return std::abs(-std::log(c.probability) - entropy); };
    // A token stays while the more typical ones have not reached the mass.
    keep_if([&](const Candidate& c) {
      double before = 0;
      for (const Candidate& o : kept) {
        const double gap = distance(o) - distance(c);
        const bool is_equal = o.probability == c.probability;
        if (is_equal ? o.token < c.token : gap < 0) before += o.probability;
      }
      return before < params.typical_p;
    });
  }
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
    for (int64_t n = rng.between(0, trial % 2 == 0 ? 6 : 40); n > 0; --n)
      context.push_back(static_cast<int32_t>(rng.below(count)));
    // Few tokens, often: so that sequences repeat.
    if (trial % 3 == 0) {
      for (int32_t& token : context) token %= 3;
    }
    SamplingParams params{.temperature = 0.2 + 2 * rng.uniform()};
    const int which = trial % 11;  // each filter alone, then all together
    if (which == 0 || which >= 9) params.top_k = rng.between(1, 12);
    if (which == 1 || which >= 9) params.top_p = 0.05 + 0.95 * rng.uniform();
    if (which == 2 || which >= 9) params.min_p = rng.uniform();
    if (which == 3 || which >= 9) params.repetition_penalty = 0.5 + rng.uniform() * 1.5;
    if (which == 4 || which >= 9) params.typical_p = 0.05 + 0.95 * rng.uniform();
    if (which == 5 || which >= 9) params.presence_penalty = rng.uniform() * 4 - 2;
    if (which == 6 || which >= 9) params.frequency_penalty = rng.uniform() * 4 - 2;
    if (which == 7 || which >= 9) {
      params.dry_multiplier = rng.uniform();
      params.dry_base = 1 + rng.uniform();
      params.dry_allowed_length = rng.between(1, 4);
      for (int64_t n = rng.between(0, 2); n > 0; --n) {
        params.dry_sequence_breakers.push_back(static_cast<int32_t>(rng.below(count)));
      }
    }
    if (which == 8 || which >= 9) {
      for (int64_t n = rng.between(1, 4); n > 0; --n) {
        params.logit_bias.push_back({static_cast<int32_t>(rng.below(count)), rng.uniform() * 6 - 3});
      }
    }
    const SamplingContext seen{.tokens = context,
                               .prompt_length = rng.between(0, static_cast<int64_t>(context.size()))};
    expect_same(sampling_candidates(logits, allowed, seen, params), by_definition(logits, allowed, seen, params),
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
  const auto got = sampling_candidates(logits, all_allowed(3), {context}, {.temperature = 1, .repetition_penalty = 2});
  // Logits become 1, -2, 1.
  const double sum = 2 + std::exp(-3);
  ASSERT_EQ(got.size(), 3u);
  EXPECT_NEAR(got[0].probability, 1 / sum, 1e-12);
  EXPECT_EQ(got[0].token, 0);
  EXPECT_EQ(got[2].token, 1);
  EXPECT_NEAR(got[2].probability, std::exp(-3) / sum, 1e-12);
  EXPECT_EQ(sample_token({std::vector<float>{2, 1.5f}}, all_allowed(2), {std::vector<int32_t>{0}},
                         {.temperature = 0, .repetition_penalty = 2}, 0),
            1)
      << "greedy choice is penalised too";
}

TEST(Sampler, PresenceAndFrequencyPenaltiesLookAtTheAnswerOnly) {
  const std::vector<float> logits{1, 1, 1};
  const std::vector<int32_t> tokens{0, 0, 1, 1, 2};
  const SamplingParams params{.presence_penalty = 0.5, .frequency_penalty = 0.25};
  EXPECT_EQ(penalized_logits(logits, all_allowed(3), {.tokens = tokens, .prompt_length = 2}, params),
            (std::vector<double>{1, 0, 0.25}));
  EXPECT_EQ(penalized_logits(logits, all_allowed(3), {.tokens = tokens, .prompt_length = 5}, params),
            (std::vector<double>{1, 1, 1}));
}

TEST(Sampler, DryPunishesWhatWouldGoOnWithARepetition) {
  const std::vector<float> logits(6, 0);
  const auto z = [&](std::vector<int32_t> tokens, const SamplingParams& params) {
    return penalized_logits(logits, all_allowed(6), {.tokens = tokens}, params);
  };
  const SamplingParams dry{.dry_multiplier = 2, .dry_base = 3, .dry_allowed_length = 2};
  EXPECT_EQ(z({1, 2, 3, 4, 1, 2, 3}, dry), (std::vector<double>{0, 0, 0, 0, -6, 0})) << "three tokens: 2 * 3^1";
  EXPECT_EQ(z({2, 3, 4, 1, 2, 3}, dry), (std::vector<double>{0, 0, 0, 0, -2, 0})) << "two tokens: 2 * 3^0";
  EXPECT_EQ(z({3, 4, 1, 2, 3}, dry), (std::vector<double>(6, 0))) << "one token is allowed";
  SamplingParams broken = dry;
  broken.dry_sequence_breakers = {2};
  EXPECT_EQ(z({1, 2, 3, 4, 1, 2, 3}, broken), (std::vector<double>(6, 0))) << "only the 3 is after the breaker";
  broken.dry_sequence_breakers = {4};
  EXPECT_EQ(z({1, 2, 3, 4, 1, 2, 3}, broken), (std::vector<double>(6, 0))) << "a breaker itself is never punished";
  // A long repetition: still numbers.
  const auto long_one = z(std::vector<int32_t>(5000, 1), {.dry_multiplier = 5, .dry_base = 4});
  EXPECT_TRUE(std::isfinite(long_one[1]) && long_one[1] < -1e38);
}

TEST(Sampler, BiasCanForbidAndForce) {
  const std::vector<float> logits{1, 2, 3};
  EXPECT_EQ(sample_token(logits, all_allowed(3), {}, {.temperature = 0, .logit_bias = {{2, -100}}}, 0), 1);
  EXPECT_EQ(sample_token(logits, all_allowed(3), {}, {.temperature = 1, .logit_bias = {{0, 100}}}, 0), 0);
  EXPECT_EQ(sample_token(logits, {true, false, true}, {}, {.temperature = 0, .logit_bias = {{1, 100}}}, 0), 2)
      << "padding cannot be biased into being";
}

/// What must hold whatever the logits are: only allowed tokens come out.
void expect_only(const std::vector<float>& logits, const std::vector<bool>& allowed, std::vector<int32_t> possible,
                 const std::string& what) {
  for (const double temperature : {0.0, 0.7, 100.0}) {
    for (int64_t position = 0; position < 200; ++position) {
      for (const SamplingParams& params :
           {SamplingParams{.temperature = temperature},
            SamplingParams{.temperature = temperature, .top_k = 3, .top_p = 0.9, .min_p = 0.1}}) {
        const int32_t token = sample_token(logits, allowed, {std::vector<int32_t>{0, 1, 2}}, params, position);
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
  const std::pair<SamplingParams, const char*> rows[] = {
      {{.temperature = -1}, "temperature"},
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
      {{.repetition_penalty = nan}, "repetition_penalty"},
      {{.typical_p = 0}, "typical_p"},
      {{.typical_p = 1.5}, "typical_p"},
      {{.typical_p = nan}, "typical_p"},
      {{.presence_penalty = 2.1}, "presence_penalty"},
      {{.presence_penalty = nan}, "presence_penalty"},
      {{.frequency_penalty = -2.1}, "frequency_penalty"},
      {{.frequency_penalty = infinity}, "frequency_penalty"},
      {{.dry_multiplier = -1}, "dry_multiplier"},
      {{.dry_multiplier = nan}, "dry_multiplier"},
      {{.dry_base = 0.5}, "dry_base"},
      {{.dry_base = infinity}, "dry_base"},
      {{.dry_allowed_length = 0}, "dry_allowed_length"},
      {{.dry_sequence_breakers = std::vector<int32_t>(1025)}, "dry_sequence_breakers"},
      {{.logit_bias = {{-1, 1}}}, "logit_bias"},
      {{.logit_bias = {{1, 101}}}, "logit_bias"},
      {{.logit_bias = {{1, nan}}}, "logit_bias"}};
  for (const auto& [params, name] : rows) {
    const Status status = check_sampling(params);
    ASSERT_FALSE(status) << name;
    EXPECT_EQ(status.error().code, ErrorCode::kInvalidArgument);
    EXPECT_EQ(status.error().text.find(name), 0u) << status.error().text;
  }
}

}  // namespace
}  // namespace fathom
