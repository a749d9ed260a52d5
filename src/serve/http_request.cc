#include "serve/http_request.h"

#include <algorithm>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/string_body.hpp>

#include "base/check.h"

namespace fathom::serve {
namespace {

namespace http = boost::beast::http;

std::string_view view(boost::beast::string_view text) { return {text.data(), text.size()}; }

char lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }

bool is_letter(char c) { return lower(c) >= 'a' && lower(c) <= 'z'; }

/// Whether a field of the header goes on in the next line (obs-fold).
bool has_fold(std::string_view header) {
  return header.find("\r\n ") != std::string_view::npos || header.find("\r\n\t") != std::string_view::npos;
}

/// A target as clients of proxies send it, http://host/path (RFC 9112, 3.2.2), without its beginning.
std::string origin_form(std::string_view target) {
  const size_t scheme = target.find("://");
  if (scheme == std::string_view::npos || target.starts_with('/')) return std::string(target);
  const size_t path = target.find_first_of("/?", scheme + 3);
  if (path == std::string_view::npos) return "/";
  return (target[path] == '?' ? "/" : "") + std::string(target.substr(path));
}

}  // namespace

struct RequestReader::Parser {
  http::request_parser<http::string_body> request;
};

bool same_token(std::string_view a, std::string_view b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](char x, char y) { return lower(x) == lower(y); });
}

const std::string* HttpRequest::header(std::string_view name) const {
  for (const auto& [key, value] : headers) {
    if (same_token(key, name)) return &value;
  }
  return nullptr;
}

std::string_view HttpRequest::path() const { return std::string_view(target).substr(0, target.find('?')); }

RequestReader::RequestReader(HttpLimits limits) : limits_(limits), parser_(std::make_unique<Parser>()) {
  parser_->request.header_limit(static_cast<uint32_t>(limits.max_header_bytes));
  parser_->request.body_limit(static_cast<uint64_t>(limits.max_body_bytes));
}
RequestReader::~RequestReader() = default;

bool RequestReader::header_done() const { return parser_->request.is_header_done(); }
bool RequestReader::done() const { return !problem_ && parser_->request.is_done(); }

size_t RequestReader::push(std::string_view bytes) {
  check(!problem_ && !parser_->request.is_done(), "a request is pushed to only until its end");
  if (!begun_ && !bytes.empty()) {
    begun_ = true;
    // The parser looks at nothing before the header's end; another protocol should not wait for that.
    if (!is_letter(bytes.front())) problem_ = {400, "this is no HTTP/1.1 request; HTTPS needs a server with TLS"};
  }
  size_t taken = 0;
  while (taken < bytes.size() && !problem_ && !parser_->request.is_done()) {
    boost::system::error_code error;
    const bool in_header = !header_done();
    const size_t more =
        parser_->request.put(boost::asio::const_buffer(bytes.data() + taken, bytes.size() - taken), error);
    // The parser joins such lines; a proxy in front may have read them as something else (RFC 9112, 5.2).
    if (in_header && has_fold(bytes.substr(taken, more))) {
      problem_ = {400, "a header field goes on in a second line; send it in one"};
    }
    taken += more;
    if (in_header) header_bytes_ += more;
    if (in_header && header_bytes_ > static_cast<size_t>(limits_.max_header_bytes)) {
      error = http::error::header_limit;  // the parser's own limit starts anew with every piece
    } else if (header_done() && !judged_) {
      judge_header();
    }
    if (problem_ || error == http::error::need_more) break;
    if (!error) {
      if (more == 0) break;
      continue;
    }
    if (error == http::error::body_limit) {
      problem_ = {413, "the body has more than the accepted " + std::to_string(limits_.max_body_bytes) + " bytes"};
    } else if (error == http::error::header_limit) {
      problem_ = {431, "the header has more than the accepted " + std::to_string(limits_.max_header_bytes) + " bytes"};
    } else {
      problem_ = {400, "this is no valid HTTP/1.1 request: " + error.message()};
    }
  }
  return taken;
}

/// Takes the header, and judges what the parser lets pass but two readers could understand differently.
void RequestReader::judge_header() {
  judged_ = true;
  parser_->request.eager(true);  // not before: trailers of chunks would be judged, and taken, as headers
  const auto& request = parser_->request.get();
  const bool old = request.version() < 11;
  const auto count = [&](http::field name) {
    return std::distance(request.equal_range(name).first, request.equal_range(name).second);
  };
  const auto codings = count(http::field::transfer_encoding);
  const std::string_view length = view(request[http::field::content_length]);
  if (count(http::field::content_length) > 1 || length.find_first_not_of("0123456789") != std::string_view::npos) {
    problem_ = {400, "Content-Length must be there once and be a number"};
  } else if (codings > 0 && count(http::field::content_length) > 0) {
    problem_ = {400, "the request has both Content-Length and Transfer-Encoding; send one of them"};
  } else if (codings > 0 && old) {
    problem_ = {400, "Transfer-Encoding does not exist in HTTP/1.0; send Content-Length"};
  } else if (codings > 1 || (codings == 1 && !same_token(view(request[http::field::transfer_encoding]), "chunked"))) {
    problem_ = {501, "Transfer-Encoding is not supported beyond \"chunked\""};
  } else if (count(http::field::host) > 1 || (!old && count(http::field::host) == 0)) {
    problem_ = {400, "an HTTP/1.1 request needs exactly one Host header"};
  }
  request_.method = view(request.method_string());
  request_.target = origin_form(view(request.target()));
  request_.keep_alive = request.keep_alive();
  request_.http_1_0 = old;
  for (const auto& field : request) request_.headers.emplace_back(view(field.name_string()), view(field.value()));
}

bool RequestReader::expects_continue() const {
  const std::string* expected = request_.header("Expect");
  return expected != nullptr && same_token(*expected, "100-continue");
}

HttpRequest RequestReader::take() {
  check(done(), "only a finished request is taken");
  request_.body = std::move(parser_->request.get().body());
  return std::move(request_);
}

std::string_view reason_phrase(int status) {
  switch (status) {
    case 200: return "OK";
    case 204: return "No Content";
    case 304: return "Not Modified";
    case 400: return "Bad Request";
    case 401: return "Unauthorized";
    case 403: return "Forbidden";
    case 404: return "Not Found";
    case 405: return "Method Not Allowed";
    case 406: return "Not Acceptable";
    case 408: return "Request Timeout";
    case 413: return "Content Too Large";
    case 429: return "Too Many Requests";
    case 431: return "Request Header Fields Too Large";
    case 500: return "Internal Server Error";
    case 501: return "Not Implemented";
    case 503: return "Service Unavailable";
    default: return "Error";
  }
}

}  // namespace fathom::serve
