// Fuzz target: any bytes are either refused or a shard whose every document and token can be read. The checksums are
// filled in first, because no fuzzer finds them by chance.
#include "train/shard.h"

#include <cstring>
#include <string>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::string bytes(reinterpret_cast<const char*>(data), size);
  if (bytes.size() >= 128) {
    const uint64_t payload = fathom::content_hash(std::string_view(bytes).substr(128));
    std::memcpy(bytes.data() + 56, &payload, sizeof payload);
    const uint64_t header = fathom::content_hash(std::string_view(bytes).substr(0, 64));
    std::memcpy(bytes.data() + 64, &header, sizeof header);
  }
  const auto shard = fathom::Shard::parse(std::as_bytes(std::span(bytes.data(), bytes.size())), "fuzz");
  if (!shard) return 0;
  int64_t next = 0;
  for (int64_t d = 0; d < shard->info().num_documents; ++d) {
    if (shard->document_begin(d) != next || shard->document_end(d) <= next) __builtin_trap();
    for (; next < shard->document_end(d); ++next) {
      const int32_t token = shard->token(next);
      if (token < 0 || token >= shard->info().vocab_size || shard->document_of(next) != d) __builtin_trap();
      shard->in_loss(next);
    }
  }
  if (next != shard->info().num_tokens) __builtin_trap();
  return 0;
}
