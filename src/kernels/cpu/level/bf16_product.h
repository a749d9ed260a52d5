// How a level multiplies pairs of BF16: x in rows of a panel (kStride elements apart), w as vectors of 16 columns by
// one pair. Three ways, chosen by the build for each level:
//   fma   every level without an instruction for it: x rounded to BF16 but kept in FP32, w widened in registers; for
//         each pair sum = fma(x[1], w[1], fma(x[0], w[0], sum)): the same bits on all of these levels
//   dot   vdpbf16ps, which rounds between the two products in its own way and flushes subnormals (fast on Zen 4 and 5;
//         on Intel a quarter of the rate of an FP32 fma, so half of the speed of the first way)
//   amx   tiles of 16 rows by 16 columns by 16 pairs: tdpbf16ps, with an order of its own
// In each of them a sum depends on its row of x and its column of w alone.
#pragma once

#include "kernels/cpu/level/operands.h"

namespace fathom::cpu::FATHOM_LEVEL {

constexpr int64_t kPanelPair = 2 * kLanes;  // elements of w's panel between pairs: [pair, 16 columns, 2]
constexpr int64_t kStride = kBf16Stride;
constexpr int64_t kScaledBlock = 128, kScaledPairs = kScaledBlock / 2;  // of k that share a scale

/// Sixteen pairs of k for sixteen columns: lane n of block[j] holds w(n, k + 2j), w(n, k + 2j + 1).
using Block = Bf16x32[16];

/// Where a product's sums go: y[m, n] (+)= sum for n < columns; or, where w has scales, one sum after the other of
/// kScaledPairs pairs each: y[m, n] (+)= scales[part][n] * sum.
struct Sums {
  float* y;
  int64_t stride;
  int64_t columns;
  bool accumulate;
  const float* scales;  // or null; kTileColumnsBf16 for each part

  int64_t part_pairs(int64_t pairs) const { return scales == nullptr ? pairs : kScaledPairs; }
  Sums part(int64_t i) const {
    Sums out = *this;
    out.accumulate |= i > 0;
    if (scales != nullptr) out.scales += i * kTileColumnsBf16;
    return out;
  }
  /// Rows from m on, columns from n on.
  Sums from(int64_t m, int64_t n) const {
    Sums out = *this;
    out.y += m * stride + n;
    out.columns -= n;
    if (scales != nullptr) out.scales += n;
    return out;
  }
  void put(int64_t m, int64_t n, F32x16 sum) const {
    const int64_t count = min_of(kLanes, columns - n);
    if (count <= 0) return;
    float* at = y + m * stride + n;
    const F32x16 old = accumulate ? load_n(at, count) : zero();
    if (scales != nullptr) {
      sum = fma(load_n(scales + n, count), sum, old);
    } else if (accumulate) {
      sum = add(old, sum);
    }
    store_n(at, sum, count);
  }
};

#if FATHOM_BF16 != 2
/// Nothing to prepare for vectors.
struct Registers {
  explicit Registers(int64_t) {}
};
#endif

#if FATHOM_BF16 == 0

/// An FP32 number with the precision of BF16.
struct Rounded {
  float v;
};
static inline void put(Rounded* p, F32x16 a) { store(&p->v, round_bf16(a)); }
using XElement = Rounded;

#if FATHOM_SIMD_BITS == 512
constexpr int kPanelRows = 12, kPanels = 2;  // 24 sums, 2 vectors of w widened one half at a time, in 32 registers
#elif FATHOM_SIMD_BITS == 256
constexpr int kPanelRows = 6, kPanels = 1;  // 12 halves of sums, a widened vector and one of x in 16
#else
constexpr int kPanelRows = 2, kPanels = 2;
#endif

/// sum[m] += the block's sixteen pairs, for rows of x that begin at x + m * kStride.
template <int kRows>
static inline void add_block(F32x16 (&sum)[kRows], const XElement* x, const Block& w) {
#pragma GCC unroll 16
  for (int j = 0; j < 16; ++j) {
    const F32x16 even = even_of(w[j]), odd = odd_of(w[j]);
#pragma GCC unroll 4
    for (int m = 0; m < kRows; ++m) {
      sum[m] = fma(set1(x[m * kStride + 2 * j].v), even, sum[m]);
      sum[m] = fma(set1(x[m * kStride + 2 * j + 1].v), odd, sum[m]);
    }
  }
}

/// sum[m] += one pair of k, for a vector of columns of each panel.
template <int kRows>
static inline void add_pair(F32x16 (&sum)[kRows][kPanels], const XElement* x, const uint16_t* const (&w)[kPanels]) {
#pragma GCC unroll 2
  for (int odd = 0; odd < 2; ++odd) {
    F32x16 widened[kPanels];
#pragma GCC unroll 2
    for (int p = 0; p < kPanels; ++p) {
      const Bf16x32 pair = load_bf16x32(again(w[p]));
      widened[p] = odd == 0 ? even_of(pair) : odd_of(pair);
    }
#pragma GCC unroll 16
    for (int m = 0; m < kRows; ++m) {
      const F32x16 factor = set1(x[m * kStride + odd].v);
#pragma GCC unroll 2
      for (int p = 0; p < kPanels; ++p) sum[m][p] = now(fma(factor, widened[p], sum[m][p]));
    }
  }
}

#elif FATHOM_BF16 == 1

using XElement = uint16_t;
constexpr int kPanelRows = 12, kPanels = 2;  // 24 sums, 2 vectors of w and 1 of x in 32 registers

/// Lane l: acc += a[2l] b[2l] + a[2l + 1] b[2l + 1] as vdpbf16ps does it.
static inline F32x16 dot_bf16(F32x16 acc, Bf16x32 a, Bf16x32 b) {
  return {_mm512_dpbf16_ps(acc.v, (__m512bh)a.v, (__m512bh)b.v)};
}
/// sum[m] += the block's sixteen pairs, for rows of x that begin at x + m * kStride.
template <int kRows>
static inline void add_block(F32x16 (&sum)[kRows], const XElement* x, const Block& w) {
#pragma GCC unroll 16
  for (int j = 0; j < 16; ++j) {
#pragma GCC unroll 4
    for (int m = 0; m < kRows; ++m) sum[m] = dot_bf16(sum[m], broadcast_pair(x + m * kStride + 2 * j), w[j]);
  }
}

/// sum[m] += one pair of k, for a vector of columns of each panel.
template <int kRows>
static inline void add_pair(F32x16 (&sum)[kRows][kPanels], const XElement* x, const uint16_t* const (&w)[kPanels]) {
  Bf16x32 columns[kPanels];
#pragma GCC unroll 2
  for (int p = 0; p < kPanels; ++p) columns[p] = load_bf16x32(w[p]);
#pragma GCC unroll 16
  for (int m = 0; m < kRows; ++m) {
    const Bf16x32 pair = broadcast_pair(x + m * kStride);
#pragma GCC unroll 2
    for (int p = 0; p < kPanels; ++p) sum[m][p] = dot_bf16(sum[m][p], pair, columns[p]);
  }
}

#else

using XElement = uint16_t;
static_assert(kTileRows % 32 == 0);

/// The compiler's tile intrinsics do not say that they read memory: whatever was stored before must be there by now.
static inline void memory_is_read() { __asm__ volatile("" ::: "memory"); }

/// The thread's state for a product of `rows` rows. Few rows go through vectors that treat subnormals as tiles do; many
/// through eight tiles: C 0 .. 3 (rows of the two A by columns of the two B), A 4 and 5, B 6 and 7. With more than 16
/// rows all tiles are whole: rows of x beyond the last are read (scratch has them) and their sums dropped.
class Registers {
 public:
  explicit Registers(int64_t rows) : uses_tiles_(rows > kFewRows), before_(_mm_getcsr()) {
    if (!uses_tiles_) {
      _mm_setcsr(before_ | 0x8040);  // flush to zero, subnormals are zero
      return;
    }
    struct alignas(64) {
      uint8_t palette = 1, start_row = 0, reserved[14] = {};
      uint16_t bytes_per_row[16] = {64, 64, 64, 64, 64, 64, 64, 64};
      uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
    } config;
    if (rows < 16) config.rows[0] = config.rows[1] = config.rows[4] = static_cast<uint8_t>(rows);
    memory_is_read();
    _tile_loadconfig(&config);
  }
  ~Registers() { uses_tiles_ ? _tile_release() : _mm_setcsr(before_); }

 private:
  bool uses_tiles_;
  unsigned before_;
};

/// What one tdpbf16ps adds to a row, in vectors (Intel's manual, TDPBF16PS): the products of even and of odd k are
/// summed apart, each with fused multiply-adds that flush subnormals, and the two sums are added before they are added
/// to the tile. Few rows do not fill a tile; this gives them the same bits.
///   sum[m] += the block's sixteen pairs, for rows of x that begin at x + m * kStride.
template <int kRows>
static inline void add_block(F32x16 (&sum)[kRows], const XElement* x, const Block& w) {
  F32x16 even_sum[kRows], odd_sum[kRows];
#pragma GCC unroll 4
  for (int m = 0; m < kRows; ++m) even_sum[m] = odd_sum[m] = zero();
#pragma GCC unroll 16
  for (int j = 0; j < 16; ++j) {
    const F32x16 even = even_of(w[j]), odd = odd_of(w[j]);
#pragma GCC unroll 4
    for (int m = 0; m < kRows; ++m) {
      const uint16_t* pair = x + m * kStride + 2 * j;
      even_sum[m] = fma(set1(bf16_to_float(pair[0])), even, even_sum[m]);
      odd_sum[m] = fma(set1(bf16_to_float(pair[1])), odd, odd_sum[m]);
    }
  }
#pragma GCC unroll 4
  for (int m = 0; m < kRows; ++m) sum[m] = add(sum[m], add(even_sum[m], odd_sum[m]));
}

/// Up to 32 rows of x by two panels.
static inline void multiply_tiles(const XElement* x, int64_t rows, const uint16_t* low, const uint16_t* high,
                                  int64_t pairs, Sums out) {
  alignas(64) float buffer[32 * 32];
  constexpr int64_t kRowBytes = kStride * 2, kPanelBytes = kPanelPair * 2;
  const bool two = rows > 16;
  memory_is_read();
  _tile_zero(0);
  _tile_zero(1);
  if (two) {
    _tile_zero(2);
    _tile_zero(3);
  }
  for (int64_t p = 0; p < pairs; p += 16) {
    _tile_loadd(6, low + p * kPanelPair, kPanelBytes);
    _tile_loadd(7, high + p * kPanelPair, kPanelBytes);
    _tile_loadd(4, x + 2 * p, kRowBytes);
    _tile_dpbf16ps(0, 4, 6);
    _tile_dpbf16ps(1, 4, 7);
    if (two) {
      _tile_loadd(5, x + 16 * kStride + 2 * p, kRowBytes);
      _tile_dpbf16ps(2, 5, 6);
      _tile_dpbf16ps(3, 5, 7);
    }
  }
  _tile_stored(0, buffer, 128);
  _tile_stored(1, buffer + 16, 128);
  if (two) {
    _tile_stored(2, buffer + 16 * 32, 128);
    _tile_stored(3, buffer + 16 * 32 + 16, 128);
  }
  for (int64_t m = 0; m < rows; ++m) {
    out.put(m, 0, load(buffer + m * 32));
    out.put(m, kLanes, load(buffer + m * 32 + kLanes));
  }
}

#endif

#if FATHOM_BF16 != 2
/// kRows rows by kPanels panels.
template <int kRows>
static inline void multiply_panels(const XElement* x, const uint16_t* const* panels, int64_t pairs,
                                   const uint8_t* const* next, int64_t step, const Sums& out) {
  const int64_t part_pairs = out.part_pairs(pairs);
  for (int64_t part = 0, i = 0; i < pairs; ++part) {
    F32x16 sum[kRows][kPanels];
#pragma GCC unroll 16
    for (int m = 0; m < kRows; ++m) {
#pragma GCC unroll 2
      for (int p = 0; p < kPanels; ++p) sum[m][p] = zero();
    }
    for (const int64_t end = min_of(pairs, i + part_pairs); i < end; ++i) {
      const uint16_t* w[kPanels];
#pragma GCC unroll 2
      for (int p = 0; p < kPanels; ++p) {
        __builtin_prefetch(next[p] + i * step, 0, 2);
        w[p] = panels[p] + i * kPanelPair;
      }
      add_pair(sum, x + 2 * i, w);
    }
    const Sums at = out.part(part);
#pragma GCC unroll 16
    for (int m = 0; m < kRows; ++m) {
#pragma GCC unroll 2
      for (int p = 0; p < kPanels; ++p) at.put(m, p * kLanes, sum[m][p]);
    }
  }
}

/// multiply_panels with 1 to kMost rows.
template <int kMost>
static inline void multiply_panel_rows(int64_t rows, const XElement* x, const uint16_t* const* panels, int64_t pairs,
                                       const uint8_t* const* next, int64_t step, const Sums& out) {
  if constexpr (kMost > 1) {
    if (rows < kMost) return multiply_panel_rows<kMost - 1>(rows, x, panels, pairs, next, step, out);
  }
  multiply_panels<kMost>(x, panels, pairs, next, step, out);
}
#endif

/// Any number of rows of x by two panels of 16 columns. `next` are the panels that will be read after them: asked for
/// meanwhile (asking for memory that is not there does nothing).
static inline void multiply_rows(const XElement* x, int64_t rows, const uint16_t* const (&panels)[2], int64_t pairs,
                                 [[maybe_unused]] const uint8_t* const (&next)[2], const Sums& out) {
#if FATHOM_BF16 == 2
  const int64_t part_pairs = out.part_pairs(pairs);
  for (int64_t part = 0, i = 0; i < pairs; ++part, i += part_pairs) {
    for (int64_t m = 0; m < rows; m += 32) {
      multiply_tiles(x + m * kStride + 2 * i, min_of(32, rows - m), panels[0] + i * kPanelPair,
                     panels[1] + i * kPanelPair, min_of(part_pairs, pairs - i), out.part(part).from(m, 0));
    }
  }
#else
  // Blocks of rows as even as can be: few rows would wait for their own sums.
  const int64_t blocks = (rows + kPanelRows - 1) / kPanelRows;
  const int64_t step = kPanelPair * 2 / blocks;  // bytes a pair: each block asks for its share
  for (int64_t p = 0; p < 2; p += kPanels) {
    for (int64_t i = 0; i < blocks; ++i) {
      const int64_t begin = rows * i / blocks, end = rows * (i + 1) / blocks, share = i * pairs * step;
      const uint8_t* const ahead[2] = {next[p] + share, next[p + kPanels - 1] + share};
      multiply_panel_rows<kPanelRows>(end - begin, x + begin * kStride, panels + p, pairs, ahead, step,
                                      out.from(begin, p * kLanes));
    }
  }
#endif
}

}  // namespace fathom::cpu::FATHOM_LEVEL
