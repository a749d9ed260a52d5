// Permutation: a keyed bijection of [0, size) that needs no table: a Feistel network on the next power of four, walked
// until it lands inside (Black and Rogaway, 2002). It lets the order of an epoch be a function of the sample index.
#pragma once

#include <cstdint>

namespace fathom {

class Permutation {
 public:
  /// A permutation of [0, size), 1 <= size <= 2^62, chosen by (seed, stream).
  Permutation(uint64_t size, uint64_t seed, uint64_t stream);

  /// The image of `index` < size. Expected work: under four passes of six Philox rounds.
  uint64_t operator()(uint64_t index) const;

 private:
  uint64_t size_;
  uint64_t seed_;
  uint64_t stream_;
  int half_bits_ = 1;
};

}  // namespace fathom
