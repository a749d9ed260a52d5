// Fuzz target: any bytes as a file of API keys, and any bytes as the header that a client sends.
#include "scratch.h"
#include "serve/keys.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace fathom;
  std::string_view rest = fuzz::text_of(data, size);
  const fuzz::MemoryFile file(fuzz::cut(rest));
  const auto keys = serve::ApiKeys::create({"the one that is known"}, file.path());
  if (!keys) {
    check(!keys.error().text.empty(), "a refused file has a reason");
    return 0;
  }
  check(keys->required() && keys->accepts("the one that is known"), "a key of the command line is good");
  check(!keys->accepts(""), "nobody comes in without a key");
  (void)keys->accepts(serve::bearer_key(rest));
  return 0;
}
