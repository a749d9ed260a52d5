// DeepSeek's FP8 linear: per 128 of k the products of the codes are summed exactly (43 bits span them all, so doubles
// in any order do), rounded to FP32 once, and acc = fma(partial, s_x s_w, acc). Bit-equal to the reference on every
// level.
#include "kernels/cpu/level/micro.h"
#include "kernels/cpu/level/ops.h"

namespace fathom::cpu::FATHOM_LEVEL {
namespace {

constexpr int64_t kBlock = 128;
constexpr int64_t kStride = kBlock + 8;  // doubles between panel rows, off the cache sets' period

// Sixteen codes as two vectors of doubles: from a panel, or decoded in registers.
struct PanelCodes {
  const double* at;
  [[gnu::always_inline]] void load(int64_t k, int64_t, F64x8& low, F64x8& high) const {
    low = load_f64(at + k);
    high = load_f64(at + k + 8);
  }
};
struct StoredCodes {
  const uint8_t* at;
  [[gnu::always_inline]] void load(int64_t k, int64_t n, F64x8& low, F64x8& high) const {
    const F32x16 codes = n >= kLanes ? load_e4m3(at + k) : load_e4m3_partial(at + k, n);
    low = low_f64(codes);
    high = high_f64(codes);
  }
};

/// Lane 4 m + n = the sum over k in [0, depth) of x[m] w[n], exact, rounded to FP32.
template <int kRows, class Codes>
F32x16 exact_4x4(const double* const* x, const Codes* w, int64_t depth) {
  F64x8 sum[kRows][4];
#pragma GCC unroll 4
  for (int m = 0; m < kRows; ++m) {
#pragma GCC unroll 4
    for (int n = 0; n < 4; ++n) sum[m][n] = zero_f64();
  }
  for (int64_t k = 0; k < depth; k += kLanes) {
#pragma GCC unroll 4
    for (int n = 0; n < 4; ++n) {
      F64x8 low, high;
      w[n].load(k, depth - k, low, high);
#pragma GCC unroll 4
      for (int m = 0; m < kRows; ++m) {
        sum[m][n] = fma(load_f64(x[m] + k), low, sum[m][n]);
        sum[m][n] = fma(load_f64(x[m] + k + 8), high, sum[m][n]);
      }
    }
  }
  F64x8 first[8], second[8];
#pragma GCC unroll 8
  for (int i = 0; i < 8; ++i) {
    first[i] = i / 4 < kRows ? sum[i / 4 < kRows ? i / 4 : 0][i % 4] : zero_f64();
    second[i] = 2 + i / 4 < kRows ? sum[2 + i / 4 < kRows ? 2 + i / 4 : 0][i % 4] : zero_f64();
  }
  return narrow(reduce8(first), reduce8(second));
}

/// acc += one block of k for all rows and columns of the tile; w_row(n) gives the codes of column n.
template <class WRow>
void add_block(const GemmTile& t, const double* x, const float* x_scale, WRow w_row, int64_t k0, int64_t depth,
               float* acc) {
  const int64_t rows = t.row_end - t.row_begin, columns = t.column_end - t.column_begin;
  for (int64_t n = 0; n < columns; n += 4) {
    decltype(w_row(int64_t{0})) ws[4];
    float w_scale[4];
    for (int64_t i = 0; i < 4; ++i) {
      const int64_t column = min_of(n + i, columns - 1);
      ws[i] = w_row(column);
      w_scale[i] = scales_of(t.w, t.column_begin + column)[k0 / kBlock];
    }
    for (int64_t m = 0; m < rows; m += 4) {
      const double* xs[4];
      for (int64_t i = 0; i < 4; ++i) xs[i] = x + min_of(m + i, rows - 1) * kStride;
      float partial[16];
      with_rows(rows - m, [&](auto count) { store(partial, exact_4x4<decltype(count)::value>(xs, ws, depth)); });
      for (int64_t i = 0; i < min_of(4, rows - m); ++i) {
        float* out = acc + (m + i) * kTileColumns + n;  // rows of acc are longer than columns: all four fit
        for (int64_t j = 0; j < 4; ++j) {
          out[j] = __builtin_fmaf(partial[4 * i + j], x_scale[m + i] * w_scale[j], out[j]);
        }
      }
    }
  }
}

}  // namespace

void gemm_tile_fp8(const GemmTile& t, void* scratch) {
  const int64_t rows = t.row_end - t.row_begin, columns = t.column_end - t.column_begin;
  auto* acc = static_cast<float*>(scratch);
  float* x_scale = acc + kTileRows * kTileColumns;
  auto* x = reinterpret_cast<double*>(x_scale + kTileRows);
  double* w = x + kTileRows * kStride;
  for (int64_t i = 0; i < rows * kTileColumns; ++i) acc[i] = 0;
  for (int64_t k0 = 0; k0 < t.depth; k0 += kBlock) {
    const int64_t depth = min_of(t.depth - k0, kBlock);
    for (int64_t m = 0; m < rows; ++m) {
      uint8_t codes[kBlock];
      quantize_row(t.x + (t.row_begin + m) * t.x_stride + k0, t.w.power_of_two_scales, codes, x_scale + m, depth);
      for (int64_t k = 0; k < depth; k += kLanes) {
        store_widened(x + m * kStride + k, load_e4m3_partial(codes + k, min_of(kLanes, depth - k)));
      }
    }
    const auto stored = [&](int64_t n) { return StoredCodes{row_of<uint8_t>(t.w, t.column_begin + n) + k0}; };
    if (rows <= kFewRows) {
      add_block(t, x, x_scale, stored, k0, depth, acc);
      continue;
    }
    for (int64_t n = 0; n < columns; ++n) {
      for (int64_t k = 0; k < depth; k += kLanes) {
        store_widened(w + n * kStride + k, load_e4m3_partial(stored(n).at + k, min_of(kLanes, depth - k)));
      }
    }
    add_block(
        t, x, x_scale, [&](int64_t n) { return PanelCodes{w + n * kStride}; }, k0, depth, acc);
  }
  for (int64_t m = 0; m < rows; ++m) {
    float* y = t.y + (t.row_begin + m) * t.y_stride + t.column_begin;
    for (int64_t n = 0; n < columns; ++n) {
      y[n] = t.accumulate ? y[n] + acc[m * kTileColumns + n] : acc[m * kTileColumns + n];
    }
  }
}

}  // namespace fathom::cpu::FATHOM_LEVEL
