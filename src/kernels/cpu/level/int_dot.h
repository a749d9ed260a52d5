// Sums of products of bytes, exact in 32 bits. A `Quads` holds 4 k of 16 columns of a weight, made ready once and
// multiplied with the 4 codes of any number of rows. Weights arrive as value + 128 in unsigned bytes. Four ways:
//   vnni     vpdpbusd takes them as they are; the sum begins at -128 times the sum of the row's codes (kStartsOffset)
//   avx512   |w| times x with w's sign: pairs stay below 2^15 (127 * 127 * 2)
//   avx2     the same in two halves
//   others   plain loops
// Codes of fewer bits need no signs and no tables: bytes up to 63 are multiplied as they are, and where a level says
// kHasNarrowSums their products are gathered in 16 bits (`Pairs`) as long as they fit.
// For many rows avx2 leaves the sign out (kFlips): |w| times x with its bits flipped where w is negative, which is
// -x - 1, so that a sum lacks the |w| of those; they are added once for all rows. On AMD's Zen 3 vpsignb takes the
// multiplications' units.
// A sum begins at the bits of 1.5 * 2^23, so that it is, read as FP32, that number plus the sum of the products (below
// 2^20): a subtraction makes it a float, on other units than those that multiply.
#pragma once

#include "kernels/cpu/level/simd.h"

namespace fathom::cpu::FATHOM_LEVEL {

#if FATHOM_SIMD_BITS == 512

struct I32x16 {
  __m512i v;
};
struct U8x64 {
  __m512i v;
};
static inline U8x64 load_bytes(const uint8_t* p) { return {_mm512_loadu_si512(p)}; }
static inline void store_bytes(uint8_t* p, U8x64 a) { _mm512_storeu_si512(p, a.v); }
static inline I32x16 set1_i32(int32_t v) { return {_mm512_set1_epi32(v)}; }
static inline I32x16 add(I32x16 a, I32x16 b) { return {_mm512_add_epi32(a.v, b.v)}; }
static inline F32x16 as_f32(I32x16 a) { return {_mm512_castsi512_ps(a.v)}; }
/// A table of 16 bytes for codes in the low and in the high halves.
struct Table {
  __m512i v;
};
static inline Table table_of(const uint8_t* values) {
  return {_mm512_broadcast_i32x4(_mm_loadu_si128(reinterpret_cast<const __m128i*>(values)))};
}
static inline U8x64 low_nibbles(U8x64 a) { return {_mm512_and_si512(a.v, _mm512_set1_epi8(15))}; }
static inline U8x64 high_nibbles(U8x64 a) { return low_nibbles({_mm512_srli_epi16(a.v, 4)}); }
static inline U8x64 look_up(Table t, U8x64 nibbles) { return {_mm512_shuffle_epi8(t.v, nibbles.v)}; }
static inline __m512i broadcast_quad(const int8_t* x) {
  int32_t quad;
  __builtin_memcpy(&quad, x, sizeof(quad));
  return _mm512_set1_epi32(quad);
}
/// Whole numbers of a byte, stored as bytes.
static inline void store_i8(int8_t* p, F32x16 a) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtsepi32_epi8(_mm512_cvtps_epi32(a.v)));
}
static inline F32x16 scales_of_f16(const uint16_t* p) {
  return {_mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)))};
}
static inline F32x16 numbers_of_u8(const uint8_t* p) {
  return {_mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))))};
}
static inline F32x16 numbers_of_i8(const uint8_t* p) {
  return {_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))))};
}
/// low + 16 times the kWidth bits from bit `at` of each byte.
template <int kWidth>
static inline U8x64 add_high_bits(U8x64 low, U8x64 bits, int at) {
  const __m512i mask = _mm512_set1_epi8(((1 << kWidth) - 1) << 4);
  const __m512i moved = at <= 4 ? _mm512_sll_epi16(bits.v, _mm_cvtsi32_si128(4 - at))
                                : _mm512_srl_epi16(bits.v, _mm_cvtsi32_si128(at - 4));
  return {_mm512_ternarylogic_epi32(low.v, moved, mask, 0xF8)};  // low | (moved & mask)
}

#ifdef __AVX512VNNI__
constexpr bool kStartsOffset = true, kHasNarrowSums = false;
using Quads = U8x64;
static inline Quads quads_of(U8x64 w) { return w; }
static inline I32x16 dot(I32x16 acc, Quads w, const int8_t* x) {
  return {_mm512_dpbusd_epi32(acc.v, w.v, broadcast_quad(x))};
}
using Pairs = I32x16;
static inline Pairs no_pairs() { return set1_i32(0); }
static inline I32x16 widened(Pairs p) { return p; }
#else
constexpr bool kStartsOffset = false, kHasNarrowSums = true;
struct Pairs {
  __m512i v;
};
static inline Pairs no_pairs() { return {_mm512_setzero_si512()}; }
static inline Pairs dot(Pairs acc, U8x64 w, const int8_t* x) {
  return {now(_mm512_add_epi16(acc.v, _mm512_maddubs_epi16(w.v, broadcast_quad(x))))};
}
static inline I32x16 widened(Pairs p) { return {_mm512_madd_epi16(p.v, _mm512_set1_epi16(1))}; }
struct Quads {
  __m512i magnitude;
  __mmask64 negative;
};
static inline Quads quads_of(U8x64 w) {
  const __m512i value = _mm512_xor_si512(w.v, _mm512_set1_epi8(static_cast<char>(0x80)));
  return {_mm512_abs_epi8(value), _mm512_movepi8_mask(value)};
}
static inline I32x16 dot(I32x16 acc, Quads w, const int8_t* x) {
  const __m512i quad = broadcast_quad(x);
  const __m512i sign = _mm512_mask_sub_epi8(quad, w.negative, _mm512_setzero_si512(), quad);
  const __m512i pairs = _mm512_maddubs_epi16(w.magnitude, sign);
  return {now(_mm512_add_epi32(acc.v, _mm512_madd_epi16(pairs, _mm512_set1_epi16(1))))};
}
#endif

#elif FATHOM_SIMD_BITS == 256

struct I32x16 {
  __m256i lo, hi;
};
struct U8x64 {
  __m256i lo, hi;
};
static inline U8x64 load_bytes(const uint8_t* p) {
  const auto* at = reinterpret_cast<const __m256i*>(p);
  return {_mm256_loadu_si256(at), _mm256_loadu_si256(at + 1)};
}
static inline void store_bytes(uint8_t* p, U8x64 a) {
  auto* at = reinterpret_cast<__m256i*>(p);
  _mm256_storeu_si256(at, a.lo);
  _mm256_storeu_si256(at + 1, a.hi);
}
static inline I32x16 set1_i32(int32_t v) { return {_mm256_set1_epi32(v), _mm256_set1_epi32(v)}; }
static inline I32x16 add(I32x16 a, I32x16 b) { return {_mm256_add_epi32(a.lo, b.lo), _mm256_add_epi32(a.hi, b.hi)}; }
static inline F32x16 as_f32(I32x16 a) { return {_mm256_castsi256_ps(a.lo), _mm256_castsi256_ps(a.hi)}; }
struct Table {
  __m256i v;
};
static inline Table table_of(const uint8_t* values) {
  return {_mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(values)))};
}
static inline U8x64 low_nibbles(U8x64 a) {
  const __m256i mask = _mm256_set1_epi8(15);
  return {_mm256_and_si256(a.lo, mask), _mm256_and_si256(a.hi, mask)};
}
static inline U8x64 high_nibbles(U8x64 a) {
  return low_nibbles({_mm256_srli_epi16(a.lo, 4), _mm256_srli_epi16(a.hi, 4)});
}
static inline U8x64 look_up(Table t, U8x64 nibbles) {
  return {_mm256_shuffle_epi8(t.v, nibbles.lo), _mm256_shuffle_epi8(t.v, nibbles.hi)};
}
static inline void store_i8(int8_t* p, F32x16 a) {
  const __m256i pairs = _mm256_packs_epi32(_mm256_cvtps_epi32(a.lo), _mm256_cvtps_epi32(a.hi));
  const __m256i ordered = _mm256_permute4x64_epi64(pairs, 0xD8);
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p),
                   _mm_packs_epi16(_mm256_castsi256_si128(ordered), _mm256_extracti128_si256(ordered, 1)));
}
static inline F32x16 scales_of_f16(const uint16_t* p) { return load_f16(p); }
static inline F32x16 numbers_of_u8(const uint8_t* p) {
  const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
  return {_mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(bytes)),
          _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_unpackhi_epi64(bytes, bytes)))};
}
static inline F32x16 numbers_of_i8(const uint8_t* p) {
  const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
  return {_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(bytes)),
          _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_unpackhi_epi64(bytes, bytes)))};
}
/// low + 16 times the kWidth bits from bit `at` of each byte.
template <int kWidth>
static inline U8x64 add_high_bits(U8x64 low, U8x64 bits, int at) {
  const __m256i mask = _mm256_set1_epi8(((1 << kWidth) - 1) << 4);
  const auto moved = [&](__m256i v) {
    return _mm256_and_si256(at <= 4 ? _mm256_slli_epi16(v, 4 - at) : _mm256_srli_epi16(v, at - 4), mask);
  };
  return {_mm256_add_epi8(low.lo, moved(bits.lo)), _mm256_add_epi8(low.hi, moved(bits.hi))};
}

constexpr bool kStartsOffset = false, kHasNarrowSums = true;
struct Pairs {
  __m256i lo, hi;
};
static inline __m256i broadcast_quad(const int8_t* x) {
  int32_t bits;
  __builtin_memcpy(&bits, x, sizeof(bits));
  return _mm256_set1_epi32(bits);
}
static inline Pairs no_pairs() { return {_mm256_setzero_si256(), _mm256_setzero_si256()}; }
static inline Pairs dot(Pairs acc, U8x64 w, const int8_t* x) {
  const __m256i quad = broadcast_quad(x);
  return {now(_mm256_add_epi16(acc.lo, _mm256_maddubs_epi16(w.lo, quad))),
          now(_mm256_add_epi16(acc.hi, _mm256_maddubs_epi16(w.hi, quad)))};
}
static inline I32x16 widened(Pairs p) {
  const __m256i ones = _mm256_set1_epi16(1);
  return {_mm256_madd_epi16(p.lo, ones), _mm256_madd_epi16(p.hi, ones)};
}
struct Quads {
  __m256i value_lo, value_hi, magnitude_lo, magnitude_hi;
};
static inline Quads quads_of(U8x64 w) {
  const __m256i flip = _mm256_set1_epi8(static_cast<char>(0x80));
  const __m256i lo = _mm256_xor_si256(w.lo, flip), hi = _mm256_xor_si256(w.hi, flip);
  return {lo, hi, _mm256_abs_epi8(lo), _mm256_abs_epi8(hi)};
}
static inline __m256i dot(__m256i acc, __m256i value, __m256i magnitude, __m256i quad) {
  const __m256i pairs = _mm256_maddubs_epi16(magnitude, _mm256_sign_epi8(quad, value));
  return now(_mm256_add_epi32(acc, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1))));
}
static inline I32x16 dot(I32x16 acc, const Quads& w, const int8_t* x) {
  const __m256i quad = broadcast_quad(x);
  return {dot(acc.lo, w.value_lo, w.magnitude_lo, quad), dot(acc.hi, w.value_hi, w.magnitude_hi, quad)};
}

constexpr bool kFlips = true;
struct Flipped {
  __m256i magnitude_lo, magnitude_hi, negative_lo, negative_hi;
};
static inline Flipped flipped_of(U8x64 w) {
  const __m256i flip = _mm256_set1_epi8(static_cast<char>(0x80)), none = _mm256_setzero_si256();
  const __m256i lo = _mm256_xor_si256(w.lo, flip), hi = _mm256_xor_si256(w.hi, flip);
  return {_mm256_abs_epi8(lo), _mm256_abs_epi8(hi), _mm256_cmpgt_epi8(none, lo), _mm256_cmpgt_epi8(none, hi)};
}
static inline void store_flipped(uint8_t* p, const Flipped& w) {
  store_bytes(p, {w.magnitude_lo, w.magnitude_hi});
  store_bytes(p + 64, {w.negative_lo, w.negative_hi});
}
static inline Flipped load_flipped(const uint8_t* p) {
  const U8x64 magnitude = load_bytes(p), negative = load_bytes(p + 64);
  return {magnitude.lo, magnitude.hi, negative.lo, negative.hi};
}
/// Pairs stay within 16 bits: from -128 * 128 * 2 to 128 * 126 * 2.
static inline I32x16 dot(I32x16 acc, const Flipped& w, const int8_t* x) {
  const __m256i quad = broadcast_quad(x), ones = _mm256_set1_epi16(1);
  const __m256i lo = _mm256_maddubs_epi16(w.magnitude_lo, _mm256_xor_si256(quad, w.negative_lo));
  const __m256i hi = _mm256_maddubs_epi16(w.magnitude_hi, _mm256_xor_si256(quad, w.negative_hi));
  return {now(_mm256_add_epi32(acc.lo, _mm256_madd_epi16(lo, ones))),
          now(_mm256_add_epi32(acc.hi, _mm256_madd_epi16(hi, ones)))};
}
/// acc + the magnitudes of the negative weights.
static inline I32x16 add_negatives(I32x16 acc, const Flipped& w) {
  const __m256i bytes = _mm256_set1_epi8(1), pairs = _mm256_set1_epi16(1);
  const auto sum = [&](__m256i magnitude, __m256i negative) {
    return _mm256_madd_epi16(_mm256_maddubs_epi16(_mm256_and_si256(magnitude, negative), bytes), pairs);
  };
  return {_mm256_add_epi32(acc.lo, sum(w.magnitude_lo, w.negative_lo)),
          _mm256_add_epi32(acc.hi, sum(w.magnitude_hi, w.negative_hi))};
}
static inline I32x16 load_i32(const int32_t* p) {
  const auto* at = reinterpret_cast<const __m256i*>(p);
  return {_mm256_loadu_si256(at), _mm256_loadu_si256(at + 1)};
}
static inline void store_i32(int32_t* p, I32x16 a) {
  auto* at = reinterpret_cast<__m256i*>(p);
  _mm256_storeu_si256(at, a.lo);
  _mm256_storeu_si256(at + 1, a.hi);
}

#else

struct I32x16 {
  int32_t v[16];
};
struct U8x64 {
  uint8_t v[64];
};
static inline U8x64 load_bytes(const uint8_t* p) {
  U8x64 out;
  __builtin_memcpy(out.v, p, sizeof(out.v));
  return out;
}
static inline void store_bytes(uint8_t* p, U8x64 a) { __builtin_memcpy(p, a.v, sizeof(a.v)); }
static inline I32x16 set1_i32(int32_t v) {
  I32x16 out;
  for (int32_t& lane : out.v) lane = v;
  return out;
}
static inline I32x16 add(I32x16 a, I32x16 b) {
  for (int i = 0; i < 16; ++i) a.v[i] += b.v[i];
  return a;
}
static inline F32x16 as_f32(I32x16 a) {
  float out[16];
  __builtin_memcpy(out, a.v, sizeof(out));
  return load(out);
}
struct Table {
  const uint8_t* values;
};
static inline Table table_of(const uint8_t* values) { return {values}; }
static inline U8x64 low_nibbles(U8x64 a) {
  for (uint8_t& v : a.v) v &= 15;
  return a;
}
static inline U8x64 high_nibbles(U8x64 a) {
  for (uint8_t& v : a.v) v >>= 4;
  return a;
}
static inline U8x64 look_up(Table t, U8x64 nibbles) {
  for (uint8_t& v : nibbles.v) v = t.values[v];
  return nibbles;
}
static inline void store_i8(int8_t* p, F32x16 a) {
  float numbers[16];
  store(numbers, a);
  for (int i = 0; i < 16; ++i) p[i] = static_cast<int8_t>(numbers[i]);
}
static inline F32x16 scales_of_f16(const uint16_t* p) { return load_f16(p); }
static inline F32x16 numbers_of_u8(const uint8_t* p) {
  float numbers[16];
  for (int i = 0; i < 16; ++i) numbers[i] = p[i];
  return load(numbers);
}
static inline F32x16 numbers_of_i8(const uint8_t* p) {
  float numbers[16];
  for (int i = 0; i < 16; ++i) numbers[i] = static_cast<int8_t>(p[i]);
  return load(numbers);
}
/// low + 16 times the kWidth bits from bit `at` of each byte.
template <int kWidth>
static inline U8x64 add_high_bits(U8x64 low, U8x64 bits, int at) {
  for (int i = 0; i < 64; ++i)
    low.v[i] = static_cast<uint8_t>(low.v[i] + ((bits.v[i] >> at & ((1 << kWidth) - 1)) << 4));
  return low;
}

constexpr bool kStartsOffset = false, kHasNarrowSums = false;
using Pairs = I32x16;
static inline Pairs no_pairs() { return set1_i32(0); }
static inline I32x16 widened(Pairs p) { return p; }
using Quads = U8x64;
static inline Quads quads_of(U8x64 w) { return w; }
static inline I32x16 dot(I32x16 acc, const Quads& w, const int8_t* x) {
  for (int n = 0; n < 16; ++n) {
    int32_t sum = 0;
    for (int i = 0; i < 4; ++i) sum += (w.v[4 * n + i] - 128) * x[i];
    acc.v[n] += sum;
  }
  return acc;
}

#endif

#if FATHOM_SIMD_BITS != 256
constexpr bool kFlips = false;
#endif

constexpr int32_t kStart = 0x4B400000;  // 1.5 * 2^23
/// What a sum that began at kStart has gathered. Exact.
static inline F32x16 gathered(I32x16 sum) { return sub(as_f32(sum), set1(0x1.8p23f)); }

}  // namespace fathom::cpu::FATHOM_LEVEL
