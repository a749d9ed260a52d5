// Server-sent events: how a stream of JSON values becomes bytes (WHATWG HTML, 9.2).
#pragma once

#include <string>
#include <string_view>

namespace fathom::serve {

inline constexpr std::string_view kEventStream = "text/event-stream";

/// One event with `data`; every line of it gets its own "data: ", so that no text can forge another event.
std::string sse_event(std::string_view data);

/// The end of a stream, as OpenAI writes it.
std::string sse_done();

}  // namespace fathom::serve
