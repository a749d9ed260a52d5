// BpeTrainer: learns a byte-level BPE vocabulary from text (Sennrich et al., 2016). The result is a TokenizerSpec, in
// memory for Tokenizer and on disk as tokenizer.json.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/progress.h"
#include "base/result.h"
#include "text/added_tokens.h"
#include "text/pretokenizer.h"
#include "text/tokenizer_spec.h"

namespace fathom {

struct BpeTrainerOptions {
  /// Ids in all: special tokens, the 256 bytes, then merged tokens. Fewer if the text has no more pairs.
  int32_t vocab_size = 0;
  /// Ids 0, 1, 2, ... in this order. Where they occur in the texts they cut and are not counted.
  std::vector<std::string> special_tokens = {};
  /// Pairs that occur less often are not merged.
  int64_t min_frequency = 2;
  std::vector<std::string> split_patterns = deepseek_v3_split_patterns();
};

class BpeTrainer {
 public:
  /// Errors: a vocab_size that does not hold the special tokens and the bytes or is above 2^24, a min_frequency below
  /// 1, special tokens or patterns that the tokenizer would refuse.
  static Result<BpeTrainer> create(BpeTrainerOptions options);

  /// Counts the words of one text; call it as often as there are texts. Memory grows with the number of different
  /// words. Errors: invalid UTF-8 (names the byte offset), a split pattern that gives up; then nothing of the text is
  /// counted.
  Status add(std::string_view text);

  /// Learns the merges. At every step the most frequent pair of adjacent tokens wins; equal counts go to the pair with
  /// the smaller ids, left before right (as Hugging Face tokenizers decide). The result depends on the texts only, not
  /// on their order or on how they were cut into calls between words.
  /// Errors: kCancelled when `progress` asks to stop.
  Result<TokenizerSpec> train(Progress& progress) const;

 private:
  BpeTrainer(BpeTrainerOptions options, Pretokenizer pretokenizer, AddedTokenMatcher special)
      : options_(std::move(options)), pretokenizer_(std::move(pretokenizer)), special_(std::move(special)) {}

  BpeTrainerOptions options_;
  Pretokenizer pretokenizer_;
  AddedTokenMatcher special_;
  std::unordered_map<std::string, int64_t> words_;
};

}  // namespace fathom
