// Pack: text files to token shards (`fathom data pack`). Reads documents, splits off validation data, renders chats,
// encodes, and writes with train/shard.h. The tokenizer comes in as functions.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string_view>
#include <vector>

#include "base/file.h"
#include "base/progress.h"
#include "base/result.h"
#include "train/document.h"
#include "train/shard.h"

namespace fathom {

using Encoder = std::function<Result<std::vector<int32_t>>(std::string_view)>;
using ChatRenderer = std::function<Result<std::vector<ChatSegment>>(const std::vector<Message>&)>;

struct PackOptions {
  /// Ordinary text: special tokens spelled out in it must stay text.
  Encoder encode;
  /// What the chat template adds: special tokens are recognised.
  Encoder encode_markup;
  ChatRenderer render = deepseek_v3_segments;
  int32_t bos_id = 0;
  int32_t eos_id = 1;
  int64_t vocab_size = 0;
  uint64_t tokenizer_hash = 0;
  /// The last part of every file, by bytes, that goes to the validation shard; in [0, 0.5].
  double val_fraction = 0.05;
  /// true: train only on what the assistant says (and all of plain documents); writes loss masks.
  bool assistant_loss_only = false;
};

struct PackReport {
  ShardInfo train;
  ShardInfo validation;  // all zero when val_fraction is 0
};

/// Packs `inputs` into a training and a validation shard (`val_path` is not touched when val_fraction is 0).
///   .txt    documents separated by lines "<|endoftext|>"; line breaks at both ends of a document are dropped
///   .jsonl  one document per line, see document.h; blank lines are skipped
/// Every document becomes BOS, its tokens, EOS (a chat that ends in EOS gets no second one). The split is at the first
/// line that starts in the last val_fraction of a file; a .txt file moves it on to the next document's start if that
/// comes within a fifth of the validation part, else the document continues as a new one in the validation shard.
/// Errors name the file and line: unreadable, other endings, malformed lines, encoder errors, nothing left to write.
Result<PackReport> pack_files(std::span<const Path> inputs, const Path& train_path, const Path& val_path,
                              const PackOptions& options, Progress& progress);

/// Where the validation part of a .txt file begins: a line start, text.size() if there is none.
size_t validation_cut(std::string_view text, double val_fraction);

/// The documents of a .txt file, without the separators and without empty ones.
std::vector<std::string_view> split_documents(std::string_view text);

}  // namespace fathom
