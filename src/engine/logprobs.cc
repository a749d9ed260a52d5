#include "engine/logprobs.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/check.h"

namespace fathom {

Logprobs logprobs_of(std::span<const float> logits, const std::vector<bool>& allowed, int32_t token, int64_t num_top) {
  check(token >= 0 && static_cast<size_t>(token) < logits.size(), "a token of the vocabulary");
  const auto finite = [](float z) {
    return std::isnan(z) ? -std::numeric_limits<double>::infinity()
                         : double{std::min(z, std::numeric_limits<float>::max())};
  };
  double largest = -std::numeric_limits<double>::infinity();
  for (float z : logits) largest = std::max(largest, finite(z));
  double sum = 0;
  if (!std::isinf(largest)) {
    for (float z : logits) sum += std::exp(finite(z) - largest);
  }
  const auto logprob = [&](int32_t v) {
    const double z = finite(logits[static_cast<size_t>(v)]);
    return std::isinf(z) ? z : z - largest - std::log(sum);
  };

  std::vector<int32_t> best;
  if (num_top > 0) {
    for (size_t v = 0; v < std::min(logits.size(), allowed.size()); ++v) {
      if (allowed[v]) best.push_back(static_cast<int32_t>(v));
    }
  }
  const auto count =
      static_cast<std::ptrdiff_t>(std::min<size_t>(best.size(), static_cast<size_t>(std::max<int64_t>(num_top, 0))));
  std::partial_sort(best.begin(), best.begin() + count, best.end(), [&](int32_t a, int32_t b) {
    const double za = finite(logits[static_cast<size_t>(a)]), zb = finite(logits[static_cast<size_t>(b)]);
    return za != zb ? za > zb : a < b;
  });
  Logprobs result{.chosen = {token, logprob(token)}, .top = {}};
  for (std::ptrdiff_t i = 0; i < count; ++i) {
    result.top.push_back({best[static_cast<size_t>(i)], logprob(best[static_cast<size_t>(i)])});
  }
  return result;
}

}  // namespace fathom
