// The 16-lane vector of the AVX-512 levels (F, BW, VL, DQ): one register.
#pragma once

#include <immintrin.h>

#include <cstdint>

namespace fathom::cpu::FATHOM_LEVEL {

struct F32x16 {
  __m512 v;
};
struct Mask16 {
  __mmask16 m;
};
struct F64x8 {
  __m512d v;
};
struct Bf16x32 {
  __m512i v;
};

static inline __mmask16 lanes_below(int64_t n) { return static_cast<__mmask16>((1u << n) - 1); }

static inline F32x16 zero() { return {_mm512_setzero_ps()}; }
static inline F32x16 set1(float v) { return {_mm512_set1_ps(v)}; }
static inline F32x16 load(const float* p) { return {_mm512_loadu_ps(p)}; }
static inline F32x16 load_partial(const float* p, int64_t n) { return {_mm512_maskz_loadu_ps(lanes_below(n), p)}; }
static inline void store(float* p, F32x16 a) { _mm512_storeu_ps(p, a.v); }
static inline void store_partial(float* p, F32x16 a, int64_t n) { _mm512_mask_storeu_ps(p, lanes_below(n), a.v); }

static inline F32x16 add(F32x16 a, F32x16 b) { return {_mm512_add_ps(a.v, b.v)}; }
static inline F32x16 sub(F32x16 a, F32x16 b) { return {_mm512_sub_ps(a.v, b.v)}; }
static inline F32x16 mul(F32x16 a, F32x16 b) { return {_mm512_mul_ps(a.v, b.v)}; }
static inline F32x16 div(F32x16 a, F32x16 b) { return {_mm512_div_ps(a.v, b.v)}; }
static inline F32x16 sqrt(F32x16 a) { return {_mm512_sqrt_ps(a.v)}; }
static inline F32x16 fma(F32x16 a, F32x16 b, F32x16 c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }
static inline F32x16 abs(F32x16 a) { return {_mm512_abs_ps(a.v)}; }
/// a > b ? a : b, so b where either is NaN.
static inline F32x16 max(F32x16 a, F32x16 b) { return {_mm512_max_ps(a.v, b.v)}; }

static inline Mask16 less(F32x16 a, F32x16 b) { return {_mm512_cmp_ps_mask(a.v, b.v, _CMP_LT_OQ)}; }
static inline Mask16 first_lanes(int64_t n) { return {lanes_below(n)}; }
static inline F32x16 select(Mask16 m, F32x16 yes, F32x16 no) { return {_mm512_mask_blend_ps(m.m, no.v, yes.v)}; }

/// 2^n where t = n + 1.5 * 2^23: the low bits of t hold n.
static inline F32x16 pow2_of_shifted(F32x16 t) {
  const __m512i exponent = _mm512_slli_epi32(_mm512_castps_si512(t.v), 23);
  return {_mm512_castsi512_ps(_mm512_add_epi32(exponent, _mm512_set1_epi32(0x3F800000)))};
}

// Lane l of the first half with lane l + 8, then + 4, + 2, + 1.
static inline float reduce_add(F32x16 a) {
  const __m256 half = _mm256_add_ps(_mm512_castps512_ps256(a.v), _mm512_extractf32x8_ps(a.v, 1));
  const __m128 quarter = _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
  const __m128 pair = _mm_add_ps(quarter, _mm_movehl_ps(quarter, quarter));
  return _mm_cvtss_f32(_mm_add_ss(pair, _mm_movehdup_ps(pair)));
}
static inline float reduce_max(F32x16 a) { return _mm512_reduce_max_ps(a.v); }

/// Lane i = reduce_add(a[i]), with the same additions: every step halves the lanes of two vectors and packs them.
static inline F32x16 reduce16(const F32x16 (&a)[16]) {
  __m512 r[8], s[4], u[2];
  for (int i = 0; i < 8; ++i) {  // + 8
    r[i] =
        _mm512_add_ps(_mm512_mask_blend_ps(0xFF00, a[i].v, a[i + 8].v), _mm512_shuffle_f32x4(a[i].v, a[i + 8].v, 0x4E));
  }
  for (int i = 0; i < 4; ++i) {  // + 4
    const __m512 crossed = _mm512_mask_blend_ps(0xF0F0, r[i + 4], r[i]);
    s[i] = _mm512_add_ps(_mm512_mask_blend_ps(0xF0F0, r[i], r[i + 4]), _mm512_shuffle_f32x4(crossed, crossed, 0xB1));
  }
  for (int i = 0; i < 2; ++i) {  // + 2
    u[i] = _mm512_add_ps(_mm512_mask_blend_ps(0xCCCC, s[i], s[i + 2]), _mm512_shuffle_ps(s[i], s[i + 2], 0x4E));
  }
  const __m512 crossed = _mm512_mask_blend_ps(0xAAAA, u[1], u[0]);  // + 1
  return {_mm512_add_ps(_mm512_mask_blend_ps(0xAAAA, u[0], u[1]), _mm512_permute_ps(crossed, 0xB1))};
}

static inline void transpose16(F32x16 (&a)[16]) {
  __m512 t[16], u[16];
  for (int i = 0; i < 16; i += 2) {
    t[i] = _mm512_unpacklo_ps(a[i].v, a[i + 1].v);
    t[i + 1] = _mm512_unpackhi_ps(a[i].v, a[i + 1].v);
  }
  for (int i = 0; i < 16; i += 4) {
    u[i] = _mm512_shuffle_ps(t[i], t[i + 2], 0x44);
    u[i + 1] = _mm512_shuffle_ps(t[i], t[i + 2], 0xEE);
    u[i + 2] = _mm512_shuffle_ps(t[i + 1], t[i + 3], 0x44);
    u[i + 3] = _mm512_shuffle_ps(t[i + 1], t[i + 3], 0xEE);
  }
  for (int i = 0; i < 4; ++i) {
    const __m512 p = _mm512_shuffle_f32x4(u[i], u[i + 4], 0x88), q = _mm512_shuffle_f32x4(u[i], u[i + 4], 0xDD);
    const __m512 r = _mm512_shuffle_f32x4(u[i + 8], u[i + 12], 0x88);
    const __m512 s = _mm512_shuffle_f32x4(u[i + 8], u[i + 12], 0xDD);
    a[i].v = _mm512_shuffle_f32x4(p, r, 0x88);
    a[i + 4].v = _mm512_shuffle_f32x4(q, s, 0x88);
    a[i + 8].v = _mm512_shuffle_f32x4(p, r, 0xDD);
    a[i + 12].v = _mm512_shuffle_f32x4(q, s, 0xDD);
  }
}

static inline F32x16 swap_pairs(F32x16 a) { return {_mm512_permute_ps(a.v, 0xB1)}; }
/// p[0] p[0] p[1] p[1] ... from 8 floats.
static inline F32x16 load_doubled(const float* p) {
  const __m512i twice = _mm512_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7);
  return {_mm512_permutexvar_ps(twice, _mm512_castps256_ps512(_mm256_loadu_ps(p)))};
}

// BF16.
static inline F32x16 widen_bf16(__m256i bits) {
  return {_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16))};
}
static inline F32x16 load_bf16(const uint16_t* p) {
  return widen_bf16(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
}
static inline F32x16 load_bf16_partial(const uint16_t* p, int64_t n) {
  return widen_bf16(_mm256_maskz_loadu_epi16(lanes_below(n), p));
}
// Nearest even by integers: the conversion instruction would flush subnormals.
static inline __m512i bf16_bits(F32x16 a) {
  const __m512i u = _mm512_castps_si512(a.v);
  const __m512i upper = _mm512_srli_epi32(u, 16);
  const __m512i odd = _mm512_and_si512(upper, _mm512_set1_epi32(1));
  const __m512i rounded = _mm512_srli_epi32(_mm512_add_epi32(_mm512_add_epi32(u, _mm512_set1_epi32(0x7FFF)), odd), 16);
  const __mmask16 nan = _mm512_cmp_ps_mask(a.v, a.v, _CMP_UNORD_Q);
  return _mm512_mask_or_epi32(rounded, nan, upper, _mm512_set1_epi32(0x40));
}
static inline F32x16 round_bf16(F32x16 a) { return {_mm512_castsi512_ps(_mm512_slli_epi32(bf16_bits(a), 16))}; }
static inline void store_bf16(uint16_t* p, F32x16 a) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtepi32_epi16(bf16_bits(a)));
}
static inline void store_bf16_partial(uint16_t* p, F32x16 a, int64_t n) {
  _mm512_mask_cvtepi32_storeu_epi16(p, lanes_below(n), bf16_bits(a));
}
/// Of numbers that BF16 holds.
static inline void store_bf16_exact(uint16_t* p, F32x16 a) {
  const __m512i upper = _mm512_srli_epi32(_mm512_castps_si512(a.v), 16);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtepi32_epi16(upper));
}
static inline Bf16x32 load_bf16x32(const uint16_t* p) { return {_mm512_loadu_si512(p)}; }
static inline Bf16x32 load_bf16x32_partial(const uint16_t* p, int64_t n) {
  return {_mm512_maskz_loadu_epi16(static_cast<__mmask32>((uint64_t{1} << n) - 1), p)};
}
static inline void store_bf16x32(uint16_t* p, Bf16x32 a) { _mm512_storeu_si512(p, a.v); }
/// The same bits as the other vector.
static inline F32x16 as_f32(Bf16x32 a) { return {_mm512_castsi512_ps(a.v)}; }
static inline Bf16x32 as_bf16(F32x16 a) { return {_mm512_castps_si512(a.v)}; }
/// p[0], p[1] in every lane.
static inline Bf16x32 broadcast_pair(const uint16_t* p) {
  int pair;
  __builtin_memcpy(&pair, p, sizeof(pair));
  return {_mm512_set1_epi32(pair)};
}
/// Both rounded: lane l holds even[l], odd[l].
static inline Bf16x32 pair_bf16(F32x16 even, F32x16 odd) {
  return {_mm512_or_si512(bf16_bits(even), _mm512_slli_epi32(bf16_bits(odd), 16))};
}
/// 16 of each row, exactly: lane l holds even[l], odd[l].
static inline Bf16x32 zip_bf16(const uint16_t* even, const uint16_t* odd) {
  const __m512i first = _mm512_castsi256_si512(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(even)));
  const __m512i second = _mm512_castsi256_si512(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(odd)));
  // Lane l: number l of the first row in its low half, of the second (from 32 on) in its high half.
  const __m512i lane = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
  const __m512i index = _mm512_or_si512(lane, _mm512_slli_epi32(_mm512_or_si512(lane, _mm512_set1_epi32(32)), 16));
  return {_mm512_permutex2var_epi16(first, index, second)};
}
/// Both rounded, one after the other.
static inline Bf16x32 concat_bf16(F32x16 low, F32x16 high) {
  return {_mm512_inserti64x4(_mm512_castsi256_si512(_mm512_cvtepi32_epi16(bf16_bits(low))),
                             _mm512_cvtepi32_epi16(bf16_bits(high)), 1)};
}
/// 32 codes as BF16, which holds them exactly.
static inline Bf16x32 bf16_of_e4m3(const uint8_t* p) {
  const __m512i code = _mm512_cvtepu8_epi16(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
  const __m512i magnitude = _mm512_and_si512(code, _mm512_set1_epi16(0x7F));
  const __m512i sign = _mm512_slli_epi16(_mm512_and_si512(code, _mm512_set1_epi16(0x80)), 8);
  // Normal: the exponent's bias is 7 there and 127 here. Below: m 2^-9, from a table. 0x7F: NaN.
  const __m512i normal = _mm512_add_epi16(_mm512_slli_epi16(magnitude, 4), _mm512_set1_epi16(120 << 7));
  const __m512i small =
      _mm512_zextsi128_si512(_mm_setr_epi16(0, 0x3B00, 0x3B80, 0x3BC0, 0x3C00, 0x3C20, 0x3C40, 0x3C60));
  const __mmask32 is_small = _mm512_cmplt_epu16_mask(magnitude, _mm512_set1_epi16(8));
  const __mmask32 is_nan = _mm512_cmpeq_epi16_mask(magnitude, _mm512_set1_epi16(0x7F));
  __m512i value = _mm512_mask_permutexvar_epi16(normal, is_small, magnitude, small);
  value = _mm512_mask_mov_epi16(value, is_nan, _mm512_set1_epi16(0x7FC0));
  return {_mm512_or_si512(value, sign)};
}
/// The BF16 of every magnitude of E4M3, to look 32 codes up at once.
struct E4M3Table {
  __m512i at[4];  // 32 magnitudes each
};
static inline E4M3Table e4m3_table() {
  E4M3Table table;
  for (int i = 0; i < 4; ++i) {
    uint8_t codes[32];
    for (int n = 0; n < 32; ++n) codes[n] = static_cast<uint8_t>(32 * i + n);
    table.at[i] = bf16_of_e4m3(codes).v;
  }
  return table;
}
/// The magnitudes times 2^exponent, which must leave all of them normal; zero and NaN stay.
static inline E4M3Table scaled(const E4M3Table& table, int exponent) {
  const __m512i shift = _mm512_set1_epi16(static_cast<int16_t>(exponent * 128));
  return {{_mm512_mask_add_epi16(table.at[0], 0xFFFFFFFE, table.at[0], shift), _mm512_add_epi16(table.at[1], shift),
           _mm512_add_epi16(table.at[2], shift), _mm512_mask_add_epi16(table.at[3], 0x7FFFFFFF, table.at[3], shift)}};
}
static inline Bf16x32 look_up(const E4M3Table& table, const uint8_t* codes) {
  const __m512i code = _mm512_cvtepu8_epi16(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(codes)));
  const __m512i low = _mm512_permutex2var_epi16(table.at[0], code, table.at[1]);
  const __m512i high = _mm512_permutex2var_epi16(table.at[2], code, table.at[3]);
  const __mmask32 is_high = _mm512_test_epi16_mask(code, _mm512_set1_epi16(0x40));
  const __m512i sign = _mm512_and_si512(_mm512_slli_epi16(code, 8), _mm512_set1_epi16(static_cast<int16_t>(0x8000)));
  return {_mm512_or_si512(_mm512_mask_mov_epi16(low, is_high, high), sign)};
}
/// Widens 64 codes at once.
class WidenE4M3 {
 public:
#ifdef __AVX512VBMI__
  WidenE4M3() {
    const E4M3Table words = e4m3_table();
    for (int i = 0; i < 2; ++i) {
      const __m512i first = words.at[2 * i], second = words.at[2 * i + 1];
      low_[i] = narrow(first, second);
      high_[i] = narrow(_mm512_srli_epi16(first, 8), _mm512_srli_epi16(second, 8));
    }
  }
  [[gnu::always_inline]] void operator()(const uint8_t* codes, Bf16x32& first, Bf16x32& second) const {
    // Unpacking takes eight bytes of each 16 to the first vector and eight to the second.
    const __m512i order = _mm512_setr_epi64(0, 4, 1, 5, 2, 6, 3, 7);
    const __m512i code = _mm512_permutexvar_epi64(order, _mm512_loadu_si512(codes));
    const __m512i low = _mm512_permutex2var_epi8(low_[0], code, low_[1]);
    const __m512i magnitude = _mm512_permutex2var_epi8(high_[0], code, high_[1]);
    constexpr int kFirstOrBoth = 0xF8;  // a | (b & c)
    const __m512i high = _mm512_ternarylogic_epi64(magnitude, code, _mm512_set1_epi8(-128), kFirstOrBoth);
    first = {_mm512_unpacklo_epi8(low, high)};
    second = {_mm512_unpackhi_epi8(low, high)};
  }

 private:
  static __m512i narrow(__m512i first, __m512i second) {
    const __m512i half = _mm512_castsi256_si512(_mm512_cvtepi16_epi8(first));
    return _mm512_inserti64x4(half, _mm512_cvtepi16_epi8(second), 1);
  }
  __m512i low_[2], high_[2];  // bytes of the BF16 of every magnitude
#else
  [[gnu::always_inline]] void operator()(const uint8_t* codes, Bf16x32& first, Bf16x32& second) const {
    first = look_up(table_, codes);
    second = look_up(table_, codes + 32);
  }

 private:
  E4M3Table table_ = e4m3_table();
#endif
};
/// The first and the second of each pair, widened.
static inline F32x16 even_of(Bf16x32 a) { return {_mm512_castsi512_ps(_mm512_slli_epi32(a.v, 16))}; }
static inline F32x16 odd_of(Bf16x32 a) {
  return {_mm512_castsi512_ps(_mm512_and_si512(a.v, _mm512_set1_epi32(static_cast<int>(0xFFFF0000u))))};
}

// F16.
static inline F32x16 load_f16(const uint16_t* p) {
  return {_mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)))};
}
static inline F32x16 load_f16_partial(const uint16_t* p, int64_t n) {
  return {_mm512_cvtph_ps(_mm256_maskz_loadu_epi16(lanes_below(n), p))};
}

// E4M3. The seven bits after the sign, moved to the place of an FP32, are the value times 2^-120 (subnormals too). The
// codes are sign-extended, so that one shift moves sign and value and one mask clears the copies between them.
static inline F32x16 widen_e4m3(__m128i codes) {
  const __m512i moved = _mm512_slli_epi32(_mm512_cvtepi8_epi32(codes), 20);
  const __m512i bits = _mm512_and_si512(moved, _mm512_set1_epi32(static_cast<int>(0x87F00000u)));
  const __mmask16 nan = _mm512_cmpeq_epi32_mask(_mm512_slli_epi32(bits, 1), _mm512_set1_epi32(0x0FE00000));
  const __m512 value = _mm512_mul_ps(_mm512_castsi512_ps(bits), _mm512_set1_ps(0x1p120f));
  return {
      _mm512_castsi512_ps(_mm512_mask_or_epi32(_mm512_castps_si512(value), nan, bits, _mm512_set1_epi32(0x7FC00000)))};
}
static inline F32x16 load_e4m3(const uint8_t* p) {
  return widen_e4m3(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
}
static inline F32x16 load_e4m3_partial(const uint8_t* p, int64_t n) {
  return widen_e4m3(_mm_maskz_loadu_epi8(lanes_below(n), p));
}
/// Nearest even, saturating; as numerics/fp8 to_e4m3.
static inline void store_e4m3_partial(uint8_t* p, F32x16 a, int64_t n) {
  const __m512i u = _mm512_castps_si512(a.v);
  const __m512i sign = _mm512_and_si512(_mm512_srli_epi32(u, 24), _mm512_set1_epi32(0x80));
  const __m512i m = _mm512_and_si512(u, _mm512_set1_epi32(0x7FFFFFFF));
  const __m512 magnitude = _mm512_castsi512_ps(m);
  const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(m, 20), _mm512_set1_epi32(1));
  const __m512i rounded = _mm512_srli_epi32(_mm512_add_epi32(_mm512_add_epi32(m, _mm512_set1_epi32(0x7FFFF)), odd), 20);
  __m512i code = _mm512_min_epi32(_mm512_sub_epi32(rounded, _mm512_set1_epi32(120 << 3)), _mm512_set1_epi32(0x7E));
  // Subnormal codes count steps of 2^-9: adding 2^23 rounds to an integer that stands in the low bits.
  const __m512 steps = _mm512_add_ps(_mm512_mul_ps(magnitude, _mm512_set1_ps(0x1p9f)), _mm512_set1_ps(0x1p23f));
  code = _mm512_mask_and_epi32(code, _mm512_cmp_ps_mask(magnitude, _mm512_set1_ps(0x1p-6f), _CMP_LT_OQ),
                               _mm512_castps_si512(steps), _mm512_set1_epi32(0xFF));
  code = _mm512_mask_mov_epi32(code, _mm512_cmp_ps_mask(magnitude, _mm512_set1_ps(448.0f), _CMP_GE_OQ),
                               _mm512_set1_epi32(0x7E));
  code = _mm512_mask_mov_epi32(code, _mm512_cmp_ps_mask(a.v, a.v, _CMP_UNORD_Q), _mm512_set1_epi32(0x7F));
  _mm512_mask_cvtepi32_storeu_epi8(p, lanes_below(n), _mm512_or_si512(code, sign));
}

// Doubles.
static inline F64x8 zero_f64() { return {_mm512_setzero_pd()}; }
static inline F64x8 load_f64(const double* p) { return {_mm512_loadu_pd(p)}; }
static inline F64x8 fma(F64x8 a, F64x8 b, F64x8 c) { return {_mm512_fmadd_pd(a.v, b.v, c.v)}; }
static inline F64x8 add(F64x8 a, F64x8 b) { return {_mm512_add_pd(a.v, b.v)}; }
static inline void store_widened(double* p, F32x16 a) {
  _mm512_storeu_pd(p, _mm512_cvtps_pd(_mm512_castps512_ps256(a.v)));
  _mm512_storeu_pd(p + 8, _mm512_cvtps_pd(_mm512_extractf32x8_ps(a.v, 1)));
}
static inline F64x8 low_f64(F32x16 a) { return {_mm512_cvtps_pd(_mm512_castps512_ps256(a.v))}; }
static inline F64x8 high_f64(F32x16 a) { return {_mm512_cvtps_pd(_mm512_extractf32x8_ps(a.v, 1))}; }
/// Lanes l and l + 4, then + 2, + 1.
static inline double reduce_add(F64x8 a) {
  const __m256d half = _mm256_add_pd(_mm512_castpd512_pd256(a.v), _mm512_extractf64x4_pd(a.v, 1));
  const __m128d pair = _mm_add_pd(_mm256_castpd256_pd128(half), _mm256_extractf128_pd(half, 1));
  return _mm_cvtsd_f64(_mm_add_sd(pair, _mm_unpackhi_pd(pair, pair)));
}

/// Lane i = reduce_add(a[i]).
static inline F64x8 reduce8(const F64x8 (&a)[8]) {
  __m512d r[4], s[2];
  for (int i = 0; i < 4; ++i) {  // + 4
    r[i] =
        _mm512_add_pd(_mm512_mask_blend_pd(0xF0, a[i].v, a[i + 4].v), _mm512_shuffle_f64x2(a[i].v, a[i + 4].v, 0x4E));
  }
  for (int i = 0; i < 2; ++i) {  // + 2
    const __m512d crossed = _mm512_mask_blend_pd(0xCC, r[i + 2], r[i]);
    s[i] = _mm512_add_pd(_mm512_mask_blend_pd(0xCC, r[i], r[i + 2]), _mm512_shuffle_f64x2(crossed, crossed, 0xB1));
  }
  return {_mm512_add_pd(_mm512_mask_blend_pd(0xAA, s[0], s[1]), _mm512_shuffle_pd(s[0], s[1], 0x55))};
}
/// The lanes rounded to FP32, low then high.
static inline F32x16 narrow(F64x8 low, F64x8 high) {
  return {_mm512_insertf32x8(_mm512_castps256_ps512(_mm512_cvtpd_ps(low.v)), _mm512_cvtpd_ps(high.v), 1)};
}

}  // namespace fathom::cpu::FATHOM_LEVEL
