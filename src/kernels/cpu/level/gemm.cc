// The FP32 matrix product of a level, in dot form. Every output is a sum over absolute blocks of 512 of k: inside a
// block 16 partial sums in lane order and the fixed tree, the blocks' sums added in order. That order depends on k
// alone, so one token and many tokens give the same bits.
#include "kernels/cpu/level/micro.h"
#include "kernels/cpu/level/ops.h"

namespace fathom::cpu::FATHOM_LEVEL {
namespace {

// Panel rows are this much longer than a block, so that rows do not fall on the same cache sets.
constexpr int64_t kPadBytes = 64;

MatrixRef x_ref(const GemmTile& t) { return {t.x, Stored::kF32, t.x_stride, nullptr, 0, 0}; }

/// Asks for [k0, k1) of a row. A block is too short for the hardware to see a stream in it.
template <class Row>
void ask_for(const Row& row, int64_t k0, int64_t k1) {
  constexpr int64_t kStep = 64 / sizeof(*row.at);
  for (int64_t k = k0; k < k1; k += kStep) __builtin_prefetch(row.at + k, 0, 2);
}

// y (+)= x w over columns [k0, k1) of the rows; w_row(n) gives row n of the tile's columns.
template <class WRow>
void multiply_f32(const GemmTile& t, const float* x, int64_t x_stride, int64_t k0, int64_t k1, bool accumulate,
                  WRow w_row) {
  using Row = decltype(w_row(int64_t{0}));
  const int64_t rows = t.row_end - t.row_begin, columns = t.column_end - t.column_begin;
  float* y = t.y + t.row_begin * t.y_stride + t.column_begin;
  if (rows == 1) {
    const F32Row xs[1] = {{x}};
    for (int64_t n = 0; n < columns; n += kLanes) {
      F32x16 acc[16];
      for (int64_t j = 0; j < 4; ++j) {
        Row ws[4];
        for (int64_t i = 0; i < 4; ++i) {
          ws[i] = w_row(min_of(n + 4 * j + i, columns - 1));
          if (n + 4 * (j + 1) + i < columns) ask_for(w_row(n + 4 * (j + 1) + i), k0, k1);
        }
        F32x16 four[16];
        dot_4x4<1>(xs, ws, k0, k1, four);
        for (int64_t i = 0; i < 4; ++i) acc[4 * j + i] = four[i];
      }
      const int64_t lanes = min_of(kLanes, columns - n);
      const F32x16 sums = reduce16(acc);
      store_n(y + n, accumulate ? add(load_n(y + n, lanes), sums) : sums, lanes);
    }
    return;
  }
  for (int64_t n = 0; n < columns; n += 4) {
    Row ws[4];
    for (int64_t i = 0; i < 4; ++i) ws[i] = w_row(min_of(n + i, columns - 1));
    for (int64_t m = 0; m < rows; m += 4) {
      F32Row xs[4];
      for (int64_t i = 0; i < 4; ++i) xs[i].at = x + min_of(m + i, rows - 1) * x_stride;
      F32x16 acc[16];
      with_rows(rows - m, [&](auto count) { dot_4x4<decltype(count)::value>(xs, ws, k0, k1, acc); });
      put_4x4(reduce16(acc), min_of(4, rows - m), min_of(4, columns - n), y + m * t.y_stride + n, t.y_stride,
              accumulate);
    }
  }
}

void gemm_tile_f32(const GemmTile& t, float* scratch) {
  constexpr int64_t kStride = kDepthBlockF32 + kPadBytes / 4;
  const int64_t rows = t.row_end - t.row_begin, columns = t.column_end - t.column_begin;
  for (int64_t k0 = 0; k0 == 0 || k0 < t.depth; k0 += kDepthBlockF32) {
    const int64_t k1 = min_of(t.depth, k0 + kDepthBlockF32);
    const bool accumulate = t.accumulate || k0 > 0;
    // x where it lies, or its transposed block; k counts from the block's start in a panel.
    const float* x = t.x + t.row_begin * t.x_stride;
    int64_t x_stride = t.x_stride;
    const bool w_panel = t.w_transposed || t.x_transposed || (t.w.stored != Stored::kF32 && rows > kFewRows);
    if (t.x_transposed) {
      fill(x_ref(t), true, t.row_begin, rows, k0, k1, scratch, kStride);
      x = scratch;
      x_stride = kStride;
    } else if (w_panel) {
      x += k0;
    }
    if (w_panel) {
      float* panel = scratch + kTileRows * kStride;
      fill(t.w, t.w_transposed, t.column_begin, columns, k0, k1, panel, kStride);
      multiply_f32(t, x, x_stride, 0, k1 - k0, accumulate, [&](int64_t n) { return F32Row{panel + n * kStride}; });
    } else {
      with_row_type(t.w.stored, [&](auto row) {
        multiply_f32(t, x, x_stride, k0, k1, accumulate,
                     [&](int64_t n) { return decltype(row)::of(t.w, t.column_begin + n); });
      });
    }
  }
}

}  // namespace

void gemm_tile(const GemmTile& tile, void* scratch) {
  switch (tile.arithmetic) {
    case Arithmetic::kF32: gemm_tile_f32(tile, static_cast<float*>(scratch)); return;
    case Arithmetic::kBF16: gemm_tile_bf16(tile, scratch); return;
    case Arithmetic::kFp8: gemm_tile_fp8(tile, scratch); return;
  }
}

}  // namespace fathom::cpu::FATHOM_LEVEL
