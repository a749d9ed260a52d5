#include "base/check.h"

#include <cstdio>
#include <cstdlib>

namespace fathom {

void check_failed(const char* promise, const std::source_location& at) {
  std::fprintf(stderr, "fathom bug: %s (%s:%u, %s)\n", promise, at.file_name(), static_cast<unsigned>(at.line()),
               at.function_name());
  std::abort();
}

}  // namespace fathom
