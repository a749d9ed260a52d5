#include "engine/sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <sstream>

#include "base/check.h"
#include "base/rng.h"

namespace fathom {
namespace {

constexpr int64_t kMaxBreakers = 1024;

/// How often each token occurs, in a vector over the vocabulary.
std::vector<int64_t> counts_of(std::span<const int32_t> tokens, size_t vocab_size) {
  std::vector<int64_t> counts(vocab_size);
  for (int32_t token : tokens) {
    if (const auto v = static_cast<size_t>(token); v < vocab_size) ++counts[v];
  }
  return counts;
}

void penalize_repetition(std::vector<double>& z, const SamplingContext& context, const SamplingParams& params) {
  if (params.repetition_penalty != 1) {
    const auto counts = counts_of(context.tokens, z.size());
    for (size_t v = 0; v < z.size(); ++v) {
      if (counts[v] > 0) z[v] = z[v] > 0 ? z[v] / params.repetition_penalty : z[v] * params.repetition_penalty;
    }
  }
  if (params.frequency_penalty != 0 || params.presence_penalty != 0) {
    const auto counts = counts_of(context.tokens.subspan(static_cast<size_t>(context.prompt_length)), z.size());
    for (size_t v = 0; v < z.size(); ++v) {
      if (counts[v] == 0) continue;
      z[v] -= static_cast<double>(counts[v]) * params.frequency_penalty + params.presence_penalty;
    }
  }
}

/// Linear in the context, by the Z function of the context read backwards: repeated[k] is how many tokens at its end
/// stand k tokens before the end as well.
void penalize_dry(std::vector<double>& z, std::span<const int32_t> tokens, const SamplingParams& params) {
  const auto n = static_cast<int64_t>(tokens.size());
  const auto back = [&](int64_t k) { return tokens[static_cast<size_t>(n - 1 - k)]; };
  const auto& breakers = params.dry_sequence_breakers;
  const auto is_breaker = [&](int32_t token) { return std::ranges::find(breakers, token) != breakers.end(); };
  int64_t longest = 0;  // no repetition goes back to a breaker
  while (longest < n && !is_breaker(back(longest))) ++longest;
  std::vector<int64_t> repeated(tokens.size());
  std::vector<int64_t> length_of(z.size());  // the longest repetition that each token would go on with
  int64_t left = 0, right = 0;               // the match [left, right) that reaches furthest
  for (int64_t k = 1; k < n; ++k) {
    int64_t length = k < right ? std::min(right - k, repeated[static_cast<size_t>(k - left)]) : 0;
    while (k + length < n && back(length) == back(k + length)) ++length;
    repeated[static_cast<size_t>(k)] = length;
    if (k + length > right) {
      left = k;
      right = k + length;
    }
    const auto next = static_cast<size_t>(back(k - 1));
    if (next < z.size()) length_of[next] = std::max(length_of[next], std::min(length, longest));
  }
  for (size_t v = 0; v < z.size(); ++v) {
    if (length_of[v] < params.dry_allowed_length || is_breaker(static_cast<int32_t>(v))) continue;
    const double penalty = params.dry_multiplier *
                           std::pow(params.dry_base, static_cast<double>(length_of[v] - params.dry_allowed_length));
    z[v] -= std::min(penalty, double{std::numeric_limits<float>::max()});  // a number, whatever the length
  }
}

bool more_probable(const Candidate& a, const Candidate& b) {
  return a.probability != b.probability ? a.probability > b.probability : a.token < b.token;
}

/// The token of the largest logit; ties go to the lower id. When no token is above -infinity, the first allowed one.
int32_t best(const std::vector<double>& z, const std::vector<bool>& allowed) {
  const auto largest = std::max_element(z.begin(), z.end());
  if (largest != z.end() && !std::isinf(*largest)) return static_cast<int32_t>(largest - z.begin());
  const auto first = std::find(allowed.begin(), allowed.end(), true) - allowed.begin();
  check(first < static_cast<std::ptrdiff_t>(std::min(allowed.size(), z.size())), "some token may be sampled");
  return static_cast<int32_t>(first);
}

/// Keeps the smallest set of at least `mass` whose surprise is nearest to the entropy.
void keep_typical(std::vector<Candidate>& candidates, double mass) {
  double total = 0, entropy = 0;
  for (const Candidate& c : candidates) total += c.probability;
  const auto surprise = [&](const Candidate& c) { return -std::log(c.probability / total); };
  for (const Candidate& c : candidates) {
    if (c.probability > 0) entropy += c.probability / total * surprise(c);
  }
  std::vector<Candidate> by_distance = candidates;  // equal distances: more probable first
  std::ranges::stable_sort(by_distance, {}, [&](const Candidate& c) { return std::abs(surprise(c) - entropy); });
  double sum = 0;
  size_t count = 0;
  while (count < by_distance.size() && sum < mass * total) sum += by_distance[count++].probability;
  by_distance.resize(std::max<size_t>(count, 1));
  std::ranges::sort(by_distance, more_probable);
  candidates = std::move(by_distance);
}

}  // namespace

Status check_sampling(const SamplingParams& params) {
  const auto refuse = [](const char* name, double value, const char* accepted) {
    std::ostringstream text;
    text << name << " " << value << " is out of range; accepted: " << accepted;
    return invalid(text.str());
  };
  // Written so that NaN fails.
  if (!(params.temperature >= 0 && std::isfinite(params.temperature))) {
    return refuse("temperature", params.temperature, "0 (greedy) and above");
  }
  if (params.top_k < 0) return refuse("top_k", static_cast<double>(params.top_k), "0 (off) and above");
  if (!(params.top_p > 0 && params.top_p <= 1)) return refuse("top_p", params.top_p, "above 0, up to 1");
  if (!(params.min_p >= 0 && params.min_p <= 1)) return refuse("min_p", params.min_p, "0 to 1");
  if (!(params.repetition_penalty > 0 && std::isfinite(params.repetition_penalty))) {
    return refuse("repetition_penalty", params.repetition_penalty, "above 0");
  }
  const auto within = [](double value, double low, double high) { return value >= low && value <= high; };
  if (!(params.typical_p > 0 && params.typical_p <= 1))
    return refuse("typical_p", params.typical_p, "above 0, up to 1");
  if (!within(params.presence_penalty, -2, 2)) return refuse("presence_penalty", params.presence_penalty, "-2 to 2");
  if (!within(params.frequency_penalty, -2, 2)) return refuse("frequency_penalty", params.frequency_penalty, "-2 to 2");
  if (!(params.dry_multiplier >= 0 && std::isfinite(params.dry_multiplier))) {
    return refuse("dry_multiplier", params.dry_multiplier, "0 (off) and above");
  }
  if (!(params.dry_base >= 1 && std::isfinite(params.dry_base))) {
    return refuse("dry_base", params.dry_base, "1 and above");
  }
  if (params.dry_allowed_length < 1) {
    return refuse("dry_allowed_length", static_cast<double>(params.dry_allowed_length), "1 and above");
  }
  if (std::ssize(params.dry_sequence_breakers) > kMaxBreakers) {
    return refuse("dry_sequence_breakers: a number of tokens of",
                  static_cast<double>(params.dry_sequence_breakers.size()), "up to 1024");
  }
  for (const LogitBias& entry : params.logit_bias) {
    if (entry.token < 0) return refuse("logit_bias of token", entry.token, "token ids, 0 and above");
    if (!within(entry.bias, -100, 100)) return refuse("logit_bias", entry.bias, "-100 to 100");
  }
  return {};
}

std::vector<double> penalized_logits(std::span<const float> logits, const std::vector<bool>& allowed,
                                     const SamplingContext& context, const SamplingParams& params) {
  std::vector<double> z(logits.size());
  for (size_t v = 0; v < z.size(); ++v) {
    const bool usable = v < allowed.size() && allowed[v] && !std::isnan(logits[v]);
    z[v] = usable ? double{std::min(logits[v], std::numeric_limits<float>::max())}
                  : -std::numeric_limits<double>::infinity();
  }
  for (const LogitBias& entry : params.logit_bias) {
    if (const auto v = static_cast<size_t>(entry.token); v < z.size()) z[v] += entry.bias;
  }
  penalize_repetition(z, context, params);
  if (params.dry_multiplier > 0) penalize_dry(z, context.tokens, params);
  return z;
}

std::vector<Candidate> sampling_candidates(std::span<const float> logits, const std::vector<bool>& allowed,
                                           const SamplingContext& context, const SamplingParams& params) {
  check(params.temperature > 0, "candidates are for sampling, not for greedy choice");
  const std::vector<double> z = penalized_logits(logits, allowed, context, params);
  const int32_t first = best(z, allowed);
  const double largest = z[static_cast<size_t>(first)];
  if (std::isinf(largest)) return {{.token = first, .probability = 1}};
  std::vector<Candidate> candidates;
  double total = 0;
  for (size_t v = 0; v < z.size(); ++v) {
    if (std::isinf(z[v])) continue;
    const double p = std::exp((z[v] - largest) / params.temperature);
    total += p;
    candidates.push_back({static_cast<int32_t>(v), p});
  }
  // Sort only as far as the filters look.
  size_t kept = candidates.size();
  if (params.top_k > 0) kept = std::min(kept, static_cast<size_t>(params.top_k));
  const auto middle = candidates.begin() + static_cast<std::ptrdiff_t>(kept);
  std::partial_sort(candidates.begin(), middle, candidates.end(), more_probable);
  candidates.resize(kept);
  if (params.top_k > 0) {
    total = 0;
    for (const Candidate& c : candidates) total += c.probability;
  }
  if (params.top_p < 1) {
    double mass = 0;
    size_t count = 0;
    while (count < candidates.size() && mass < params.top_p * total) mass += candidates[count++].probability;
    candidates.resize(std::max<size_t>(count, 1));
  }
  if (params.min_p > 0) {
    const double floor = params.min_p * candidates.front().probability;
    while (candidates.size() > 1 && candidates.back().probability < floor) candidates.pop_back();
  }
  if (params.typical_p < 1) keep_typical(candidates, params.typical_p);
  total = 0;
  for (const Candidate& c : candidates) total += c.probability;
  for (Candidate& c : candidates) c.probability /= total;
  return candidates;
}

int32_t sample_token(std::span<const float> logits, const std::vector<bool>& allowed, const SamplingContext& context,
                     const SamplingParams& params, int64_t position) {
  if (params.temperature <= 0) return best(penalized_logits(logits, allowed, context, params), allowed);
  const auto candidates = sampling_candidates(logits, allowed, context, params);
  double left = Rng(params.seed, stream_of("sample")).uniform(static_cast<uint64_t>(position));
  for (const Candidate& c : candidates) {
    left -= c.probability;
    if (left < 0) return c.token;
  }
  return candidates.back().token;
}

}  // namespace fathom
