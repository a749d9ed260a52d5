#include "serve/api_error.h"

namespace fathom::serve {

ApiError bad_parameter(std::string_view param, std::string message) {
  return {.status = 400, .code = "invalid_value", .message = std::move(message), .param = std::string(param)};
}

ApiError to_api_error(const Error& error) {
  const bool theirs = error.code == ErrorCode::kInvalidArgument || error.code == ErrorCode::kUnsupported;
  return {.status = theirs ? 400 : 500,
          .code = theirs ? "invalid_request" : "internal_error",
          .message = error.text,
          .param = {}};
}

ApiError queue_full() {
  return {
      .status = 429, .code = "queue_full", .message = "the queue of this server is full; try again later", .param = {}};
}

ApiError shutting_down() {
  return {.status = 503, .code = "shutting_down", .message = "the server is shutting down", .param = {}};
}

ApiError not_a_number() {
  return {.status = 500,
          .code = "numeric_error",
          .message = "the model's output for this request is not a number (NaN)",
          .param = {}};
}

std::string_view error_type(int status) {
  switch (status) {
    case 401: return "authentication_error";
    case 403: return "permission_error";
    case 404: return "not_found_error";
    case 429: return "rate_limit_error";
    case 503: return "unavailable_error";
    default: return status >= 500 ? "server_error" : "invalid_request_error";
  }
}

Json to_json(const ApiError& error) {
  Json inner = Json::object();
  inner.set("message", error.message).set("type", error_type(error.status));
  inner.set("param", error.param.empty() ? Json() : Json(error.param)).set("code", error.code);
  return Json::object().set("error", std::move(inner));
}

}  // namespace fathom::serve
