// Jinja strings: what Python's str does, on UTF-8 bytes. Positions and lengths that a template sees count code points;
// a byte that is not valid UTF-8 counts as one. Used by the value, filter and method files of the chat templates.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace fathom::jinja {

/// Bytes of the first character of `text` (0 when empty).
size_t char_length(std::string_view text);
/// The first character of `text`, which is not empty. A byte that is not valid UTF-8 gives 0xDC00 + byte, as Python's
/// surrogateescape does.
uint32_t first_char(std::string_view text);
/// Characters in `text`.
int64_t count_chars(std::string_view text);
/// The byte offset of every character of `text` and its size at the end: char i is [offsets[i], offsets[i + 1]).
std::vector<size_t> char_offsets(std::string_view text);
void append_utf8(std::string& out, uint32_t code);

/// Bytes of the whitespace character (str.isspace) that `text` begins with, else 0.
size_t space_length(std::string_view text);
std::string_view strip_left(std::string_view text);
std::string_view strip_right(std::string_view text);
/// str.lstrip / str.rstrip with a set of characters.
std::string_view strip_left(std::string_view text, std::string_view chars);
std::string_view strip_right(std::string_view text, std::string_view chars);

/// The pieces between whitespace runs; at most `max_splits` cuts when it is >= 0.
std::vector<std::string_view> split_space(std::string_view text, int64_t max_splits);
std::vector<std::string_view> rsplit_space(std::string_view text, int64_t max_splits);
/// The pieces between occurrences of `separator`, which is not empty.
std::vector<std::string_view> split_at(std::string_view text, std::string_view separator, int64_t max_splits);
std::vector<std::string_view> rsplit_at(std::string_view text, std::string_view separator, int64_t max_splits);
/// str.splitlines().
std::vector<std::string_view> split_lines(std::string_view text);

enum class Case { kUpper, kLower, kCapitalize, kTitle };
/// Letters in another case: one character to one character (so "ß" stays); nullopt if the C library has no Unicode
/// tables.
std::optional<std::string> change_case(std::string_view text, Case to);

/// The value of a digit in bases up to 36; 99 for another character.
int digit_value(char c);
/// repr(float) of Python: the shortest text that reads back as `value`.
std::string float_text(double value);
/// repr(str) of Python.
std::string quoted(std::string_view text);
/// A JSON string with its quotes, as json.dumps writes it.
std::string json_quoted(std::string_view text, bool ensure_ascii);

}  // namespace fathom::jinja
