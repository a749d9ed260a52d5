// tokenizer.json: the Hugging Face file of a byte-level BPE tokenizer, read into a TokenizerSpec and written from one.
// Reading is strict: a key or value that would change the ids and that we do not run is an error, never ignored.
#pragma once

#include <string>
#include <string_view>

#include "base/result.h"
#include "text/tokenizer_spec.h"

namespace fathom {

/// Reads the text of a tokenizer.json. `where` names it in errors ("DIR/tokenizer.json").
/// Accepted: model BPE over the byte-level alphabet with merges as "a b" or ["a", "b"]; no normalizer; a ByteLevel
/// pre-tokenizer, alone or as the end of a Sequence of Split {Regex, Isolated}; a ByteLevel decoder; a post-processor
/// that adds nothing or whose additions (BOS) are the caller's business. Errors name the key, its value and what is
/// accepted. The tables themselves (ids, merges, patterns) are judged by Tokenizer::create.
Result<TokenizerSpec> spec_from_tokenizer_json(std::string_view text, std::string_view where);

/// The tokenizer.json (version "1.0") of a spec that Tokenizer::create accepts. Added tokens are in the vocabulary too,
/// so that Hugging Face tokenizers gives them the same ids.
std::string to_tokenizer_json(const TokenizerSpec& spec);

/// The vocabulary entry of a token that a file writes as `text`: its bytes if all characters are of the byte-level
/// alphabet, otherwise a literal.
VocabEntry vocab_entry(std::string_view text, int32_t id);

}  // namespace fathom
