// The BF16 matrix product of a level. Every output is a sum over absolute blocks of 1024 of k: inside a block the pairs
// (k, k + 1) are added one after the other (bf16_product.h says how), the blocks' sums in order. That order depends on
// k alone, so one token and many tokens give the same bits. The lanes of a vector are 16 columns of y, so nothing is
// ever added across lanes: w is read as blocks of 16 columns by 16 pairs, used from registers for few rows and from a
// panel for many.
#include "kernels/cpu/level/bf16_product.h"
#include "kernels/cpu/level/micro.h"
#include "kernels/cpu/level/ops.h"

namespace fathom::cpu::FATHOM_LEVEL {
namespace {

static_assert(kFewRows == 4, "with_rows knows four");

/// Vectors of 16 columns by 16 pairs, transposed as pairs: row n of `rows` holds the pairs of column n.
void transpose_pairs(Block& rows) {
  F32x16 square[16];
  for (int i = 0; i < 16; ++i) square[i] = as_f32(rows[i]);
  transpose16(square);
  for (int i = 0; i < 16; ++i) rows[i] = as_bf16(square[i]);
}

/// Columns first .. first + count (at most 16) and pairs k .. k + 32 of w, zero from k_end on.
template <class Row>
void load_block(Row, const MatrixRef& w, int64_t first, int64_t count, int64_t k, int64_t k_end, Block& block) {
  for (int64_t n = 0; n < kLanes; ++n) {
    if (n >= count) {
      block[n] = as_bf16(zero());
      continue;
    }
    if constexpr (Row::kIsBf16) {
      const uint16_t* at = row_of<uint16_t>(w, first + n) + k;
      block[n] = k + 32 <= k_end ? load_bf16x32(at) : load_bf16x32_partial(at, k_end - k);
    } else if constexpr (Row::kIsE4M3) {  // the codes themselves, which BF16 holds exactly: scales come later
      const uint8_t* at = row_of<uint8_t>(w, first + n) + k;
      uint8_t last[32] = {};
      if (k + 32 > k_end) {
        __builtin_memcpy(last, at, static_cast<uint64_t>(k_end - k));
        at = last;
      }
      block[n] = bf16_of_e4m3(at);
    } else {
      const Row row = Row::of(w, first + n);
      const int64_t left = k_end - k;
      const F32x16 low = row.load(k, min_of(kLanes, left));
      const F32x16 high = left > kLanes ? row.load(k + kLanes, min_of(kLanes, left - kLanes)) : zero();
      block[n] = concat_bf16(low, high);
    }
  }
  transpose_pairs(block);
}

/// The same for a transposed operand: row k of w holds the columns.
template <class Row>
void load_block_transposed(Row, const MatrixRef& w, int64_t first, int64_t count, int64_t k, int64_t k_end,
                           Block& block) {
  const auto row = [&](int64_t at) { return at < k_end ? Row::of(w, at).load(first, count) : zero(); };
  for (int64_t j = 0; j < 16; ++j) block[j] = pair_bf16(row(k + 2 * j), row(k + 2 * j + 1));
}

/// Weights in panels: the blocks are there, of BF16 as they are, of E4M3 to be widened.
const uint8_t* stored_panel(const MatrixRef& w, int64_t n, int64_t k) {
  const int64_t bytes = w.stored == Stored::kBF16 ? 2 : 1;  // of a number; w.stride of them in a column of a panel
  return static_cast<const uint8_t*>(w.data) + (n * w.stride + k * kLanes) * bytes;
}
#if FATHOM_SIMD_BITS != 512
struct WidenE4M3 {
  void operator()(const uint8_t* codes, Bf16x32& first, Bf16x32& second) const {
    first = bf16_of_e4m3(codes);
    second = bf16_of_e4m3(codes + 32);
  }
};
#endif
// Memory is asked for beyond a page, because at pages the hardware stops. Of BF16 one line in four is enough for it to
// go on, and asking for more takes time; widening E4M3 holds so much back that every line must be asked for.
constexpr int64_t kAheadBytes = 8192;
template <bool kIsBf16>
[[gnu::always_inline]] inline void load_stored_block(const MatrixRef& w, int64_t n, int64_t k, const WidenE4M3& widen,
                                                     Block& block) {
  constexpr int64_t kAheadStep = kIsBf16 ? 4 : 2;
  const uint8_t* at = stored_panel(w, n, k);
#pragma GCC unroll 8
  for (int64_t j = 0; j < 16; j += 2) {
    if (j % kAheadStep == 0) __builtin_prefetch(at + kAheadBytes, 0, 2);
    if constexpr (kIsBf16) {
      const auto* pairs = reinterpret_cast<const uint16_t*>(at);
      block[j] = load_bf16x32(pairs);
      block[j + 1] = load_bf16x32(pairs + kPanelPair);
    } else {
      widen(at, block[j], block[j + 1]);
    }
    at += (kIsBf16 ? 4 : 2) * kPanelPair;
  }
}

/// Calls load(n, count, k, k_end, block) of the stored dtype and direction.
template <class Body>
void with_loader(const GemmTile& t, Body body) {
  if (t.w.panels) {
    const WidenE4M3 widen;
    const auto with = [&]<bool kIsBf16>() {
      body([&](int64_t n, int64_t, int64_t k, int64_t, Block & block)
               __attribute__((always_inline)) { load_stored_block<kIsBf16>(t.w, n, k, widen, block); });
    };
    t.w.stored == Stored::kBF16 ? with.template operator()<true>() : with.template operator()<false>();
    return;
  }
  with_row_type(t.w.stored, [&](auto row) {
    if (t.w_transposed) {
      body([&t, row](int64_t n, int64_t count, int64_t k, int64_t k_end, Block& block) {
        load_block_transposed(row, t.w, n, count, k, k_end, block);
      });
    } else {
      body([&t, row](int64_t n, int64_t count, int64_t k, int64_t k_end, Block& block) {
        load_block(row, t.w, n, count, k, k_end, block);
      });
    }
  });
}

/// panel[pair, column, 2] of the 16 columns from n on, over [k0, k1); zero beyond `end` and k1.
template <class Load>
void fill_pairs(Load load, int64_t n, int64_t end, int64_t k0, int64_t k1, uint16_t* panel) {
  for (int64_t k = k0; k < k1; k += 32) {
    Block block;
    load(n, max_of(0, min_of(kLanes, end - n)), k, k1, block);
    for (int64_t j = 0; j < 16; ++j) store_bf16x32(panel + (k - k0 + 2 * j) * kLanes, block[j]);
  }
}

constexpr int64_t kGroups = 4;  // of 16 columns, side by side: their chains of additions overlap

/// Few rows: each block of w is used from registers, as it is read.
template <int kRows, class Load>
void multiply_direct(const XElement* x, Load load, int64_t n, int64_t columns, int64_t k0, int64_t k1, Sums out) {
  F32x16 sum[kGroups][kRows];
  for (auto& group : sum) {
    for (F32x16& s : group) s = zero();
  }
  for (int64_t k = k0; k < k1; k += 32) {
    for (int64_t g = 0; g < kGroups && g * kLanes < columns; ++g) {
      Block block;
      load(n + g * kLanes, min_of(kLanes, columns - g * kLanes), k, k1, block);
      add_block(sum[g], x + (k - k0), block);
    }
  }
  for (int64_t g = 0; g < kGroups; ++g) {
    for (int m = 0; m < kRows; ++m) out.put(m, g * kLanes, sum[g][m]);
  }
}

/// The scales of a tile's columns for one block of k: one for every 128 rows of w.
void fill_scales(const GemmTile& t, int64_t block, float* scales) {
  const int64_t columns = t.column_end - t.column_begin;
  for (int64_t n = 0; n < columns;) {
    const int64_t row = t.w.first_row + t.column_begin + n;
    const int64_t end = min_of(columns, n + kScaledBlock - row % kScaledBlock);
    const float scale = scales_of(t.w, t.column_begin + n)[block];
    for (; n < end; ++n) scales[n] = scale;
  }
}

static_assert(sizeof(XElement) == (FATHOM_BF16 == 0 ? 4 : 2), "Level::bf16_element_bytes");

}  // namespace

void round_x(const float* x, int64_t depth, void* out, int64_t block_bytes) {
  const MatrixRef row{x, Stored::kF32, 0, nullptr, 0, 0};
  for (int64_t k0 = 0; k0 < depth; k0 += kDepthBlockBf16) {
    auto* const at = reinterpret_cast<XElement*>(static_cast<uint8_t*>(out) + k0 / kDepthBlockBf16 * block_bytes);
    fill_panel(F32Row{}, row, 0, 1, k0, min_of(depth, k0 + kDepthBlockBf16), at, 0);
  }
}

void gemm_tile_bf16(const GemmTile& t, void* scratch) {
  const int64_t rows = t.row_end - t.row_begin, columns = t.column_end - t.column_begin;
  const MatrixRef xs{t.x, Stored::kF32, t.x_stride, nullptr, 0, 0};
  float* const y = t.y + t.row_begin * t.y_stride + t.column_begin;
  auto* const own_x = static_cast<XElement*>(scratch);  // where x is transposed
  auto* const panel = reinterpret_cast<uint16_t*>(own_x + kTileRows * kStride);
  // Scales change every 128 of k, so there a sum ends. (Weights with scales come as they are stored: their backward
  // product, the transposed one, is FP32.)
  const bool is_scaled = t.w.scales != nullptr, is_few = rows <= kFewRows;
  const int64_t depth_block = is_scaled && is_few ? kScaledBlock : kDepthBlockBf16;
  [[maybe_unused]] const Registers registers(rows);
  with_loader(t, [&](auto load) {
    for (int64_t k0 = 0; k0 == 0 || k0 < t.depth; k0 += depth_block) {
      const int64_t k1 = min_of(t.depth, k0 + depth_block);
      float scales[kDepthBlockBf16 / kScaledBlock * kTileColumnsBf16];
      for (int64_t k = k0; is_scaled && k < k1; k += kScaledBlock) {
        fill_scales(t, k / kScaledBlock, scales + (k - k0) / kScaledBlock * kTileColumnsBf16);
      }
      const auto sums = [&](int64_t n) {
        return Sums{y + n, t.y_stride, columns - n, t.accumulate || k0 > 0, is_scaled ? scales + n : nullptr};
      };
      const XElement* x = own_x;
      if (t.rounded.data != nullptr) {
        const auto* block = static_cast<const uint8_t*>(t.rounded.data) + k0 / kDepthBlockBf16 * t.rounded.block_bytes;
        x = reinterpret_cast<const XElement*>(block) + t.row_begin * kStride + k0 % kDepthBlockBf16;
      } else {
        fill(xs, t.x_transposed, t.row_begin, rows, k0, k1, own_x, kStride);
      }
      if (is_few) {
        for (int64_t n = 0; n < columns; n += kGroups * kLanes) {
          with_rows(rows, [&](auto count) {
            multiply_direct<decltype(count)::value>(x, load, t.column_begin + n, min_of(kGroups * kLanes, columns - n),
                                                    k0, k1, sums(n));
          });
        }
        continue;
      }
      for (int64_t n = 0; n < columns; n += 2 * kLanes) {
        const uint16_t* halves[2];
        for (int64_t half = 0; half < 2; ++half) {
          // The last panel of a matrix may have no neighbour: it stands in for it, and its sums are not stored.
          const int64_t column = t.column_begin + (n + half * kLanes < columns ? n + half * kLanes : n);
          uint16_t* filled = panel + half * kDepthBlockBf16 * kLanes;
          halves[half] = filled;
          if (t.w.panels && t.w.stored == Stored::kBF16) {
            halves[half] = reinterpret_cast<const uint16_t*>(stored_panel(t.w, column, k0));
          } else {
            fill_pairs(load, column, t.column_begin + columns, k0, k1, filled);
          }
        }
        const int64_t column = t.column_begin + n + 2 * kLanes;
        const auto* const nothing = reinterpret_cast<const uint8_t*>(panel);
        const uint8_t* const next[2] = {t.w.panels ? stored_panel(t.w, column, k0) : nothing,
                                        t.w.panels ? stored_panel(t.w, column + kLanes, k0) : nothing};
        multiply_rows(x, rows, halves, (k1 - k0 + 1) / 2, next, sums(n));
      }
    }
  });
}

}  // namespace fathom::cpu::FATHOM_LEVEL
