// Call: one request on its way through the API, with its route, its id and the headers of its answer. Every answer is
// counted and, if wished, logged here; neither ever shows a prompt.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "serve/api_error.h"
#include "serve/http.h"
#include "serve/metrics.h"

namespace fathom::serve {

class Call {
 public:
  /// `log` may be empty. `headers` go into every answer.
  Call(std::shared_ptr<Exchange> exchange, std::string_view route, std::string id, HttpHeaders headers,
       Metrics& metrics, std::function<void(const std::string&)> log);

  Exchange& exchange() { return *exchange_; }
  const HttpRequest& request() const { return exchange_->request(); }
  Metrics& metrics() { return metrics_; }
  /// Since the request was whole.
  double seconds() const;
  double seconds_at(std::chrono::steady_clock::time_point time) const;
  /// `handler` is told of the tokens that the request turns out to use.
  void on_tokens(std::function<void(int64_t count)> handler) { on_tokens_ = std::move(handler); }
  void use_tokens(int64_t count);

  void respond(int status, const Json& body);
  void respond_text(int status, std::string_view content_type, std::string body);
  void respond(HttpResponse response);
  void fail(const ApiError& error);

  void begin_stream();
  void send(const Json& event);
  /// An error after the head of a stream.
  void send_error(const ApiError& error);
  void end_stream();

  /// `handler` ends the answer with an error when the server cannot wait for it any longer; replaces an earlier one.
  void on_cut(std::function<void(const ApiError&)> handler) { on_cut_ = std::move(handler); }
  /// Whether there was something to end.
  bool cut(const ApiError& error);

  /// The client went before the answer was complete.
  void log_gone();

 private:
  void finish(int status, size_t body_bytes);

  std::shared_ptr<Exchange> exchange_;
  std::string route_, id_;
  HttpHeaders headers_;
  Metrics& metrics_;
  std::function<void(const std::string&)> log_;
  std::function<void(int64_t)> on_tokens_;
  std::function<void(const ApiError&)> on_cut_;
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
  size_t sent_bytes_ = 0;
};

/// The client's X-Request-Id if it is 1 to 128 letters, digits, dots, underscores and hyphens, else `otherwise`.
std::string request_id(const HttpRequest& request, std::string otherwise);

/// `num_hex` random hexadecimal digits.
std::string random_hex(size_t num_hex);

}  // namespace fathom::serve
