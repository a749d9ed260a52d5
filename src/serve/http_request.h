// Requests off the wire: a push parser for one HTTP/1.1 request without a socket, with limits, and strict about the
// shapes that two readers could understand differently (request smuggling, RFC 9112 section 11.2).
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace fathom::serve {

using HttpHeaders = std::vector<std::pair<std::string, std::string>>;

struct HttpRequest {
  std::string method;
  std::string target;  // as sent: path and query
  HttpHeaders headers;
  std::string body;
  bool keep_alive = false;
  bool http_1_0 = false;  // no chunked answers

  /// The value of the first header of that name in any case, or nullptr.
  const std::string* header(std::string_view name) const;
  /// The target without its query.
  std::string_view path() const;
};

struct HttpLimits {
  int64_t max_header_bytes = int64_t{32} << 10;  // start line and headers
  int64_t max_body_bytes = int64_t{8} << 20;
};

/// Why a request is refused: 400, 413 (body), 431 (headers), 501 (transfer coding).
struct HttpProblem {
  int status = 400;
  std::string text;
};

/// Whether two header names or tokens are the same but for ASCII case.
bool same_token(std::string_view a, std::string_view b);

class RequestReader {
 public:
  explicit RequestReader(HttpLimits limits);
  ~RequestReader();

  /// Takes what it can from the front of `bytes`; the number taken. What is left must come again with more behind it,
  /// until the request is done or has a problem.
  size_t push(std::string_view bytes);
  bool header_done() const;
  bool done() const;
  const std::optional<HttpProblem>& problem() const { return problem_; }
  /// True when the client waits for "100 Continue" before it sends the body.
  bool expects_continue() const;
  /// The finished request; the reader is used up.
  HttpRequest take();

 private:
  struct Parser;

  void judge_header();

  HttpLimits limits_;
  std::unique_ptr<Parser> parser_;
  std::optional<HttpProblem> problem_;
  HttpRequest request_;
  bool begun_ = false;
  bool judged_ = false;
  size_t header_bytes_ = 0;
};

/// The reason phrase of a status: "Not Found".
std::string_view reason_phrase(int status);

}  // namespace fathom::serve
