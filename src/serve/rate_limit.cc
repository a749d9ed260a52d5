#include "serve/rate_limit.h"

#include <algorithm>
#include <charconv>
#include <cmath>

namespace fathom::serve {
namespace {

constexpr double kMinute = 60;

double seconds_until_one(double level, int64_t per_minute) {
  return (1 - level) * kMinute / static_cast<double>(per_minute);
}

}  // namespace

Result<RateLimits> parse_rate_limits(std::string_view text) {
  RateLimits limits;
  const auto read = [](std::string_view digits, int64_t& value) {
    const auto [end, failed] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
    return failed == std::errc() && end == digits.data() + digits.size() && value >= 0 && value <= 1'000'000'000'000;
  };
  const size_t comma = text.find(',');
  const bool good = read(text.substr(0, comma), limits.requests_per_minute) &&
                    (comma == text.npos || read(text.substr(comma + 1), limits.tokens_per_minute));
  if (good) return limits;
  return invalid("rate limit \"" + std::string(text) +
                 "\" is not understood; accepted: REQUESTS or REQUESTS,TOKENS per minute, 0 for no limit");
}

RateLimiter::Bucket& RateLimiter::refill(const std::string& key, Time now) {
  auto found = buckets_.find(key);
  if (found == buckets_.end()) {
    // Keys are those of the server, so this is no client's doing; a full bucket forgets nothing.
    if (buckets_.size() >= kMaxKeys) buckets_.erase(buckets_.begin());
    found = buckets_
                .emplace(key, Bucket{.requests = static_cast<double>(limits_.requests_per_minute),
                                     .tokens = static_cast<double>(limits_.tokens_per_minute),
                                     .filled = now})
                .first;
  }
  Bucket& bucket = found->second;
  const double minutes =
      std::chrono::duration<double>(std::max(now - bucket.filled, Time::duration::zero())).count() / kMinute;
  const auto fill = [minutes](double& level, int64_t per_minute) {
    level = std::min(static_cast<double>(per_minute), level + minutes * static_cast<double>(per_minute));
  };
  fill(bucket.requests, limits_.requests_per_minute);
  fill(bucket.tokens, limits_.tokens_per_minute);
  bucket.filled = std::max(now, bucket.filled);
  return bucket;
}

std::optional<int64_t> RateLimiter::admit(const std::string& key, Time now) {
  const std::lock_guard lock(mutex_);
  Bucket& bucket = refill(key, now);
  double wait = 0;
  if (limits_.requests_per_minute > 0) {
    wait = std::max(wait, seconds_until_one(bucket.requests, limits_.requests_per_minute));
  }
  if (limits_.tokens_per_minute > 0) {
    wait = std::max(wait, seconds_until_one(bucket.tokens, limits_.tokens_per_minute));
  }
  if (wait > 1e-9) return std::max<int64_t>(1, static_cast<int64_t>(std::ceil(wait)));
  bucket.requests -= 1;
  return std::nullopt;
}

void RateLimiter::pay_tokens(const std::string& key, int64_t tokens, Time now) {
  if (limits_.tokens_per_minute == 0) return;
  const std::lock_guard lock(mutex_);
  refill(key, now).tokens -= static_cast<double>(tokens);
}

}  // namespace fathom::serve
