// The tokenizer that a GGUF file carries (metadata tokenizer.ggml.*), read into a TokenizerSpec.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "text/tokenizer_spec.h"

namespace fathom {

/// The values of tokenizer.ggml.*, by the last part of their keys. Texts are the file's, unchecked.
struct GgmlVocab {
  std::string_view model;                // "gpt2": byte-level BPE
  std::string_view pre;                  // names the split patterns
  std::vector<std::string_view> tokens;  // by id, in the byte-level alphabet
  std::vector<int64_t> token_type;       // 1 normal, 3 control, 4 user-defined, 5 unused; empty: all normal
  std::vector<std::string_view> merges;  // "a b" by rank
};

/// The tokenizer of these values. Control tokens become special added tokens, user-defined ones added tokens, unused
/// ones no tokens. `where` begins errors: a model other than gpt2; an unknown `pre` (its patterns would be a guess);
/// lists that do not fit; a merge of tokens that are not there. Ids, merges and patterns are judged by
/// Tokenizer::create.
Result<TokenizerSpec> spec_from_ggml_vocab(const GgmlVocab& vocab, std::string_view where);

}  // namespace fathom
