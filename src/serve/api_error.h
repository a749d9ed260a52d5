// ApiError: what a client did wrong or met, in the shape of OpenAI's API: {"error": {message, type, param, code}}.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <variant>

#include "base/json.h"
#include "base/result.h"

namespace fathom::serve {

struct ApiError {
  int status = 400;  // of HTTP
  std::string code;  // "context_length_exceeded"; never empty
  std::string message;
  std::string param;          // the parameter at fault; empty: none
  int64_t retry_after_s = 1;  // of 429 and 503
};

/// A value, or what to answer instead.
template <class T>
using ApiResult = std::variant<T, ApiError>;

/// 400 about one parameter.
ApiError bad_parameter(std::string_view param, std::string message);
/// An error of the code below: 400 for what the caller gave, 500 otherwise.
ApiError to_api_error(const Error& error);

/// 429: there is no room for the request's sequences. 503: the server ends. 500: a logit was not a number.
ApiError queue_full();
ApiError shutting_down();
ApiError not_a_number();

/// OpenAI's word for a status: invalid_request_error, authentication_error, not_found_error, rate_limit_error, ...
std::string_view error_type(int status);
/// {"error": {"message", "type", "param", "code"}}.
Json to_json(const ApiError& error);

}  // namespace fathom::serve
