// How often a text says something.
#pragma once

#include <string_view>

namespace fathom::testing {

inline size_t count(std::string_view text, std::string_view part) {
  size_t n = 0;
  for (size_t at = text.find(part); at != std::string_view::npos; at = text.find(part, at + 1)) ++n;
  return n;
}

}  // namespace fathom::testing
