// The byte-level alphabet of GPT-2: every byte has one printable character, so that a vocabulary of byte strings can be
// written as text. It is a notation of tokenizer files only; inside the tokenizer tokens are bytes.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace fathom {

/// The character of each byte: printable Latin-1 stands for itself; the 68 other bytes are U+0100, U+0101, ... in
/// order.
const std::array<char32_t, 256>& byte_level_alphabet();

/// Bytes written in the alphabet: " a" gives "Ġa".
std::string to_byte_level(std::string_view bytes);

/// The bytes that `text` stands for, or nothing if a character of it is outside the alphabet.
std::optional<std::string> from_byte_level(std::string_view text);

}  // namespace fathom
