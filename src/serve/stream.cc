#include "serve/stream.h"

namespace fathom::serve {

std::string sse_event(std::string_view data) {
  std::string event = "data: ";
  for (size_t i = 0; i < data.size(); ++i) {
    const bool crlf = data[i] == '\r' && i + 1 < data.size() && data[i + 1] == '\n';
    if (crlf) continue;  // the line ends with the '\n' that follows
    if (data[i] == '\n' || data[i] == '\r') {
      event += "\ndata: ";
    } else {
      event += data[i];
    }
  }
  return event + "\n\n";
}

std::string sse_done() { return sse_event("[DONE]"); }

}  // namespace fathom::serve
