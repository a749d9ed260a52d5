// check(): silent while the promise holds; otherwise it prints the promise and the caller's place, and aborts.
#include "base/check.h"

#include <gtest/gtest.h>

namespace fathom {
namespace {

TEST(Check, IsSilentWhileThePromiseHolds) {
  testing::internal::CaptureStderr();
  check(true, "one is one");
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "");
}

TEST(CheckDeathTest, AbortsWithThePromiseAndThePlace) {
  EXPECT_EXIT(check(false, "one is two"), testing::KilledBySignal(SIGABRT),
              "check_test.cc.*one is two|one is two.*check_test.cc");
}

}  // namespace
}  // namespace fathom
