// Fuzz target: any bytes, however cut, are either a request or a problem with a status and a line; how they are cut
// changes nothing.
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>

#include "base/check.h"
#include "serve/http_request.h"

namespace {

struct Outcome {
  int status = 0;
  std::optional<fathom::serve::HttpRequest> request{};
};

Outcome read(std::string_view text, size_t piece) {
  fathom::serve::RequestReader reader({.max_header_bytes = 2000, .max_body_bytes = 2000});
  std::string buffer;
  for (size_t at = 0; at < text.size(); at += piece) {
    buffer += text.substr(at, piece);
    buffer.erase(0, reader.push(buffer));
    if (reader.problem()) {
      fathom::check(!reader.problem()->text.empty(), "a refused request has a reason");
      return {.status = reader.problem()->status};
    }
    if (reader.done()) return {.request = reader.take()};
  }
  return {};
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const Outcome whole = read(text, size + 1), bytewise = read(text, 1);
  fathom::check(whole.request.has_value() == bytewise.request.has_value(), "cuts decide about nothing");
  if (whole.request) {
    fathom::check(whole.request->target == bytewise.request->target, "the target is the same");
    fathom::check(whole.request->body == bytewise.request->body, "the body is the same");
  }
  return 0;
}
