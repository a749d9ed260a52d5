#include "text/jinja_strings.h"

#include <locale.h>
#include <wctype.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <utility>

namespace fathom::jinja {
namespace {

constexpr std::string_view kHex = "0123456789abcdef";

uint8_t byte_at(std::string_view text, size_t i) { return static_cast<uint8_t>(text[i]); }
bool is_continuation(std::string_view text, size_t i) { return i < text.size() && (byte_at(text, i) & 0xC0) == 0x80; }

bool is_space(uint32_t c) {
  return (c >= 0x09 && c <= 0x0D) || (c >= 0x1C && c <= 0x20) || c == 0x85 || c == 0xA0 || c == 0x1680 ||
         (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}

bool ends_line(uint32_t c) {
  return (c >= 0x0A && c <= 0x0D) || (c >= 0x1C && c <= 0x1E) || c == 0x85 || c == 0x2028 || c == 0x2029;
}

// The bytes of the last character of `text`, which is not empty.
size_t last_char_length(std::string_view text) {
  for (size_t length = 2; length <= 4 && length <= text.size(); ++length) {
    if (char_length(text.substr(text.size() - length)) == length) return length;
  }
  return 1;
}

// str.isprintable for one character. Unassigned code points outside of these ranges count as printable.
bool is_printable(uint32_t c) {
  constexpr std::array<std::pair<uint32_t, uint32_t>, 17> kHidden = {{{0x00, 0x1F},
                                                                      {0x7F, 0xA0},
                                                                      {0xAD, 0xAD},
                                                                      {0x600, 0x605},
                                                                      {0x61C, 0x61C},
                                                                      {0x6DD, 0x6DD},
                                                                      {0x70F, 0x70F},
                                                                      {0x1680, 0x1680},
                                                                      {0x180E, 0x180E},
                                                                      {0x2000, 0x200F},
                                                                      {0x2028, 0x202F},
                                                                      {0x205F, 0x206F},
                                                                      {0x3000, 0x3000},
                                                                      {0xD800, 0xF8FF},
                                                                      {0xFEFF, 0xFEFF},
                                                                      {0xFFF0, 0xFFFB},
                                                                      {0xE0000, 0x10FFFF}}};
  return std::none_of(kHidden.begin(), kHidden.end(), [c](const auto& r) { return c >= r.first && c <= r.second; });
}

void append_hex(std::string& out, uint32_t code, int width) {
  for (int shift = 4 * (width - 1); shift >= 0; shift -= 4) out.push_back(kHex[code >> shift & 15]);
}

}  // namespace

size_t char_length(std::string_view text) {
  if (text.empty()) return 0;
  const uint8_t lead = byte_at(text, 0);
  if (lead < 0xC2 || lead > 0xF4) return 1;
  const size_t length = lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
  for (size_t i = 1; i < length; ++i) {
    if (!is_continuation(text, i)) return 1;
  }
  const uint8_t second = byte_at(text, 1);
  const bool wrong = (lead == 0xE0 && second < 0xA0) || (lead == 0xED && second > 0x9F) ||
                     (lead == 0xF0 && second < 0x90) || (lead == 0xF4 && second > 0x8F);
  return wrong ? 1 : length;
}

uint32_t first_char(std::string_view text) {
  const uint32_t lead = byte_at(text, 0);
  const size_t length = char_length(text);
  if (length == 1) return lead < 0x80 ? lead : 0xDC00 + lead;
  uint32_t code = lead & (0xFFu >> (length + 1));
  for (size_t i = 1; i < length; ++i) code = code << 6 | (byte_at(text, i) & 0x3Fu);
  return code;
}

int64_t count_chars(std::string_view text) {
  int64_t count = 0;
  while (!text.empty()) {
    text.remove_prefix(char_length(text));
    ++count;
  }
  return count;
}

std::vector<size_t> char_offsets(std::string_view text) {
  std::vector<size_t> offsets;
  size_t at = 0;
  while (at < text.size()) {
    offsets.push_back(at);
    at += char_length(text.substr(at));
  }
  offsets.push_back(at);
  return offsets;
}

void append_utf8(std::string& out, uint32_t code) {
  if (code >= 0xDC80 && code <= 0xDCFF) {  // a byte that was not valid UTF-8, see first_char
    out.push_back(static_cast<char>(code - 0xDC00));
  } else if (code < 0x80) {
    out.push_back(static_cast<char>(code));
  } else if (code < 0x800) {
    out.push_back(static_cast<char>(0xC0 | code >> 6));
    out.push_back(static_cast<char>(0x80 | (code & 0x3F)));
  } else if (code < 0x10000) {
    out.push_back(static_cast<char>(0xE0 | code >> 12));
    out.push_back(static_cast<char>(0x80 | (code >> 6 & 0x3F)));
    out.push_back(static_cast<char>(0x80 | (code & 0x3F)));
  } else {
    out.push_back(static_cast<char>(0xF0 | code >> 18));
    out.push_back(static_cast<char>(0x80 | (code >> 12 & 0x3F)));
    out.push_back(static_cast<char>(0x80 | (code >> 6 & 0x3F)));
    out.push_back(static_cast<char>(0x80 | (code & 0x3F)));
  }
}

size_t space_length(std::string_view text) {
  if (text.empty() || !is_space(first_char(text))) return 0;
  return char_length(text);
}

std::string_view strip_left(std::string_view text) {
  while (const size_t length = space_length(text)) text.remove_prefix(length);
  return text;
}

std::string_view strip_right(std::string_view text) {
  while (!text.empty()) {
    const size_t length = last_char_length(text);
    if (space_length(text.substr(text.size() - length)) == 0) break;
    text.remove_suffix(length);
  }
  return text;
}

std::string_view strip_left(std::string_view text, std::string_view chars) {
  while (!text.empty() && chars.find(text.substr(0, char_length(text))) != std::string_view::npos) {
    text.remove_prefix(char_length(text));
  }
  return text;
}

std::string_view strip_right(std::string_view text, std::string_view chars) {
  while (!text.empty()) {
    const size_t length = last_char_length(text);
    if (chars.find(text.substr(text.size() - length)) == std::string_view::npos) break;
    text.remove_suffix(length);
  }
  return text;
}

std::vector<std::string_view> split_space(std::string_view text, int64_t max_splits) {
  std::vector<std::string_view> out;
  text = strip_left(text);
  while (!text.empty()) {
    if (max_splits >= 0 && static_cast<int64_t>(out.size()) == max_splits) {
      out.push_back(text);  // the rest keeps its whitespace, as in Python
      break;
    }
    size_t end = 0;
    while (end < text.size() && space_length(text.substr(end)) == 0) end += char_length(text.substr(end));
    out.push_back(text.substr(0, end));
    text = strip_left(text.substr(end));
  }
  return out;
}

std::vector<std::string_view> rsplit_space(std::string_view text, int64_t max_splits) {
  std::vector<std::string_view> out;
  text = strip_right(text);
  while (!text.empty()) {
    if (max_splits >= 0 && static_cast<int64_t>(out.size()) == max_splits) {
      out.push_back(text);
      break;
    }
    size_t begin = text.size();
    while (begin > 0) {
      const size_t length = last_char_length(text.substr(0, begin));
      if (space_length(text.substr(begin - length, length)) != 0) break;
      begin -= length;
    }
    out.push_back(text.substr(begin));
    text = strip_right(text.substr(0, begin));
  }
  std::reverse(out.begin(), out.end());
  return out;
}

std::vector<std::string_view> split_at(std::string_view text, std::string_view separator, int64_t max_splits) {
  std::vector<std::string_view> out;
  while (max_splits < 0 || static_cast<int64_t>(out.size()) < max_splits) {
    const size_t cut = text.find(separator);
    if (cut == std::string_view::npos) break;
    out.push_back(text.substr(0, cut));
    text.remove_prefix(cut + separator.size());
  }
  out.push_back(text);
  return out;
}

std::vector<std::string_view> rsplit_at(std::string_view text, std::string_view separator, int64_t max_splits) {
  std::vector<std::string_view> out;
  while (max_splits < 0 || static_cast<int64_t>(out.size()) < max_splits) {
    const size_t cut = text.rfind(separator);
    if (cut == std::string_view::npos) break;
    out.push_back(text.substr(cut + separator.size()));
    text = text.substr(0, cut);
  }
  out.push_back(text);
  std::reverse(out.begin(), out.end());
  return out;
}

std::vector<std::string_view> split_lines(std::string_view text) {
  std::vector<std::string_view> out;
  size_t begin = 0;
  size_t at = 0;
  while (at < text.size()) {
    const size_t length = char_length(text.substr(at));
    if (!ends_line(first_char(text.substr(at)))) {
      at += length;
      continue;
    }
    out.push_back(text.substr(begin, at - begin));
    at += text.substr(at).starts_with("\r\n") ? 2 : length;
    begin = at;
  }
  if (begin < text.size()) out.push_back(text.substr(begin));
  return out;
}

std::optional<std::string> change_case(std::string_view text, Case to) {
  const bool ascii = std::all_of(text.begin(), text.end(), [](char c) { return static_cast<uint8_t>(c) < 0x80; });
  // "POSIX" is always there and knows ASCII; the Unicode tables are needed, and asked for, only beyond it.
  const locale_t tables = newlocale(LC_CTYPE_MASK, ascii ? "POSIX" : "C.UTF-8", locale_t{});
  if (tables == locale_t{}) return std::nullopt;
  std::string out;
  out.reserve(text.size());
  bool inside_word = false;  // the previous character was a letter (title), or there was one (capitalize)
  while (!text.empty()) {
    const auto c = static_cast<wint_t>(first_char(text));
    text.remove_prefix(char_length(text));
    const wint_t upper = towupper_l(c, tables);
    const wint_t lower = towlower_l(c, tables);
    const bool raise = to == Case::kUpper || (to != Case::kLower && !inside_word);
    append_utf8(out, static_cast<uint32_t>(raise ? upper : lower));
    inside_word = to == Case::kCapitalize || upper != c || lower != c;
  }
  freelocale(tables);
  return out;
}

int digit_value(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'z') return c - 'a' + 10;
  if (c >= 'A' && c <= 'Z') return c - 'A' + 10;
  return 99;
}

std::string float_text(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value > 0 ? "inf" : "-inf";
  std::array<char, 400> buffer;
  const double size = std::fabs(value);
  // Python writes an exponent below 1e-4 and from 1e16 on.
  const bool scientific = size != 0 && (size < 1e-4 || size >= 1e16);
  const auto end = std::to_chars(buffer.data(), buffer.data() + buffer.size(), value,
                                 scientific ? std::chars_format::scientific : std::chars_format::fixed);
  std::string out(buffer.data(), end.ptr);
  if (!scientific && out.find('.') == std::string::npos) out += ".0";
  return out;
}

std::string quoted(std::string_view text) {
  const char quote = text.find('\'') != text.npos && text.find('"') == text.npos ? '"' : '\'';
  std::string out(1, quote);
  while (!text.empty()) {
    const uint32_t c = first_char(text);
    const std::string_view bytes = text.substr(0, char_length(text));
    text.remove_prefix(bytes.size());
    if (c == static_cast<uint32_t>(quote) || c == '\\') {
      out.push_back('\\');
      out.push_back(static_cast<char>(c));
    } else if (c == '\n' || c == '\r' || c == '\t') {
      out += c == '\n' ? "\\n" : c == '\r' ? "\\r" : "\\t";
    } else if (is_printable(c)) {
      out += bytes;
    } else {
      out += c < 0x100 ? "\\x" : c < 0x10000 ? "\\u" : "\\U";
      append_hex(out, c, c < 0x100 ? 2 : c < 0x10000 ? 4 : 8);
    }
  }
  out.push_back(quote);
  return out;
}

std::string json_quoted(std::string_view text, bool ensure_ascii) {
  constexpr std::string_view kLetters = "\"\\nrtfb";
  constexpr std::string_view kMeanings = "\"\\\n\r\t\f\b";
  std::string out = "\"";
  while (!text.empty()) {
    const uint32_t c = first_char(text);
    const std::string_view bytes = text.substr(0, char_length(text));
    text.remove_prefix(bytes.size());
    const size_t index = c < 0x80 ? kMeanings.find(static_cast<char>(c)) : std::string_view::npos;
    if (index != std::string_view::npos) {
      out.push_back('\\');
      out.push_back(kLetters[index]);
    } else if (c < 0x20 || (ensure_ascii && c >= 0x7F)) {
      if (c == 0x7F) {
        out.push_back('\x7f');  // json.dumps leaves DEL alone
      } else if (c < 0x10000) {
        out += "\\u";
        append_hex(out, c, 4);
      } else {
        out += "\\u";
        append_hex(out, 0xD800 + ((c - 0x10000) >> 10), 4);
        out += "\\u";
        append_hex(out, 0xDC00 + ((c - 0x10000) & 0x3FF), 4);
      }
    } else {
      out += bytes;
    }
  }
  out.push_back('"');
  return out;
}

}  // namespace fathom::jinja
