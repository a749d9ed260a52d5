// Result<T>: holds a value or an Error, moves what it holds, and works for types without a default constructor.
#include "base/result.h"

#include <gtest/gtest.h>

#include <memory>

namespace fathom {
namespace {

struct NoDefault {
  explicit NoDefault(int v) : value(v) {}
  int value;
};

Result<NoDefault> make(bool good) {
  if (!good) return invalid("bad: 3 is not accepted");
  return NoDefault(3);
}

TEST(Result, HoldsAValue) {
  const auto result = make(true);
  ASSERT_TRUE(result);
  EXPECT_TRUE(result.ok());
  EXPECT_EQ(result->value, 3);
  EXPECT_EQ((*result).value, 3);
}

TEST(Result, HoldsAnError) {
  const auto result = make(false);
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(result.error().text, "bad: 3 is not accepted");
}

TEST(Result, MovesItsValueOut) {
  Result<std::unique_ptr<int>> result = std::make_unique<int>(5);
  const std::unique_ptr<int> taken = *std::move(result);
  EXPECT_EQ(*taken, 5);
}

TEST(Status, IsSuccessUnlessMadeFromAnError) {
  const Status good;
  EXPECT_TRUE(good);
  const Status bad = io_error("disk full");
  EXPECT_FALSE(bad.ok());
  EXPECT_EQ(bad.error().code, ErrorCode::kIo);
}

TEST(Error, EveryMakerHasItsCode) {
  EXPECT_EQ(invalid("").code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(not_found("").code, ErrorCode::kNotFound);
  EXPECT_EQ(corrupt("").code, ErrorCode::kCorrupt);
  EXPECT_EQ(unsupported("").code, ErrorCode::kUnsupported);
  EXPECT_EQ(io_error("").code, ErrorCode::kIo);
  EXPECT_EQ(cancelled("").code, ErrorCode::kCancelled);
}

}  // namespace
}  // namespace fathom
