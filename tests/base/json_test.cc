#include "base/json.h"

#include <gtest/gtest.h>

namespace fathom {
namespace {

TEST(Json, KeepsOrderAndRoundTrips) {
  const auto json = Json::parse(R"({"b": [1, 2.5, true, null, "x\u00e9"], "a": {"c": -3}})", "test");
  ASSERT_TRUE(json);
  EXPECT_EQ(json->dump(), R"({"b":[1,2.5,true,null,"xé"],"a":{"c":-3}})");
}

TEST(Json, RejectsDuplicateKeysAndDeepNestingByName) {
  const auto twice = Json::parse(R"({"a": 1, "a": 2})", "config.json");
  ASSERT_FALSE(twice);
  EXPECT_EQ(twice.error().text, "config.json: not valid JSON: duplicate key \"a\"");
  EXPECT_FALSE(Json::parse(std::string(100000, '['), "deep"));
}

}  // namespace
}  // namespace fathom
