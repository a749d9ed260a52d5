// check(): our own bugs. It prints the broken promise with its place and aborts; it never judges outside input.
// out_of_memory(): the one fault of the world that no Result carries, because it may strike anywhere. Large needs are
// compared with the machine before work begins; this is what remains.
#pragma once

#include <cstdint>
#include <source_location>

namespace fathom {

[[noreturn]] void check_failed(const char* promise, const std::source_location& at);

/// Ends the process with one line on standard error and exit code 2: `bytes` (0: not known) could not be had.
[[noreturn]] void out_of_memory(int64_t bytes);

/// Aborts with `promise` and the caller's place when `holds` is false.
inline void check(bool holds, const char* promise, const std::source_location& at = std::source_location::current()) {
  if (!holds) [[unlikely]]
    check_failed(promise, at);
}

}  // namespace fathom
