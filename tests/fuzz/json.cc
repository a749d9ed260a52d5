// Fuzz target: any bytes either fail to parse with an error of one line, or parse to a value that survives dump and
// parse.
#include "base/json.h"

#include <cstddef>
#include <cstdint>

#include "base/check.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto json = fathom::Json::parse({reinterpret_cast<const char*>(data), size}, "input");
  if (!json) {
    fathom::check(!json.error().text.empty(), "a refused text has an error");
    return 0;
  }
  const std::string text = json->dump();
  const auto again = fathom::Json::parse(text, "dump");
  fathom::check(again.ok(), "what dump() writes, parse() reads");
  fathom::check(again->dump() == text, "dump() of the same value is the same text");
  return 0;
}
