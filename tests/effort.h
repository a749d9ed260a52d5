// How much a test repeats of what it draws at random.
#pragma once

#include <cstdlib>
#include <string_view>

namespace fathom::testing {

enum class Effort {
  kLittle,  // FATHOM_EFFORT=little: a build in which everything is slow, beside one that repeats all of it
  kUsual,
  kGreat,  // FATHOM_ALL=1: the long rounds
};

inline Effort effort() {
  const char *all = std::getenv("FATHOM_ALL"), *wanted = std::getenv("FATHOM_EFFORT");
  if (all != nullptr && std::string_view(all) == "1") return Effort::kGreat;
  return wanted != nullptr && std::string_view(wanted) == "little" ? Effort::kLittle : Effort::kUsual;
}

}  // namespace fathom::testing
