// The 16-lane vector of the AArch64 level: four registers. Every operation does what the generic level does, lane by
// lane, so FP32 results are the same bits.
#pragma once

#include <arm_neon.h>

#include <cstdint>

namespace fathom::cpu::FATHOM_LEVEL {

struct F32x16 {
  float32x4_t v[4];
};
struct Mask16 {
  uint32x4_t m[4];
};
struct F64x8 {
  float64x2_t v[4];
};
struct Bf16x32 {
  uint16x8_t v[4];
};

/// One vector after the other: f(0), f(1), f(2), f(3).
template <class F>
static inline F32x16 quarters(F f) {
  return {{f(0), f(1), f(2), f(3)}};
}

static inline F32x16 set1(float v) {
  return quarters([=](int) { return vdupq_n_f32(v); });
}
static inline F32x16 zero() { return set1(0); }
static inline F32x16 load(const float* p) {
  return quarters([=](int i) { return vld1q_f32(p + 4 * i); });
}
static inline F32x16 load_partial(const float* p, int64_t n) {
  float copy[16] = {};
  for (int64_t i = 0; i < n; ++i) copy[i] = p[i];
  return load(copy);
}
static inline void store(float* p, F32x16 a) {
  for (int i = 0; i < 4; ++i) vst1q_f32(p + 4 * i, a.v[i]);
}
static inline void store_partial(float* p, F32x16 a, int64_t n) {
  float copy[16];
  store(copy, a);
  for (int64_t i = 0; i < n; ++i) p[i] = copy[i];
}

static inline F32x16 add(F32x16 a, F32x16 b) {
  return quarters([&](int i) { return vaddq_f32(a.v[i], b.v[i]); });
}
static inline F32x16 sub(F32x16 a, F32x16 b) {
  return quarters([&](int i) { return vsubq_f32(a.v[i], b.v[i]); });
}
static inline F32x16 mul(F32x16 a, F32x16 b) {
  return quarters([&](int i) { return vmulq_f32(a.v[i], b.v[i]); });
}
static inline F32x16 div(F32x16 a, F32x16 b) {
  return quarters([&](int i) { return vdivq_f32(a.v[i], b.v[i]); });
}
static inline F32x16 sqrt(F32x16 a) {
  return quarters([&](int i) { return vsqrtq_f32(a.v[i]); });
}
static inline F32x16 fma(F32x16 a, F32x16 b, F32x16 c) {
  return quarters([&](int i) { return vfmaq_f32(c.v[i], a.v[i], b.v[i]); });
}
static inline F32x16 abs(F32x16 a) {
  return quarters([&](int i) { return vabsq_f32(a.v[i]); });
}
/// a > b ? a : b, so b where either is NaN (fmax would prefer the number).
static inline F32x16 max(F32x16 a, F32x16 b) {
  return quarters([&](int i) { return vbslq_f32(vcgtq_f32(a.v[i], b.v[i]), a.v[i], b.v[i]); });
}

static inline Mask16 less(F32x16 a, F32x16 b) {
  Mask16 out;
  for (int i = 0; i < 4; ++i) out.m[i] = vcltq_f32(a.v[i], b.v[i]);
  return out;
}
static inline Mask16 first_lanes(int64_t n) {
  const int32x4_t lane = {0, 1, 2, 3};
  const int32_t count = static_cast<int32_t>(n < 0 ? 0 : n > 16 ? 16 : n);
  Mask16 out;
  for (int i = 0; i < 4; ++i) out.m[i] = vcltq_s32(lane, vdupq_n_s32(count - 4 * i));
  return out;
}
static inline F32x16 select(Mask16 m, F32x16 yes, F32x16 no) {
  return quarters([&](int i) { return vbslq_f32(m.m[i], yes.v[i], no.v[i]); });
}

/// 2^n where t = n + 1.5 * 2^23: the low bits of t hold n.
static inline F32x16 pow2_of_shifted(F32x16 t) {
  return quarters([&](int i) {
    const uint32x4_t exponent = vshlq_n_u32(vreinterpretq_u32_f32(t.v[i]), 23);
    return vreinterpretq_f32_u32(vaddq_u32(exponent, vdupq_n_u32(0x3F800000u)));
  });
}

// Lane l of the first half with lane l + 8, then + 4, + 2, + 1.
static inline float reduce_add(F32x16 a) {
  const float32x4_t quarter = vaddq_f32(vaddq_f32(a.v[0], a.v[2]), vaddq_f32(a.v[1], a.v[3]));
  const float32x2_t pair = vadd_f32(vget_low_f32(quarter), vget_high_f32(quarter));
  return vget_lane_f32(pair, 0) + vget_lane_f32(pair, 1);
}
static inline float reduce_max(F32x16 a) {
  float lanes[16];
  store(lanes, a);
  float out = lanes[0];
  for (int i = 1; i < 16; ++i) out = lanes[i] > out ? lanes[i] : out;
  return out;
}
/// Lane i = the sum of a[i], i < 4.
static inline float32x4_t reduce4(const F32x16* a) {
  float32x2_t pair[4];
  for (int i = 0; i < 4; ++i) {
    const float32x4_t quarter = vaddq_f32(vaddq_f32(a[i].v[0], a[i].v[2]), vaddq_f32(a[i].v[1], a[i].v[3]));
    pair[i] = vadd_f32(vget_low_f32(quarter), vget_high_f32(quarter));
  }
  return vpaddq_f32(vcombine_f32(pair[0], pair[1]), vcombine_f32(pair[2], pair[3]));
}
static inline F32x16 reduce16(const F32x16 (&a)[16]) {
  return quarters([&](int i) { return reduce4(a + 4 * i); });
}
/// The 4x4 block of lanes [4 j, 4 j + 4) of the rows a .. a + 3, transposed.
static inline void transpose4(const F32x16* a, int j, float32x4_t (&out)[4]) {
  const float32x4_t low = vtrn1q_f32(a[0].v[j], a[1].v[j]), low_odd = vtrn2q_f32(a[0].v[j], a[1].v[j]);
  const float32x4_t high = vtrn1q_f32(a[2].v[j], a[3].v[j]), high_odd = vtrn2q_f32(a[2].v[j], a[3].v[j]);
  out[0] = vcombine_f32(vget_low_f32(low), vget_low_f32(high));
  out[1] = vcombine_f32(vget_low_f32(low_odd), vget_low_f32(high_odd));
  out[2] = vcombine_f32(vget_high_f32(low), vget_high_f32(high));
  out[3] = vcombine_f32(vget_high_f32(low_odd), vget_high_f32(high_odd));
}
static inline void transpose16(F32x16 (&a)[16]) {
  F32x16 out[16];
  for (int i = 0; i < 4; ++i) {
    for (int j = 0; j < 4; ++j) {
      float32x4_t block[4];
      transpose4(a + 4 * i, j, block);
      for (int r = 0; r < 4; ++r) out[4 * j + r].v[i] = block[r];
    }
  }
  for (int i = 0; i < 16; ++i) a[i] = out[i];
}
static inline F32x16 swap_pairs(F32x16 a) {
  return quarters([&](int i) { return vrev64q_f32(a.v[i]); });
}
/// p[0] p[0] p[1] p[1] ... from 8 floats.
static inline F32x16 load_doubled(const float* p) {
  const float32x4_t low = vld1q_f32(p), high = vld1q_f32(p + 4);
  return {{vzip1q_f32(low, low), vzip2q_f32(low, low), vzip1q_f32(high, high), vzip2q_f32(high, high)}};
}

// BF16.
static inline uint16x4_t bf16_bits(float32x4_t a) {
  const uint32x4_t u = vreinterpretq_u32_f32(a);
  const uint32x4_t odd = vandq_u32(vshrq_n_u32(u, 16), vdupq_n_u32(1));
  const uint32x4_t rounded = vaddq_u32(vaddq_u32(u, vdupq_n_u32(0x7FFF)), odd);
  const uint32x4_t quiet = vorrq_u32(u, vdupq_n_u32(0x400000));
  return vshrn_n_u32(vbslq_u32(vceqq_f32(a, a), rounded, quiet), 16);
}
static inline float32x4_t widen_bf16(uint16x4_t bits) { return vreinterpretq_f32_u32(vshll_n_u16(bits, 16)); }
static inline F32x16 load_bf16(const uint16_t* p) {
  return quarters([=](int i) { return widen_bf16(vld1_u16(p + 4 * i)); });
}
static inline F32x16 load_bf16_partial(const uint16_t* p, int64_t n) {
  uint16_t copy[16] = {};
  for (int64_t i = 0; i < n; ++i) copy[i] = p[i];
  return load_bf16(copy);
}
static inline F32x16 round_bf16(F32x16 a) {
  return quarters([&](int i) { return widen_bf16(bf16_bits(a.v[i])); });
}
static inline void store_bf16(uint16_t* p, F32x16 a) {
  for (int i = 0; i < 4; ++i) vst1_u16(p + 4 * i, bf16_bits(a.v[i]));
}
static inline void store_bf16_partial(uint16_t* p, F32x16 a, int64_t n) {
  uint16_t copy[16];
  store_bf16(copy, a);
  for (int64_t i = 0; i < n; ++i) p[i] = copy[i];
}
/// Of numbers that BF16 holds.
static inline void store_bf16_exact(uint16_t* p, F32x16 a) {
  for (int i = 0; i < 4; ++i) vst1_u16(p + 4 * i, vshrn_n_u32(vreinterpretq_u32_f32(a.v[i]), 16));
}
static inline Bf16x32 load_bf16x32(const uint16_t* p) {
  return {{vld1q_u16(p), vld1q_u16(p + 8), vld1q_u16(p + 16), vld1q_u16(p + 24)}};
}
static inline Bf16x32 load_bf16x32_partial(const uint16_t* p, int64_t n) {
  uint16_t copy[32] = {};
  for (int64_t i = 0; i < n; ++i) copy[i] = p[i];
  return load_bf16x32(copy);
}
static inline void store_bf16x32(uint16_t* p, Bf16x32 a) {
  for (int i = 0; i < 4; ++i) vst1q_u16(p + 8 * i, a.v[i]);
}
/// The same bits as the other vector.
static inline F32x16 as_f32(Bf16x32 a) {
  return quarters([&](int i) { return vreinterpretq_f32_u16(a.v[i]); });
}
static inline Bf16x32 as_bf16(F32x16 a) {
  return {{vreinterpretq_u16_f32(a.v[0]), vreinterpretq_u16_f32(a.v[1]), vreinterpretq_u16_f32(a.v[2]),
           vreinterpretq_u16_f32(a.v[3])}};
}
/// p[0], p[1] in every lane.
static inline Bf16x32 broadcast_pair(const uint16_t* p) {
  uint32_t pair;
  __builtin_memcpy(&pair, p, sizeof(pair));
  const uint16x8_t v = vreinterpretq_u16_u32(vdupq_n_u32(pair));
  return {{v, v, v, v}};
}
/// Both rounded: lane l holds even[l], odd[l].
static inline Bf16x32 pair_bf16(F32x16 even, F32x16 odd) {
  Bf16x32 out;
  for (int i = 0; i < 4; ++i) {
    const uint16x4_t e = bf16_bits(even.v[i]), o = bf16_bits(odd.v[i]);
    out.v[i] = vcombine_u16(vzip1_u16(e, o), vzip2_u16(e, o));
  }
  return out;
}
/// Lane l holds even[l], odd[l].
static inline Bf16x32 zip_bf16(const uint16_t* even, const uint16_t* odd) {
  Bf16x32 out;
  for (int i = 0; i < 2; ++i) {
    const uint16x8_t e = vld1q_u16(even + 8 * i), o = vld1q_u16(odd + 8 * i);
    out.v[2 * i] = vzip1q_u16(e, o);
    out.v[2 * i + 1] = vzip2q_u16(e, o);
  }
  return out;
}
/// Both rounded, one after the other.
static inline Bf16x32 concat_bf16(F32x16 low, F32x16 high) {
  return {{vcombine_u16(bf16_bits(low.v[0]), bf16_bits(low.v[1])),
           vcombine_u16(bf16_bits(low.v[2]), bf16_bits(low.v[3])),
           vcombine_u16(bf16_bits(high.v[0]), bf16_bits(high.v[1])),
           vcombine_u16(bf16_bits(high.v[2]), bf16_bits(high.v[3]))}};
}
/// The first and the second of each pair, widened.
static inline F32x16 even_of(Bf16x32 a) {
  return quarters([&](int i) { return vreinterpretq_f32_u32(vshlq_n_u32(vreinterpretq_u32_u16(a.v[i]), 16)); });
}
static inline F32x16 odd_of(Bf16x32 a) {
  const uint32x4_t upper = vdupq_n_u32(0xFFFF0000u);
  return quarters([&](int i) { return vreinterpretq_f32_u32(vandq_u32(vreinterpretq_u32_u16(a.v[i]), upper)); });
}

// F16. Widening is exact; it quiets a signalling NaN, as on every level.
static inline F32x16 load_f16(const uint16_t* p) {
  return quarters([=](int i) { return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p + 4 * i))); });
}
static inline F32x16 load_f16_partial(const uint16_t* p, int64_t n) {
  uint16_t copy[16] = {};
  for (int64_t i = 0; i < n; ++i) copy[i] = p[i];
  return load_f16(copy);
}

// E4M3. The seven bits after the sign, moved to the place of an FP32, are the value times 2^-120 (subnormals too).
static inline float32x4_t widen_e4m3(uint32x4_t c) {
  const uint32x4_t low = vandq_u32(c, vdupq_n_u32(0x7F));
  const uint32x4_t sign = vshlq_n_u32(vandq_u32(c, vdupq_n_u32(0x80)), 24);
  const float32x4_t magnitude = vmulq_f32(vreinterpretq_f32_u32(vshlq_n_u32(low, 20)), vdupq_n_f32(0x1p120f));
  const uint32x4_t nan = vceqq_u32(low, vdupq_n_u32(0x7F));
  const uint32x4_t value = vbslq_u32(nan, vdupq_n_u32(0x7FC00000u), vreinterpretq_u32_f32(magnitude));
  return vreinterpretq_f32_u32(vorrq_u32(value, sign));
}
static inline F32x16 load_e4m3(const uint8_t* p) {
  const uint8x16_t codes = vld1q_u8(p);
  const uint16x8_t low = vmovl_u8(vget_low_u8(codes)), high = vmovl_u8(vget_high_u8(codes));
  return {{widen_e4m3(vmovl_u16(vget_low_u16(low))), widen_e4m3(vmovl_u16(vget_high_u16(low))),
           widen_e4m3(vmovl_u16(vget_low_u16(high))), widen_e4m3(vmovl_u16(vget_high_u16(high)))}};
}
static inline F32x16 load_e4m3_partial(const uint8_t* p, int64_t n) {
  uint8_t copy[16] = {};
  for (int64_t i = 0; i < n; ++i) copy[i] = p[i];
  return load_e4m3(copy);
}
static inline uint32x4_t e4m3_codes(float32x4_t a) {
  const uint32x4_t u = vreinterpretq_u32_f32(a);
  const uint32x4_t sign = vandq_u32(vshrq_n_u32(u, 24), vdupq_n_u32(0x80));
  const uint32x4_t m = vandq_u32(u, vdupq_n_u32(0x7FFFFFFF));
  const float32x4_t magnitude = vreinterpretq_f32_u32(m);
  const uint32x4_t odd = vandq_u32(vshrq_n_u32(m, 20), vdupq_n_u32(1));
  const uint32x4_t rounded = vshrq_n_u32(vaddq_u32(vaddq_u32(m, vdupq_n_u32(0x7FFFF)), odd), 20);
  uint32x4_t code = vminq_u32(vsubq_u32(rounded, vdupq_n_u32(120 << 3)), vdupq_n_u32(0x7E));
  // Subnormal codes count steps of 2^-9: adding 2^23 rounds to an integer that stands in the low bits.
  const float32x4_t steps = vaddq_f32(vmulq_f32(magnitude, vdupq_n_f32(0x1p9f)), vdupq_n_f32(0x1p23f));
  code = vbslq_u32(vcltq_f32(magnitude, vdupq_n_f32(0x1p-6f)),
                   vandq_u32(vreinterpretq_u32_f32(steps), vdupq_n_u32(0xFF)), code);
  code = vbslq_u32(vcgeq_f32(magnitude, vdupq_n_f32(448.0f)), vdupq_n_u32(0x7E), code);
  code = vbslq_u32(vceqq_f32(a, a), code, vdupq_n_u32(0x7F));
  return vorrq_u32(code, sign);
}
/// Nearest even, saturating; as numerics/fp8 to_e4m3.
static inline void store_e4m3_partial(uint8_t* p, F32x16 a, int64_t n) {
  uint32_t codes[16];
  for (int i = 0; i < 4; ++i) vst1q_u32(codes + 4 * i, e4m3_codes(a.v[i]));
  for (int64_t i = 0; i < n; ++i) p[i] = static_cast<uint8_t>(codes[i]);
}

// Doubles.
static inline F64x8 zero_f64() {
  const float64x2_t none = vdupq_n_f64(0);
  return {{none, none, none, none}};
}
static inline F64x8 load_f64(const double* p) {
  return {{vld1q_f64(p), vld1q_f64(p + 2), vld1q_f64(p + 4), vld1q_f64(p + 6)}};
}
static inline F64x8 fma(F64x8 a, F64x8 b, F64x8 c) {
  for (int i = 0; i < 4; ++i) c.v[i] = vfmaq_f64(c.v[i], a.v[i], b.v[i]);
  return c;
}
static inline F64x8 add(F64x8 a, F64x8 b) {
  for (int i = 0; i < 4; ++i) a.v[i] = vaddq_f64(a.v[i], b.v[i]);
  return a;
}
static inline F64x8 widen(float32x4_t low, float32x4_t high) {
  return {{vcvt_f64_f32(vget_low_f32(low)), vcvt_high_f64_f32(low), vcvt_f64_f32(vget_low_f32(high)),
           vcvt_high_f64_f32(high)}};
}
static inline F64x8 low_f64(F32x16 a) { return widen(a.v[0], a.v[1]); }
static inline F64x8 high_f64(F32x16 a) { return widen(a.v[2], a.v[3]); }
static inline void store_widened(double* p, F32x16 a) {
  const F64x8 low = low_f64(a), high = high_f64(a);
  for (int i = 0; i < 4; ++i) {
    vst1q_f64(p + 2 * i, low.v[i]);
    vst1q_f64(p + 8 + 2 * i, high.v[i]);
  }
}
/// Lanes l and l + 4, then + 2, + 1.
static inline double reduce_add(F64x8 a) {
  const float64x2_t quarter = vaddq_f64(vaddq_f64(a.v[0], a.v[2]), vaddq_f64(a.v[1], a.v[3]));
  return vgetq_lane_f64(quarter, 0) + vgetq_lane_f64(quarter, 1);
}
/// Lane i = reduce_add(a[i]).
static inline F64x8 reduce8(const F64x8 (&a)[8]) {
  double sums[8];
  for (int i = 0; i < 8; ++i) sums[i] = reduce_add(a[i]);
  return load_f64(sums);
}
/// The lanes rounded to FP32, low then high.
static inline F32x16 narrow(F64x8 low, F64x8 high) {
  const auto two = [](const F64x8& a, int i) { return vcvt_high_f32_f64(vcvt_f32_f64(a.v[i]), a.v[i + 1]); };
  return {{two(low, 0), two(low, 2), two(high, 0), two(high, 2)}};
}

/// 32 codes as BF16, which holds them exactly.
static inline Bf16x32 bf16_of_e4m3(const uint8_t* p) { return concat_bf16(load_e4m3(p), load_e4m3(p + 16)); }

}  // namespace fathom::cpu::FATHOM_LEVEL
