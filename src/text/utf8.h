// UTF-8: the well-formedness rules that every text function shares. Stepping over one character, finding the first bad
// byte, and turning byte streams into text with U+FFFD where (and only where) the bytes cannot be text.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace fathom {

/// What stands at the front of some bytes.
struct Utf8Step {
  enum Kind {
    kValid,       // one character of `length` bytes
    kInvalid,     // `length` bytes that no continuation could make valid: one U+FFFD stands for them
    kIncomplete,  // all `length` bytes are the beginning of a character whose rest is missing
  };
  Kind kind = kInvalid;
  int length = 1;
  char32_t code_point = 0xFFFD;  // of a valid character
};

/// Reads the front of `bytes` (not empty) by table 3-7 of the Unicode Standard: no overlong forms, no surrogates, at
/// most U+10FFFF. An invalid step is a maximal subpart, so that replacement agrees with WHATWG and with Rust's lossy
/// decoding.
Utf8Step utf8_step(std::string_view bytes);

/// The offset of the first byte that is not part of a well-formed character, if any.
std::optional<size_t> first_invalid_utf8(std::string_view bytes);

/// The longest front of `text` (valid UTF-8) of at most `max_bytes` that cuts no character: for error messages.
std::string_view utf8_prefix(std::string_view text, size_t max_bytes);

/// Appends the UTF-8 form of a code point (not a surrogate, at most U+10FFFF).
void append_utf8(char32_t code_point, std::string& out);

/// Moves the text at the front of `pending` to `out`, with U+FFFD for each invalid step. An incomplete character at the
/// end stays in `pending` (at most 3 bytes), or becomes one U+FFFD when `last` says that nothing follows.
void take_utf8(std::string& pending, bool last, std::string& out);

}  // namespace fathom
