// Philox4x32-10 (Salmon et al., SC'11): a counter-based generator. A draw is a pure function of (seed, stream, index),
// so initial weights, shuffles and samples do not depend on threads, ranks or the order in which they are asked for.
#pragma once

#include <array>
#include <cmath>
#include <cstdint>
#include <string_view>

namespace fathom {

/// The four 32-bit words of Philox4x32-10 for one 128-bit counter and one 64-bit key.
constexpr std::array<uint32_t, 4> philox(std::array<uint32_t, 4> counter, std::array<uint32_t, 2> key) {
  for (int round = 0; round < 10; ++round) {
    const uint64_t p0 = uint64_t{0xD2511F53u} * counter[0];
    const uint64_t p1 = uint64_t{0xCD9E8D57u} * counter[2];
    counter = {static_cast<uint32_t>(p1 >> 32) ^ counter[1] ^ key[0], static_cast<uint32_t>(p1),
               static_cast<uint32_t>(p0 >> 32) ^ counter[3] ^ key[1], static_cast<uint32_t>(p0)};
    key = {key[0] + 0x9E3779B9u, key[1] + 0xBB67AE85u};
  }
  return counter;
}

/// FNV-1a of a name: the stream id of a tensor.
constexpr uint64_t stream_of(std::string_view name) {
  uint64_t hash = 0xcbf29ce484222325u;
  for (char c : name) hash = (hash ^ static_cast<uint8_t>(c)) * 0x100000001b3u;
  return hash;
}

/// One named stream of random numbers; `at(i)` is random access.
class Rng {
 public:
  Rng(uint64_t seed, uint64_t stream)
      : key_{static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)}, stream_(stream) {}

  std::array<uint32_t, 4> at(uint64_t index) const {
    return philox({static_cast<uint32_t>(index), static_cast<uint32_t>(index >> 32), static_cast<uint32_t>(stream_),
                   static_cast<uint32_t>(stream_ >> 32)},
                  key_);
  }
  uint64_t u64(uint64_t index) const {
    const auto w = at(index);
    return uint64_t{w[0]} | uint64_t{w[1]} << 32;
  }
  /// Uniform in [0, 1) with 53 bits.
  double uniform(uint64_t index) const { return static_cast<double>(u64(index) >> 11) * 0x1.0p-53; }
  /// Standard normal (Box-Muller on the four words of one counter).
  double normal(uint64_t index) const {
    const auto w = at(index);
    const uint64_t a = uint64_t{w[0]} | uint64_t{w[1]} << 32;
    const uint64_t b = uint64_t{w[2]} | uint64_t{w[3]} << 32;
    const double u1 = (static_cast<double>(a >> 11) + 1.0) * 0x1.0p-53;
    const double u2 = static_cast<double>(b >> 11) * 0x1.0p-53;
    return std::sqrt(-2.0 * std::log(u1)) * std::cos(6.283185307179586 * u2);
  }
  /// Uniform integer in [0, bound), bound > 0.
  uint64_t below(uint64_t index, uint64_t bound) const {
    return static_cast<uint64_t>((static_cast<unsigned __int128>(u64(index)) * bound) >> 64);
  }

 private:
  std::array<uint32_t, 2> key_;
  uint64_t stream_;
};

/// A stream read in order: for generators of text and data.
class SequentialRng {
 public:
  SequentialRng(uint64_t seed, uint64_t stream) : rng_(seed, stream) {}
  uint64_t below(uint64_t bound) { return rng_.below(next_++, bound); }
  int64_t between(int64_t low, int64_t high) {
    return low + static_cast<int64_t>(below(static_cast<uint64_t>(high - low + 1)));
  }
  double uniform() { return rng_.uniform(next_++); }
  template <class Container>
  const auto& pick(const Container& options) {
    return options[below(options.size())];
  }

 private:
  Rng rng_;
  uint64_t next_ = 0;
};

}  // namespace fathom
