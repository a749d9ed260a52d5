// A text as the bytes of a file.
#pragma once

#include <cstddef>
#include <span>
#include <string_view>

namespace fathom {

inline std::span<const std::byte> bytes_of(std::string_view text) {
  return {reinterpret_cast<const std::byte*>(text.data()), text.size()};
}

}  // namespace fathom
