#include "tensor/storage.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "base/numa.h"

namespace fathom {

void Storage::Free::operator()(std::byte* p) const { std::free(p); }

Storage::Storage(int64_t num_bytes) {
  *this = uninitialized(num_bytes);
  std::memset(data_.get(), 0, static_cast<size_t>(num_bytes));
}

Storage Storage::uninitialized(int64_t num_bytes) {
  constexpr int64_t kHugePage = int64_t{2} << 20;
  const int64_t alignment = num_bytes >= kHugePage ? kHugePage : 64;
  const int64_t rounded = std::max(alignment, (num_bytes + alignment - 1) / alignment * alignment);
  Storage out;
  out.num_bytes_ = num_bytes;
  out.data_.reset(
      static_cast<std::byte*>(std::aligned_alloc(static_cast<size_t>(alignment), static_cast<size_t>(rounded))));
  if (out.data_ == nullptr) out_of_memory(num_bytes);
  // Advice only: without huge pages the memory works the same.
  if (alignment == kHugePage) ::madvise(out.data_.get(), static_cast<size_t>(rounded), MADV_HUGEPAGE);
  // So large that the allocator maps it by itself: the policy goes when the memory does.
  constexpr int64_t kMapped = int64_t{64} << 20;
  if (num_bytes >= kMapped) spread_over_nodes(out.data_.get(), rounded);
  return out;
}

Storage Storage::for_tensor(DType dtype, std::initializer_list<int64_t> extents, Tensor* tensor) {
  *tensor = Tensor::contiguous(nullptr, dtype, extents);
  Storage storage(tensor->num_bytes());
  tensor->data = storage.data();
  return storage;
}

}  // namespace fathom
