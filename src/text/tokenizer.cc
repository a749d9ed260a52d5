#include "text/tokenizer.h"

#include <algorithm>

#include "base/json.h"
#include "text/byte_level.h"
#include "text/utf8.h"

namespace fathom {
namespace {

constexpr size_t kMaxTextBytes = size_t{1} << 30;
// Ids index a table, so a file may not claim ids far beyond the tokens that it has.
constexpr int64_t kIdSlack = 4096;
// Words that come back are copied from where they were first encoded; the bounds keep the map small and warm.
constexpr size_t kMaxCachedBytes = 64;
constexpr size_t kMaxCachedWords = size_t{1} << 16;

std::string name_of(int32_t id, std::string_view bytes) {
  // JSON spelling: one line whatever the bytes are.
  return "token " + std::to_string(id) + " (" + Json(bytes.substr(0, 64)).dump() + ")";
}

}  // namespace

// What one encode() call reuses from piece to piece.
struct Tokenizer::Scratch {
  // A piece is a doubly linked list of symbols in an array; a symbol that was merged away has id -1.
  struct Symbol {
    int32_t id;
    int32_t previous;
    int32_t next;
  };
  // A merge that was possible when it was queued; it still is if the two symbols are unchanged.
  struct Candidate {
    int32_t rank;
    int32_t at;
    int32_t left;
    int32_t right;
    int32_t id;
  };
  struct Range {
    size_t begin;
    size_t count;
  };

  std::vector<Symbol> symbols;
  std::vector<Candidate> queue;
  std::unordered_map<std::string_view, Range> seen;  // word -> where its ids are in the output
};

Result<Tokenizer> Tokenizer::create(const TokenizerSpec& spec) {
  auto pretokenizer = Pretokenizer::create(spec.split_patterns);
  if (!pretokenizer) return pretokenizer.error();
  auto added = AddedTokenMatcher::create(spec.added_tokens);
  if (!added) return added.error();
  Tokenizer out(std::move(*pretokenizer), std::move(*added));
  out.ignore_merges_ = spec.ignore_merges;
  if (auto status = out.add_vocab(spec); !status) return status.error();
  if (auto status = out.add_merges(spec); !status) return status.error();
  return out;
}

Status Tokenizer::add_vocab(const TokenizerSpec& spec) {
  const auto num_tokens = static_cast<int64_t>(spec.vocab.size() + spec.added_tokens.size());
  int64_t largest = -1;
  const auto fits = [&](int32_t id, std::string_view bytes) -> Status {
    if (id < 0 || id >= 2 * num_tokens + kIdSlack) {
      return corrupt(name_of(id, bytes) + ": id out of range; accepted: 0 to " +
                     std::to_string(2 * num_tokens + kIdSlack - 1) + " for " + std::to_string(num_tokens) + " tokens");
    }
    largest = std::max(largest, int64_t{id});
    return {};
  };
  for (const VocabEntry& entry : spec.vocab) {
    if (auto status = fits(entry.id, entry.bytes); !status) return status;
    if (entry.bytes.empty()) return corrupt("token " + std::to_string(entry.id) + " of the vocabulary is empty");
  }
  for (const AddedToken& token : spec.added_tokens) {
    if (auto status = fits(token.id, token.content); !status) return status;
  }
  tokens_.resize(static_cast<size_t>(largest + 1));

  for (const VocabEntry& entry : spec.vocab) {
    Token& token = tokens_[static_cast<size_t>(entry.id)];
    if (token.used) {
      return corrupt("id " + std::to_string(entry.id) + " is used by " + name_of(entry.id, token.bytes) + " and " +
                     name_of(entry.id, entry.bytes));
    }
    token.bytes = entry.bytes;
    token.used = true;
  }
  byte_ids_.fill(-1);
  by_bytes_.reserve(spec.vocab.size());
  std::unordered_map<std::string_view, int32_t> literals;
  for (const VocabEntry& entry : spec.vocab) {
    if (entry.literal) {
      literals.emplace(entry.bytes, entry.id);
      continue;
    }
    const std::string& bytes = tokens_[static_cast<size_t>(entry.id)].bytes;
    if (!by_bytes_.emplace(bytes, entry.id).second) return corrupt(name_of(entry.id, bytes) + " is listed twice");
    if (bytes.size() == 1) byte_ids_[static_cast<uint8_t>(bytes[0])] = entry.id;
  }
  for (const AddedToken& added : spec.added_tokens) {
    Token& token = tokens_[static_cast<size_t>(added.id)];
    if (token.used && token.bytes != added.content) {
      return corrupt("id " + std::to_string(added.id) + " is used by " + name_of(added.id, token.bytes) + " and " +
                     name_of(added.id, added.content));
    }
    // In a tokenizer file both would be one key, so one of the ids would be lost.
    int32_t other = added.id;
    if (const auto found = literals.find(added.content); found != literals.end()) other = found->second;
    if (const auto bytes = from_byte_level(added.content)) {
      if (const auto found = by_bytes_.find(*bytes); found != by_bytes_.end()) other = found->second;
    }
    if (other != added.id) {
      return corrupt("added " + name_of(added.id, added.content) + " is in the vocabulary as id " +
                     std::to_string(other));
    }
    // Equal bytes: assigning would move the text that by_bytes_ points into.
    if (!token.used) token.bytes = added.content;
    token.used = token.added = true;
    token.special = added.special;
  }
  return {};
}

Status Tokenizer::add_merges(const TokenizerSpec& spec) {
  struct Row {
    int32_t left;
    int32_t right;
    Joined joined;
  };
  std::vector<Row> rows;
  rows.reserve(spec.merges.size());
  std::string bytes;
  for (const Merge& merge : spec.merges) {
    const auto left = bytes_of(merge.left);
    const auto right = bytes_of(merge.right);
    if (!left || !right) {
      return corrupt("merge of rank " + std::to_string(merge.rank) + ": " + (left ? right : left).error().text);
    }
    if (merge.rank < 0) return corrupt("merge rank " + std::to_string(merge.rank) + "; accepted: 0 or more");
    bytes.assign(*left).append(*right);
    const auto joined = by_bytes_.find(bytes);
    if (joined == by_bytes_.end()) {
      return corrupt("merge of rank " + std::to_string(merge.rank) + ": " + name_of(merge.left, *left) + " and " +
                     name_of(merge.right, *right) + " make no token of the vocabulary");
    }
    rows.push_back({merge.left, merge.right, {merge.rank, joined->second}});
  }
  std::sort(rows.begin(), rows.end(),
            [](const Row& a, const Row& b) { return std::pair(a.left, a.right) < std::pair(b.left, b.right); });
  merge_starts_.assign(tokens_.size() + 1, 0);
  for (size_t i = 0; i < rows.size(); ++i) {
    const Row& row = rows[i];
    if (i > 0 && rows[i - 1].left == row.left && rows[i - 1].right == row.right) {
      return corrupt("the merge into " + name_of(row.joined.id, *bytes_of(row.joined.id)) + " is listed twice");
    }
    ++merge_starts_[static_cast<size_t>(row.left) + 1];
    merge_rights_.push_back(row.right);
    merge_results_.push_back(row.joined);
  }
  for (size_t i = 1; i < merge_starts_.size(); ++i) merge_starts_[i] += merge_starts_[i - 1];
  return {};
}

Tokenizer::Joined Tokenizer::find_merge(int32_t left, int32_t right) const {
  const auto begin = merge_rights_.begin() + merge_starts_[static_cast<size_t>(left)];
  const auto end = merge_rights_.begin() + merge_starts_[static_cast<size_t>(left) + 1];
  const auto found = std::lower_bound(begin, end, right);
  if (found == end || *found != right) return {};
  return merge_results_[static_cast<size_t>(found - merge_rights_.begin())];
}

Result<std::vector<int32_t>> Tokenizer::encode(std::string_view text, AddedTokens added) const {
  if (text.size() >= kMaxTextBytes) {
    return invalid("a text of " + std::to_string(text.size()) + " bytes; accepted: less than 1 GiB at once");
  }
  if (const auto bad = first_invalid_utf8(text)) {
    return invalid("the text is not valid UTF-8 at byte offset " + std::to_string(*bad));
  }
  std::vector<TextSegment> segments;
  if (added == AddedTokens::kParse) {
    segments = added_.split(text);
  } else {
    segments.push_back({text, -1});
  }
  std::vector<int32_t> ids;
  Scratch scratch;
  for (const TextSegment& segment : segments) {
    if (segment.id >= 0) {
      ids.push_back(segment.id);
      continue;
    }
    const auto pieces = pretokenizer_.split(segment.text);
    if (!pieces) return pieces.error();
    for (std::string_view piece : *pieces) {
      const bool cacheable = piece.size() > 1 && piece.size() <= kMaxCachedBytes;
      if (cacheable) {
        const auto seen = scratch.seen.find(piece);
        if (seen != scratch.seen.end()) {
          const auto [begin, count] = seen->second;
          for (size_t i = 0; i < count; ++i) ids.push_back(ids[begin + i]);
          continue;
        }
      }
      const size_t begin = ids.size();
      if (auto status = encode_piece(piece, scratch, ids); !status) return status.error();
      if (cacheable && scratch.seen.size() < kMaxCachedWords) {
        scratch.seen.emplace(piece, Scratch::Range{begin, ids.size() - begin});
      }
    }
  }
  return ids;
}

Status Tokenizer::encode_piece(std::string_view piece, Scratch& scratch, std::vector<int32_t>& ids) const {
  if (ignore_merges_) {
    const auto whole = by_bytes_.find(piece);
    // Plain text never becomes an added token, whatever the vocabulary says.
    if (whole != by_bytes_.end() && !tokens_[static_cast<size_t>(whole->second)].added) {
      ids.push_back(whole->second);
      return {};
    }
  }
  const auto count = static_cast<int32_t>(piece.size());
  scratch.symbols.clear();
  for (int32_t i = 0; i < count; ++i) {
    const auto byte = static_cast<uint8_t>(piece[static_cast<size_t>(i)]);
    const int32_t id = byte_ids_[byte];
    if (id < 0) return invalid("the vocabulary has no token for byte " + std::to_string(byte));
    scratch.symbols.push_back({id, i - 1, i + 1 < count ? i + 1 : -1});
  }
  merge(scratch);
  for (int32_t at = 0; at >= 0; at = scratch.symbols[static_cast<size_t>(at)].next) {
    ids.push_back(scratch.symbols[static_cast<size_t>(at)].id);
  }
  return {};
}

// Applies merges in the order (rank, place) until none is left. Each merge queues at most two new candidates, so the
// queue sees at most 3 n entries.
void Tokenizer::merge(Scratch& scratch) const {
  using Candidate = Scratch::Candidate;
  auto& symbols = scratch.symbols;
  auto& queue = scratch.queue;
  const auto later = [](const Candidate& a, const Candidate& b) {
    return a.rank != b.rank ? a.rank > b.rank : a.at > b.at;
  };
  const auto symbol = [&symbols](int32_t at) -> Scratch::Symbol& { return symbols[static_cast<size_t>(at)]; };
  const auto consider = [&](int32_t at) {
    const int32_t left = symbol(at).id, right = symbol(symbol(at).next).id;
    const Joined joined = find_merge(left, right);
    if (joined.id >= 0) queue.push_back({joined.rank, at, left, right, joined.id});
    return joined.id >= 0;
  };

  queue.clear();
  for (int32_t at = 0; symbol(at).next >= 0; ++at) consider(at);
  std::make_heap(queue.begin(), queue.end(), later);
  while (!queue.empty()) {
    std::pop_heap(queue.begin(), queue.end(), later);
    const Candidate best = queue.back();
    queue.pop_back();
    auto& left = symbol(best.at);
    if (left.id != best.left || left.next < 0 || symbol(left.next).id != best.right) continue;
    auto& right = symbol(left.next);
    left.id = best.id;
    right.id = -1;
    left.next = right.next;
    if (left.next >= 0) {
      symbol(left.next).previous = best.at;
      if (consider(best.at)) std::push_heap(queue.begin(), queue.end(), later);
    }
    if (left.previous >= 0 && consider(left.previous)) std::push_heap(queue.begin(), queue.end(), later);
  }
}

Result<std::string_view> Tokenizer::bytes_of(int32_t id) const {
  if (id < 0 || id >= vocab_size()) {
    return invalid("token id " + std::to_string(id) + " is outside the vocabulary; accepted: 0 to " +
                   std::to_string(vocab_size() - 1));
  }
  const Token& token = tokens_[static_cast<size_t>(id)];
  if (!token.used) return invalid("token id " + std::to_string(id) + " has no token in this vocabulary");
  return std::string_view(token.bytes);
}

bool Tokenizer::is_special(int32_t id) const {
  return id >= 0 && id < vocab_size() && tokens_[static_cast<size_t>(id)].special;
}

std::optional<int32_t> Tokenizer::token_id(std::string_view content) const {
  if (const int32_t id = added_.find(content); id >= 0) return id;
  const auto found = by_bytes_.find(content);
  if (found == by_bytes_.end()) return std::nullopt;
  return found->second;
}

Result<std::string> Tokenizer::decode(std::span<const int32_t> ids, SpecialTokens special) const {
  std::string bytes;
  for (int32_t id : ids) {
    const auto token = bytes_of(id);
    if (!token) return token.error();
    if (special == SpecialTokens::kKeep || !is_special(id)) bytes.append(*token);
  }
  if (!first_invalid_utf8(bytes)) return bytes;
  std::string text;
  take_utf8(bytes, true, text);
  return text;
}

Result<std::string> StreamDecoder::push(int32_t id) {
  const auto token = tokenizer_->bytes_of(id);
  if (!token) return token.error();
  std::string text;
  if (special_ == SpecialTokens::kSkip && tokenizer_->is_special(id)) return text;
  pending_.append(*token);
  take_utf8(pending_, false, text);
  return text;
}

std::string StreamDecoder::flush() {
  std::string text;
  take_utf8(pending_, true, text);
  return text;
}

}  // namespace fathom
