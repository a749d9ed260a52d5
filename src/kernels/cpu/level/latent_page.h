// Pages of the latent cache in E4M3 (kernels.h LatentPages): what the loops of attention make of them. A scale is a
// power of two, so the products are exact and BF16 holds them.
#pragma once

#include "kernels/cpu/level/level.h"
#include "kernels/cpu/level/simd.h"

namespace fathom::cpu::FATHOM_LEVEL {

/// 2^(bits - 127); 255 is NaN.
static inline float of_e8m0(uint8_t bits) {
  const uint32_t as_f32 = bits == 255 ? 0x7FC00000u : bits == 0 ? 0x00400000u : static_cast<uint32_t>(bits) << 23;
  float value;
  __builtin_memcpy(&value, &as_f32, sizeof(value));
  return value;
}

/// put(i, x, lanes): x holds the numbers i .. i + lanes of a latent of n, zeros beyond.
template <class Put>
static inline void each_latent(const uint8_t* codes, const uint8_t* scales, int64_t n, Put put) {
  for (int64_t begin = 0; begin < n; begin += 128) {
    const F32x16 scale = set1(of_e8m0(scales[begin / 128]));
    const int64_t count = min_of(128, n - begin);
    each_vector(count, [&](int64_t i, int64_t lanes) {
      const uint8_t* at = codes + begin + i;
      put(begin + i, mul(lanes == kLanes ? load_e4m3(at) : load_e4m3_partial(at, lanes), scale), lanes);
    });
  }
}

/// The parts of a page.
struct E4M3Page {
  const uint8_t* codes;
  const uint16_t* rope;
  const uint8_t* scales;
  int64_t latent, rope_width;

  E4M3Page(const void* page, int64_t latent_width, int64_t rope_key_width)
      : codes(static_cast<const uint8_t*>(page)),
        rope(reinterpret_cast<const uint16_t*>(codes + kKeyBlock * latent_width)),
        scales(reinterpret_cast<const uint8_t*>(rope + kKeyBlock * rope_key_width)),
        latent(latent_width),
        rope_width(rope_key_width) {}

  int64_t num_bytes() const { return kKeyBlock * (latent + 2 * rope_width + (latent + 127) / 128); }

  template <class Put>
  void each_latent_of(int64_t s, Put put) const {
    each_latent(codes + s * latent, scales_of(s), latent, put);
  }
  /// The first `keys` tokens as a page in BF16 has them.
  void to_bf16(int64_t keys, uint16_t* out) const {
#if FATHOM_SIMD_BITS == 512
    const E4M3Table table = e4m3_table();
#endif
    for (int64_t s = 0; s < keys; ++s, out += latent + rope_width) {
      int64_t begin = 0;
#if FATHOM_SIMD_BITS == 512
      // Whole tiles whose numbers are normal, so that the scale is but added to their exponents: others do not come
      // from finite latents.
      for (; begin + 128 <= latent; begin += 128) {
        const int exponent = scales_of(s)[begin / 128] - 127;
        if (exponent < -117 || exponent > 119) break;
        const E4M3Table magnitudes = scaled(table, exponent);
        for (int64_t i = begin; i < begin + 128; i += 32) {
          store_bf16x32(out + i, look_up(magnitudes, codes + s * latent + i));
        }
      }
#endif
      each_latent(codes + s * latent + begin, scales_of(s) + begin / 128, latent - begin,
                  [&](int64_t i, F32x16 x, int64_t lanes) {
                    uint16_t* at = out + begin + i;
                    lanes == kLanes ? store_bf16_exact(at, x) : store_bf16_partial(at, x, lanes);
                  });
      __builtin_memcpy(out + latent, rope + s * rope_width, static_cast<uint64_t>(rope_width) * sizeof(uint16_t));
    }
  }

 private:
  const uint8_t* scales_of(int64_t s) const { return scales + s * ((latent + 127) / 128); }
};

}  // namespace fathom::cpu::FATHOM_LEVEL
