// The shape of errors.
#include "serve/api_error.h"

#include <gtest/gtest.h>

namespace fathom::serve {
namespace {

TEST(ApiError, IsNestedAsOpenAIDoes) {
  EXPECT_EQ(to_json(bad_parameter("top_p", "top_p 2 is out of range")).dump(),
            R"({"error":{"message":"top_p 2 is out of range","type":"invalid_request_error","param":"top_p",)"
            R"("code":"invalid_value"}})");
  const Json plain = to_json({.status = 404, .code = "not_found", .message = "m", .param = {}});
  EXPECT_TRUE(plain.find("error")->find("param")->is_null());
}

TEST(ApiError, TypesFollowTheStatus) {
  EXPECT_EQ(error_type(400), "invalid_request_error");
  EXPECT_EQ(error_type(401), "authentication_error");
  EXPECT_EQ(error_type(404), "not_found_error");
  EXPECT_EQ(error_type(405), "invalid_request_error");
  EXPECT_EQ(error_type(413), "invalid_request_error");
  EXPECT_EQ(error_type(429), "rate_limit_error");
  EXPECT_EQ(error_type(500), "server_error");
  EXPECT_EQ(error_type(503), "unavailable_error");
}

TEST(ApiError, SaysWhoseFaultItIs) {
  EXPECT_EQ(to_api_error(invalid("x")).status, 400);
  EXPECT_EQ(to_api_error(corrupt("x")).status, 500);
  EXPECT_EQ(to_api_error(Error{ErrorCode::kOutOfMemory, "full"}).message, "full");
}

}  // namespace
}  // namespace fathom::serve
