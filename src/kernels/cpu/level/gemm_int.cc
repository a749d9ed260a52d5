// Products of weights in integer groups with activations in INT8 groups. Per group of 32 k the products of the codes
// are summed exactly, then sum = fma(products, s_w s_x, sum), groups ascending; of a format with offsets then
// sum = fma(offset, -(s_x times the sum of the activations' codes), sum); of a format whose halves have scales of their
// own, each half by itself. Integer sums have no rounding, so every level gives the same bits, and so do one row and
// many.
//
// Many rows: 512 k of two panels, or 256 k of one, stay in the first cache (codes of fewer than 8 bits made bytes there
// once, those of 8 bits flipped where the level does that) while all rows of the tile pass; the sums wait in y between
// blocks of k, and the next block's lines are asked for meanwhile. Few rows: a panel is read once, from memory into
// registers.
#include "kernels/cpu/level/int_panels.h"
#include "kernels/cpu/level/ops.h"

namespace fathom::cpu::FATHOM_LEVEL {
namespace {

// Whole super-blocks; with 256 bits flipped quads take twice the room, and 48 rows beside them the rest of 32 KB.
constexpr int64_t kBlockGroups = FATHOM_SIMD_BITS == 256 ? 8 : 16;

// What a few rows ask for. Many of them hold the hardware's prefetching back: every line from memory, farther than a
// page, because at pages the hardware stops. With one or two rows it keeps up where a group has as many lines as the
// next; where it has five or six, it loses its way, and a little ahead is enough.
template <int kRows, class Format>
[[gnu::always_inline]] inline void ask_ahead(const uint8_t* panel, int64_t group) {
  constexpr bool kIsFar = kRows > 2 || FATHOM_SIMD_BITS == 256;
  if constexpr (kIsFar || Format::kHighBits > 0) {
    constexpr int64_t kBytes = kIsFar ? 8192 : 2048;
    constexpr int kCache = kIsFar ? 2 : 3;  // the second, or the first
    const uint8_t* at = Format::codes_of(panel, group) + kBytes;
    if (Format::kFactors == 2 && group % kSuperBlock == 0) __builtin_prefetch(at - 2 * kLine, 0, kCache);
#pragma GCC unroll 9
    for (int64_t i = -(1 - group % 2) * kLine; i < Format::kGroupBytes; i += kLine) {
      __builtin_prefetch(at + i, 0, kCache);
    }
  }
}

// Where the sum of a group's products begins, or of one of its halves.
template <class Format>
I32x16 start_of(const IntRows& x, int64_t row, int64_t group, int part) {
  const IntStarts& starts = x.starts[row * x.scale_stride + group];
  if constexpr (Format::kIsSmall) {  // what the bias adds: less than 128 times the sum of the codes
    const int32_t first = kStart - starts.first_half, whole = kStart - starts.whole;
    const int32_t sum = !Format::kHasHalves ? whole : part == 0 ? first : whole - first;
    return set1_i32(kStart - sum / 128 * Format::kBias);
  }
  if (!kStartsOffset) return set1_i32(kStart);
  if (!Format::kHasHalves) return set1_i32(starts.whole);
  return set1_i32(part == 0 ? starts.first_half : kStart + (starts.whole - starts.first_half));
}

#if FATHOM_SIMD_BITS >= 256
constexpr int kDirectRows = kFewRows;
#else
constexpr int kDirectRows = 1;                   // plain loops: more rows would only be more code
#endif
// With vectors of 256 bits, of which a block holds no more rows, a second pass over the panel, in the second cache by
// then, is faster than a block's preparations.
constexpr int64_t kMostDirectRows = FATHOM_SIMD_BITS == 256 ? 2 * kFewRows : kFewRows;

/// kRows rows by one panel, all of k.
template <int kRows, class Format>
void multiply_direct(const IntTile& t, const uint8_t* panel, int64_t row, int64_t column) {
  constexpr int kParts = Format::kHasHalves ? 2 : 1;
  constexpr int64_t kQuadsOfPart = kQuadsOfGroup / kParts;
  const Table table = Format::table(t.w);
  F32x16 sum[kRows];
#pragma GCC unroll 4
  for (int m = 0; m < kRows; ++m) sum[m] = zero();
  const int8_t* x = t.x.codes + row * t.x.stride;
  for (int64_t g = 0; g < t.w.groups; ++g) {
    ask_ahead<kRows, Format>(panel, g);
    PartSum<Format, kQuadsOfPart, kParts == 1> part[kRows][kParts];
#pragma GCC unroll 4
    for (int m = 0; m < kRows; ++m) {
#pragma GCC unroll 2
      for (int i = 0; i < kParts; ++i) part[m][i].begin(start_of<Format>(t.x, row + m, g, i));
    }
    Format::each(
        panel, table, g, [&](int64_t j, U8x64 bytes) __attribute__((always_inline)) {
          const auto quads = Format::ready(bytes);
#pragma GCC unroll 4
          for (int m = 0; m < kRows; ++m) {
            part[m][j / kQuadsOfPart].add(j % kQuadsOfPart, quads, x + m * t.x.stride + g * kGroup + 4 * j);
          }
        });
    F32x16 factor[Format::kFactors];
    Format::factors_of(panel, g, factor);
#pragma GCC unroll 4
    for (int m = 0; m < kRows; ++m) {
      const int64_t at = (row + m) * t.x.scale_stride + g;
      const F32x16 x_scale = set1(t.x.scales[at]);
#pragma GCC unroll 2
      for (int i = 0; i < kParts; ++i) sum[m] = fma(gathered(part[m][i].sum()), mul(factor[i], x_scale), sum[m]);
      if constexpr (Format::kHasOffset) sum[m] = fma(factor[1], set1(t.x.minus_sums[at]), sum[m]);
    }
  }
  const int64_t lanes = min_of(kLanes, t.column_end - column);
  for (int m = 0; m < kRows; ++m) store_n(t.y + (row + m) * t.y_stride + column, sum[m], lanes);
}

#if FATHOM_SIMD_BITS == 512
constexpr int kBlockRows = 6, kBlockPanels = 2;  // 12 sums of integers and 12 of floats in 32 registers
#elif FATHOM_SIMD_BITS == 256
constexpr int kBlockRows = 4, kBlockPanels = 1;  // 8 halves of sums of integers in 16; a quad is made ready for 4 rows
#else
constexpr int kBlockRows = 2, kBlockPanels = 1;  // plain loops: more rows would only be more code
#endif
/// Rows that are shared out evenly among as few blocks as will do leave none smaller, if there are as many as this.
constexpr int kLeastBlockRows = (kBlockRows + 1) / 2;
static_assert(kLeastBlockRows <= kFewRows);

/// Codes and factors of kBlockGroups groups of the panels. The codes are spans of a byte each whose scales have been
/// taken out, or, if Format::kIsFlipped, what flipped_of makes of each quad, one after the other.
struct Block {
  const uint8_t* codes[kBlockPanels];
  const float* factors[kBlockPanels];   // [group][Format::kFactors][16]
  const int32_t* starts[kBlockPanels];  // [group][part][16], if Format::kIsFlipped
  int64_t first_group, groups;
  const uint8_t*
      next[kBlockPanels];    // what the memory is asked for while the block is used: this many bytes of each panel,
  int64_t next_bytes, step;  // `step` of them a group and block of rows
};

/// Where the codes of a group begin in spans of a byte each.
constexpr int64_t bytes_at(int64_t group) {
  return group / 2 * span_bytes(IntCodes::kBytes) + kLine + group % 2 * group_bytes(IntCodes::kBytes);
}

#if FATHOM_SIMD_BITS == 256
constexpr int64_t kFlippedBytes = 2 * kLine;
template <class Format>
auto ready_for_rows(const uint8_t* codes, int64_t group, int64_t quad) {
  if constexpr (Format::kIsFlipped) {
    return load_flipped(codes + (group * kQuadsOfGroup + quad) * kFlippedBytes);
  } else {
    return Format::ready(load_bytes(codes + bytes_at(group) + kLine * quad));
  }
}
/// The quads of `groups` groups from `first` on, flipped, and where the sums of all rows begin: [group][part][16].
/// Six instructions a quad that otherwise every block of rows would repeat for its 32.
template <class Format>
void fill_flipped(const uint8_t* panel, Table table, int64_t first, int64_t groups, uint8_t* quads, int32_t* starts) {
  constexpr int kParts = Format::kHasHalves ? 2 : 1;
  for (int64_t g = 0; g < groups; ++g) {
    I32x16 start[kParts];
    for (I32x16& s : start) s = set1_i32(kStart);
    Format::each(
        panel, table, first + g, [&](int64_t j, U8x64 bytes) __attribute__((always_inline)) {
          const Flipped flipped = flipped_of(bytes);
          store_flipped(quads + (g * kQuadsOfGroup + j) * kFlippedBytes, flipped);
          I32x16& s = start[j * kParts / kQuadsOfGroup];
          s = add_negatives(s, flipped);
        });
    for (int part = 0; part < kParts; ++part) store_i32(starts + (g * kParts + part) * kLanes, start[part]);
  }
}
#else
constexpr int64_t kFlippedBytes = 0;
template <class Format>
auto ready_for_rows(const uint8_t* codes, int64_t group, int64_t quad) {
  return Format::ready(load_bytes(codes + bytes_at(group) + kLine * quad));
}
#endif

/// kRows rows by the panels, the groups of one block; the sums begin at y unless the block is the first.
template <int kRows, class Format>
void multiply_block(const IntTile& t, const Block& b, int64_t row, int64_t column, int64_t ahead) {
  constexpr int kParts = Format::kHasHalves ? 2 : 1;
  constexpr int64_t kQuadsOfPart = kQuadsOfGroup / kParts;
  const auto lanes = [&](int p) { return min_of(kLanes, t.column_end - column - p * kLanes); };
  float* y = t.y + row * t.y_stride + column;
  F32x16 sum[kRows][kBlockPanels];
#pragma GCC unroll 6
  for (int m = 0; m < kRows; ++m) {
#pragma GCC unroll 2
    for (int p = 0; p < kBlockPanels; ++p) {
      const bool goes_on = b.first_group > 0 && lanes(p) > 0;
      sum[m][p] = goes_on ? load_n(y + m * t.y_stride + p * kLanes, lanes(p)) : zero();
    }
  }
  const int8_t* x = t.x.codes + row * t.x.stride + b.first_group * kGroup;
  for (int64_t g = 0; g < b.groups; ++g) {
    for (const int64_t end = min_of(ahead + b.step, b.next_bytes); ahead < end; ahead += kLine) {
#pragma GCC unroll 2
      for (int p = 0; p < kBlockPanels; ++p) __builtin_prefetch(b.next[p] + ahead, 0, 2);
    }
    const int64_t x_group = b.first_group + g;
    const auto factor = [&](int p, int i) { return load(b.factors[p] + (g * Format::kFactors + i) * kLanes); };
#pragma GCC unroll 2
    for (int part = 0; part < kParts; ++part) {
      PartSum<Format, kQuadsOfPart, false> products[kRows][kBlockPanels];
#pragma GCC unroll 6
      for (int m = 0; m < kRows; ++m) {
#pragma GCC unroll 2
        for (int p = 0; p < kBlockPanels; ++p) {
#if FATHOM_SIMD_BITS == 256
          if constexpr (Format::kIsFlipped) {
            products[m][p].begin(load_i32(b.starts[p] + (g * kParts + part) * kLanes));
            continue;
          }
#endif
          products[m][p].begin(start_of<Format>(t.x, row + m, x_group, part));
        }
      }
#pragma GCC unroll 8
      for (int64_t i = 0; i < kQuadsOfPart; ++i) {
        const int64_t j = part * kQuadsOfPart + i;
        decltype(ready_for_rows<Format>(nullptr, 0, 0)) quads[kBlockPanels];
#pragma GCC unroll 2
        for (int p = 0; p < kBlockPanels; ++p) quads[p] = ready_for_rows<Format>(b.codes[p], g, j);
#pragma GCC unroll 6
        for (int m = 0; m < kRows; ++m) {
#pragma GCC unroll 2
          for (int p = 0; p < kBlockPanels; ++p) {
            products[m][p].add(i, quads[p], x + m * t.x.stride + g * kGroup + 4 * j);
          }
        }
      }
#pragma GCC unroll 6
      for (int m = 0; m < kRows; ++m) {
        const F32x16 x_scale = set1(t.x.scales[(row + m) * t.x.scale_stride + x_group]);
#pragma GCC unroll 2
        for (int p = 0; p < kBlockPanels; ++p) {
          sum[m][p] = fma(gathered(products[m][p].sum()), mul(factor(p, part), x_scale), sum[m][p]);
        }
      }
    }
    if constexpr (Format::kHasOffset) {
#pragma GCC unroll 6
      for (int m = 0; m < kRows; ++m) {
        const F32x16 minus_sum = set1(t.x.minus_sums[(row + m) * t.x.scale_stride + x_group]);
#pragma GCC unroll 2
        for (int p = 0; p < kBlockPanels; ++p) sum[m][p] = fma(factor(p, 1), minus_sum, sum[m][p]);
      }
    }
  }
#pragma GCC unroll 6
  for (int m = 0; m < kRows; ++m) {
#pragma GCC unroll 2
    for (int p = 0; p < kBlockPanels; ++p) {
      if (lanes(p) > 0) store_n(y + m * t.y_stride + p * kLanes, sum[m][p], lanes(p));
    }
  }
}

const uint8_t* panel_of(const IntTile& t, int64_t column) { return t.w.data + column / kLanes * t.w.panel_bytes; }

template <int kRows, class Format>
void multiply_direct_rows(int64_t rows, const IntTile& t, const uint8_t* panel, int64_t row, int64_t column) {
  if constexpr (kRows > 1) {
    if (rows < kRows) return multiply_direct_rows<kRows - 1, Format>(rows, t, panel, row, column);
  }
  multiply_direct<kRows, Format>(t, panel, row, column);
}

template <int kRows, class Format>
void multiply_block_rows(int64_t rows, const IntTile& t, const Block& b, int64_t row, int64_t column, int64_t ahead) {
  if constexpr (kRows > kLeastBlockRows) {
    if (rows < kRows) return multiply_block_rows<kRows - 1, Format>(rows, t, b, row, column, ahead);
  }
  multiply_block<kRows, Format>(t, b, row, column, ahead);
}

template <class Format>
void multiply_few(const IntTile& t) {
  for (int64_t n = t.column_begin; n < t.column_end; n += kLanes) {
    const int64_t rows = t.row_end - t.row_begin, passes = (rows + kDirectRows - 1) / kDirectRows;
    for (int64_t i = 0; i < passes; ++i) {
      const int64_t m = t.row_begin + rows * i / passes, end = t.row_begin + rows * (i + 1) / passes;
      multiply_direct_rows<kDirectRows, Format>(end - m, t, panel_of(t, n), m, n);
    }
  }
}

template <class Format>
void multiply_many(const IntTile& t, void* scratch) {
  constexpr int64_t kBlockBytes = kBlockGroups / 2 * span_bytes(IntCodes::kBytes);
  // Of a panel from one block to the next; a super-block's line counts to the block before it.
  constexpr int64_t kStep = Format::span_at(kBlockGroups) - Format::span_at(0);
  auto* const factors = static_cast<float*>(scratch);  // [kBlockPanels][kBlockGroups][kFactors][16]
  auto* const bytes_of_codes =
      reinterpret_cast<uint8_t*>(factors + kBlockPanels * kBlockGroups * Format::kFactors * kLanes);
#if FATHOM_SIMD_BITS == 256
  static_assert(kBlockPanels == 1);
  int32_t starts[Format::kIsFlipped ? kBlockGroups * 2 * kLanes : 1];
#endif
  const Table table = Format::table(t.w);
  const int64_t rows = t.row_end - t.row_begin, row_blocks = (rows + kBlockRows - 1) / kBlockRows;
  for (int64_t n = t.column_begin; n < t.column_end; n += kBlockPanels * kLanes) {
    // The last panel of a matrix may have no neighbour: it stands in for it, and its sums are not stored.
    const uint8_t* panels[kBlockPanels];
    for (int p = 0; p < kBlockPanels; ++p) panels[p] = panel_of(t, n + p * kLanes < t.column_end ? n + p * kLanes : n);
    for (int64_t g0 = 0; g0 < t.w.groups; g0 += kBlockGroups) {
      Block b{.codes = {},
              .factors = {},
              .starts = {},
              .first_group = g0,
              .groups = min_of(kBlockGroups, t.w.groups - g0),
              .next = {},
              .next_bytes = 0,
              .step = 0};
      for (int64_t p = 0; p < kBlockPanels; ++p) {
        float* const block_factors = factors + p * kBlockGroups * Format::kFactors * kLanes;
        for (int64_t g = 0; g < b.groups; ++g) {
          F32x16 of_group[Format::kFactors];
          Format::factors_of(panels[p], g0 + g, of_group);
          for (int i = 0; i < Format::kFactors; ++i) {
            store(block_factors + (g * Format::kFactors + i) * kLanes, of_group[i]);
          }
        }
        b.factors[p] = block_factors;
        if constexpr (Format::kIsFlipped) {
#if FATHOM_SIMD_BITS == 256
          fill_flipped<Format>(panels[p], table, g0, b.groups, bytes_of_codes, starts);
          b.codes[p] = bytes_of_codes;
          b.starts[p] = starts;
#endif
        } else if constexpr (Format::kGroupBytes == group_bytes(IntCodes::kBytes)) {
          b.codes[p] = panels[p] + Format::span_at(g0);
        } else {
          uint8_t* const out = bytes_of_codes + p * kBlockBytes;
          b.codes[p] = out;
          for (int64_t g = 0; g < b.groups; ++g) {
            uint8_t* to = out + bytes_at(g);
            Format::each(panels[p], table, g0 + g, [&](int64_t j, U8x64 bytes) { store_bytes(to + kLine * j, bytes); });
          }
        }
        // Of the next block of this panel, or of the first block of the panel after the next.
        const int64_t begin = g0 / kBlockGroups * kStep;
        b.next[p] =
            g0 + kBlockGroups < t.w.groups ? panels[p] + begin + kStep : panels[p] + kBlockPanels * t.w.panel_bytes;
      }
      b.next_bytes = min_of(kStep, t.w.panel_bytes);
      const int64_t calls = row_blocks * b.groups;
      b.step = (b.next_bytes / kLine + calls - 1) / calls * kLine;
      // Blocks of rows as even as can be: one row alone would wait for its own sums.
      for (int64_t i = 0; i < row_blocks; ++i) {
        const int64_t m = t.row_begin + rows * i / row_blocks, end = t.row_begin + rows * (i + 1) / row_blocks;
        const int64_t ahead = i * b.groups * b.step;
        multiply_block_rows<kBlockRows, Format>(end - m, t, b, m, n, ahead);
      }
    }
  }
}

}  // namespace

// Sixteen groups at a time, one a lane, for what is one number a group. Codes are whole numbers: their sums are exact.
void quantize_activations(const float* x, int64_t groups, const IntRow& out) {
  const F32x16 infinity = set1(__builtin_inff()), shift = set1(0x1.8p23f);
  // Not below infinity: infinity itself, or NaN.
  const auto magnitude = [&](F32x16 a) { return select(less(abs(a), infinity), abs(a), infinity); };
  for (int64_t g0 = 0; g0 < groups; g0 += kLanes) {
    const int64_t count = min_of(kLanes, groups - g0);
    const float* numbers = x + g0 * kGroup;
    F32x16 square[kLanes];
    for (int64_t i = 0; i < kLanes; ++i) {
      const float* at = numbers + i * kGroup;
      square[i] = i < count ? max(magnitude(load(at)), magnitude(load(at + kLanes))) : zero();
    }
    transpose16(square);
    F32x16 largest = square[0];
    for (int64_t i = 1; i < kLanes; ++i) largest = max(largest, square[i]);
    const F32x16 quotient = div(set1(127), largest);
    float inverse[kLanes], largest_of[kLanes];
    store(inverse, select(less(quotient, infinity), quotient, zero()));
    store(largest_of, largest);

    F32x16 first[kLanes], both[kLanes];
    for (int64_t i = 0; i < kLanes; ++i) {
      if (i >= count) {
        first[i] = both[i] = zero();
        continue;
      }
      // |x| * inverse may exceed 127 by a rounding, never by enough to round to 128.
      const F32x16 factor = set1(inverse[i]);
      const float* at = numbers + i * kGroup;
      F32x16 low = sub(add(mul(load(at), factor), shift), shift);
      F32x16 high = sub(add(mul(load(at + kLanes), factor), shift), shift);
      if (!(largest_of[i] < __builtin_inff())) low = high = zero();
      int8_t* codes = out.codes + (g0 + i) * kGroup;
      store_i8(codes, low);
      store_i8(codes + kLanes, high);
      first[i] = low;
      both[i] = add(low, high);
    }
    const F32x16 scale = select(less(largest, infinity), div(largest, set1(127)), set1(__builtin_nanf("")));
    const F32x16 sum = reduce16(both);
    store_n(out.scales + g0, scale, count);
    store_n(out.minus_sums + g0, sub(set1(-0.0f), mul(sum, scale)), count);
    float first_sums[kLanes], sums[kLanes];
    store(first_sums, reduce16(first));
    store(sums, sum);
    for (int64_t i = 0; i < count; ++i) {
      out.starts[g0 + i] = {kStart - 128 * static_cast<int32_t>(sums[i]),
                            kStart - 128 * static_cast<int32_t>(first_sums[i])};
    }
  }
}

static_assert(kIntScratchBytes >= 2 * kBlockGroups * 2 * kLanes * 4 + kBlockGroups * span_bytes(IntCodes::kBytes));
static_assert(kIntScratchBytes >= kBlockGroups * (2 * kLanes * 4 + kQuadsOfGroup * kFlippedBytes));

void int_tile(const IntTile& t, void* scratch) {
  with_format(t.w, [&]<class Format>(Format) {
    t.row_end - t.row_begin > kMostDirectRows ? multiply_many<Format>(t, scratch) : multiply_few<Format>(t);
  });
}

}  // namespace fathom::cpu::FATHOM_LEVEL
