// TokenizerSpec: a byte-level BPE tokenizer as data. Sources fill it (tokenizer.json, a trainer, tiktoken files, GGUF
// metadata), text/tokenizer runs it, text/tokenizer_json writes it.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace fathom {

/// A token of the BPE vocabulary.
struct VocabEntry {
  std::string bytes;
  int32_t id = 0;
  /// True for a token that is not written in the byte-level alphabet: it decodes to its own text and no merge makes it.
  bool literal = false;

  bool operator==(const VocabEntry&) const = default;
};

/// Joins two adjacent tokens into the token whose bytes are those of `left` followed by those of `right`. The lowest
/// rank goes first, the leftmost place first among equal ranks. In tokenizer.json ranks are the positions in the list;
/// in tiktoken files the rank of every split of a token is the token's own.
struct Merge {
  int32_t left = 0;
  int32_t right = 0;
  int32_t rank = 0;

  bool operator==(const Merge&) const = default;
};

/// A token that is cut out of the text before BPE. Its id may also be in the vocabulary (with the same text).
struct AddedToken {
  std::string content;
  int32_t id = 0;
  bool special = true;      // hidden by SpecialTokens::kSkip
  bool normalized = false;  // matched in a second pass, after those that are not (as Hugging Face does)

  bool operator==(const AddedToken&) const = default;
};

struct TokenizerSpec {
  std::vector<VocabEntry> vocab;
  std::vector<Merge> merges;
  /// Regular expressions applied in order: each cuts every piece that the one before left into its matches and the text
  /// between them.
  std::vector<std::string> split_patterns;
  std::vector<AddedToken> added_tokens;
  /// True if a whole piece that is in the vocabulary is taken as it is, whatever the merges say.
  bool ignore_merges = false;

  bool operator==(const TokenizerSpec&) const = default;
};

/// The split pattern of GPT-2, which is also that of the ByteLevel pre-tokenizer with use_regex.
inline constexpr std::string_view kGpt2SplitPattern =
    R"re('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)re";

/// The three split patterns of DeepSeek-V3: numbers of up to three digits, runs of Chinese and Japanese, words.
std::vector<std::string> deepseek_v3_split_patterns();

/// The patterns of deepseek-llm-7b, which DeepSeek-V2, V2-Lite and Coder-V2 share: line ends, letters with case, ASCII
/// and wide punctuation, blanks at the end, Chinese and Korean, single digits (its tokenizer.json).
std::vector<std::string> deepseek_llm_split_patterns();

/// The patterns of deepseek-coder (its tokenizer.json).
std::vector<std::string> deepseek_coder_split_patterns();

/// The pattern of Kimi-K2 and Moonlight: pat_str of tokenization_kimi.py (moonshotai/Kimi-K2-Instruct). Its class
/// intersections, [..&&[^\p{Han}]], are written as a lookahead before each character.
std::vector<std::string> kimi_split_patterns();

/// The pattern of GLM-4 (its tokenizer.json), the one of tiktoken's cl100k_base.
std::vector<std::string> glm4_split_patterns();

}  // namespace fathom
