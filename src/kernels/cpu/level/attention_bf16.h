// The products of attention in BF16. x: rows anywhere (keys, or probabilities), w: panels of 32 columns by pairs of k,
// as in bf16_product.h, with a stride of x that is known at run time and sums that go on from scaled ones. In each of
// the three ways to multiply a sum depends on its row of x and its column of w alone.
#pragma once

#include "kernels/cpu/level/bf16_product.h"

namespace fathom::cpu::FATHOM_LEVEL {

/// Depths are filled with zeros up to a multiple of so many pairs: a tile has 16.
constexpr int64_t kPairStep = FATHOM_BF16 == 2 ? 16 : 1;
static inline int64_t pairs_of(int64_t depth) { return round_up((depth + 1) / 2, kPairStep); }
/// Rows of x that a product may read beyond the last.
constexpr int64_t kRowsRead = FATHOM_BF16 == 2 ? 32 : 1;
constexpr int64_t kColumns = 2 * kLanes;  // of the panels of attention: [pair, column, 2]

/// Elements between panels: a power of two and a line, so that panels do not share the cache's sets.
constexpr int64_t kKeyPanel = kKeyBlock / 2 * 2 * kColumns + 32;

/// y[m, n] = sum, or factors[m] * y[m, n] + sum.
struct Scaled {
  float* y;
  int64_t stride;
  const float* factors;  // null: y is not read
};

/// What is read after a product: asked for while it runs, its lines spread over the product's rows.
struct ReadNext {
  const uint8_t* at;
  int64_t bytes;

  ReadNext(const void* memory, int64_t num_bytes) : at(static_cast<const uint8_t*>(memory)), bytes(num_bytes) {}
  /// Of `count` equal parts those from `begin` to `end`.
  ReadNext part(int64_t begin, int64_t end, int64_t count) const {
    return {at + bytes * begin / count, bytes * end / count - bytes * begin / count};
  }
};
static const ReadNext kNothingNext = {nullptr, 0};

#if FATHOM_BF16 != 2

#if FATHOM_BF16 == 0
/// sum[m][v] += one pair of k, both terms in order.
template <int kRows, int kVectors>
static inline void add_products(F32x16 (&sum)[kRows][kVectors], const XElement* x, int64_t stride,
                                const uint16_t* panel) {
#pragma GCC unroll 2
  for (int term = 0; term < 2; ++term) {
    F32x16 w[kVectors];
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) {
      const Bf16x32 pair = load_bf16x32(again(panel + v * 2 * kLanes));
      w[v] = term == 0 ? even_of(pair) : odd_of(pair);
    }
#pragma GCC unroll 8
    for (int m = 0; m < kRows; ++m) {
      const F32x16 factor = set1(x[m * stride + term].v);
#pragma GCC unroll 2
      for (int v = 0; v < kVectors; ++v) sum[m][v] = now(fma(factor, w[v], sum[m][v]));
    }
  }
}
#else
/// sum[m][v] += one pair of k.
template <int kRows, int kVectors>
static inline void add_products(F32x16 (&sum)[kRows][kVectors], const XElement* x, int64_t stride,
                                const uint16_t* panel) {
  Bf16x32 w[kVectors];
#pragma GCC unroll 2
  for (int v = 0; v < kVectors; ++v) w[v] = load_bf16x32(panel + v * 2 * kLanes);
#pragma GCC unroll 8
  for (int m = 0; m < kRows; ++m) {
    const Bf16x32 pair = broadcast_pair(x + m * stride);
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) sum[m][v] = dot_bf16(sum[m][v], pair, w[v]);
  }
}
#endif

template <int kRows, int kVectors>
static inline void multiply_some(const XElement* x, int64_t stride, const uint16_t* panel, int64_t pairs,
                                 const ReadNext& next, const Scaled& out, int64_t row) {
  F32x16 sum[kRows][kVectors];
#pragma GCC unroll 8
  for (int m = 0; m < kRows; ++m) {
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) {
      sum[m][v] = out.factors == nullptr
                      ? zero()
                      : mul(load(out.y + (row + m) * out.stride + v * kLanes), set1(out.factors[row + m]));
    }
  }
  const int64_t step = next.bytes / max_of(pairs, 1);
  for (int64_t p = 0; p < pairs; ++p) {
    __builtin_prefetch(next.at + p * step, 0, 2);
    add_products(sum, x + 2 * p, stride, panel + p * 2 * kColumns);
  }
#pragma GCC unroll 8
  for (int m = 0; m < kRows; ++m) {
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) store(out.y + (row + m) * out.stride + v * kLanes, sum[m][v]);
  }
}

/// `rows` rows of x by the first 16 or all 32 columns of one panel.
template <int kVectors>
static inline void multiply_columns(const XElement* x, int64_t stride, int64_t rows, const uint16_t* panel,
                                    int64_t pairs, const ReadNext& next, const Scaled& out) {
  constexpr int kMost = FATHOM_SIMD_BITS == 512 ? 8 : FATHOM_SIMD_BITS == 256 ? 6 : 2;
  int64_t row = 0;
  const auto some = [&]<int kRows>(Count<kRows>) {
    for (; rows - row >= kRows; row += kRows) {
      multiply_some<kRows, kVectors>(x + row * stride, stride, panel, pairs, next.part(row, row + kRows, rows), out,
                                     row);
    }
  };
  some(Count<kMost>{});
  if constexpr (kMost > 4) some(Count<4>{});
  if constexpr (kMost > 2) some(Count<2>{});
  some(Count<1>{});
}

static inline void multiply_scaled(const XElement* x, int64_t stride, int64_t rows, const uint16_t* panel,
                                   int64_t columns, int64_t pairs, const ReadNext& next, const Scaled& out) {
  if (columns <= kLanes) {
    multiply_columns<1>(x, stride, rows, panel, pairs, next, out);
  } else if constexpr (FATHOM_SIMD_BITS == 256) {  // six rows by 16 columns fill the registers (bf16_product.h)
    multiply_columns<1>(x, stride, rows, panel, pairs, next, out);
    multiply_columns<1>(x, stride, rows, panel + 2 * kLanes, pairs, kNothingNext,
                        {out.y + kLanes, out.stride, out.factors});
  } else {
    multiply_columns<2>(x, stride, rows, panel, pairs, next, out);
  }
}

#else

/// As above, in tiles: 32 rows of x at a time (those beyond `rows` are read and their sums dropped) by 16 or 32
/// columns.
static inline void multiply_scaled(const XElement* x, int64_t stride, int64_t rows, const uint16_t* panel,
                                   int64_t columns, int64_t pairs, const ReadNext&, const Scaled& out) {
  alignas(64) float buffer[32 * 32];
  constexpr int64_t kPanelBytes = 2 * kColumns * 2;
  const int64_t row_bytes = stride * 2;
  const bool wide = columns > kLanes;
  for (int64_t row = 0; row < rows; row += 32) {
    const XElement* at = x + row * stride;
    const bool two = rows - row > 16;
    memory_is_read();
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    for (int64_t p = 0; p < pairs; p += 16) {
      _tile_loadd(4, at + 2 * p, row_bytes);
      if (two) _tile_loadd(5, at + 16 * stride + 2 * p, row_bytes);
      _tile_loadd(6, panel + p * 2 * kColumns, kPanelBytes);
      _tile_dpbf16ps(0, 4, 6);
      if (two) _tile_dpbf16ps(2, 5, 6);
      if (wide) {
        _tile_loadd(7, panel + p * 2 * kColumns + 2 * kLanes, kPanelBytes);
        _tile_dpbf16ps(1, 4, 7);
        if (two) _tile_dpbf16ps(3, 5, 7);
      }
    }
    _tile_stored(0, buffer, 128);
    _tile_stored(1, buffer + 16, 128);
    _tile_stored(2, buffer + 16 * 32, 128);
    _tile_stored(3, buffer + 16 * 32 + 16, 128);
    memory_is_read();
    for (int64_t m = row; m < min_of(rows, row + 32); ++m) {
      for (int64_t n = 0; n < (wide ? 2 : 1) * kLanes; n += kLanes) {
        float* y = out.y + m * out.stride + n;
        const F32x16 sum = load(buffer + (m - row) * 32 + n);
        store(y, out.factors == nullptr ? sum : fma(load(y), set1(out.factors[m]), sum));
      }
    }
  }
}

#endif

// Panels and rows of x.

/// x[i] = rows[i] rounded to BF16, count numbers from `rows`, zero up to `padded` (a multiple of 16).
static inline void fill_x(const float* row, int64_t count, int64_t padded, XElement* x) {
  for (int64_t i = 0; i < padded; i += kLanes) {
    const int64_t lanes = min_of(kLanes, count - i);
    put(x + i, lanes == kLanes ? load(row + i) : lanes > 0 ? load_partial(row + i, lanes) : zero());
  }
}
static inline void fill_x(const uint16_t* row, int64_t count, int64_t padded, XElement* x) {
  for (int64_t i = 0; i < padded; i += kLanes) {
    const int64_t lanes = min_of(kLanes, count - i);
    put(x + i, lanes == kLanes ? load_bf16(row + i) : lanes > 0 ? load_bf16_partial(row + i, lanes) : zero());
  }
}

/// panel[pair, column, 2] of up to 32 rows that become the columns; `row(n)` gives `depth` floats, zero-filled to a
/// multiple of 32. Columns beyond `count` are zero.
template <class Row>
static inline void fill_columns(Row row, int64_t count, int64_t depth, uint16_t* panel) {
  for (int64_t half = 0; half < 2; ++half) {
    for (int64_t k = 0; k < round_up(depth, 32); k += 32) {
      F32x16 square[16];
      for (int64_t n = 0; n < kLanes; ++n) {
        const int64_t column = half * kLanes + n;
        square[n] =
            column < count ? as_f32(concat_bf16(load(row(column) + k), load(row(column) + k + kLanes))) : zero();
      }
      transpose16(square);
      uint16_t* out = panel + k * kColumns + half * 2 * kLanes;
      for (int64_t j = 0; j < 16; ++j) store_bf16x32(out + j * 2 * kColumns, as_bf16(square[j]));
    }
  }
}

/// panel[pair, column, 2] of 16 columns from two rows that follow each other along k, `stride` numbers apart: columns
/// 0 .. n of each; without a second row zeros take its place.
static inline Bf16x32 zip_rows(const float* even, int64_t stride, bool has_odd, int64_t n) {
  return pair_bf16(load_n(even, n), has_odd ? load_n(even + stride, n) : zero());
}
static inline Bf16x32 zip_rows(const uint16_t* even, int64_t stride, bool has_odd, int64_t n) {
  if (n == kLanes && has_odd) return zip_bf16(even, even + stride);
  return pair_bf16(load_bf16_n(even, n), has_odd ? load_bf16_n(even + stride, n) : zero());
}

/// A panel of up to 32 columns from `keys` rows of a block; zero beyond both.
template <class T>
static inline void fill_values(const T* rows, int64_t stride, int64_t keys, int64_t width, uint16_t* panel) {
  for (int64_t s = 0; s < kKeyBlock; s += 2) {
    for (int64_t c = 0; c < kColumns; c += kLanes) {
      const int64_t lanes = min_of(kLanes, width - c);
      store_bf16x32(panel + s * kColumns + c * 2, s < keys && lanes > 0
                                                      ? zip_rows(rows + s * stride + c, stride, s + 1 < keys, lanes)
                                                      : as_bf16(zero()));
    }
  }
}

/// The probabilities p[key, column] of 64 keys (rows 32 floats apart) for 16 columns, rounded: rows of x, one a column.
static inline void fill_probabilities(const float* p, XElement* x, int64_t stride) {
#if FATHOM_BF16 == 0
  for (int64_t k = 0; k < kKeyBlock; k += kLanes) {
    F32x16 square[16];
    for (int64_t j = 0; j < kLanes; ++j) square[j] = load(p + (k + j) * kColumns);
    transpose16(square);
    for (int64_t n = 0; n < kLanes; ++n) put(x + n * stride + k, square[n]);
  }
#else
  for (int64_t k = 0; k < kKeyBlock; k += 2 * kLanes) {
    F32x16 square[16];
    for (int64_t j = 0; j < kLanes; ++j) {
      const float* pair = p + (k + 2 * j) * kColumns;
      square[j] = as_f32(pair_bf16(load(pair), load(pair + kColumns)));
    }
    transpose16(square);
    for (int64_t n = 0; n < kLanes; ++n) store_bf16x32(x + n * stride + k, as_bf16(square[n]));
  }
#endif
}

}  // namespace fathom::cpu::FATHOM_LEVEL
