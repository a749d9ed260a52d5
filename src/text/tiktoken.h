// tiktoken.model: the tokenizer file of Kimi-K2 and Moonlight (one line per token: its bytes in base64 and its rank,
// which is also its id), read into a TokenizerSpec together with the special tokens of tokenizer_config.json.
#pragma once

#include <string_view>

#include "base/result.h"
#include "text/tokenizer_spec.h"

namespace fathom {

/// The tokenizer of a ranks file. tiktoken merges the neighbours whose joined bytes have the lowest rank, so every
/// split of a token into two tokens is a merge with the token's own rank, and a whole piece that is a token is taken as
/// it is. `config` is the text of tokenizer_config.json: its added_tokens_decoder names the special tokens. The split
/// pattern is Kimi's (kimi_split_patterns), which is not in either file. Errors name the line, or the added token: no
/// base64, an empty token, a token or rank twice, a rank that is no id, a token of more than 512 bytes, an option of
/// an added token that is not run (lstrip, rstrip, single_word).
Result<TokenizerSpec> spec_from_tiktoken(std::string_view ranks, std::string_view ranks_where, std::string_view config,
                                         std::string_view config_where);

}  // namespace fathom
