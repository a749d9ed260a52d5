#include "serve/call.h"

#include <algorithm>
#include <cstdio>
#include <ctime>
#include <random>

#include "serve/stream.h"

namespace fathom::serve {
namespace {

std::string utc_now() {
  const std::time_t now = std::time(nullptr);
  std::tm parts{};
  ::gmtime_r(&now, &parts);
  char text[32];
  std::strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ", &parts);
  return text;
}

/// A client's own word is no label.
std::string_view known_method(std::string_view method) {
  for (const std::string_view known : {"GET", "POST", "HEAD", "OPTIONS", "PUT", "DELETE"}) {
    if (method == known) return known;
  }
  return "other";
}

}  // namespace

Call::Call(std::shared_ptr<Exchange> exchange, std::string_view route, std::string id, HttpHeaders headers,
           Metrics& metrics, std::function<void(const std::string&)> log)
    : exchange_(std::move(exchange)),
      route_(route),
      id_(std::move(id)),
      headers_(std::move(headers)),
      metrics_(metrics),
      log_(std::move(log)) {
  headers_.emplace_back("X-Request-Id", id_);
}

void Call::use_tokens(int64_t count) {
  if (on_tokens_) on_tokens_(count);
}

double Call::seconds() const { return seconds_at(std::chrono::steady_clock::now()); }

double Call::seconds_at(std::chrono::steady_clock::time_point time) const {
  return std::chrono::duration<double>(time - start_).count();
}

void Call::respond(int status, const Json& body) { respond_text(status, "application/json", body.dump() + "\n"); }

void Call::respond_text(int status, std::string_view content_type, std::string body) {
  respond({.status = status, .content_type = std::string(content_type), .headers = {}, .body = std::move(body)});
}

void Call::respond(HttpResponse response) {
  finish(response.status, response.body.size());
  response.headers.insert(response.headers.begin(), headers_.begin(), headers_.end());
  exchange_->respond(std::move(response));
}

void Call::fail(const ApiError& error) {
  metrics_.count_error(error.code);
  if (error.status == 429 || error.status == 503)
    headers_.emplace_back("Retry-After", std::to_string(error.retry_after_s));
  if (error.status == 401) headers_.emplace_back("WWW-Authenticate", "Bearer");
  respond(error.status, to_json(error));
}

void Call::begin_stream() {
  HttpHeaders headers = headers_;
  headers.emplace_back("Cache-Control", "no-cache");
  headers.emplace_back("X-Accel-Buffering", "no");  // nginx would collect the events
  exchange_->begin_stream(
      {.status = 200, .content_type = std::string(kEventStream), .headers = std::move(headers), .body = {}});
}

void Call::send(const Json& event) {
  const std::string bytes = sse_event(event.dump());
  sent_bytes_ += bytes.size();
  exchange_->send(bytes);
}

void Call::send_error(const ApiError& error) {
  metrics_.count_error(error.code);
  send(to_json(error));
}

void Call::end_stream() {
  exchange_->send(sse_done());
  finish(200, sent_bytes_);
  exchange_->end();
}

bool Call::cut(const ApiError& error) {
  const auto end = std::exchange(on_cut_, nullptr);
  if (end) end(error);
  return end != nullptr;
}

void Call::log_gone() { finish(499, sent_bytes_); }

void Call::finish(int status, size_t body_bytes) {
  on_cut_ = nullptr;
  metrics_.count_response(route_, status, known_method(request().method));
  if (!log_) return;
  char numbers[64];
  std::snprintf(numbers, sizeof(numbers), " %d %zu bytes %.1f ms ", status, body_bytes, seconds() * 1000);
  log_(utc_now() + " " + request().method.substr(0, 16) + " " + route_ + numbers + id_);
}

std::string request_id(const HttpRequest& request, std::string otherwise) {
  const std::string* given = request.header("X-Request-Id");
  if (given == nullptr || given->empty() || given->size() > 128) return otherwise;
  const bool plain = std::all_of(given->begin(), given->end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' || c == '_' ||
           c == '-';
  });
  return plain ? *given : otherwise;
}

std::string random_hex(size_t num_hex) {
  std::random_device device;
  std::string text;
  while (text.size() < num_hex) {
    char digits[16];
    std::snprintf(digits, sizeof(digits), "%08x", static_cast<unsigned>(device()));
    text += digits;
  }
  text.resize(num_hex);
  return text;
}

}  // namespace fathom::serve
