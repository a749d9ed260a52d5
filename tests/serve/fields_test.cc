// The members of a request: what is read, and which error is kept.
#include "serve/fields.h"

#include <gtest/gtest.h>

namespace fathom::serve {
namespace {

Json json(std::string_view text) { return *Json::parse(text, "test"); }

TEST(Fields, ReadsWhatIsThereAndLeavesTheRest) {
  const Json body = json(R"({"a":"x","b":true,"c":-3,"d":0.5,"e":null})");
  Fields fields(body);
  std::string text = "before";
  bool flag = false;
  std::optional<int64_t> integer, absent = 7;
  std::optional<double> number;
  fields.text("a", text);
  fields.boolean("b", flag);
  fields.integer("c", integer, -5, 5);
  fields.number("d", number, 0, 1, "0 to 1");
  fields.integer("e", absent, 0, 1);
  fields.text("f", text);
  EXPECT_FALSE(fields.error());
  EXPECT_EQ(text, "x");
  EXPECT_TRUE(flag);
  EXPECT_EQ(integer, -3);
  EXPECT_EQ(number, 0.5);
  EXPECT_EQ(absent, 7);
}

TEST(Fields, KeepsTheFirstErrorWithItsName) {
  const Json body = json(R"({"a":7,"b":1.5,"c":9})");
  Fields fields(body);
  std::string text;
  std::optional<int64_t> integer;
  fields.integer("c", integer, 0, 8);
  fields.text("a", text);
  ASSERT_TRUE(fields.error());
  EXPECT_EQ(fields.error()->param, "c");
  EXPECT_EQ(fields.error()->message, "c 9 is out of range; accepted: an integer from 0 to 8");
  Fields again(body);
  again.integer("b", integer, 0, 8);
  EXPECT_EQ(again.error()->message, "b is a number; accepted: an integer from 0 to 8");
  EXPECT_FALSE(integer);
}

TEST(Fields, AWholeNumberMayHaveAPoint) {
  const Json body = json(R"({"a":2.0,"b":-3e0,"c":1e300,"d":2.0})");
  Fields fields(body);
  std::optional<int64_t> integer;
  fields.integer("a", integer, 0, 5);
  EXPECT_EQ(integer, 2);
  fields.integer("b", integer, -5, 5);
  EXPECT_EQ(integer, -3);
  EXPECT_FALSE(fields.error());
  fields.integer("c", integer, 0, INT64_MAX);
  EXPECT_EQ(fields.error()->param, "c") << "no integer of 64 bits";
  Fields again(body);
  again.integer("d", integer, 0, 1);
  EXPECT_EQ(again.error()->param, "d") << "out of range as any other";
}

TEST(Fields, BothEndsOfARangeCount) {
  const Json body = json(R"({"low":0,"high":2,"above":2.0000001})");
  Fields fields(body);
  std::optional<double> number;
  fields.number("low", number, 0, 2, "0 to 2");
  fields.number("high", number, 0, 2, "0 to 2");
  EXPECT_FALSE(fields.error());
  EXPECT_EQ(number, 2);
  fields.number("above", number, 0, 2, "0 to 2");
  EXPECT_TRUE(fields.error());
}

}  // namespace
}  // namespace fathom::serve
