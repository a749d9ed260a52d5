// Products of weights in integer groups with activations in INT8 groups. Per group of 32 k the products of the codes
// are summed exactly, then sum = fma(products, s_w s_x, sum), groups ascending; of a format with offsets then
// sum = fma(offset, -(s_x times the sum of the activations' codes), sum); of a format whose halves have scales of their
// own, each half by itself. Integer sums have no rounding, so every level gives the same bits, and so do one row and
// many.
//
// Many rows: 512 k of two panels stay in the first cache (codes of fewer than 8 bits widened there once) while all rows
// of the tile pass; the sums wait in y between blocks of k, and the next block's lines are asked for meanwhile. Few
// rows: a panel is read once, from memory into registers.
#include "kernels/cpu/level/int_panels.h"
#include "kernels/cpu/level/ops.h"

namespace fathom::cpu::FATHOM_LEVEL {
namespace {

constexpr int64_t kBlockGroups = 16;  // whole super-blocks

// One row leaves the hardware's prefetching all the time it needs; more rows do not, and lose half of the bandwidth
// without this. Farther than a page, because at pages the hardware stops.
constexpr int64_t kAheadBytes = 8192;
template <class Format>
[[gnu::always_inline]] inline void ask_ahead(const uint8_t* panel, int64_t group) {
  const uint8_t* at = Format::codes_of(panel, group) + kAheadBytes;
#pragma GCC unroll 9
  for (int64_t i = -(1 - group % 2) * kLine; i < Format::kGroupBytes; i += kLine) __builtin_prefetch(at + i, 0, 2);
}

// Where the sums of a group's products begin: of the whole, and of its halves.
I32x16 start_of(const IntRows& x, int64_t row, int64_t group) {
  return set1_i32(kStartsOffset ? x.starts[row * x.scale_stride + group].whole : kStart);
}
I32x16 start_of_half(const IntRows& x, int64_t row, int64_t group, int half) {
  const IntStarts& starts = x.starts[row * x.scale_stride + group];
  if (!kStartsOffset) return set1_i32(kStart);
  return set1_i32(half == 0 ? starts.first_half : kStart + (starts.whole - starts.first_half));
}

/// kRows rows by one panel, all of k. A group's products are summed in two parts, which wait for each other less.
template <int kRows, class Format>
void multiply_direct(const IntTile& t, const uint8_t* panel, int64_t row, int64_t column) {
  const Table table = table_of(t.w.table);
  F32x16 sum[kRows];
#pragma GCC unroll 4
  for (int m = 0; m < kRows; ++m) sum[m] = zero();
  const int8_t* x = t.x.codes + row * t.x.stride;
  for (int64_t g = 0; g < t.w.groups; ++g) {
    if constexpr (kRows > 2) ask_ahead<Format>(panel, g);
    I32x16 part[kRows][2];
#pragma GCC unroll 4
    for (int m = 0; m < kRows; ++m) {
      if constexpr (Format::kHasHalves) {
        for (int half = 0; half < 2; ++half) part[m][half] = start_of_half(t.x, row + m, g, half);
      } else {
        part[m][0] = start_of(t.x, row + m, g);
        part[m][1] = set1_i32(0);
      }
    }
    Format::each(
        panel, table, g, [&](int64_t j, U8x64 bytes) __attribute__((always_inline)) {
          const Quads quads = quads_of(bytes);
#pragma GCC unroll 4
          for (int m = 0; m < kRows; ++m) {
            I32x16& acc = part[m][Format::kHasHalves ? j / (kQuadsOfGroup / 2) : j % 2];
            acc = dot(acc, quads, x + m * t.x.stride + g * kGroup + 4 * j);
          }
        });
    F32x16 factor[Format::kFactors];
    Format::factors_of(panel, g, factor);
#pragma GCC unroll 4
    for (int m = 0; m < kRows; ++m) {
      const int64_t at = (row + m) * t.x.scale_stride + g;
      const F32x16 x_scale = set1(t.x.scales[at]);
      if constexpr (Format::kHasHalves) {
        sum[m] = fma(gathered(part[m][0]), mul(factor[0], x_scale), sum[m]);
        sum[m] = fma(gathered(part[m][1]), mul(factor[1], x_scale), sum[m]);
      } else {
        sum[m] = fma(gathered(add(part[m][0], part[m][1])), mul(factor[0], x_scale), sum[m]);
      }
      if constexpr (Format::kHasOffset) sum[m] = fma(factor[1], set1(t.x.minus_sums[at]), sum[m]);
    }
  }
  const int64_t lanes = min_of(kLanes, t.column_end - column);
  for (int m = 0; m < kRows; ++m) store_n(t.y + (row + m) * t.y_stride + column, sum[m], lanes);
}

#if FATHOM_SIMD_BITS == 512
constexpr int kBlockRows = 6;  // 12 sums of integers and 12 of floats in 32 registers
#else
constexpr int kBlockRows = 2;
#endif

/// Codes of a byte each and factors of kBlockGroups groups of two panels: spans whose scales have been taken out.
struct Block {
  const uint8_t* codes[2];
  const float* factors[2];  // [group][Format::kFactors][16]
  int64_t first_group, groups;
  const uint8_t* next[2];    // what the memory is asked for while the block is used: this many bytes of each panel,
  int64_t next_bytes, step;  // `step` of them a group and block of rows
};

/// kRows rows by two panels, the groups of one block; the sums begin at y unless the block is the first.
template <int kRows, class Format>
void multiply_block(const IntTile& t, const Block& b, int64_t row, int64_t column, int64_t ahead) {
  const int64_t lanes[2] = {min_of(kLanes, t.column_end - column), min_of(kLanes, t.column_end - column - kLanes)};
  float* y = t.y + row * t.y_stride + column;
  F32x16 sum[kRows][2];
#pragma GCC unroll 6
  for (int m = 0; m < kRows; ++m) {
#pragma GCC unroll 2
    for (int p = 0; p < 2; ++p) {
      const bool goes_on = b.first_group > 0 && lanes[p] > 0;
      sum[m][p] = goes_on ? load_n(y + m * t.y_stride + p * kLanes, lanes[p]) : zero();
    }
  }
  const int8_t* x = t.x.codes + row * t.x.stride + b.first_group * kGroup;
  constexpr int kParts = Format::kHasHalves ? 2 : 1;
  constexpr int64_t kQuadsOfPart = kQuadsOfGroup / kParts;
  for (int64_t g = 0; g < b.groups; ++g) {
    for (const int64_t end = min_of(ahead + b.step, b.next_bytes); ahead < end; ahead += kLine) {
      __builtin_prefetch(b.next[0] + ahead, 0, 2);
      __builtin_prefetch(b.next[1] + ahead, 0, 2);
    }
    const int64_t x_group = b.first_group + g;
    const int64_t codes = g / 2 * span_bytes(IntCodes::kBytes) + kLine + g % 2 * group_bytes(IntCodes::kBytes);
    const float* const factors[2] = {b.factors[0] + g * Format::kFactors * kLanes,
                                     b.factors[1] + g * Format::kFactors * kLanes};
#pragma GCC unroll 2
    for (int part = 0; part < kParts; ++part) {
      I32x16 acc[kRows][2];
#pragma GCC unroll 6
      for (int m = 0; m < kRows; ++m) {
        acc[m][0] = acc[m][1] =
            kParts == 1 ? start_of(t.x, row + m, x_group) : start_of_half(t.x, row + m, x_group, part);
      }
#pragma GCC unroll 8
      for (int64_t j = part * kQuadsOfPart; j < (part + 1) * kQuadsOfPart; ++j) {
        const int64_t at = codes + kLine * j;
        const Quads low = quads_of(load_bytes(b.codes[0] + at)), high = quads_of(load_bytes(b.codes[1] + at));
#pragma GCC unroll 6
        for (int m = 0; m < kRows; ++m) {
          const int8_t* quad = x + m * t.x.stride + g * kGroup + 4 * j;
          acc[m][0] = dot(acc[m][0], low, quad);
          acc[m][1] = dot(acc[m][1], high, quad);
        }
      }
      const F32x16 low = load(factors[0] + part * kLanes), high = load(factors[1] + part * kLanes);
#pragma GCC unroll 6
      for (int m = 0; m < kRows; ++m) {
        const F32x16 x_scale = set1(t.x.scales[(row + m) * t.x.scale_stride + x_group]);
        sum[m][0] = fma(gathered(acc[m][0]), mul(low, x_scale), sum[m][0]);
        sum[m][1] = fma(gathered(acc[m][1]), mul(high, x_scale), sum[m][1]);
      }
    }
    if constexpr (Format::kHasOffset) {
      const F32x16 low = load(factors[0] + kLanes), high = load(factors[1] + kLanes);
#pragma GCC unroll 6
      for (int m = 0; m < kRows; ++m) {
        const F32x16 minus_sum = set1(t.x.minus_sums[(row + m) * t.x.scale_stride + x_group]);
        sum[m][0] = fma(low, minus_sum, sum[m][0]);
        sum[m][1] = fma(high, minus_sum, sum[m][1]);
      }
    }
  }
#pragma GCC unroll 6
  for (int m = 0; m < kRows; ++m) {
#pragma GCC unroll 2
    for (int p = 0; p < 2; ++p) {
      if (lanes[p] > 0) store_n(y + m * t.y_stride + p * kLanes, sum[m][p], lanes[p]);
    }
  }
}

const uint8_t* panel_of(const IntTile& t, int64_t column) { return t.w.data + column / kLanes * t.w.panel_bytes; }

template <class Format>
void multiply_few(const IntTile& t) {
  for (int64_t n = t.column_begin; n < t.column_end; n += kLanes) {
    const uint8_t* panel = panel_of(t, n);
    switch (t.row_end - t.row_begin) {
      case 1: multiply_direct<1, Format>(t, panel, t.row_begin, n); break;
      case 2: multiply_direct<2, Format>(t, panel, t.row_begin, n); break;
      case 3: multiply_direct<3, Format>(t, panel, t.row_begin, n); break;
      default: multiply_direct<4, Format>(t, panel, t.row_begin, n); break;
    }
  }
}

template <class Format>
void multiply_many(const IntTile& t, void* scratch) {
  constexpr int64_t kBlockBytes = kBlockGroups / 2 * span_bytes(IntCodes::kBytes);
  // Of a panel from one block to the next; a super-block's line counts to the block before it.
  constexpr int64_t kStep = Format::span_at(kBlockGroups) - Format::span_at(0);
  auto* const factors = static_cast<float*>(scratch);  // [2][kBlockGroups][kFactors][16]
  auto* const widened = reinterpret_cast<uint8_t*>(factors + 2 * kBlockGroups * Format::kFactors * kLanes);
  const Table table = table_of(t.w.table);
  const int64_t rows = t.row_end - t.row_begin, row_blocks = (rows + kBlockRows - 1) / kBlockRows;
  for (int64_t n = t.column_begin; n < t.column_end; n += 2 * kLanes) {
    // The last panel of a matrix may have no neighbour: it stands in for it, and its sums are not stored.
    const uint8_t* panels[2] = {panel_of(t, n), panel_of(t, n + kLanes < t.column_end ? n + kLanes : n)};
    for (int64_t g0 = 0; g0 < t.w.groups; g0 += kBlockGroups) {
      Block b{.codes = {},
              .factors = {},
              .first_group = g0,
              .groups = min_of(kBlockGroups, t.w.groups - g0),
              .next = {},
              .next_bytes = 0,
              .step = 0};
      for (int64_t p = 0; p < 2; ++p) {
        float* const block_factors = factors + p * kBlockGroups * Format::kFactors * kLanes;
        for (int64_t g = 0; g < b.groups; ++g) {
          F32x16 of_group[Format::kFactors];
          Format::factors_of(panels[p], g0 + g, of_group);
          for (int i = 0; i < Format::kFactors; ++i) {
            store(block_factors + (g * Format::kFactors + i) * kLanes, of_group[i]);
          }
        }
        b.factors[p] = block_factors;
        if constexpr (Format::kGroupBytes == group_bytes(IntCodes::kBytes)) {
          b.codes[p] = panels[p] + Format::span_at(g0);
        } else {
          uint8_t* const out = widened + p * kBlockBytes;
          b.codes[p] = out;
          for (int64_t g = 0; g < b.groups; ++g) {
            uint8_t* to = out + g / 2 * span_bytes(IntCodes::kBytes) + kLine + g % 2 * group_bytes(IntCodes::kBytes);
            Format::each(panels[p], table, g0 + g, [&](int64_t j, U8x64 bytes) { store_bytes(to + kLine * j, bytes); });
          }
        }
        // Of the next block of this panel, or of the first block of the panel after the next.
        const int64_t begin = g0 / kBlockGroups * kStep;
        b.next[p] = g0 + kBlockGroups < t.w.groups ? panels[p] + begin + kStep : panels[p] + 2 * t.w.panel_bytes;
      }
      b.next_bytes = min_of(kStep, t.w.panel_bytes);
      const int64_t calls = row_blocks * b.groups;
      b.step = (b.next_bytes / kLine + calls - 1) / calls * kLine;
      // Blocks of rows as even as can be: one row alone would wait for its own sums.
      for (int64_t i = 0; i < row_blocks; ++i) {
        const int64_t m = t.row_begin + rows * i / row_blocks, end = t.row_begin + rows * (i + 1) / row_blocks;
        const int64_t ahead = i * b.groups * b.step;
        switch (end - m) {
#if FATHOM_SIMD_BITS == 512
          case 6: multiply_block<6, Format>(t, b, m, n, ahead); break;
          case 5: multiply_block<5, Format>(t, b, m, n, ahead); break;
          case 4: multiply_block<4, Format>(t, b, m, n, ahead); break;
          case 3: multiply_block<3, Format>(t, b, m, n, ahead); break;
#endif
          case 2: multiply_block<2, Format>(t, b, m, n, ahead); break;
          default: multiply_block<1, Format>(t, b, m, n, ahead); break;
        }
      }
    }
  }
}

}  // namespace

void quantize_activations(const float* x, int64_t groups, const IntRow& out_row) {
  const F32x16 infinity = set1(__builtin_inff()), shift = set1(0x1.8p23f);
  for (int64_t g = 0; g < groups; ++g) {
    const F32x16 low = load(x + g * kGroup), high = load(x + g * kGroup + kLanes);
    // Not below infinity: infinity itself, or NaN.
    const auto magnitude = [&](F32x16 a) { return select(less(abs(a), infinity), abs(a), infinity); };
    const float largest = reduce_max(max(magnitude(low), magnitude(high)));
    int8_t* out = out_row.codes + g * kGroup;
    if (!(largest < __builtin_inff())) {
      out_row.scales[g] = out_row.minus_sums[g] = __builtin_nanf("");
      out_row.starts[g] = {kStart, kStart};
      for (int64_t i = 0; i < kGroup; ++i) out[i] = 0;
      continue;
    }
    out_row.scales[g] = largest / 127;
    const F32x16 inverse = set1(largest > 0 && 127 / largest < __builtin_inff() ? 127 / largest : 0);
    // |x| * inverse may exceed 127 by a rounding, never by enough to round to 128. Whole numbers: their sum is exact.
    const F32x16 low_codes = sub(add(mul(low, inverse), shift), shift);
    const F32x16 high_codes = sub(add(mul(high, inverse), shift), shift);
    store_i8(out, low_codes);
    store_i8(out + kLanes, high_codes);
    const float first = reduce_add(low_codes), both = reduce_add(add(low_codes, high_codes));
    out_row.minus_sums[g] = -(both * out_row.scales[g]);
    out_row.starts[g] = {kStart - 128 * static_cast<int32_t>(both), kStart - 128 * static_cast<int32_t>(first)};
  }
}

static_assert(kIntScratchBytes >= 2 * kBlockGroups * 2 * kLanes * 4 + kBlockGroups * span_bytes(IntCodes::kBytes));

void int_tile(const IntTile& t, void* scratch) {
  with_format(t.w, [&]<class Format>(Format) {
    t.row_end - t.row_begin > kFewRows ? multiply_many<Format>(t, scratch) : multiply_few<Format>(t);
  });
}

}  // namespace fathom::cpu::FATHOM_LEVEL
