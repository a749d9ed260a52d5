// check(): our own bugs. It prints the broken promise with its place and aborts; it never judges outside input.
#pragma once

#include <source_location>

namespace fathom {

[[noreturn]] void check_failed(const char* promise, const std::source_location& at);

/// Aborts with `promise` and the caller's place when `holds` is false.
inline void check(bool holds, const char* promise, const std::source_location& at = std::source_location::current()) {
  if (!holds) [[unlikely]]
    check_failed(promise, at);
}

}  // namespace fathom
