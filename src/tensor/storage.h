// Storage: owning, aligned, zero-initialised memory for tensors. The only owner besides arenas and memory maps.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <memory>

#include "tensor/tensor.h"

namespace fathom {

class Storage {
 public:
  Storage() = default;
  /// Zeroed memory; large blocks are aligned to, and ask for, huge pages, and lie on all NUMA nodes in turn.
  explicit Storage(int64_t num_bytes);
  /// The same with whatever was there: for memory that is written before it is read, by the threads that will use it.
  static Storage uninitialized(int64_t num_bytes);
  static Storage for_tensor(DType dtype, std::initializer_list<int64_t> extents, Tensor* tensor);

  void* data() const { return data_.get(); }
  int64_t num_bytes() const { return num_bytes_; }

 private:
  struct Free {
    void operator()(std::byte* p) const;
  };
  std::unique_ptr<std::byte, Free> data_;
  int64_t num_bytes_ = 0;
};

}  // namespace fathom
