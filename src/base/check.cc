#include "base/check.h"

#include <cstdio>
#include <cstdlib>

namespace fathom {

void check_failed(const char* promise, const std::source_location& at) {
  std::fprintf(stderr, "fathom bug: %s (%s:%u, %s)\n", promise, at.file_name(), static_cast<unsigned>(at.line()),
               at.function_name());
  std::abort();
}

void out_of_memory(int64_t bytes) {
  char amount[32] = "";
  if (bytes > 0) std::snprintf(amount, sizeof amount, " for %.1f MiB", static_cast<double>(bytes) / (1 << 20));
  std::fprintf(stderr, "fathom: out of memory%s; give it more, or make the model, context or batch smaller\n", amount);
  std::_Exit(2);  // no destructors: they may want memory, and other threads may be at work
}

}  // namespace fathom
