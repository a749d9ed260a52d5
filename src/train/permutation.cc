// The Feistel network behind Permutation; Philox is its round function.
#include "train/permutation.h"

#include "base/check.h"
#include "base/rng.h"

namespace fathom {

Permutation::Permutation(uint64_t size, uint64_t seed, uint64_t stream) : size_(size), seed_(seed), stream_(stream) {
  check(size >= 1 && size <= uint64_t{1} << 62, "a permutation has 1 to 2^62 elements");
  while ((uint64_t{1} << (2 * half_bits_)) < size) ++half_bits_;
}

uint64_t Permutation::operator()(uint64_t index) const {
  check(index < size_, "the index is inside the permutation");
  const uint64_t mask = (uint64_t{1} << half_bits_) - 1;
  const std::array<uint32_t, 2> key{static_cast<uint32_t>(seed_), static_cast<uint32_t>(seed_ >> 32)};
  uint64_t value = index;
  do {  // ends: the walk follows a cycle of the larger permutation, and `index` itself lies inside
    uint64_t left = value >> half_bits_, right = value & mask;
    for (uint32_t round = 0; round < 6; ++round) {
      const auto words = philox(
          {static_cast<uint32_t>(right), round, static_cast<uint32_t>(stream_), static_cast<uint32_t>(stream_ >> 32)},
          key);
      const uint64_t mixed = left ^ (words[0] & mask);
      left = right;
      right = mixed;
    }
    value = left << half_bits_ | right;
  } while (value >= size_);
  return value;
}

}  // namespace fathom
