// RateLimiter: how many requests and tokens each key may use per minute. A bucket per key and kind holds up to a
// minute's allowance and fills evenly. A request is let in while neither bucket is empty; tokens are paid when they are
// known, so a bucket may go below zero, and later requests wait until it is paid back.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"

namespace fathom::serve {

struct RateLimits {
  int64_t requests_per_minute = 0;  // 0: no limit
  int64_t tokens_per_minute = 0;    // of prompts and answers; 0: no limit
  bool any() const { return requests_per_minute > 0 || tokens_per_minute > 0; }
};

/// Parses "REQUESTS" or "REQUESTS,TOKENS", 0 for no limit. Errors: anything else.
Result<RateLimits> parse_rate_limits(std::string_view text);

/// Any thread.
class RateLimiter {
 public:
  using Time = std::chrono::steady_clock::time_point;
  static constexpr size_t kMaxKeys = 65536;

  explicit RateLimiter(RateLimits limits) : limits_(limits) {}

  /// Lets a request of `key` in (and counts it), or says after how many seconds, at least 1, it may come again.
  std::optional<int64_t> admit(const std::string& key, Time now);
  /// The tokens of a request that was let in.
  void pay_tokens(const std::string& key, int64_t tokens, Time now);

 private:
  struct Bucket {
    double requests = 0, tokens = 0;
    Time filled;
  };
  Bucket& refill(const std::string& key, Time now);

  const RateLimits limits_;
  std::mutex mutex_;
  std::map<std::string, Bucket> buckets_;
};

}  // namespace fathom::serve
