// Fuzzes the safetensors reader: whatever the bytes, it reports an error or tensors that lie inside them.
#include "checkpoint/safetensors.h"

#include <cstdint>

#include "base/check.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto* bytes = reinterpret_cast<const std::byte*>(data);
  const auto content = fathom::parse_safetensors({bytes, size}, "fuzz");
  if (!content) {
    fathom::check(content.error().text.starts_with("fuzz: "), "an error names its source");
    return 0;
  }
  const std::byte* end = bytes;
  for (const fathom::StoredTensor& t : content->tensors) {
    const auto wanted = fathom::tensor_bytes(t.dtype, t.shape);
    fathom::check(wanted && *wanted == static_cast<int64_t>(t.bytes.size()), "a tensor has the bytes of its shape");
    fathom::check(t.bytes.data() >= end && t.bytes.data() + t.bytes.size() <= bytes + size, "tensors are disjoint");
    end = t.bytes.data() + t.bytes.size();
  }
  fathom::check(content->tensors.empty() || end == bytes + size, "tensors cover the data");
  return 0;
}
