#include "base/arena.h"

#include <algorithm>
#include <cstdlib>

#include "base/check.h"

namespace fathom {

void Arena::Free::operator()(std::byte* p) const { std::free(p); }

void* Arena::allocate(size_t bytes) {
  bytes = (bytes + kAlignment - 1) / kAlignment * kAlignment;
  while (current_ < chunks_.size()) {
    Chunk& chunk = chunks_[current_];
    if (used_ + bytes <= chunk.bytes) {
      void* out = chunk.data.get() + used_;
      used_ += bytes;
      return out;
    }
    ++current_;
    used_ = 0;
  }
  const size_t chunk_bytes = std::max(bytes, next_chunk_bytes_);
  auto* data = static_cast<std::byte*>(std::aligned_alloc(kAlignment, chunk_bytes));
  if (data == nullptr) out_of_memory(static_cast<int64_t>(chunk_bytes));
  chunks_.push_back({std::unique_ptr<std::byte, Free>(data), chunk_bytes});
  next_chunk_bytes_ = std::max(next_chunk_bytes_, chunk_bytes) * 2;
  current_ = chunks_.size() - 1;
  used_ = bytes;
  return data;
}

size_t Arena::capacity_bytes() const {
  size_t total = 0;
  for (const Chunk& chunk : chunks_) total += chunk.bytes;
  return total;
}

}  // namespace fathom
