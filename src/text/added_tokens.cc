#include "text/added_tokens.h"

#include <algorithm>

#include "base/json.h"
#include "text/utf8.h"

namespace fathom {
namespace {

constexpr size_t kMaxContentBytes = 512;

// Byte order, as in the table of first bytes: std::string compares char_traits<char>, which is unsigned too.
bool by_content(const AddedToken& a, const AddedToken& b) { return a.content < b.content; }

}  // namespace

Result<AddedTokenMatcher> AddedTokenMatcher::create(std::span<const AddedToken> tokens) {
  AddedTokenMatcher out;
  for (const AddedToken& token : tokens) {
    if (token.content.empty() || token.content.size() > kMaxContentBytes) {
      return invalid("added token " + std::to_string(token.id) + " has " + std::to_string(token.content.size()) +
                     " bytes; accepted: 1 to " + std::to_string(kMaxContentBytes));
    }
    if (const auto bad = first_invalid_utf8(token.content)) {
      return corrupt("added token " + std::to_string(token.id) + ": invalid UTF-8 at byte " + std::to_string(*bad));
    }
    out.passes_[token.normalized ? 1 : 0].tokens.push_back(token);
  }
  for (Pass& pass : out.passes_) {
    std::sort(pass.tokens.begin(), pass.tokens.end(), by_content);
    for (const AddedToken& token : pass.tokens) ++pass.starts[static_cast<uint8_t>(token.content[0]) + size_t{1}];
    for (size_t i = 1; i < pass.starts.size(); ++i) pass.starts[i] += pass.starts[i - 1];
  }
  std::vector<std::string_view> contents;
  for (const AddedToken& token : tokens) contents.push_back(token.content);
  std::sort(contents.begin(), contents.end());
  const auto twice = std::adjacent_find(contents.begin(), contents.end());
  if (twice != contents.end()) return corrupt("added token " + Json(*twice).dump() + " is listed twice");
  return out;
}

// Narrows the range of tokens that agree with the text, byte by byte; a token that ends is the longest so far.
const AddedToken* AddedTokenMatcher::Pass::longest_at(std::string_view text) const {
  const auto first = static_cast<uint8_t>(text[0]);
  auto low = tokens.begin() + starts[first];
  auto high = tokens.begin() + starts[first + size_t{1}];
  const AddedToken* longest = nullptr;
  for (size_t length = 1; low != high; ++length) {
    // Within the range all agree on `length` bytes, and sorting puts the one that has no more first.
    if (low->content.size() == length) longest = &*low++;
    if (length == text.size()) break;
    const auto next = static_cast<uint8_t>(text[length]);
    const auto before = [length](const AddedToken& t, uint8_t b) {
      return static_cast<uint8_t>(t.content[length]) < b;
    };
    const auto after = [length](uint8_t b, const AddedToken& t) { return b < static_cast<uint8_t>(t.content[length]); };
    low = std::lower_bound(low, high, next, before);
    high = std::upper_bound(low, high, next, after);
  }
  return longest;
}

void AddedTokenMatcher::Pass::split(std::string_view text, std::vector<TextSegment>& out) const {
  size_t done = 0;
  size_t at = 0;
  while (at < text.size() && !tokens.empty()) {
    const AddedToken* token = longest_at(text.substr(at));
    if (token == nullptr) {
      ++at;
      continue;
    }
    if (at > done) out.push_back({text.substr(done, at - done), -1});
    out.push_back({text.substr(at, token->content.size()), token->id});
    done = at += token->content.size();
  }
  if (done < text.size()) out.push_back({text.substr(done), -1});
}

std::vector<TextSegment> AddedTokenMatcher::split(std::string_view text) const {
  std::vector<TextSegment> segments;
  passes_[0].split(text, segments);
  if (passes_[1].tokens.empty()) return segments;
  std::vector<TextSegment> out;
  for (const TextSegment& segment : segments) {
    if (segment.id >= 0) {
      out.push_back(segment);
    } else {
      passes_[1].split(segment.text, out);
    }
  }
  return out;
}

int32_t AddedTokenMatcher::find(std::string_view content) const {
  if (content.empty()) return -1;
  for (const Pass& pass : passes_) {
    const AddedToken* token = pass.longest_at(content);
    if (token != nullptr && token->content.size() == content.size()) return token->id;
  }
  return -1;
}

}  // namespace fathom
