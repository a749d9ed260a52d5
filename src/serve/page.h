// The page: the web page at / with its scripts, styles and fonts, as they were compiled in (tools/embed.cmake), and the
// answers that hand them out. It needs nothing but this server: the Content-Security-Policy lets nothing else in.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "serve/http.h"

namespace fathom::serve {

struct PageAsset {
  std::string_view path;  // of the request: "/", "/assets/app.js"
  std::string_view content_type;
  std::string_view etag;  // with its quotation marks
  bool gzipped = false;   // fonts are compressed as they are
  std::span<const uint8_t> bytes;
};

/// Everything that was compiled in.
std::span<const PageAsset> page_assets();

/// The answer to a GET of an asset: 200, 304 when If-None-Match has its ETag, 404 for an unknown path, 406 when the
/// client says that it does not take gzip and the asset is only there in it.
HttpResponse page_response(const HttpRequest& request);

}  // namespace fathom::serve
