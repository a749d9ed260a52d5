// Writing and verifying token shards; the layout is in shard.h.
#include "train/shard.h"

#include <xxhash.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <limits>
#include <utility>

#include "base/check.h"

namespace fathom {
namespace {

static_assert(std::endian::native == std::endian::little, "shards are mapped as they are: little endian");

constexpr std::string_view kMagic = "FTHMSHRD";
constexpr uint32_t kVersion = 1;
constexpr uint32_t kFlagLossMask = 1;
constexpr size_t kHeaderBytes = 128;
constexpr size_t kHashedHeaderBytes = 64;
constexpr int64_t kMaxVocab = int64_t{1} << 24;

constexpr size_t round_up_8(size_t n) { return (n + 7) / 8 * 8; }

uint32_t token_width(int64_t vocab_size) { return vocab_size <= 65536 ? 2 : 4; }

template <class T>
void put(std::string& out, T value) {
  out.append(reinterpret_cast<const char*>(&value), sizeof value);
}

template <class T>
T get(std::span<const std::byte> bytes, size_t offset) {
  T value;
  std::memcpy(&value, bytes.data() + offset, sizeof value);
  return value;
}

// The payload passes twice: once through the hash that the header in front of it carries, once into the file.
template <class Sink>
Status for_each_payload_block(std::span<const uint32_t> tokens, uint32_t width, std::span<const uint64_t> starts,
                              std::span<const uint64_t> mask, Sink&& sink) {
  constexpr size_t kBlockTokens = size_t{1} << 18;  // a multiple of 4, so only the last block needs padding
  std::string block;
  for (size_t begin = 0; begin < tokens.size(); begin += kBlockTokens) {
    block.clear();
    for (uint32_t token : tokens.subspan(begin, std::min(kBlockTokens, tokens.size() - begin))) {
      if (width == 2) {
        put(block, static_cast<uint16_t>(token));
      } else {
        put(block, token);
      }
    }
    block.resize(round_up_8(block.size()), '\0');
    if (Status status = sink(block.data(), block.size()); !status) return status;
  }
  if (Status status = sink(starts.data(), starts.size_bytes()); !status) return status;
  return mask.empty() ? Status() : sink(mask.data(), mask.size_bytes());
}

std::string header_text(const ShardInfo& info, uint64_t payload_hash) {
  std::string header(kMagic);
  put(header, kVersion);
  put(header, token_width(info.vocab_size));
  put(header, static_cast<uint32_t>(info.vocab_size));
  put(header, info.has_loss_mask ? kFlagLossMask : 0u);
  put(header, static_cast<uint64_t>(info.num_tokens));
  put(header, static_cast<uint64_t>(info.num_documents));
  put(header, static_cast<uint64_t>(info.text_bytes));
  put(header, info.tokenizer_hash);
  put(header, payload_hash);
  check(header.size() == kHashedHeaderBytes, "the hashed header has the documented size");
  put(header, content_hash(header));
  header.resize(kHeaderBytes, '\0');
  return header;
}

}  // namespace

uint64_t content_hash(std::string_view bytes) { return XXH3_64bits(bytes.data(), bytes.size()); }

ShardWriter::ShardWriter(int64_t vocab_size, uint64_t tokenizer_hash, bool with_loss_mask) {
  check(vocab_size >= 1 && vocab_size <= kMaxVocab, "a vocabulary has 1 to 2^24 tokens");
  info_.vocab_size = vocab_size;
  info_.tokenizer_hash = tokenizer_hash;
  info_.has_loss_mask = with_loss_mask;
}

Status ShardWriter::add_document(std::span<const int32_t> tokens, std::span<const uint8_t> in_loss,
                                 int64_t text_bytes) {
  check(!tokens.empty() && text_bytes >= 0, "a document has tokens and a size");
  check(in_loss.empty() || in_loss.size() == tokens.size(), "the loss mask has one entry per token");
  for (int32_t token : tokens) {
    if (token < 0 || token >= info_.vocab_size) {
      return invalid("token id " + std::to_string(token) + " is outside the vocabulary of " +
                     std::to_string(info_.vocab_size) +
                     ": the tokenizer and the vocabulary size do not belong together");
    }
  }
  starts_.push_back(tokens_.size());
  for (size_t i = 0; i < tokens.size(); ++i) {
    if (info_.has_loss_mask) {
      if (tokens_.size() % 64 == 0) mask_.push_back(0);
      if (in_loss.empty() || in_loss[i] != 0) mask_.back() |= uint64_t{1} << (tokens_.size() % 64);
    }
    tokens_.push_back(static_cast<uint32_t>(tokens[i]));
  }
  info_.num_tokens = static_cast<int64_t>(tokens_.size());
  info_.num_documents = static_cast<int64_t>(starts_.size());
  info_.text_bytes += text_bytes;
  return {};
}

Result<AtomicFile> ShardWriter::write_aside(const Path& path) const {
  if (tokens_.empty()) return invalid(path.string() + ": a shard needs at least one document, and there are none");
  const uint32_t width = token_width(info_.vocab_size);
  XXH3_state_t* state = XXH3_createState();
  check(state != nullptr, "a hash state fits into memory");
  XXH3_64bits_reset(state);
  Status status = for_each_payload_block(tokens_, width, starts_, mask_, [&](const void* data, size_t size) {
    XXH3_64bits_update(state, data, size);
    return Status();
  });
  const uint64_t payload_hash = XXH3_64bits_digest(state);
  XXH3_freeState(state);
  if (!status) return status.error();

  auto file = AtomicFile::create(path);
  if (!file) return file.error();
  if (status = file->write(header_text(info_, payload_hash)); !status) return status.error();
  status = for_each_payload_block(tokens_, width, starts_, mask_,
                                  [&](const void* data, size_t size) { return file->write(data, size); });
  if (!status) return status.error();
  return file;
}

Status ShardWriter::write(const Path& path) const {
  auto file = write_aside(path);
  return file ? file->commit() : Status(file.error());
}

Result<Shard> Shard::open(const Path& path) {
  auto file = MappedFile::open(path);
  if (!file) return file.error();
  auto shard = parse(file->bytes(), path.string());
  if (shard) shard->file_ = *std::move(file);
  return shard;
}

Result<Shard> Shard::parse(std::span<const std::byte> bytes, std::string_view name) {
  const auto bad = [&](std::string_view text) { return corrupt(std::string(name) + ": " + std::string(text)); };
  if (bytes.size() < kHeaderBytes || std::memcmp(bytes.data(), kMagic.data(), kMagic.size()) != 0) {
    return bad("not a token shard (write one with `fathom data pack`)");
  }
  const uint32_t version = get<uint32_t>(bytes, 8);
  if (version != kVersion) {
    return unsupported(std::string(name) + ": shard version " + std::to_string(version) +
                       " (accepted: " + std::to_string(kVersion) + "); pack the data again");
  }
  if (get<uint64_t>(bytes, 64) != XXH3_64bits(bytes.data(), kHashedHeaderBytes)) {
    return bad("the header is damaged (checksum mismatch)");
  }
  const uint32_t width = get<uint32_t>(bytes, 12);
  const uint32_t vocab_size = get<uint32_t>(bytes, 16);
  const uint32_t flags = get<uint32_t>(bytes, 20);
  const uint64_t num_tokens = get<uint64_t>(bytes, 24);
  const uint64_t num_documents = get<uint64_t>(bytes, 32);
  const uint64_t text_bytes = get<uint64_t>(bytes, 40);
  const size_t payload_bytes = bytes.size() - kHeaderBytes;
  if (vocab_size == 0 || vocab_size > kMaxVocab || width != token_width(vocab_size) || (flags & ~kFlagLossMask) != 0 ||
      text_bytes > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) {
    return bad("the header contradicts itself");
  }
  // Counts are compared with the file's size before anything is multiplied, so that nothing can wrap around.
  if (num_tokens == 0 || num_tokens > payload_bytes / width || num_documents == 0 ||
      num_documents > payload_bytes / 8 || num_documents > num_tokens) {
    return bad("the file is shorter than its header says (cut off?)");
  }
  Shard shard;
  shard.bytes_ = bytes;
  shard.token_bytes_ = width;
  shard.starts_offset_ = kHeaderBytes + round_up_8(num_tokens * width);
  shard.mask_offset_ = shard.starts_offset_ + num_documents * 8;
  shard.info_ = {vocab_size,
                 static_cast<int64_t>(num_tokens),
                 static_cast<int64_t>(num_documents),
                 static_cast<int64_t>(text_bytes),
                 get<uint64_t>(bytes, 48),
                 (flags & kFlagLossMask) != 0,
                 get<uint64_t>(bytes, 56)};
  const size_t expected_bytes = shard.mask_offset_ + (shard.info_.has_loss_mask ? (num_tokens + 63) / 64 * 8 : 0);
  if (bytes.size() != expected_bytes) {
    return bad(std::to_string(bytes.size()) + " bytes where the header promises " + std::to_string(expected_bytes));
  }
  if (shard.info_.payload_hash != XXH3_64bits(bytes.data() + kHeaderBytes, payload_bytes)) {
    return bad("the tokens are damaged (checksum mismatch); pack the data again");
  }
  // A checksum stops accidents, not authors: ids index embedding rows, so they are checked too.
  for (int64_t i = 0; i < shard.info_.num_tokens; ++i) {
    const int32_t token = shard.token(i);
    if (token < 0 || token >= shard.info_.vocab_size)
      return bad("token " + std::to_string(i) + " is not in the vocabulary");
  }
  for (uint64_t d = 0; d < num_documents; ++d) {
    const uint64_t start = shard.u64(shard.starts_offset_ + 8 * d);
    const bool in_order = d == 0 ? start == 0 : start > shard.u64(shard.starts_offset_ + 8 * (d - 1));
    if (!in_order || start >= num_tokens) return bad("document " + std::to_string(d) + " starts at a wrong place");
  }
  return shard;
}

uint64_t Shard::u64(size_t offset) const { return get<uint64_t>(bytes_, offset); }

int32_t Shard::token(int64_t i) const {
  const size_t offset = kHeaderBytes + static_cast<size_t>(i) * token_bytes_;
  return token_bytes_ == 2 ? get<uint16_t>(bytes_, offset) : get<int32_t>(bytes_, offset);
}

bool Shard::in_loss(int64_t i) const {
  if (!info_.has_loss_mask) return true;
  return (u64(mask_offset_ + static_cast<size_t>(i / 64) * 8) >> (i % 64) & 1) != 0;
}

int64_t Shard::document_begin(int64_t document) const {
  return static_cast<int64_t>(u64(starts_offset_ + static_cast<size_t>(document) * 8));
}

int64_t Shard::document_end(int64_t document) const {
  return document + 1 == info_.num_documents ? info_.num_tokens : document_begin(document + 1);
}

int64_t Shard::document_of(int64_t i) const {
  int64_t low = 0, high = info_.num_documents;  // document_begin(low) <= i < document_begin(high)
  while (high - low > 1) {
    const int64_t middle = low + (high - low) / 2;
    (document_begin(middle) <= i ? low : high) = middle;
  }
  return low;
}

}  // namespace fathom
