// The 16-lane vector of the AVX2 level (with FMA and F16C): two registers.
#pragma once

#include <immintrin.h>

#include <cstdint>

namespace fathom::cpu::FATHOM_LEVEL {

struct F32x16 {
  __m256 lo, hi;
};
struct Mask16 {
  __m256 lo, hi;
};
struct F64x8 {
  __m256d lo, hi;
};
struct Bf16x32 {
  __m256i lo, hi;
};

/// All ones in the lanes below n (n may be negative or above 8).
static inline __m256i lanes_below(int64_t n) {
  const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(n)), lane);
}

static inline F32x16 zero() { return {_mm256_setzero_ps(), _mm256_setzero_ps()}; }
static inline F32x16 set1(float v) { return {_mm256_set1_ps(v), _mm256_set1_ps(v)}; }
static inline F32x16 load(const float* p) { return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
static inline F32x16 load_partial(const float* p, int64_t n) {
  return {_mm256_maskload_ps(p, lanes_below(n)),
          n > 8 ? _mm256_maskload_ps(p + 8, lanes_below(n - 8)) : _mm256_setzero_ps()};
}
static inline void store(float* p, F32x16 a) {
  _mm256_storeu_ps(p, a.lo);
  _mm256_storeu_ps(p + 8, a.hi);
}
static inline void store_partial(float* p, F32x16 a, int64_t n) {
  _mm256_maskstore_ps(p, lanes_below(n), a.lo);
  if (n > 8) _mm256_maskstore_ps(p + 8, lanes_below(n - 8), a.hi);
}

static inline F32x16 add(F32x16 a, F32x16 b) { return {_mm256_add_ps(a.lo, b.lo), _mm256_add_ps(a.hi, b.hi)}; }
static inline F32x16 sub(F32x16 a, F32x16 b) { return {_mm256_sub_ps(a.lo, b.lo), _mm256_sub_ps(a.hi, b.hi)}; }
static inline F32x16 mul(F32x16 a, F32x16 b) { return {_mm256_mul_ps(a.lo, b.lo), _mm256_mul_ps(a.hi, b.hi)}; }
static inline F32x16 div(F32x16 a, F32x16 b) { return {_mm256_div_ps(a.lo, b.lo), _mm256_div_ps(a.hi, b.hi)}; }
static inline F32x16 sqrt(F32x16 a) { return {_mm256_sqrt_ps(a.lo), _mm256_sqrt_ps(a.hi)}; }
static inline F32x16 fma(F32x16 a, F32x16 b, F32x16 c) {
  return {_mm256_fmadd_ps(a.lo, b.lo, c.lo), _mm256_fmadd_ps(a.hi, b.hi, c.hi)};
}
static inline F32x16 abs(F32x16 a) {
  const __m256 keep = _mm256_castsi256_ps(_mm256_set1_epi32(0x7FFFFFFF));
  return {_mm256_and_ps(a.lo, keep), _mm256_and_ps(a.hi, keep)};
}
/// a > b ? a : b, so b where either is NaN.
static inline F32x16 max(F32x16 a, F32x16 b) { return {_mm256_max_ps(a.lo, b.lo), _mm256_max_ps(a.hi, b.hi)}; }

static inline Mask16 less(F32x16 a, F32x16 b) {
  return {_mm256_cmp_ps(a.lo, b.lo, _CMP_LT_OQ), _mm256_cmp_ps(a.hi, b.hi, _CMP_LT_OQ)};
}
static inline Mask16 first_lanes(int64_t n) {
  return {_mm256_castsi256_ps(lanes_below(n)), _mm256_castsi256_ps(lanes_below(n - 8))};
}
static inline F32x16 select(Mask16 m, F32x16 yes, F32x16 no) {
  return {_mm256_blendv_ps(no.lo, yes.lo, m.lo), _mm256_blendv_ps(no.hi, yes.hi, m.hi)};
}

/// 2^n where t = n + 1.5 * 2^23: the low bits of t hold n.
static inline __m256 pow2_of_shifted(__m256 t) {
  const __m256i exponent = _mm256_slli_epi32(_mm256_castps_si256(t), 23);
  return _mm256_castsi256_ps(_mm256_add_epi32(exponent, _mm256_set1_epi32(0x3F800000)));
}
static inline F32x16 pow2_of_shifted(F32x16 t) { return {pow2_of_shifted(t.lo), pow2_of_shifted(t.hi)}; }

// Lane l of the first half with lane l + 8, then + 4, + 2, + 1.
static inline float reduce_add(F32x16 a) {
  const __m256 half = _mm256_add_ps(a.lo, a.hi);
  const __m128 quarter = _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
  const __m128 pair = _mm_add_ps(quarter, _mm_movehl_ps(quarter, quarter));
  return _mm_cvtss_f32(_mm_add_ss(pair, _mm_movehdup_ps(pair)));
}
static inline float reduce_max(F32x16 a) {
  const __m256 half = _mm256_max_ps(a.lo, a.hi);
  const __m128 quarter = _mm_max_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
  const __m128 pair = _mm_max_ps(quarter, _mm_movehl_ps(quarter, quarter));
  return _mm_cvtss_f32(_mm_max_ss(pair, _mm_movehdup_ps(pair)));
}

/// Lane i = the sum of a[i], i < 8: every step halves the lanes of two vectors and packs them.
static inline __m256 reduce8(const F32x16* a) {
  __m256 r[4], s[2];
  for (int i = 0; i < 4; ++i) {  // + 8, + 4
    const __m256 x = _mm256_add_ps(a[i].lo, a[i].hi), y = _mm256_add_ps(a[i + 4].lo, a[i + 4].hi);
    r[i] = _mm256_add_ps(_mm256_permute2f128_ps(x, y, 0x20), _mm256_permute2f128_ps(x, y, 0x31));
  }
  for (int i = 0; i < 2; ++i) {  // + 2
    s[i] = _mm256_add_ps(_mm256_blend_ps(r[i], r[i + 2], 0xCC), _mm256_shuffle_ps(r[i], r[i + 2], 0x4E));
  }
  const __m256 crossed = _mm256_blend_ps(s[1], s[0], 0xAA);  // + 1
  return _mm256_add_ps(_mm256_blend_ps(s[0], s[1], 0xAA), _mm256_permute_ps(crossed, 0xB1));
}
static inline F32x16 reduce16(const F32x16 (&a)[16]) { return {reduce8(a), reduce8(a + 8)}; }

static inline void transpose8(__m256 (&a)[8]) {
  __m256 t[8], u[8];
  for (int i = 0; i < 8; i += 2) {
    t[i] = _mm256_unpacklo_ps(a[i], a[i + 1]);
    t[i + 1] = _mm256_unpackhi_ps(a[i], a[i + 1]);
  }
  for (int i = 0; i < 8; i += 4) {
    u[i] = _mm256_shuffle_ps(t[i], t[i + 2], 0x44);
    u[i + 1] = _mm256_shuffle_ps(t[i], t[i + 2], 0xEE);
    u[i + 2] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0x44);
    u[i + 3] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0xEE);
  }
  for (int i = 0; i < 4; ++i) {
    a[i] = _mm256_permute2f128_ps(u[i], u[i + 4], 0x20);
    a[i + 4] = _mm256_permute2f128_ps(u[i], u[i + 4], 0x31);
  }
}
static inline void transpose16(F32x16 (&a)[16]) {
  __m256 block[2][2][8];
  for (int i = 0; i < 8; ++i) {
    block[0][0][i] = a[i].lo;
    block[0][1][i] = a[i].hi;
    block[1][0][i] = a[i + 8].lo;
    block[1][1][i] = a[i + 8].hi;
  }
  for (auto& row : block) {
    for (auto& one : row) transpose8(one);
  }
  for (int i = 0; i < 8; ++i) {
    a[i] = {block[0][0][i], block[1][0][i]};
    a[i + 8] = {block[0][1][i], block[1][1][i]};
  }
}

static inline F32x16 swap_pairs(F32x16 a) { return {_mm256_permute_ps(a.lo, 0xB1), _mm256_permute_ps(a.hi, 0xB1)}; }
/// p[0] p[0] p[1] p[1] ... from 8 floats.
static inline F32x16 load_doubled(const float* p) {
  const __m256 v = _mm256_loadu_ps(p);
  return {_mm256_permutevar8x32_ps(v, _mm256_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3)),
          _mm256_permutevar8x32_ps(v, _mm256_setr_epi32(4, 4, 5, 5, 6, 6, 7, 7))};
}

// BF16.
static inline __m256 widen_bf16(__m128i bits) {
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16));
}
static inline F32x16 load_bf16(const uint16_t* p) {
  const auto* at = reinterpret_cast<const __m128i*>(p);
  return {widen_bf16(_mm_loadu_si128(at)), widen_bf16(_mm_loadu_si128(at + 1))};
}
static inline F32x16 load_bf16_partial(const uint16_t* p, int64_t n) {
  uint16_t copy[16] = {};
  for (int64_t i = 0; i < n; ++i) copy[i] = p[i];
  return load_bf16(copy);
}
static inline __m256i bf16_bits(__m256 a) {
  const __m256i u = _mm256_castps_si256(a);
  const __m256i upper = _mm256_srli_epi32(u, 16);
  const __m256i odd = _mm256_and_si256(upper, _mm256_set1_epi32(1));
  const __m256i rounded = _mm256_srli_epi32(_mm256_add_epi32(_mm256_add_epi32(u, _mm256_set1_epi32(0x7FFF)), odd), 16);
  const __m256i quiet = _mm256_or_si256(upper, _mm256_set1_epi32(0x40));
  return _mm256_blendv_epi8(rounded, quiet, _mm256_castps_si256(_mm256_cmp_ps(a, a, _CMP_UNORD_Q)));
}
static inline F32x16 round_bf16(F32x16 a) {
  return {_mm256_castsi256_ps(_mm256_slli_epi32(bf16_bits(a.lo), 16)),
          _mm256_castsi256_ps(_mm256_slli_epi32(bf16_bits(a.hi), 16))};
}
static inline void store_bf16(uint16_t* p, F32x16 a) {
  const __m256i packed = _mm256_packus_epi32(bf16_bits(a.lo), bf16_bits(a.hi));  // interleaves the 128-bit halves
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm256_permute4x64_epi64(packed, 0xD8));
}
static inline void store_bf16_partial(uint16_t* p, F32x16 a, int64_t n) {
  uint16_t copy[16];
  store_bf16(copy, a);
  for (int64_t i = 0; i < n; ++i) p[i] = copy[i];
}
/// Of numbers that BF16 holds.
static inline void store_bf16_exact(uint16_t* p, F32x16 a) {
  const __m256i packed = _mm256_packus_epi32(_mm256_srli_epi32(_mm256_castps_si256(a.lo), 16),
                                             _mm256_srli_epi32(_mm256_castps_si256(a.hi), 16));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm256_permute4x64_epi64(packed, 0xD8));
}
static inline Bf16x32 load_bf16x32(const uint16_t* p) {
  const auto* at = reinterpret_cast<const __m256i*>(p);
  return {_mm256_loadu_si256(at), _mm256_loadu_si256(at + 1)};
}
static inline Bf16x32 load_bf16x32_partial(const uint16_t* p, int64_t n) {
  uint16_t copy[32] = {};
  for (int64_t i = 0; i < n; ++i) copy[i] = p[i];
  return load_bf16x32(copy);
}
static inline void store_bf16x32(uint16_t* p, Bf16x32 a) {
  auto* at = reinterpret_cast<__m256i*>(p);
  _mm256_storeu_si256(at, a.lo);
  _mm256_storeu_si256(at + 1, a.hi);
}
/// The same bits as the other vector.
static inline F32x16 as_f32(Bf16x32 a) { return {_mm256_castsi256_ps(a.lo), _mm256_castsi256_ps(a.hi)}; }
static inline Bf16x32 as_bf16(F32x16 a) { return {_mm256_castps_si256(a.lo), _mm256_castps_si256(a.hi)}; }
/// p[0], p[1] in every lane.
static inline Bf16x32 broadcast_pair(const uint16_t* p) {
  int pair;
  __builtin_memcpy(&pair, p, sizeof(pair));
  const __m256i v = _mm256_set1_epi32(pair);
  return {v, v};
}
/// Both rounded: lane l holds even[l], odd[l].
static inline Bf16x32 pair_bf16(F32x16 even, F32x16 odd) {
  return {_mm256_or_si256(bf16_bits(even.lo), _mm256_slli_epi32(bf16_bits(odd.lo), 16)),
          _mm256_or_si256(bf16_bits(even.hi), _mm256_slli_epi32(bf16_bits(odd.hi), 16))};
}
static inline __m256i zip_bf16(__m128i even, __m128i odd) {
  return _mm256_or_si256(_mm256_cvtepu16_epi32(even), _mm256_slli_epi32(_mm256_cvtepu16_epi32(odd), 16));
}
/// 16 of each row, exactly: lane l holds even[l], odd[l].
static inline Bf16x32 zip_bf16(const uint16_t* even, const uint16_t* odd) {
  const auto *a = reinterpret_cast<const __m128i*>(even), *b = reinterpret_cast<const __m128i*>(odd);
  return {zip_bf16(_mm_loadu_si128(a), _mm_loadu_si128(b)), zip_bf16(_mm_loadu_si128(a + 1), _mm_loadu_si128(b + 1))};
}
/// Both rounded, one after the other.
static inline Bf16x32 concat_bf16(F32x16 low, F32x16 high) {
  uint16_t both[32];
  store_bf16(both, low);
  store_bf16(both + 16, high);
  return load_bf16x32(both);
}
/// The first and the second of each pair, widened.
static inline F32x16 even_of(Bf16x32 a) {
  return {_mm256_castsi256_ps(_mm256_slli_epi32(a.lo, 16)), _mm256_castsi256_ps(_mm256_slli_epi32(a.hi, 16))};
}
static inline F32x16 odd_of(Bf16x32 a) {
  const __m256i upper = _mm256_set1_epi32(static_cast<int>(0xFFFF0000u));
  return {_mm256_castsi256_ps(_mm256_and_si256(a.lo, upper)), _mm256_castsi256_ps(_mm256_and_si256(a.hi, upper))};
}

// F16.
static inline F32x16 load_f16(const uint16_t* p) {
  const auto* at = reinterpret_cast<const __m128i*>(p);
  return {_mm256_cvtph_ps(_mm_loadu_si128(at)), _mm256_cvtph_ps(_mm_loadu_si128(at + 1))};
}
static inline F32x16 load_f16_partial(const uint16_t* p, int64_t n) {
  uint16_t copy[16] = {};
  for (int64_t i = 0; i < n; ++i) copy[i] = p[i];
  return load_f16(copy);
}

// E4M3. The seven bits after the sign, moved to the place of an FP32, are the value times 2^-120 (subnormals too).
static inline __m256 widen_e4m3(__m128i codes) {
  const __m256i c = _mm256_cvtepu8_epi32(codes);
  const __m256i low = _mm256_and_si256(c, _mm256_set1_epi32(0x7F));
  const __m256i sign = _mm256_slli_epi32(_mm256_and_si256(c, _mm256_set1_epi32(0x80)), 24);
  const __m256 magnitude = _mm256_mul_ps(_mm256_castsi256_ps(_mm256_slli_epi32(low, 20)), _mm256_set1_ps(0x1p120f));
  const __m256i nan = _mm256_cmpeq_epi32(low, _mm256_set1_epi32(0x7F));
  const __m256i value = _mm256_blendv_epi8(_mm256_castps_si256(magnitude), _mm256_set1_epi32(0x7FC00000), nan);
  return _mm256_castsi256_ps(_mm256_or_si256(value, sign));
}
static inline F32x16 load_e4m3(const uint8_t* p) {
  const __m128i codes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
  return {widen_e4m3(codes), widen_e4m3(_mm_unpackhi_epi64(codes, codes))};
}
static inline F32x16 load_e4m3_partial(const uint8_t* p, int64_t n) {
  uint8_t copy[16] = {};
  for (int64_t i = 0; i < n; ++i) copy[i] = p[i];
  return load_e4m3(copy);
}
static inline __m256i e4m3_codes(__m256 a) {
  const __m256i u = _mm256_castps_si256(a);
  const __m256i sign = _mm256_and_si256(_mm256_srli_epi32(u, 24), _mm256_set1_epi32(0x80));
  const __m256i m = _mm256_and_si256(u, _mm256_set1_epi32(0x7FFFFFFF));
  const __m256 magnitude = _mm256_castsi256_ps(m);
  const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(m, 20), _mm256_set1_epi32(1));
  const __m256i rounded = _mm256_srli_epi32(_mm256_add_epi32(_mm256_add_epi32(m, _mm256_set1_epi32(0x7FFFF)), odd), 20);
  __m256i code = _mm256_min_epi32(_mm256_sub_epi32(rounded, _mm256_set1_epi32(120 << 3)), _mm256_set1_epi32(0x7E));
  // Subnormal codes count steps of 2^-9: adding 2^23 rounds to an integer that stands in the low bits.
  const __m256 steps = _mm256_add_ps(_mm256_mul_ps(magnitude, _mm256_set1_ps(0x1p9f)), _mm256_set1_ps(0x1p23f));
  const auto choose = [&code](__m256 where, __m256i value) {
    code = _mm256_blendv_epi8(code, value, _mm256_castps_si256(where));
  };
  choose(_mm256_cmp_ps(magnitude, _mm256_set1_ps(0x1p-6f), _CMP_LT_OQ),
         _mm256_and_si256(_mm256_castps_si256(steps), _mm256_set1_epi32(0xFF)));
  choose(_mm256_cmp_ps(magnitude, _mm256_set1_ps(448.0f), _CMP_GE_OQ), _mm256_set1_epi32(0x7E));
  choose(_mm256_cmp_ps(a, a, _CMP_UNORD_Q), _mm256_set1_epi32(0x7F));
  return _mm256_or_si256(code, sign);
}
/// Nearest even, saturating; as numerics/fp8 to_e4m3.
static inline void store_e4m3_partial(uint8_t* p, F32x16 a, int64_t n) {
  uint32_t codes[16];
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(codes), e4m3_codes(a.lo));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(codes + 8), e4m3_codes(a.hi));
  for (int64_t i = 0; i < n; ++i) p[i] = static_cast<uint8_t>(codes[i]);
}

// Doubles.
static inline F64x8 zero_f64() { return {_mm256_setzero_pd(), _mm256_setzero_pd()}; }
static inline F64x8 load_f64(const double* p) { return {_mm256_loadu_pd(p), _mm256_loadu_pd(p + 4)}; }
static inline F64x8 fma(F64x8 a, F64x8 b, F64x8 c) {
  return {_mm256_fmadd_pd(a.lo, b.lo, c.lo), _mm256_fmadd_pd(a.hi, b.hi, c.hi)};
}
static inline F64x8 add(F64x8 a, F64x8 b) { return {_mm256_add_pd(a.lo, b.lo), _mm256_add_pd(a.hi, b.hi)}; }
static inline F64x8 widen(__m256 a) {
  return {_mm256_cvtps_pd(_mm256_castps256_ps128(a)), _mm256_cvtps_pd(_mm256_extractf128_ps(a, 1))};
}
static inline F64x8 low_f64(F32x16 a) { return widen(a.lo); }
static inline F64x8 high_f64(F32x16 a) { return widen(a.hi); }
static inline void store_widened(double* p, F32x16 a) {
  const F64x8 low = widen(a.lo), high = widen(a.hi);
  _mm256_storeu_pd(p, low.lo);
  _mm256_storeu_pd(p + 4, low.hi);
  _mm256_storeu_pd(p + 8, high.lo);
  _mm256_storeu_pd(p + 12, high.hi);
}
/// Lanes l and l + 4, then + 2, + 1.
static inline double reduce_add(F64x8 a) {
  const __m256d half = _mm256_add_pd(a.lo, a.hi);
  const __m128d pair = _mm_add_pd(_mm256_castpd256_pd128(half), _mm256_extractf128_pd(half, 1));
  return _mm_cvtsd_f64(_mm_add_sd(pair, _mm_unpackhi_pd(pair, pair)));
}

/// Lane i = reduce_add(a[i]), i < 4.
static inline __m256d reduce4(const F64x8* a) {
  __m256d r[2];
  for (int i = 0; i < 2; ++i) {  // + 4, + 2
    const __m256d x = _mm256_add_pd(a[i].lo, a[i].hi), y = _mm256_add_pd(a[i + 2].lo, a[i + 2].hi);
    r[i] = _mm256_add_pd(_mm256_permute2f128_pd(x, y, 0x20), _mm256_permute2f128_pd(x, y, 0x31));
  }
  return _mm256_add_pd(_mm256_blend_pd(r[0], r[1], 0xA), _mm256_shuffle_pd(r[0], r[1], 0x5));  // + 1
}
static inline F64x8 reduce8(const F64x8 (&a)[8]) { return {reduce4(a), reduce4(a + 4)}; }
/// The lanes rounded to FP32, low then high.
static inline F32x16 narrow(F64x8 low, F64x8 high) {
  return {_mm256_set_m128(_mm256_cvtpd_ps(low.hi), _mm256_cvtpd_ps(low.lo)),
          _mm256_set_m128(_mm256_cvtpd_ps(high.hi), _mm256_cvtpd_ps(high.lo))};
}

/// 32 codes as BF16, which holds them exactly.
static inline Bf16x32 bf16_of_e4m3(const uint8_t* p) {
  const __m256i code = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  const __m256i magnitude = _mm256_and_si256(code, _mm256_set1_epi8(0x7F));
  // Normal: the exponent e becomes e + 120, whose last bit is e's; seven of its bits are the upper byte's.
  __m256i upper = _mm256_and_si256(_mm256_srli_epi16(code, 4), _mm256_set1_epi8(7));
  upper = _mm256_add_epi8(upper, _mm256_set1_epi8(0x3C));
  __m256i lower = _mm256_and_si256(_mm256_slli_epi16(code, 4), _mm256_set1_epi8(static_cast<char>(0xF0)));
  // Below: m 2^-9, from tables.
  const __m256i is_small = _mm256_cmpgt_epi8(_mm256_set1_epi8(8), magnitude);
  const auto table = [](int64_t bytes) { return _mm256_set_epi64x(0, bytes, 0, bytes); };
  const __m256i small_upper = _mm256_shuffle_epi8(table(0x3C3C3C3C3B3B3B00), magnitude);
  const __m256i small_lower = _mm256_shuffle_epi8(table(0x60402000C0800000), magnitude);
  upper = _mm256_blendv_epi8(upper, small_upper, is_small);
  lower = _mm256_blendv_epi8(lower, small_lower, is_small);
  const __m256i is_nan = _mm256_cmpeq_epi8(magnitude, _mm256_set1_epi8(0x7F));
  upper = _mm256_blendv_epi8(upper, _mm256_set1_epi8(0x7F), is_nan);
  lower = _mm256_blendv_epi8(lower, _mm256_set1_epi8(static_cast<char>(0xC0)), is_nan);
  upper = _mm256_or_si256(upper, _mm256_xor_si256(code, magnitude));  // the sign
  const __m256i first = _mm256_unpacklo_epi8(lower, upper), second = _mm256_unpackhi_epi8(lower, upper);
  return {_mm256_permute2x128_si256(first, second, 0x20), _mm256_permute2x128_si256(first, second, 0x31)};
}

}  // namespace fathom::cpu::FATHOM_LEVEL
