#include "text/tiktoken.h"

#include <array>
#include <charconv>
#include <limits>
#include <optional>
#include <string>
#include <unordered_map>

#include "base/git_lfs.h"
#include "base/json.h"
#include "text/utf8.h"

namespace fathom {
namespace {

constexpr size_t kMaxTokenBytes = 512;  // bounds the splits that are tried; real tokens have up to 128 bytes

std::string shown(std::string_view text) { return Json(utf8_prefix(text, 80)).dump(); }

constexpr std::array<int8_t, 256> make_base64_values() {
  std::array<int8_t, 256> values{};
  for (auto& value : values) value = -1;
  int8_t next = 0;
  for (char c : std::string_view("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/")) {
    values[static_cast<uint8_t>(c)] = next++;
  }
  return values;
}
constexpr std::array<int8_t, 256> kBase64Values = make_base64_values();

/// RFC 4648 with padding, nothing else; nullopt for anything that an encoder would not write.
std::optional<std::string> from_base64(std::string_view text) {
  if (text.size() % 4 != 0) return std::nullopt;
  std::string bytes;
  bytes.reserve(text.size() / 4 * 3);
  for (size_t i = 0; i < text.size(); i += 4) {
    const bool is_last = i + 4 == text.size();
    const size_t padding = !is_last ? 0 : text[i + 2] == '=' ? 2 : text[i + 3] == '=' ? 1 : 0;
    uint32_t group = 0;
    for (size_t j = 0; j < 4; ++j) {
      const char c = text[i + j];
      const int8_t value =
          j >= 4 - padding ? (c == '=' ? int8_t{0} : int8_t{-1}) : kBase64Values[static_cast<uint8_t>(c)];
      if (value < 0) return std::nullopt;
      group = group << 6 | static_cast<uint32_t>(value);
    }
    if ((group & ((1u << (8 * padding)) - 1)) != 0) return std::nullopt;  // bits that the padding says are not there
    for (size_t j = 0; j < 3 - padding; ++j) bytes.push_back(static_cast<char>(group >> (16 - 8 * j) & 0xFF));
  }
  return bytes;
}

Status read_ranks(std::string_view text, const std::string& where, TokenizerSpec& spec) {
  for (int64_t line_number = 1; !text.empty(); ++line_number) {
    const size_t end = text.find('\n');
    std::string_view line = text.substr(0, end);
    text = end == std::string_view::npos ? std::string_view{} : text.substr(end + 1);
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (line.empty()) continue;
    const std::string at = where + ": line " + std::to_string(line_number) + ", " + shown(line) + ": ";
    const size_t blank = line.find(' ');
    if (blank == std::string_view::npos) return corrupt(at + "accepted: a token in base64, a blank and its rank");
    auto bytes = from_base64(line.substr(0, blank));
    if (!bytes || bytes->empty()) return corrupt(at + "the token is not base64 of one byte or more");
    if (bytes->size() > kMaxTokenBytes) {
      return corrupt(at + "the token has " + std::to_string(bytes->size()) + " bytes; accepted: up to " +
                     std::to_string(kMaxTokenBytes));
    }
    int32_t rank = -1;
    const std::string_view number = line.substr(blank + 1);
    const auto [stop, error] = std::from_chars(number.data(), number.data() + number.size(), rank);
    if (error != std::errc{} || stop != number.data() + number.size() || rank < 0) {
      return corrupt(at + "the rank is no integer from 0 to " + std::to_string(std::numeric_limits<int32_t>::max()));
    }
    spec.vocab.push_back({*std::move(bytes), rank, false});
  }
  if (spec.vocab.empty()) return corrupt(where + ": holds no tokens");
  return {};
}

/// Every split of a token into two tokens, with the token's rank.
Status add_merges(const std::string& where, TokenizerSpec& spec) {
  std::unordered_map<std::string_view, int32_t> ids;
  ids.reserve(spec.vocab.size());
  for (const VocabEntry& entry : spec.vocab) {
    if (ids.emplace(entry.bytes, entry.id).second) continue;
    return corrupt(where + ": token " + shown(entry.bytes) + " has two ranks, " + std::to_string(ids[entry.bytes]) +
                   " and " + std::to_string(entry.id));
  }
  for (const VocabEntry& entry : spec.vocab) {
    const std::string_view bytes = entry.bytes;
    for (size_t cut = 1; cut < bytes.size(); ++cut) {
      const auto left = ids.find(bytes.substr(0, cut));
      if (left == ids.end()) continue;
      const auto right = ids.find(bytes.substr(cut));
      if (right != ids.end()) spec.merges.push_back({left->second, right->second, entry.id});
    }
  }
  return {};
}

Status add_special_tokens(std::string_view text, const std::string& where, TokenizerSpec& spec) {
  const auto json = Json::parse(text, where);
  if (!json) return json.error();
  const Json* decoder = json->find("added_tokens_decoder");
  if (decoder == nullptr) return {};
  if (!decoder->is_object()) {
    return corrupt(where + ": added_tokens_decoder is of kind " + std::string(decoder->kind()) +
                   "; accepted: an object of ids and tokens");
  }
  for (const auto& [key, token] : decoder->members()) {
    const std::string at = where + ": added_tokens_decoder " + shown(key) + ": ";
    int32_t id = -1;
    const auto [stop, error] = std::from_chars(key.data(), key.data() + key.size(), id);
    if (error != std::errc{} || stop != key.data() + key.size() || id < 0) return corrupt(at + "the key is no id");
    const Json* content = token.find("content");
    if (content == nullptr || !content->is_string()) return corrupt(at + "content must be a string");
    for (std::string_view option : {"lstrip", "rstrip", "single_word"}) {
      const Json* value = token.find(option);
      if (value != nullptr && *value != Json(false)) {
        return unsupported(at + std::string(option) + " is " + value->dump().substr(0, 80) + "; accepted: false");
      }
    }
    const Json* special = token.find("special");
    if (special != nullptr && !special->is_bool()) return corrupt(at + "special must be true or false");
    spec.added_tokens.push_back({content->as_string(), id, special == nullptr || special->as_bool(), false});
  }
  return {};
}

}  // namespace

Result<TokenizerSpec> spec_from_tiktoken(std::string_view ranks, std::string_view ranks_where, std::string_view config,
                                         std::string_view config_where) {
  TokenizerSpec spec;
  if (is_git_lfs_pointer(ranks)) return git_lfs_pointer_error(ranks_where);
  if (auto s = read_ranks(ranks, std::string(ranks_where), spec); !s) return s.error();
  if (auto s = add_merges(std::string(ranks_where), spec); !s) return s.error();
  if (auto s = add_special_tokens(config, std::string(config_where), spec); !s) return s.error();
  spec.split_patterns = kimi_split_patterns();
  spec.ignore_merges = true;
  return spec;
}

}  // namespace fathom
