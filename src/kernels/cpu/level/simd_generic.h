// The 16-lane vector of the generic level: plain arrays and loops, for any architecture. fma is exact here too (in
// software where the machine has none), which is what makes the FP32 results of all levels the same bits.
#pragma once

#include <cstdint>

namespace fathom::cpu::FATHOM_LEVEL {

struct F32x16 {
  float v[16];
};
struct Mask16 {
  bool m[16];
};
struct F64x8 {
  double v[8];
};
struct Bf16x32 {
  uint16_t v[32];
};

static inline uint32_t bits_of(float v) { return __builtin_bit_cast(uint32_t, v); }
static inline float float_of(uint32_t bits) { return __builtin_bit_cast(float, bits); }

template <class F>
static inline F32x16 lanes(F f) {
  F32x16 out;
  for (int i = 0; i < 16; ++i) out.v[i] = f(i);
  return out;
}

static inline F32x16 zero() {
  return lanes([](int) { return 0.0f; });
}
static inline F32x16 set1(float v) {
  return lanes([=](int) { return v; });
}
static inline F32x16 load(const float* p) {
  return lanes([=](int i) { return p[i]; });
}
static inline F32x16 load_partial(const float* p, int64_t n) {
  return lanes([=](int i) { return i < n ? p[i] : 0.0f; });
}
static inline void store_partial(float* p, F32x16 a, int64_t n) {
  for (int64_t i = 0; i < n; ++i) p[i] = a.v[i];
}
static inline void store(float* p, F32x16 a) { store_partial(p, a, 16); }

static inline F32x16 add(F32x16 a, F32x16 b) {
  return lanes([&](int i) { return a.v[i] + b.v[i]; });
}
static inline F32x16 sub(F32x16 a, F32x16 b) {
  return lanes([&](int i) { return a.v[i] - b.v[i]; });
}
static inline F32x16 mul(F32x16 a, F32x16 b) {
  return lanes([&](int i) { return a.v[i] * b.v[i]; });
}
static inline F32x16 div(F32x16 a, F32x16 b) {
  return lanes([&](int i) { return a.v[i] / b.v[i]; });
}
static inline F32x16 sqrt(F32x16 a) {
  return lanes([&](int i) { return __builtin_sqrtf(a.v[i]); });
}
static inline F32x16 fma(F32x16 a, F32x16 b, F32x16 c) {
  return lanes([&](int i) { return __builtin_fmaf(a.v[i], b.v[i], c.v[i]); });
}
static inline F32x16 abs(F32x16 a) {
  return lanes([&](int i) { return __builtin_fabsf(a.v[i]); });
}
/// a > b ? a : b, so b where either is NaN.
static inline F32x16 max(F32x16 a, F32x16 b) {
  return lanes([&](int i) { return a.v[i] > b.v[i] ? a.v[i] : b.v[i]; });
}

static inline Mask16 less(F32x16 a, F32x16 b) {
  Mask16 out;
  for (int i = 0; i < 16; ++i) out.m[i] = a.v[i] < b.v[i];
  return out;
}
static inline Mask16 first_lanes(int64_t n) {
  Mask16 out;
  for (int i = 0; i < 16; ++i) out.m[i] = i < n;
  return out;
}
static inline F32x16 select(Mask16 m, F32x16 yes, F32x16 no) {
  return lanes([&](int i) { return m.m[i] ? yes.v[i] : no.v[i]; });
}

/// 2^n where t = n + 1.5 * 2^23: the low bits of t hold n.
static inline F32x16 pow2_of_shifted(F32x16 t) {
  return lanes([&](int i) { return float_of((bits_of(t.v[i]) << 23) + 0x3F800000u); });
}

// Lane l of the first half with lane l + 8, then + 4, + 2, + 1.
static inline float reduce_add(F32x16 a) {
  for (int half = 8; half >= 1; half /= 2) {
    for (int i = 0; i < half; ++i) a.v[i] = a.v[i] + a.v[i + half];
  }
  return a.v[0];
}
static inline float reduce_max(F32x16 a) {
  float out = a.v[0];
  for (int i = 1; i < 16; ++i) out = a.v[i] > out ? a.v[i] : out;
  return out;
}
static inline F32x16 reduce16(const F32x16 (&a)[16]) {
  return lanes([&](int i) { return reduce_add(a[i]); });
}
static inline void transpose16(F32x16 (&a)[16]) {
  for (int i = 0; i < 16; ++i) {
    for (int j = 0; j < i; ++j) {
      const float t = a[i].v[j];
      a[i].v[j] = a[j].v[i];
      a[j].v[i] = t;
    }
  }
}
static inline F32x16 swap_pairs(F32x16 a) {
  return lanes([&](int i) { return a.v[i ^ 1]; });
}
/// p[0] p[0] p[1] p[1] ... from 8 floats.
static inline F32x16 load_doubled(const float* p) {
  return lanes([=](int i) { return p[i / 2]; });
}

// BF16.
static inline uint16_t bf16_of(float v) {
  const uint32_t u = bits_of(v);
  if (v != v) return static_cast<uint16_t>((u >> 16) | 0x40);
  return static_cast<uint16_t>((u + 0x7FFF + ((u >> 16) & 1)) >> 16);
}
static inline float of_bf16(uint16_t bits) { return float_of(static_cast<uint32_t>(bits) << 16); }
static inline F32x16 load_bf16_partial(const uint16_t* p, int64_t n) {
  return lanes([=](int i) { return i < n ? of_bf16(p[i]) : 0.0f; });
}
static inline F32x16 load_bf16(const uint16_t* p) { return load_bf16_partial(p, 16); }
static inline F32x16 round_bf16(F32x16 a) {
  return lanes([&](int i) { return of_bf16(bf16_of(a.v[i])); });
}
static inline void store_bf16_partial(uint16_t* p, F32x16 a, int64_t n) {
  for (int64_t i = 0; i < n; ++i) p[i] = bf16_of(a.v[i]);
}
static inline void store_bf16(uint16_t* p, F32x16 a) { store_bf16_partial(p, a, 16); }
/// Of numbers that BF16 holds.
static inline void store_bf16_exact(uint16_t* p, F32x16 a) {
  for (int i = 0; i < 16; ++i) p[i] = static_cast<uint16_t>(bits_of(a.v[i]) >> 16);
}
static inline Bf16x32 load_bf16x32_partial(const uint16_t* p, int64_t n) {
  Bf16x32 out;
  for (int64_t i = 0; i < 32; ++i) out.v[i] = i < n ? p[i] : uint16_t{0};
  return out;
}
static inline Bf16x32 load_bf16x32(const uint16_t* p) { return load_bf16x32_partial(p, 32); }
static inline void store_bf16x32(uint16_t* p, Bf16x32 a) { __builtin_memcpy(p, a.v, sizeof(a.v)); }
/// The same bits as the other vector.
static inline F32x16 as_f32(Bf16x32 a) { return __builtin_bit_cast(F32x16, a); }
static inline Bf16x32 as_bf16(F32x16 a) { return __builtin_bit_cast(Bf16x32, a); }
/// p[0], p[1] in every lane.
static inline Bf16x32 broadcast_pair(const uint16_t* p) {
  Bf16x32 out;
  for (int i = 0; i < 32; ++i) out.v[i] = p[i % 2];
  return out;
}
/// Both rounded: lane l holds even[l], odd[l].
static inline Bf16x32 pair_bf16(F32x16 even, F32x16 odd) {
  Bf16x32 out;
  for (int i = 0; i < 16; ++i) {
    out.v[2 * i] = bf16_of(even.v[i]);
    out.v[2 * i + 1] = bf16_of(odd.v[i]);
  }
  return out;
}
/// 16 of each row, exactly: lane l holds even[l], odd[l].
static inline Bf16x32 zip_bf16(const uint16_t* even, const uint16_t* odd) {
  Bf16x32 out;
  for (int i = 0; i < 16; ++i) {
    out.v[2 * i] = even[i];
    out.v[2 * i + 1] = odd[i];
  }
  return out;
}
/// Both rounded, one after the other.
static inline Bf16x32 concat_bf16(F32x16 low, F32x16 high) {
  Bf16x32 out;
  for (int i = 0; i < 16; ++i) {
    out.v[i] = bf16_of(low.v[i]);
    out.v[16 + i] = bf16_of(high.v[i]);
  }
  return out;
}
/// The first and the second of each pair, widened.
static inline F32x16 even_of(Bf16x32 a) {
  return lanes([&](int i) { return of_bf16(a.v[2 * i]); });
}
static inline F32x16 odd_of(Bf16x32 a) {
  return lanes([&](int i) { return of_bf16(a.v[2 * i + 1]); });
}

// F16.
static inline float of_f16(uint16_t bits) {
  const uint32_t sign = static_cast<uint32_t>(bits & 0x8000) << 16, low = bits & 0x7FFF;
  if (low >= 0x7C00) return float_of(sign | 0x7F800000u | (low & 0x3FF) << 13 | (low > 0x7C00 ? 0x400000u : 0u));
  // Fifteen bits moved to the place of an FP32 are the value times 2^-112 (subnormals too).
  return float_of(sign | bits_of(float_of(low << 13) * 0x1p112f));
}
static inline F32x16 load_f16_partial(const uint16_t* p, int64_t n) {
  return lanes([=](int i) { return i < n ? of_f16(p[i]) : 0.0f; });
}
static inline F32x16 load_f16(const uint16_t* p) { return load_f16_partial(p, 16); }

// E4M3. The seven bits after the sign, moved to the place of an FP32, are the value times 2^-120 (subnormals too).
static inline float of_e4m3(uint8_t code) {
  const uint32_t sign = static_cast<uint32_t>(code & 0x80) << 24, low = code & 0x7F;
  return float_of(sign | (low == 0x7F ? 0x7FC00000u : bits_of(float_of(low << 20) * 0x1p120f)));
}
static inline F32x16 load_e4m3_partial(const uint8_t* p, int64_t n) {
  return lanes([=](int i) { return i < n ? of_e4m3(p[i]) : 0.0f; });
}
static inline F32x16 load_e4m3(const uint8_t* p) { return load_e4m3_partial(p, 16); }
/// Nearest even, saturating; as numerics/fp8 to_e4m3.
static inline uint8_t e4m3_of(float v) {
  const uint32_t u = bits_of(v), sign = (u >> 24) & 0x80, m = u & 0x7FFFFFFF;
  const float magnitude = float_of(m);
  if (v != v) return static_cast<uint8_t>(sign | 0x7F);
  if (magnitude >= 448.0f) return static_cast<uint8_t>(sign | 0x7E);
  // Subnormal codes count steps of 2^-9: adding 2^23 rounds to an integer that stands in the low bits.
  if (magnitude < 0x1p-6f) return static_cast<uint8_t>(sign | (bits_of(magnitude * 0x1p9f + 0x1p23f) & 0xFF));
  const uint32_t code = ((m + 0x7FFFF + ((m >> 20) & 1)) >> 20) - (120 << 3);
  return static_cast<uint8_t>(sign | (code < 0x7E ? code : 0x7E));
}
static inline void store_e4m3_partial(uint8_t* p, F32x16 a, int64_t n) {
  for (int64_t i = 0; i < n; ++i) p[i] = e4m3_of(a.v[i]);
}

// Doubles.
static inline F64x8 zero_f64() { return F64x8{}; }
static inline F64x8 load_f64(const double* p) {
  F64x8 out;
  for (int i = 0; i < 8; ++i) out.v[i] = p[i];
  return out;
}
static inline F64x8 fma(F64x8 a, F64x8 b, F64x8 c) {
  for (int i = 0; i < 8; ++i) c.v[i] = __builtin_fma(a.v[i], b.v[i], c.v[i]);
  return c;
}
static inline F64x8 add(F64x8 a, F64x8 b) {
  for (int i = 0; i < 8; ++i) a.v[i] = a.v[i] + b.v[i];
  return a;
}
static inline void store_widened(double* p, F32x16 a) {
  for (int i = 0; i < 16; ++i) p[i] = static_cast<double>(a.v[i]);
}
static inline F64x8 low_f64(F32x16 a) {
  F64x8 out;
  for (int i = 0; i < 8; ++i) out.v[i] = static_cast<double>(a.v[i]);
  return out;
}
static inline F64x8 high_f64(F32x16 a) {
  F64x8 out;
  for (int i = 0; i < 8; ++i) out.v[i] = static_cast<double>(a.v[i + 8]);
  return out;
}
/// Lanes l and l + 4, then + 2, + 1.
static inline double reduce_add(F64x8 a) {
  for (int half = 4; half >= 1; half /= 2) {
    for (int i = 0; i < half; ++i) a.v[i] = a.v[i] + a.v[i + half];
  }
  return a.v[0];
}

/// Lane i = reduce_add(a[i]).
static inline F64x8 reduce8(const F64x8 (&a)[8]) {
  F64x8 out;
  for (int i = 0; i < 8; ++i) out.v[i] = reduce_add(a[i]);
  return out;
}
/// The lanes rounded to FP32, low then high.
static inline F32x16 narrow(F64x8 low, F64x8 high) {
  return lanes([&](int i) { return static_cast<float>(i < 8 ? low.v[i] : high.v[i - 8]); });
}

/// 32 codes as BF16, which holds them exactly.
static inline Bf16x32 bf16_of_e4m3(const uint8_t* p) { return concat_bf16(load_e4m3(p), load_e4m3(p + 16)); }

}  // namespace fathom::cpu::FATHOM_LEVEL
