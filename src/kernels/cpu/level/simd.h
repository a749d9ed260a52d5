// F32x16, the vector all loops of the cpu back end are written in: 16 FP32 lanes at every level, always in the same
// order, always reduced by the same tree (lanes l and l + 8, then + 4, + 2, + 1), with every fused multiply-add written
// out. So FP32 results are the same bits on every level. FATHOM_LEVEL names the level's namespace, FATHOM_SIMD_BITS its
// registers; both come from the build (src/CMakeLists.txt).
#pragma once

#if FATHOM_SIMD_BITS == 512
#include "kernels/cpu/level/simd_avx512.h"
#elif FATHOM_SIMD_BITS == 256
#include "kernels/cpu/level/simd_avx2.h"
#elif FATHOM_SIMD_BITS == 128
#include "kernels/cpu/level/simd_neon.h"
#else
#include "kernels/cpu/level/simd_generic.h"
#endif

namespace fathom::cpu::FATHOM_LEVEL {

constexpr int64_t kLanes = 16;

static inline int64_t min_of(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t max_of(int64_t a, int64_t b) { return a > b ? a : b; }
static inline int64_t round_up(int64_t n, int64_t multiple) { return (n + multiple - 1) / multiple * multiple; }

/// A number that is known at compile time.
template <int kValue>
struct Count {
  static constexpr int value = kValue;
};

static inline float bf16_to_float(uint16_t bits) {
  return __builtin_bit_cast(float, static_cast<uint32_t>(bits) << 16);
}

// GCC keeps what it may use again in registers and, where those run out, sums in memory; it also puts off the additions
// of an unrolled loop to its end, with every product in memory until then. Where that was measured, loops say
// otherwise: `now` has a value here, in a register; `again` is the same value, of which the compiler does not know
// that.
#if FATHOM_SIMD_BITS == 512
static inline __m512i now(__m512i sum) {
  __asm__("" : "+v"(sum));
  return sum;
}
#elif FATHOM_SIMD_BITS == 256
static inline __m256i now(__m256i sum) {
  __asm__("" : "+x"(sum));
  return sum;
}
static inline F32x16 now(F32x16 sum) {
  __asm__("" : "+x"(sum.lo), "+x"(sum.hi));
  return sum;
}
static inline const uint16_t* again(const uint16_t* at) {
  __asm__ volatile("" : "+r"(at));
  return at;
}
static inline __m256i again(__m256i value) {
  __asm__ volatile("" : "+x"(value));
  return value;
}
#endif
#if FATHOM_SIMD_BITS != 256  // registers enough
static inline F32x16 now(F32x16 sum) { return sum; }
static inline const uint16_t* again(const uint16_t* at) { return at; }
#endif

/// e^x within 2 ulp: x = n ln 2 + r, |r| <= ln 2 / 2, the Taylor polynomial of degree 7 in r (its remainder is below
/// 6e-9), times 2^n. 0 below -87.33 (where FP32 becomes subnormal), infinity above 88.3, NaN for NaN, exactly 1 for 0.
static inline F32x16 exp(F32x16 x) {
  const F32x16 low = set1(-87.33f), high = set1(88.3f), shift = set1(0x1.8p23f);
  const F32x16 t = fma(x, set1(0x1.715476p+0f), shift);  // n in the low bits
  const F32x16 n = sub(t, shift);
  F32x16 r = fma(n, set1(-0x1.62e430p-1f), x);
  r = fma(n, set1(0x1.05c610p-29f), r);
  F32x16 p = set1(1.0f / 5040);
  p = fma(p, r, set1(1.0f / 720));
  p = fma(p, r, set1(1.0f / 120));
  p = fma(p, r, set1(1.0f / 24));
  p = fma(p, r, set1(1.0f / 6));
  p = fma(p, r, set1(0.5f));
  p = fma(p, r, set1(1.0f));
  p = fma(p, r, set1(1.0f));
  p = mul(p, pow2_of_shifted(t));
  p = select(less(x, low), zero(), p);
  return select(less(high, x), set1(__builtin_inff()), p);
}

static inline F32x16 sigmoid(F32x16 z) { return div(set1(1), add(set1(1), exp(sub(zero(), z)))); }

/// Calls body(i, n) for the vectors of [0, count): i = 0, 16, ...; n = 16, at the end what is left.
template <class Body>
static inline void each_vector(int64_t count, Body body) {
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) body(i, kLanes);
  if (i < count) body(i, count - i);
}

static inline F32x16 load_n(const float* p, int64_t n) { return n == kLanes ? load(p) : load_partial(p, n); }
static inline void store_n(float* p, F32x16 a, int64_t n) {
  if (n == kLanes) {
    store(p, a);
  } else {
    store_partial(p, a, n);
  }
}
static inline F32x16 load_bf16_n(const uint16_t* p, int64_t n) {
  return n == kLanes ? load_bf16(p) : load_bf16_partial(p, n);
}
static inline void store_bf16_n(uint16_t* p, F32x16 a, int64_t n) {
  if (n == kLanes) {
    store_bf16(p, a);
  } else {
    store_bf16_partial(p, a, n);
  }
}

}  // namespace fathom::cpu::FATHOM_LEVEL
