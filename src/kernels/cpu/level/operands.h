// Operands of the dot-form loops: rows of a stored matrix read as FP32 vectors in registers (few tokens, memory bound),
// and panels, the same rows decoded once into a thread's scratch (many tokens).
#pragma once

#include "kernels/cpu/level/level.h"
#include "kernels/cpu/level/simd.h"

namespace fathom::cpu::FATHOM_LEVEL {

/// The scales of row n, one per 128 columns.
static inline const float* scales_of(const MatrixRef& w, int64_t n) {
  return w.scales + (w.first_row + n) / 128 * w.scale_stride;
}
template <class T>
static inline const T* row_of(const MatrixRef& w, int64_t n) {
  return static_cast<const T*>(w.data) + (w.first_row + n) * w.stride;
}

// One row each; load(k, n) gives columns k .. k + n - 1, zero beyond. k of E4M3 is a multiple of 16.
struct F32Row {
  static constexpr bool kIsBf16 = false, kIsE4M3 = false;
  const float* at = nullptr;
  [[gnu::always_inline]] F32x16 load(int64_t k, int64_t n) const { return load_n(at + k, n); }
  static F32Row of(const MatrixRef& w, int64_t n) { return {row_of<float>(w, n)}; }
};
struct Bf16Row {
  static constexpr bool kIsBf16 = true, kIsE4M3 = false;
  const uint16_t* at = nullptr;
  [[gnu::always_inline]] F32x16 load(int64_t k, int64_t n) const { return load_bf16_n(at + k, n); }
  static Bf16Row of(const MatrixRef& w, int64_t n) { return {row_of<uint16_t>(w, n)}; }
};
struct F16Row {
  static constexpr bool kIsBf16 = false, kIsE4M3 = false;
  const uint16_t* at = nullptr;
  [[gnu::always_inline]] F32x16 load(int64_t k, int64_t n) const {
    return n == kLanes ? load_f16(at + k) : load_f16_partial(at + k, n);
  }
  static F16Row of(const MatrixRef& w, int64_t n) { return {row_of<uint16_t>(w, n)}; }
};
struct E4M3Row {
  static constexpr bool kIsBf16 = false, kIsE4M3 = true;
  const uint8_t* at = nullptr;
  const float* scales = nullptr;
  [[gnu::always_inline]] F32x16 load(int64_t k, int64_t n) const {
    const F32x16 codes = n == kLanes ? load_e4m3(at + k) : load_e4m3_partial(at + k, n);
    return mul(codes, set1(scales[k / 128]));
  }
  static E4M3Row of(const MatrixRef& w, int64_t n) { return {row_of<uint8_t>(w, n), scales_of(w, n)}; }
};

/// Calls body(Row{}) with the row type of a stored dtype.
template <class Body>
static inline void with_row_type(Stored stored, Body body) {
  switch (stored) {
    case Stored::kF32: body(F32Row{}); return;
    case Stored::kBF16: body(Bf16Row{}); return;
    case Stored::kF16: body(F16Row{}); return;
    case Stored::kE4M3: body(E4M3Row{}); return;
  }
}

/// What a panel holds: FP32, BF16 bits, or doubles.
static inline void put(float* p, F32x16 a) { store(p, a); }
static inline void put(uint16_t* p, F32x16 a) { store_bf16(p, a); }
static inline void put(double* p, F32x16 a) { store_widened(p, a); }

/// panel[i, k - k0] = element (first + i, k), k in [k0, k1), zero-filled up to the next multiple of 32. k0 is a
/// multiple of 16.
template <class T, class Row>
static inline void fill_panel(Row, const MatrixRef& w, int64_t first, int64_t count, int64_t k0, int64_t k1, T* panel,
                              int64_t stride) {
  for (int64_t i = 0; i < count; ++i) {
    const Row row = Row::of(w, first + i);
    T* out = panel + i * stride;
    int64_t k = k0;
    for (; k + kLanes <= k1; k += kLanes) put(out + (k - k0), row.load(k, kLanes));
    if (k < k1) {
      put(out + (k - k0), row.load(k, k1 - k));
      k += kLanes;
    }
    if ((k - k0) % 32 != 0) put(out + (k - k0), zero());
  }
}

/// As fill_panel for a transposed operand: panel[i, k - k0] = element (k, first + i) of w.
template <class T, class Row>
static inline void fill_panel_transposed(Row, const MatrixRef& w, int64_t first, int64_t count, int64_t k0, int64_t k1,
                                         T* panel, int64_t stride) {
  // Squares lie at multiples of 16 columns of w, so that a square of E4M3 has one scale per row; what falls outside
  // [first, first + count) is not stored.
  const int64_t begin = first / kLanes * kLanes, end = first + count;
  const int64_t padded = round_up(k1 - k0, 32);
  for (int64_t c = begin; c < end; c += kLanes) {
    const int64_t lanes = min_of(kLanes, end - c);
    for (int64_t k = 0; k < padded; k += kLanes) {
      F32x16 square[16];
      for (int64_t j = 0; j < kLanes; ++j) {
        square[j] = k0 + k + j < k1 ? Row::of(w, k0 + k + j).load(c, lanes) : zero();
      }
      transpose16(square);
      for (int64_t j = 0; j < kLanes; ++j) {
        const int64_t i = c + j - first;
        if (i >= 0 && i < count) put(panel + i * stride + k, square[j]);
      }
    }
  }
}

template <class T>
static inline void fill(const MatrixRef& w, bool transposed, int64_t first, int64_t count, int64_t k0, int64_t k1,
                        T* panel, int64_t stride) {
  with_row_type(w.stored, [&](auto row) {
    if (transposed) {
      fill_panel_transposed(row, w, first, count, k0, k1, panel, stride);
    } else {
      fill_panel(row, w, first, count, k0, k1, panel, stride);
    }
  });
}

}  // namespace fathom::cpu::FATHOM_LEVEL
