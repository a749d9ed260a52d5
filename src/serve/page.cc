#include "serve/page.h"

#include <algorithm>

#include "serve/api_error.h"

namespace fathom::serve {
namespace {

// No inline script or style, no frame, no other host; only DOMPurify may turn text into elements.
constexpr std::string_view kPolicy =
    "default-src 'none'; script-src 'self'; style-src 'self'; font-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; "
    "trusted-types dompurify";

/// Whether a comma-separated header has an item, parameters of either aside.
bool lists(const std::string* header, std::string_view item) {
  if (header == nullptr) return false;
  std::string_view rest = *header;
  while (!rest.empty()) {
    const size_t comma = std::min(rest.find(','), rest.size());
    std::string_view part = rest.substr(0, comma);
    rest.remove_prefix(std::min(comma + 1, rest.size()));
    part.remove_prefix(std::min(part.find_first_not_of(" \t"), part.size()));
    if (part.starts_with("W/")) part.remove_prefix(2);
    const std::string_view name = part.substr(0, part.find_first_of("; \t"));
    const bool refused =
        part.find("q=0") != part.npos && part.find_first_of("123456789", part.find("q=0")) == part.npos;
    if ((name == item || name == "*") && !refused) return true;
  }
  return false;
}

HttpResponse problem(int status, const char* code, std::string message) {
  const ApiError error{.status = status, .code = code, .message = std::move(message), .param = {}};
  return {.status = status, .headers = {}, .body = to_json(error).dump() + "\n"};
}

}  // namespace

HttpResponse page_response(const HttpRequest& request) {
  const std::string_view path = request.path();
  const auto assets = page_assets();
  const auto found = std::find_if(assets.begin(), assets.end(), [path](const PageAsset& a) { return a.path == path; });
  if (found == assets.end()) return problem(404, "not_found", "the page has no such file");
  const PageAsset& asset = *found;
  HttpResponse response;
  response.content_type = std::string(asset.content_type);
  response.headers = {{"ETag", std::string(asset.etag)},
                      {"Cache-Control", "no-cache"},  // ask again: another version of fathom has another page
                      {"Vary", "Accept-Encoding"},
                      {"Content-Security-Policy", std::string(kPolicy)},
                      {"X-Content-Type-Options", "nosniff"},
                      {"Referrer-Policy", "no-referrer"},
                      {"Cross-Origin-Opener-Policy", "same-origin"},
                      {"Cross-Origin-Resource-Policy", "same-origin"}};
  if (lists(request.header("If-None-Match"), asset.etag)) {
    response.status = 304;
    response.content_type.clear();
    return response;
  }
  if (asset.gzipped) {
    // RFC 9110, 12.5.3: without the field any coding will do.
    const std::string* accepted = request.header("Accept-Encoding");
    if (accepted != nullptr && !lists(accepted, "gzip")) {
      return problem(406, "not_acceptable", "the page is only there compressed: send Accept-Encoding: gzip");
    }
    response.headers.emplace_back("Content-Encoding", "gzip");
  }
  response.body.assign(asset.bytes.begin(), asset.bytes.end());
  return response;
}

}  // namespace fathom::serve
