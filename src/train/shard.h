// Shard: a file of tokenised documents, packed end to end. Written once by `data pack`, then only memory-mapped. Little
// endian; everything a reader needs to refuse the wrong file is in the header.
//
//   offset  type  field
//   0       u8x8  magic "FTHMSHRD"
//   8       u32   version = 1
//   12      u32   bytes per token: 2 when vocab_size <= 65536, else 4
//   16      u32   vocab_size
//   20      u32   flags: bit 0 = a loss mask follows
//   24      u64   num_tokens
//   32      u64   num_documents
//   40      u64   text_bytes: UTF-8 bytes that the tokens stand for (for bits per byte)
//   48      u64   tokenizer_hash: XXH3-64 of the tokenizer file
//   56      u64   XXH3-64 of everything from offset 128 on
//   64      u64   XXH3-64 of bytes 0..63
//   72      zeros to 128
//   128     tokens, zero-padded to a multiple of 8 bytes
//   ...     u64 start of each document, strictly increasing from 0
//   ...     u64 words of the loss mask, bit i % 64 of word i / 64 for token i (only with flag 0)
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/file.h"
#include "base/result.h"

namespace fathom {

/// XXH3-64 of some bytes: how a shard names the tokenizer (the bytes of tokenizer.json) that made it.
uint64_t content_hash(std::string_view bytes);

struct ShardInfo {
  int64_t vocab_size = 0;
  int64_t num_tokens = 0;
  int64_t num_documents = 0;
  int64_t text_bytes = 0;
  uint64_t tokenizer_hash = 0;
  bool has_loss_mask = false;
  uint64_t payload_hash = 0;  // XXH3-64 of tokens, documents and mask; 0 until written
};

/// Collects documents in memory (4 bytes per token) and writes them as one shard.
class ShardWriter {
 public:
  ShardWriter(int64_t vocab_size, uint64_t tokenizer_hash, bool with_loss_mask);

  /// Appends a document of at least one token. `in_loss` has one entry per token (0 = not trained on), or is empty: all
  /// are trained on. Error if an id lies outside [0, vocab_size); then nothing was added.
  Status add_document(std::span<const int32_t> tokens, std::span<const uint8_t> in_loss, int64_t text_bytes);

  const ShardInfo& info() const { return info_; }

  /// Writes the shard beside `path`; it appears there with the file's commit(). Error if it has no documents.
  Result<AtomicFile> write_aside(const Path& path) const;
  /// Writes the shard, whole or not at all. Error if it has no documents.
  Status write(const Path& path) const;

 private:
  ShardInfo info_;
  std::vector<uint32_t> tokens_;
  std::vector<uint64_t> starts_;
  std::vector<uint64_t> mask_;
};

/// A memory-mapped shard. Cheap to copy. Token and document indexes must be in range (the caller's duty).
class Shard {
 public:
  /// Maps and verifies a shard: sizes, both checksums, the document list, every token id. Errors name the file.
  static Result<Shard> open(const Path& path);

  /// The same on bytes that outlive the shard; `name` names them in errors.
  static Result<Shard> parse(std::span<const std::byte> bytes, std::string_view name);

  const ShardInfo& info() const { return info_; }
  int32_t token(int64_t i) const;
  /// True when token i may be a target.
  bool in_loss(int64_t i) const;
  int64_t document_begin(int64_t document) const;
  int64_t document_end(int64_t document) const;
  /// The document that token i belongs to.
  int64_t document_of(int64_t i) const;

 private:
  uint64_t u64(size_t offset) const;

  ShardInfo info_;
  std::span<const std::byte> bytes_;
  std::optional<MappedFile> file_;
  size_t token_bytes_ = 0;
  size_t starts_offset_ = 0;
  size_t mask_offset_ = 0;
};

}  // namespace fathom
