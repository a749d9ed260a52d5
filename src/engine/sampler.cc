#include "engine/sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <sstream>

#include "base/check.h"
#include "base/rng.h"

namespace fathom {
namespace {

/// Logits in double with rows that cannot be sampled (padding, NaN) at -infinity and the repetition penalty of CTRL
/// (Keskar et al. 2019) applied. +infinity counts as the largest float, so that differences stay numbers.
std::vector<double> penalized(std::span<const float> logits, const std::vector<bool>& allowed,
                              std::span<const int32_t> context, double penalty) {
  std::vector<double> z(logits.size());
  for (size_t v = 0; v < z.size(); ++v) {
    const bool usable = v < allowed.size() && allowed[v] && !std::isnan(logits[v]);
    z[v] = usable ? double{std::min(logits[v], std::numeric_limits<float>::max())}
                  : -std::numeric_limits<double>::infinity();
  }
  if (penalty == 1) return z;
  std::vector<bool> seen(z.size());
  for (int32_t token : context) {
    const auto v = static_cast<size_t>(token);
    if (v >= z.size() || seen[v]) continue;
    seen[v] = true;
    z[v] = z[v] > 0 ? z[v] / penalty : z[v] * penalty;
  }
  return z;
}

/// The token of the largest logit; ties go to the lower id. When no token is above -infinity, the first allowed one.
int32_t best(const std::vector<double>& z, const std::vector<bool>& allowed) {
  const auto largest = std::max_element(z.begin(), z.end());
  if (largest != z.end() && !std::isinf(*largest)) return static_cast<int32_t>(largest - z.begin());
  const auto first = std::find(allowed.begin(), allowed.end(), true) - allowed.begin();
  check(first < static_cast<std::ptrdiff_t>(std::min(allowed.size(), z.size())), "some token may be sampled");
  return static_cast<int32_t>(first);
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
  return {};
}

std::vector<Candidate> sampling_candidates(std::span<const float> logits, const std::vector<bool>& allowed,
                                           std::span<const int32_t> context, const SamplingParams& params) {
  check(params.temperature > 0, "candidates are for sampling, not for greedy choice");
  const std::vector<double> z = penalized(logits, allowed, context, params.repetition_penalty);
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
  const auto more_probable = [](const Candidate& a, const Candidate& b) {
    return a.probability != b.probability ? a.probability > b.probability : a.token < b.token;
  };
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
  total = 0;
  for (const Candidate& c : candidates) total += c.probability;
  for (Candidate& c : candidates) c.probability /= total;
  return candidates;
}

int32_t sample_token(std::span<const float> logits, const std::vector<bool>& allowed, std::span<const int32_t> context,
                     const SamplingParams& params, int64_t position) {
  if (params.temperature <= 0) return best(penalized(logits, allowed, context, params.repetition_penalty), allowed);
  const auto candidates = sampling_candidates(logits, allowed, context, params);
  double left = Rng(params.seed, stream_of("sample")).uniform(static_cast<uint64_t>(position));
  for (const Candidate& c : candidates) {
    left -= c.probability;
    if (left < 0) return c.token;
  }
  return candidates.back().token;
}

}  // namespace fathom
