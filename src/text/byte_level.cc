#include "text/byte_level.h"

#include "text/utf8.h"

namespace fathom {
namespace {

constexpr bool stands_for_itself(int byte) {
  return (byte >= '!' && byte <= '~') || (byte >= 0xA1 && byte <= 0xAC) || (byte >= 0xAE && byte <= 0xFF);
}

constexpr std::array<char32_t, 256> make_alphabet() {
  std::array<char32_t, 256> alphabet{};
  char32_t next = 0x100;
  for (int byte = 0; byte < 256; ++byte) {
    alphabet[static_cast<size_t>(byte)] = stands_for_itself(byte) ? static_cast<char32_t>(byte) : next++;
  }
  return alphabet;
}

constexpr std::array<char32_t, 256> kAlphabet = make_alphabet();
constexpr size_t kNumCharacters = 0x100 + 68;

constexpr std::array<int16_t, kNumCharacters> make_bytes() {
  std::array<int16_t, kNumCharacters> bytes{};
  for (auto& byte : bytes) byte = -1;
  for (size_t byte = 0; byte < 256; ++byte) bytes[kAlphabet[byte]] = static_cast<int16_t>(byte);
  return bytes;
}

constexpr std::array<int16_t, kNumCharacters> kBytes = make_bytes();

}  // namespace

const std::array<char32_t, 256>& byte_level_alphabet() { return kAlphabet; }

std::string to_byte_level(std::string_view bytes) {
  std::string text;
  text.reserve(bytes.size() * 2);
  for (char byte : bytes) append_utf8(kAlphabet[static_cast<uint8_t>(byte)], text);
  return text;
}

std::optional<std::string> from_byte_level(std::string_view text) {
  std::string bytes;
  bytes.reserve(text.size());
  while (!text.empty()) {
    const Utf8Step step = utf8_step(text);
    if (step.kind != Utf8Step::kValid || step.code_point >= kNumCharacters) return std::nullopt;
    const int16_t byte = kBytes[step.code_point];
    if (byte < 0) return std::nullopt;
    bytes.push_back(static_cast<char>(static_cast<uint8_t>(byte)));
    text.remove_prefix(static_cast<size_t>(step.length));
  }
  return bytes;
}

}  // namespace fathom
