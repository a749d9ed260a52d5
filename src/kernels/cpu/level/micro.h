// The two register-blocked inner loops of the cpu back end. Dot form: up to 4 rows times 4 rows, both contiguous along
// k, 16 partial sums per output. Sum form: up to 4 output rows, vectors along the columns, terms added in order.
#pragma once

#include "kernels/cpu/level/operands.h"

namespace fathom::cpu::FATHOM_LEVEL {

/// acc[4 m + n] = the 16 partial sums of <x[m], w[n]> over k in [begin, end): lane l takes k = begin + l, + 16, ...
/// in order; a short end is filled with zeros. Unused rows give zeros.
template <int kRows, class Row>
static inline void dot_4x4(const F32Row* x, const Row* w, int64_t begin, int64_t end, F32x16 (&acc)[16]) {
  F32x16 sum[kRows][4];
#pragma GCC unroll 4
  for (int m = 0; m < kRows; ++m) {
#pragma GCC unroll 4
    for (int n = 0; n < 4; ++n) sum[m][n] = zero();
  }
  int64_t k = begin;
  for (; k + kLanes <= end; k += kLanes) {
    F32x16 ws[4];
#pragma GCC unroll 4
    for (int n = 0; n < 4; ++n) ws[n] = w[n].load(k, kLanes);
#pragma GCC unroll 4
    for (int m = 0; m < kRows; ++m) {
      const F32x16 xs = load(x[m].at + k);
#pragma GCC unroll 4
      for (int n = 0; n < 4; ++n) sum[m][n] = fma(xs, ws[n], sum[m][n]);
    }
  }
  if (k < end) {
#pragma GCC unroll 4
    for (int n = 0; n < 4; ++n) {
      const F32x16 ws = w[n].load(k, end - k);
#pragma GCC unroll 4
      for (int m = 0; m < kRows; ++m) sum[m][n] = fma(load_partial(x[m].at + k, end - k), ws, sum[m][n]);
    }
  }
#pragma GCC unroll 4
  for (int m = 0; m < 4; ++m) {
#pragma GCC unroll 4
    for (int n = 0; n < 4; ++n) acc[4 * m + n] = m < kRows ? sum[m < kRows ? m : 0][n] : zero();
  }
}

/// y[m, n] (+)= sums[4 m + n] for m < rows, n < columns (both at most 4).
static inline void put_4x4(F32x16 sums, int64_t rows, int64_t columns, float* y, int64_t stride, bool accumulate) {
  float block[16];
  store(block, sums);
  for (int64_t m = 0; m < rows; ++m) {
    float* out = y + m * stride;
    const float* in = block + 4 * m;
    if (columns == 4) {  // no stride, no aliasing: one 128-bit operation each
      float old[4] = {0, 0, 0, 0}, sum[4];
      if (accumulate) __builtin_memcpy(old, out, sizeof(old));
      for (int n = 0; n < 4; ++n) sum[n] = accumulate ? old[n] + in[n] : in[n];
      __builtin_memcpy(out, sum, sizeof(sum));
    } else {
      for (int64_t n = 0; n < columns; ++n) out[n] = accumulate ? out[n] + in[n] : in[n];
    }
  }
}

/// Calls body(Count<n>{}) with the number of rows, n = 1 .. 4, known at compile time.
template <class Body>
static inline void with_rows(int64_t rows, Body body) {
  if (rows >= 4) {
    body(Count<4>{});
  } else if (rows == 3) {
    body(Count<3>{});
  } else if (rows == 2) {
    body(Count<2>{});
  } else {
    body(Count<1>{});
  }
}

/// scores[i, j] = <a[i], b[j]> over depth, i < rows, j < columns, all rows contiguous (a panel each).
static inline void dot_block(const float* a, int64_t a_stride, int64_t rows, const float* b, int64_t b_stride,
                             int64_t columns, int64_t depth, float* scores, int64_t scores_stride) {
  for (int64_t j = 0; j < columns; j += 4) {
    F32Row w[4];
    for (int64_t n = 0; n < 4; ++n) w[n].at = b + min_of(j + n, columns - 1) * b_stride;
    for (int64_t i = 0; i < rows; i += 4) {
      F32Row x[4];
      for (int64_t m = 0; m < 4; ++m) x[m].at = a + min_of(i + m, rows - 1) * a_stride;
      F32x16 acc[16];
      with_rows(rows - i, [&](auto count) { dot_4x4<decltype(count)::value>(x, w, 0, depth, acc); });
      put_4x4(reduce16(acc), min_of(4, rows - i), min_of(4, columns - j), scores + i * scores_stride + j, scores_stride,
              false);
    }
  }
}

/// What a sum does with the output that is there: goes on from it, replaces it, or is added to it as one sum.
enum class Start { kContinue, kAssign, kAdd };

/// Sum form, kRows output rows and kVectors vectors: sum = fma(a(i, j), b[j, :], sum) for j = 0 .. count - 1 in order,
/// with a(i, j) = a[i * a_row + j * a_step]. `width` is at most 16 kVectors; b_row(j) gives row j of b.
template <int kRows, int kVectors, class BRow>
static inline void sum_tile(const float* a, int64_t a_row, int64_t a_step, BRow b_row, int64_t count, int64_t column,
                            int64_t width, float* c, int64_t c_stride, Start start) {
  F32x16 sum[kRows][kVectors];
  const int64_t last = width - (kVectors - 1) * kLanes;  // lanes of the last vector
#pragma GCC unroll 4
  for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 16
    for (int v = 0; v < kVectors; ++v) {
      sum[i][v] = start == Start::kContinue
                      ? load_n(c + i * c_stride + column + v * kLanes, v + 1 < kVectors ? kLanes : last)
                      : zero();
    }
  }
  for (int64_t j = 0; j < count; ++j) {
    const auto row = b_row(j);
    F32x16 bs[kVectors];
#pragma GCC unroll 16
    for (int v = 0; v < kVectors; ++v) bs[v] = row.load(column + v * kLanes, v + 1 < kVectors ? kLanes : last);
#pragma GCC unroll 4
    for (int i = 0; i < kRows; ++i) {
      const F32x16 factor = set1(a[i * a_row + j * a_step]);
#pragma GCC unroll 16
      for (int v = 0; v < kVectors; ++v) sum[i][v] = fma(factor, bs[v], sum[i][v]);
    }
  }
#pragma GCC unroll 4
  for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 16
    for (int v = 0; v < kVectors; ++v) {
      float* out = c + i * c_stride + column + v * kLanes;
      const int64_t lanes = v + 1 < kVectors ? kLanes : last;
      store_n(out, start == Start::kAdd ? add(load_n(out, lanes), sum[i][v]) : sum[i][v], lanes);
    }
  }
}

/// c[i, d] (+)= sum_j a(i, j) b[j, d] in order of j, for i < rows and d in [begin, end).
template <class BRow>
static inline void sum_block(const float* a, int64_t a_row, int64_t a_step, int64_t rows, BRow b_row, int64_t count,
                             int64_t begin, int64_t end, float* c, int64_t c_stride, Start start = Start::kContinue) {
  for (int64_t d = begin; d < end;) {
    const bool wide = d + 4 * kLanes <= end;
    const int64_t width = wide ? 4 * kLanes : min_of(kLanes, end - d);
    for (int64_t i = 0; i < rows; i += 4) {
      with_rows(rows - i, [&](auto tag) {
        constexpr int kRows = decltype(tag)::value;
        const float* ai = a + i * a_row;
        float* ci = c + i * c_stride;
        if (wide) {
          sum_tile<kRows, 4>(ai, a_row, a_step, b_row, count, d, width, ci, c_stride, start);
        } else {
          sum_tile<kRows, 1>(ai, a_row, a_step, b_row, count, d, width, ci, c_stride, start);
        }
      });
    }
    d += width;
  }
}

/// Rows of a block in scratch are this far apart: padded so that they spread over the cache's sets.
static inline int64_t panel_stride(int64_t width) { return round_up(width, kLanes) + kLanes; }

/// A key in scratch: its nope part and its rope part, each filled up to a multiple of 16 with zeros.
static inline int64_t key_width(int64_t nope, int64_t rope) { return round_up(nope, kLanes) + round_up(rope, kLanes); }

/// Copies n floats and fills up to the next multiple of 16 with zeros.
static inline void pack(const float* x, int64_t n, float* out) {
  each_vector(n, [&](int64_t i, int64_t lanes) { store(out + i, load_n(x + i, lanes)); });
}

/// The rows of a block as an operand of sum_block.
struct PanelRows {
  const float* data;
  int64_t stride;
  F32Row operator()(int64_t j) const { return {data + j * stride}; }
};

/// scores[i, s] = <a[i], column s of b>, keys in the lanes: b [depth, kKeyBlock] is the transposed block. The terms are
/// summed in order within parts of 64, the parts in order. Row i needs its first `visible` + i columns, at most
/// `columns`; what lies beyond (b is zero-filled to a multiple of 32) is not for use.
static inline void score_block(const float* a, int64_t a_stride, int64_t rows, const float* b, int64_t b_stride,
                               int64_t depth, int64_t columns, int64_t visible, float* scores, int64_t scores_stride) {
  for (int64_t d = 0; d < depth; d += 64) {  // a part of b (16 KiB) stays in the first cache for all rows
    for (int64_t i = 0; i < rows; i += 4) {
      const int64_t count = min_of(4, rows - i);
      const int64_t width = round_up(min_of(columns, visible + i + count - 1), kLanes);
      sum_block(a + i * a_stride + d, a_stride, 1, count, PanelRows{b + d * b_stride, b_stride}, min_of(64, depth - d),
                0, width, scores + i * scores_stride, scores_stride, d == 0 ? Start::kAssign : Start::kAdd);
    }
  }
}

/// Columns [0, width) of `keys` rows, transposed: panel[d, s] = rows[s, d], zero-filled up to a multiple of 32 keys.
static inline void pack_transposed(const float* rows, int64_t stride, int64_t keys, int64_t width, float* panel,
                                   int64_t panel_stride) {
  fill_panel_transposed(F32Row{}, {rows, Stored::kF32, stride, nullptr, 0, 0}, 0, width, 0, keys, panel, panel_stride);
}

}  // namespace fathom::cpu::FATHOM_LEVEL
