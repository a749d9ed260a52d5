// Rate limits in virtual time.
#include "serve/rate_limit.h"

#include <gtest/gtest.h>

namespace fathom::serve {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
const RateLimiter::Time kStart{};

TEST(RateLimiter, LetsAMinutesRequestsInAtOnceThenOneByOne) {
  RateLimiter limiter({.requests_per_minute = 6});
  for (int i = 0; i < 6; ++i) EXPECT_FALSE(limiter.admit("a", kStart));
  EXPECT_EQ(limiter.admit("a", kStart), 10) << "one every ten seconds";
  EXPECT_FALSE(limiter.admit("b", kStart)) << "keys do not share";
  EXPECT_EQ(limiter.admit("a", kStart + milliseconds(9500)), 1);
  EXPECT_FALSE(limiter.admit("a", kStart + seconds(10)));
  EXPECT_EQ(limiter.admit("a", kStart + seconds(10)), 10);
  int64_t admitted = 0;
  for (int i = 0; i < 100; ++i) admitted += limiter.admit("a", kStart + seconds(1000)) ? 0 : 1;
  EXPECT_EQ(admitted, 6) << "what was not used in earlier minutes is not saved";
}

TEST(RateLimiter, TokensAreOwedAndPaidBack) {
  RateLimiter limiter({.tokens_per_minute = 600});
  EXPECT_FALSE(limiter.admit("a", kStart));
  limiter.pay_tokens("a", 1200, kStart);
  EXPECT_EQ(limiter.admit("a", kStart), 61) << "600 owed, ten a second, and one to spare";
  EXPECT_EQ(limiter.admit("a", kStart + seconds(60)), 1);
  EXPECT_FALSE(limiter.admit("a", kStart + seconds(61)));
}

TEST(RateLimiter, TimeThatGoesBackFillsNothing) {
  RateLimiter limiter({.requests_per_minute = 1});
  EXPECT_FALSE(limiter.admit("a", kStart + seconds(100)));
  EXPECT_EQ(limiter.admit("a", kStart), 60);
}

TEST(RateLimits, AreRead) {
  EXPECT_EQ(parse_rate_limits("60")->requests_per_minute, 60);
  EXPECT_EQ(parse_rate_limits("60")->tokens_per_minute, 0);
  EXPECT_EQ(parse_rate_limits("0,5000")->tokens_per_minute, 5000);
  for (const char* bad : {"", "-1", "a", "1,", "1,2,3", "1.5", "99999999999999999999"}) {
    const auto parsed = parse_rate_limits(bad);
    EXPECT_FALSE(parsed) << bad;
  }
}

}  // namespace
}  // namespace fathom::serve
