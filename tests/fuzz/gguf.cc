// Fuzzes the GGUF reader: whatever the bytes, it reports an error or tensors that lie inside them, disjoint and of the
// size that shape and type ask for, and metadata that every getter survives.
#include "checkpoint/gguf.h"

#include <cstdint>

#include "base/check.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace fathom;
  const auto* bytes = reinterpret_cast<const std::byte*>(data);
  const auto content = parse_gguf({bytes, size}, "fuzz");
  if (!content) {
    check(content.error().text.starts_with("fuzz: "), "an error names its source");
    return 0;
  }
  for (const auto& [key, value] : content->metadata.pairs()) {
    const GgufMetadata& m = content->metadata;
    const int accepted = m.integer(key).ok() + m.boolean(key).ok() + m.text(key).ok() + m.texts(key).ok();
    check(accepted <= 1, "a value is of one kind");
    (void)m.number(key).ok();
    (void)m.integers(key).ok();
  }
  const std::byte* end = bytes;
  for (const GgufTensor& t : content->tensors) {
    int64_t rows = 1;
    for (size_t d = 0; d + 1 < t.shape.size(); ++d) rows *= t.shape[d];
    check(t.row_bytes() * rows == static_cast<int64_t>(t.bytes.size()), "a tensor has the bytes of its shape");
    check(t.bytes.data() >= end && t.bytes.data() + t.bytes.size() <= bytes + size, "tensors are disjoint");
    end = t.bytes.data() + t.bytes.size();
    const GgmlTypeInfo& info = info_of(t.type);
    if (!info.decodable) continue;
    std::vector<float> out(static_cast<size_t>(info.block_length));
    decode_blocks(t.type, t.bytes.data(), 1, out.data());
  }
  return 0;
}
