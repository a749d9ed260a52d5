// Tokenizer: byte-level BPE, text to ids and back, as a TokenizerSpec says. Immutable after creation and safe to share
// between threads; it neither adds BOS nor knows chat formats. StreamDecoder turns ids into text as they come.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/result.h"
#include "text/added_tokens.h"
#include "text/pretokenizer.h"
#include "text/tokenizer_spec.h"

namespace fathom {

/// Whether encode() turns the text of added tokens into their ids, or (for untrusted text) treats it as plain text.
enum class AddedTokens { kParse, kIgnore };

/// Whether decoding shows special tokens.
enum class SpecialTokens { kKeep, kSkip };

class Tokenizer {
 public:
  /// Builds the tables. Errors name the token, merge or pattern that does not fit: ids that are negative, used for two
  /// texts or far above the number of tokens; an added token that the vocabulary has under
  /// another id; merges of unknown tokens or into an unknown token; see also Pretokenizer
  /// and AddedTokenMatcher.
  static Result<Tokenizer> create(const TokenizerSpec& spec);

  /// The token ids of `text` (Sennrich et al., 2016, on bytes): added tokens, then pieces of the split patterns, then
  /// merges by rank. O(n log n) in the length of a piece; no token is added at either end.
  /// Errors: invalid UTF-8 (names the byte offset), a text of 1 GiB or more, a byte without a token, a split pattern
  /// that gives up.
  Result<std::vector<int32_t>> encode(std::string_view text, AddedTokens added) const;

  /// The text of `ids`. Bytes that are not valid UTF-8 become U+FFFD, as in Hugging Face decoding; bytes_of() has them.
  /// Errors: an id without a token.
  Result<std::string> decode(std::span<const int32_t> ids, SpecialTokens special = SpecialTokens::kKeep) const;

  /// The exact bytes of one token. Errors: an id without a token.
  Result<std::string_view> bytes_of(int32_t id) const;

  /// The id of the added token or else the vocabulary token with exactly these bytes.
  std::optional<int32_t> token_id(std::string_view content) const;

  /// One more than the largest id. Ids below it may be unused: bytes_of() tells.
  int32_t vocab_size() const { return static_cast<int32_t>(tokens_.size()); }

  /// True for an added token marked special; false for any other id, also one that has no token.
  bool is_special(int32_t id) const;

 private:
  struct Token {
    std::string bytes;
    bool used = false;
    bool added = false;
    bool special = false;
  };
  struct Joined {
    int32_t rank = -1;
    int32_t id = -1;
  };
  struct Scratch;

  Tokenizer(Pretokenizer pretokenizer, AddedTokenMatcher added)
      : pretokenizer_(std::move(pretokenizer)), added_(std::move(added)) {}

  Status add_vocab(const TokenizerSpec& spec);
  Status add_merges(const TokenizerSpec& spec);
  Joined find_merge(int32_t left, int32_t right) const;
  Status encode_piece(std::string_view piece, Scratch& scratch, std::vector<int32_t>& ids) const;
  void merge(Scratch& scratch) const;

  Pretokenizer pretokenizer_;
  AddedTokenMatcher added_;
  bool ignore_merges_ = false;
  std::vector<Token> tokens_;                               // by id
  std::unordered_map<std::string_view, int32_t> by_bytes_;  // views of tokens_; the vocabulary without literals
  std::array<int32_t, 256> byte_ids_{};
  // Merges grouped by their left token: those of token t are [merge_starts_[t], merge_starts_[t + 1]), sorted by right.
  std::vector<uint32_t> merge_starts_;
  std::vector<int32_t> merge_rights_;
  std::vector<Joined> merge_results_;
};

/// Decodes ids one at a time for streaming. What push() and flush() return, joined, is what decode() returns. The
/// tokenizer must outlive it.
class StreamDecoder {
 public:
  explicit StreamDecoder(const Tokenizer& tokenizer, SpecialTokens special = SpecialTokens::kKeep)
      : tokenizer_(&tokenizer), special_(special) {}

  /// The text that is certain after this token: never a cut character, U+FFFD only for bytes that nothing can complete.
  /// Errors: an id without a token; the decoder is as before.
  Result<std::string> push(int32_t id);

  /// The end of the stream: U+FFFD if a character is cut, otherwise empty. The decoder is as new.
  std::string flush();

 private:
  const Tokenizer* tokenizer_;
  SpecialTokens special_;
  std::string pending_;  // the beginning of a character, at most 3 bytes
};

}  // namespace fathom
