// Memory with a page in front and a page behind that may not be touched: a read or a write beyond an operand, which a
// zone of known bytes would not see or see too late, stops the program at the instruction that does it.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstring>
#include <utility>

#include "base/check.h"

namespace fathom::testing {

/// Which neighbour of a block is a page that may not be touched. The block's other side, up to its own guard page, is
/// filled with a known byte, so that a write there is seen as well.
enum class Guarded { kEnd, kStart };

class GuardedMemory {
 public:
  GuardedMemory() = default;
  GuardedMemory(int64_t num_bytes, Guarded guarded) : num_bytes_(num_bytes), guarded_(guarded) {
    const int64_t page = sysconf(_SC_PAGESIZE);
    usable_ = (num_bytes + page - 1) / page * page;
    reserved_ = usable_ + 2 * page;
    void* const address =
        mmap(nullptr, static_cast<size_t>(reserved_), PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    check(address != MAP_FAILED, "no memory for an operand");
    begin_ = static_cast<uint8_t*>(address) + page;
    if (usable_ == 0) return;
    check(mprotect(begin_, static_cast<size_t>(usable_), PROT_READ | PROT_WRITE) == 0, "no memory for an operand");
    std::memset(rest(), kRest, static_cast<size_t>(usable_ - num_bytes_));
  }
  GuardedMemory(const GuardedMemory& other) : GuardedMemory(other.num_bytes_, other.guarded_) {
    if (num_bytes_ > 0) std::memcpy(data(), other.data(), static_cast<size_t>(num_bytes_));
  }
  GuardedMemory(GuardedMemory&& other) noexcept { swap(other); }
  GuardedMemory& operator=(GuardedMemory other) noexcept {
    swap(other);
    return *this;
  }
  ~GuardedMemory() {
    if (begin_ != nullptr) munmap(begin_ - (reserved_ - usable_) / 2, static_cast<size_t>(reserved_));
  }

  /// Sizes are multiples of an element's, so a block that ends at a page's end is aligned for its elements.
  uint8_t* data() const {
    return guarded_ == Guarded::kEnd && begin_ != nullptr ? begin_ + usable_ - num_bytes_ : begin_;
  }
  int64_t num_bytes() const { return num_bytes_; }
  /// The block's other side is as it was.
  bool rest_intact() const {
    for (int64_t i = 0; i < usable_ - num_bytes_; ++i) {
      if (rest()[i] != kRest) return false;
    }
    return true;
  }

 private:
  static constexpr uint8_t kRest = 0xA5;
  uint8_t* rest() const { return guarded_ == Guarded::kEnd ? begin_ : begin_ + num_bytes_; }
  void swap(GuardedMemory& other) {
    std::swap(begin_, other.begin_);
    std::swap(num_bytes_, other.num_bytes_);
    std::swap(usable_, other.usable_);
    std::swap(reserved_, other.reserved_);
    std::swap(guarded_, other.guarded_);
  }

  uint8_t* begin_ = nullptr;  // of the pages that may be touched
  int64_t num_bytes_ = 0, usable_ = 0, reserved_ = 0;
  Guarded guarded_ = Guarded::kEnd;
};

}  // namespace fathom::testing
