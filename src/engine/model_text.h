// What turns text into token ids and back for a model, wherever the model keeps it: tokenizer.json, tiktoken.model or
// GGUF metadata; chat_template.jinja, tokenizer_config.json or GGUF metadata.
#pragma once

#include "base/file.h"
#include "base/result.h"
#include "text/chat_template.h"
#include "text/tokenizer.h"

namespace fathom {

/// The tokenizer of a model: of a GGUF file (see find_gguf), else DIR/tokenizer.json, else DIR/tiktoken.model with
/// DIR/tokenizer_config.json. Errors: none of them; those of the reader and of Tokenizer::create, after the file's
/// name.
Result<Tokenizer> load_tokenizer(const Path& model);

/// The chat format of a model: tokenizer.chat_template of a GGUF file with the texts of its BOS and EOS, else
/// load_chat_format. kNotFound when the model has no template.
Result<ChatFormat> load_model_chat_format(const Path& model);

/// The file that the tokenizer of a model comes from, for messages.
Path tokenizer_path(const Path& model);

}  // namespace fathom
