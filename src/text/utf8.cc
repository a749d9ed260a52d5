#include "text/utf8.h"

#include <cstring>

#include "base/check.h"

namespace fathom {

Utf8Step utf8_step(std::string_view bytes) {
  check(!bytes.empty(), "utf8_step has bytes to read");
  const auto at = [bytes](size_t i) { return static_cast<uint8_t>(bytes[i]); };
  const uint8_t lead = at(0);
  if (lead < 0x80) return {Utf8Step::kValid, 1, lead};
  // The second byte's range depends on the lead: that is where overlong forms, surrogates and > U+10FFFF are cut off.
  int length = 0;
  uint8_t low = 0x80, high = 0xBF;
  if (lead >= 0xC2 && lead <= 0xDF) {
    length = 2;
  } else if (lead >= 0xE0 && lead <= 0xEF) {
    length = 3;
    if (lead == 0xE0) low = 0xA0;
    if (lead == 0xED) high = 0x9F;
  } else if (lead >= 0xF0 && lead <= 0xF4) {
    length = 4;
    if (lead == 0xF0) low = 0x90;
    if (lead == 0xF4) high = 0x8F;
  } else {
    return {Utf8Step::kInvalid, 1};
  }
  char32_t code_point = lead & (0x7Fu >> length);
  for (int i = 1; i < length; ++i) {
    if (static_cast<size_t>(i) >= bytes.size()) return {Utf8Step::kIncomplete, i};
    const uint8_t next = at(static_cast<size_t>(i));
    if (next < low || next > high) return {Utf8Step::kInvalid, i};
    code_point = code_point << 6 | (next & 0x3Fu);
    low = 0x80;
    high = 0xBF;
  }
  return {Utf8Step::kValid, length, code_point};
}

std::optional<size_t> first_invalid_utf8(std::string_view bytes) {
  size_t at = 0;
  while (at < bytes.size()) {
    uint64_t word = 0;
    if (bytes.size() - at >= sizeof word) {
      std::memcpy(&word, bytes.data() + at, sizeof word);
      if ((word & 0x8080808080808080u) == 0) {
        at += sizeof word;
        continue;
      }
    }
    const Utf8Step step = utf8_step(bytes.substr(at));
    if (step.kind != Utf8Step::kValid) return at;
    at += static_cast<size_t>(step.length);
  }
  return std::nullopt;
}

std::string_view utf8_prefix(std::string_view text, size_t max_bytes) {
  if (text.size() <= max_bytes) return text;
  while (max_bytes > 0 && (static_cast<uint8_t>(text[max_bytes]) & 0xC0) == 0x80) --max_bytes;
  return text.substr(0, max_bytes);
}

void append_utf8(char32_t code_point, std::string& out) {
  check(code_point <= 0x10FFFF && (code_point < 0xD800 || code_point > 0xDFFF), "a code point that UTF-8 can hold");
  const auto put = [&out](char32_t byte) { out.push_back(static_cast<char>(static_cast<uint8_t>(byte))); };
  if (code_point < 0x80) {
    put(code_point);
  } else if (code_point < 0x800) {
    put(0xC0 | code_point >> 6);
    put(0x80 | (code_point & 0x3F));
  } else if (code_point < 0x10000) {
    put(0xE0 | code_point >> 12);
    put(0x80 | (code_point >> 6 & 0x3F));
    put(0x80 | (code_point & 0x3F));
  } else {
    put(0xF0 | code_point >> 18);
    put(0x80 | (code_point >> 12 & 0x3F));
    put(0x80 | (code_point >> 6 & 0x3F));
    put(0x80 | (code_point & 0x3F));
  }
}

void take_utf8(std::string& pending, bool last, std::string& out) {
  std::string_view rest = pending;
  while (!rest.empty()) {
    const Utf8Step step = utf8_step(rest);
    if (step.kind == Utf8Step::kIncomplete && !last) break;
    const auto length = static_cast<size_t>(step.length);
    if (step.kind == Utf8Step::kValid) {
      out.append(rest.substr(0, length));
    } else {
      append_utf8(0xFFFD, out);
    }
    rest.remove_prefix(length);
  }
  pending.erase(0, pending.size() - rest.size());
}

}  // namespace fathom
