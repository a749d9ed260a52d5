// What a level's arithmetic and loads reach when nothing stands in their way: chains of multiply-adds that never leave
// the registers, and a walk over memory that only adds up. kernels/limits times them.
#include "kernels/cpu/level/bf16_product.h"
#include "kernels/cpu/level/int_dot.h"
#include "kernels/cpu/level/ops.h"
#include "kernels/cpu/level/simd.h"

namespace fathom::cpu::FATHOM_LEVEL {
namespace {

// Independent chains: more than latency times units, and no more than there are registers.
#if FATHOM_SIMD_BITS == 512
constexpr int kChains = 12, kReadChains = 8;
#elif FATHOM_SIMD_BITS == 256
constexpr int kChains = 6, kReadChains = 4;
#else
constexpr int kChains = 4, kReadChains = 4;
#endif

/// Values that the compiler cannot know, so that it must do the work.
static inline float hidden(float value) {
  __asm__ volatile("" : "+m"(value));
  return value;
}
static inline void keep(float value) { __asm__ volatile("" : : "m"(value)); }

double peak_f32(int64_t iterations) {
  const F32x16 x = set1(hidden(0.75f)), y = set1(hidden(0.001f));
  F32x16 acc[kChains];
  for (auto& a : acc) a = zero();
  for (int64_t i = 0; i < iterations; ++i) {
#pragma GCC unroll 12
    for (int c = 0; c < kChains; ++c) acc[c] = fma(x, y, acc[c]);
  }
  for (int c = 1; c < kChains; ++c) acc[0] = add(acc[0], acc[c]);
  keep(reduce_add(acc[0]));
  return 2.0 * kLanes * kChains * static_cast<double>(iterations);
}

#if FATHOM_SIMD_BITS == 512 && FATHOM_BF16 == 1

double peak_bf16(int64_t iterations) {
  const __m512i x = _mm512_castps_si512(set1(hidden(0.75f)).v), y = _mm512_castps_si512(set1(hidden(0.5f)).v);
  F32x16 acc[kChains];
  for (auto& a : acc) a = zero();
  for (int64_t i = 0; i < iterations; ++i) {
#pragma GCC unroll 12
    for (int c = 0; c < kChains; ++c) acc[c] = dot_bf16(acc[c], {x}, {y});
  }
  for (int c = 1; c < kChains; ++c) acc[0] = add(acc[0], acc[c]);
  keep(reduce_add(acc[0]));
  return 4.0 * kLanes * kChains * static_cast<double>(iterations);
}

#elif FATHOM_SIMD_BITS == 512 && FATHOM_BF16 == 2

double peak_bf16(int64_t iterations) {
  alignas(64) uint16_t ones[16 * 32];
  for (uint16_t& one : ones) one = 0x3F80;
  const Registers tiles(32);
  memory_is_read();
  _tile_loadd(4, ones, 64);
  _tile_loadd(5, ones, 64);
  _tile_loadd(6, ones, 64);
  _tile_loadd(7, ones, 64);
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  for (int64_t i = 0; i < iterations; ++i) {
    _tile_dpbf16ps(0, 4, 6);
    _tile_dpbf16ps(1, 4, 7);
    _tile_dpbf16ps(2, 5, 6);
    _tile_dpbf16ps(3, 5, 7);
  }
  return 2.0 * 4 * 16 * 16 * 32 * static_cast<double>(iterations);
}

#else

/// BF16 operands are widened (exactly) and go through the FP32 multiply-add.
double peak_bf16(int64_t iterations) { return peak_f32(iterations); }

#endif

#if FATHOM_SIMD_BITS == 512

/// The level does not promise VNNI; whoever calls this has asked the CPU.
__attribute__((target("avx512vnni"))) double peak_vnni(int64_t iterations) {
  const __m512i x = _mm512_castps_si512(_mm512_set1_ps(hidden(0.75f)));
  const __m512i y = _mm512_castps_si512(_mm512_set1_ps(hidden(0.001f)));
  __m512i acc[kChains];
  for (auto& a : acc) a = _mm512_setzero_si512();
  for (int64_t i = 0; i < iterations; ++i) {
#pragma GCC unroll 12
    for (int c = 0; c < kChains; ++c) acc[c] = _mm512_dpbusd_epi32(acc[c], x, y);
  }
  for (int c = 1; c < kChains; ++c) acc[0] = _mm512_xor_si512(acc[0], acc[c]);
  keep(_mm512_cvtss_f32(_mm512_castsi512_ps(acc[0])));
  return 8.0 * 16 * kChains * static_cast<double>(iterations);
}

/// Without VNNI a product of bytes takes three instructions: products of pairs, sums of pairs, and the addition.
double peak_bytes(int64_t iterations) {
  const __m512i x = _mm512_castps_si512(set1(hidden(0.75f)).v), y = _mm512_castps_si512(set1(hidden(0.001f)).v);
  const __m512i ones = _mm512_set1_epi16(1);
  __m512i acc[kChains];
  for (auto& a : acc) a = x;
  for (int64_t i = 0; i < iterations; ++i) {
#pragma GCC unroll 12
    for (int c = 0; c < kChains; ++c) {
      // The accumulator is an operand, so that no product is the same for two iterations.
      acc[c] = _mm512_add_epi32(acc[c], _mm512_madd_epi16(_mm512_maddubs_epi16(acc[c], y), ones));
    }
  }
  for (int c = 1; c < kChains; ++c) acc[0] = _mm512_xor_si512(acc[0], acc[c]);
  keep(_mm512_cvtss_f32(_mm512_castsi512_ps(acc[0])));
  return 8.0 * 16 * kChains * static_cast<double>(iterations);
}

#elif FATHOM_SIMD_BITS == 256

double peak_vnni(int64_t) { return 0; }

double peak_bytes(int64_t iterations) {
  constexpr int kBytes = 8;  // one register each, and one for a product on its way
  const __m256i x = _mm256_castps_si256(_mm256_set1_ps(hidden(0.75f)));
  const __m256i y = _mm256_castps_si256(_mm256_set1_ps(hidden(0.001f)));
  const __m256i ones = _mm256_set1_epi16(1);
  __m256i acc[kBytes];
  for (auto& a : acc) a = x;
  for (int64_t i = 0; i < iterations; ++i) {
#pragma GCC unroll 8
    for (int c = 0; c < kBytes; ++c) {
      acc[c] = now(_mm256_add_epi32(acc[c], _mm256_madd_epi16(_mm256_maddubs_epi16(again(x), y), ones)));
    }
  }
  for (int c = 1; c < kBytes; ++c) acc[0] = _mm256_xor_si256(acc[0], acc[c]);
  keep(_mm256_cvtss_f32(_mm256_castsi256_ps(acc[0])));
  return 8.0 * 8 * kBytes * static_cast<double>(iterations);
}

#else

double peak_vnni(int64_t) { return 0; }
double peak_bytes(int64_t) { return 0; }

#endif

}  // namespace

double run_peak(Peak peak, int64_t iterations) {
  switch (peak) {
    case Peak::kF32: return peak_f32(iterations);
    case Peak::kBF16: return peak_bf16(iterations);
    case Peak::kBytes: return peak_bytes(iterations);
    case Peak::kVnni: return peak_vnni(iterations);
  }
  return 0;
}

float read_all(const float* p, int64_t n) {
  F32x16 acc[kReadChains];
  for (auto& a : acc) a = zero();
  int64_t i = 0;
  for (; i + kReadChains * kLanes <= n; i += kReadChains * kLanes) {
#pragma GCC unroll 8
    for (int c = 0; c < kReadChains; ++c) acc[c] = add(acc[c], load(p + i + c * kLanes));
  }
  each_vector(n - i, [&](int64_t j, int64_t count) { acc[0] = add(acc[0], load_n(p + i + j, count)); });
  for (int c = 1; c < kReadChains; ++c) acc[0] = add(acc[0], acc[c]);
  return reduce_add(acc[0]);
}

}  // namespace fathom::cpu::FATHOM_LEVEL
