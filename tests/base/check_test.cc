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

TEST(OutOfMemoryDeathTest, EndsWithOneLineAndCode2) {
  EXPECT_EXIT(out_of_memory(int64_t{3} << 20), testing::ExitedWithCode(2),
              "^fathom: out of memory for 3.0 MiB; [^\n]*\n$");
  EXPECT_EXIT(out_of_memory(0), testing::ExitedWithCode(2), "^fathom: out of memory; [^\n]*\n$");
}

}  // namespace
}  // namespace fathom
