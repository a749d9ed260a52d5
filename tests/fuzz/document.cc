// Fuzz target: any line as a document of training data: refused by its place, or a document that survives being written
// and read again and whose chat is rendered or refused.
#include "train/document.h"

#include "scratch.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace fathom;
  const auto document = document_from_json_line(fuzz::text_of(data, size), "fuzz line 1");
  if (!document) {
    check(document.error().text.starts_with("fuzz line 1"), "an error names its source");
    return 0;
  }
  const std::string line = document_to_json_line(*document);
  check(line.find('\n') == std::string::npos, "a document is one line");
  const auto again = document_from_json_line(line, "again");
  check(again && *again == *document, "a document survives a round trip");
  if (!document->is_chat()) return 0;
  const auto segments = deepseek_v3_segments(document->messages);
  const auto rendered = render_deepseek_v3(document->messages);
  check(segments.ok() == rendered.ok(), "segments are what is rendered");
  return 0;
}
