// Products of weights in integer groups with activations in INT8 groups. Per group of 32 k the products of the codes
// are summed exactly, then sum = fma(products, s_w s_x, sum), groups ascending: integer sums have no rounding, so every
// level gives the same bits, and so do one row and many.
//
// Many rows: 512 k of two panels stay in the first cache (4-bit codes widened there once) while all rows of the tile
// pass; the sums wait in y between blocks of k, and the next block's lines are asked for meanwhile. Few rows: a panel
// is read once, from memory into registers.
#include "kernels/cpu/level/int_dot.h"
#include "kernels/cpu/level/ops.h"

namespace fathom::cpu::FATHOM_LEVEL {
namespace {

constexpr int64_t kGroup = 32, kQuadsOfGroup = kGroup / 4;
constexpr int64_t kGroupBytes = kGroup * kLanes;  // widened, of one panel
constexpr int64_t kBlockGroups = 16;

// Panels lie in spans of two groups: a line of scales, then the codes (numerics/panels.h).
constexpr int64_t kLine = 64;
constexpr int64_t span_bytes(bool four_bits) { return kLine + (four_bits ? kGroupBytes : 2 * kGroupBytes); }

F32x16 scales_of_group(const IntPanels& w, const uint8_t* panel, int64_t group) {
  const uint8_t* span = panel + group / 2 * span_bytes(w.four_bits);
  const auto* at = reinterpret_cast<const uint16_t*>(span) + group % 2 * kLanes;
  return w.bf16_scales ? load_bf16(at) : scales_of_f16(at);
}

/// The eight quads of a group, from one byte a code.
struct Bytes {
  static constexpr int64_t kBytesOfGroup = kGroupBytes;
  const uint8_t* panel;
  Bytes(const uint8_t* codes, Table) : panel(codes) {}
  const uint8_t* codes_of(int64_t group) const {
    return panel + group / 2 * span_bytes(false) + kLine + group % 2 * kBytesOfGroup;
  }
  template <class Body>
  [[gnu::always_inline]] void each(int64_t group, Body body) const {
    const uint8_t* codes = codes_of(group);
#pragma GCC unroll 8
    for (int64_t j = 0; j < kQuadsOfGroup; ++j) body(j, load_bytes(codes + 64 * j));
  }
};
/// The same from two codes a byte.
struct Nibbles {
  static constexpr int64_t kBytesOfGroup = kGroupBytes / 2;
  const uint8_t* panel;
  Table table;
  Nibbles(const uint8_t* codes, Table values) : panel(codes), table(values) {}
  const uint8_t* codes_of(int64_t group) const {
    return panel + group / 2 * span_bytes(true) + kLine + group % 2 * kBytesOfGroup;
  }
  template <class Body>
  [[gnu::always_inline]] void each(int64_t group, Body body) const {
    const uint8_t* codes = codes_of(group);
#pragma GCC unroll 4
    for (int64_t j = 0; j < kQuadsOfGroup; j += 2) {
      const U8x64 both = load_bytes(codes + 32 * j);
      body(j, look_up_low(table, both));
      body(j + 1, look_up_high(table, both));
    }
  }
};

// One row leaves the hardware's prefetching all the time it needs; more rows do not, and lose half of the bandwidth
// without this. Farther than a page, because at pages the hardware stops.
constexpr int64_t kAheadBytes = 8192;
template <class Codes>
[[gnu::always_inline]] inline void ask_ahead(const Codes& codes, int64_t group) {
  const uint8_t* at = codes.codes_of(group) + kAheadBytes;
#pragma GCC unroll 9
  for (int64_t i = -(1 - group % 2) * kLine; i < Codes::kBytesOfGroup; i += kLine) __builtin_prefetch(at + i, 0, 2);
}

I32x16 start_of(const IntRows& x, int64_t row, int64_t group) {
  return set1_i32(kStartsOffset ? x.starts[row * x.scale_stride + group] : kStart);
}

/// kRows rows by one panel, all of k.
template <int kRows, class Codes>
void multiply_direct(const IntTile& t, const uint8_t* panel, int64_t row, int64_t column) {
  const Codes codes(panel, table_of(t.w.table));
  F32x16 sum[kRows];
#pragma GCC unroll 4
  for (int m = 0; m < kRows; ++m) sum[m] = zero();
  const int8_t* x = t.x.codes + row * t.x.stride;
  for (int64_t g = 0; g < t.w.groups; ++g) {
    if constexpr (kRows > 2) ask_ahead(codes, g);
    I32x16 even[kRows], odd[kRows];
#pragma GCC unroll 4
    for (int m = 0; m < kRows; ++m) {
      even[m] = start_of(t.x, row + m, g);
      odd[m] = set1_i32(0);
    }
    codes.each(
        g, [&](int64_t j, U8x64 bytes) __attribute__((always_inline)) {
          const Quads quads = quads_of(bytes);
#pragma GCC unroll 4
          for (int m = 0; m < kRows; ++m) {
            I32x16& acc = j % 2 == 0 ? even[m] : odd[m];
            acc = dot(acc, quads, x + m * t.x.stride + g * kGroup + 4 * j);
          }
        });
    const F32x16 scale = scales_of_group(t.w, panel, g);
#pragma GCC unroll 4
    for (int m = 0; m < kRows; ++m) {
      const float x_scale = t.x.scales[(row + m) * t.x.scale_stride + g];
      sum[m] = fma(gathered(add(even[m], odd[m])), mul(scale, set1(x_scale)), sum[m]);
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

/// Widened codes and scales of kBlockGroups groups of two panels: spans whose scales have been taken out.
struct Block {
  const uint8_t* codes[2];
  const float* scales[2];
  int64_t first_group, groups;
  const uint8_t* next[2];    // what the memory is asked for while the block is used: this many bytes of each panel,
  int64_t next_bytes, step;  // `step` of them a group and block of rows
};

/// kRows rows by two panels, the groups of one block; the sums begin at y unless the block is the first.
template <int kRows>
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
  for (int64_t g = 0; g < b.groups; ++g) {
    I32x16 acc[kRows][2];
#pragma GCC unroll 6
    for (int m = 0; m < kRows; ++m) acc[m][0] = acc[m][1] = start_of(t.x, row + m, b.first_group + g);
    for (const int64_t end = min_of(ahead + b.step, b.next_bytes); ahead < end; ahead += kLine) {
      __builtin_prefetch(b.next[0] + ahead, 0, 2);
      __builtin_prefetch(b.next[1] + ahead, 0, 2);
    }
#pragma GCC unroll 8
    for (int64_t j = 0; j < kQuadsOfGroup; ++j) {
      const int64_t at = g / 2 * span_bytes(false) + kLine + g % 2 * kGroupBytes + 64 * j;
      const Quads low = quads_of(load_bytes(b.codes[0] + at)), high = quads_of(load_bytes(b.codes[1] + at));
#pragma GCC unroll 6
      for (int m = 0; m < kRows; ++m) {
        const int8_t* quad = x + m * t.x.stride + g * kGroup + 4 * j;
        acc[m][0] = dot(acc[m][0], low, quad);
        acc[m][1] = dot(acc[m][1], high, quad);
      }
    }
    const F32x16 low = load(b.scales[0] + g * kLanes), high = load(b.scales[1] + g * kLanes);
#pragma GCC unroll 6
    for (int m = 0; m < kRows; ++m) {
      const F32x16 x_scale = set1(t.x.scales[(row + m) * t.x.scale_stride + b.first_group + g]);
      sum[m][0] = fma(gathered(acc[m][0]), mul(low, x_scale), sum[m][0]);
      sum[m][1] = fma(gathered(acc[m][1]), mul(high, x_scale), sum[m][1]);
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

template <class Codes>
void multiply_few(const IntTile& t) {
  for (int64_t n = t.column_begin; n < t.column_end; n += kLanes) {
    const uint8_t* panel = panel_of(t, n);
    switch (t.row_end - t.row_begin) {
      case 1: multiply_direct<1, Codes>(t, panel, t.row_begin, n); break;
      case 2: multiply_direct<2, Codes>(t, panel, t.row_begin, n); break;
      case 3: multiply_direct<3, Codes>(t, panel, t.row_begin, n); break;
      default: multiply_direct<4, Codes>(t, panel, t.row_begin, n); break;
    }
  }
}

void multiply_many(const IntTile& t, void* scratch) {
  constexpr int64_t kBlockBytes = kBlockGroups / 2 * span_bytes(false);
  auto* const scales = static_cast<float*>(scratch);  // [2][kBlockGroups][16]
  auto* const widened = reinterpret_cast<uint8_t*>(scales + 2 * kBlockGroups * kLanes);
  const Table table = table_of(t.w.table);
  const int64_t rows = t.row_end - t.row_begin, row_blocks = (rows + kBlockRows - 1) / kBlockRows;
  for (int64_t n = t.column_begin; n < t.column_end; n += 2 * kLanes) {
    // The last panel of a matrix may have no neighbour: it stands in for it, and its sums are not stored.
    const uint8_t* panels[2] = {panel_of(t, n), panel_of(t, n + kLanes < t.column_end ? n + kLanes : n)};
    for (int64_t g0 = 0; g0 < t.w.groups; g0 += kBlockGroups) {
      Block b{.codes = {},
              .scales = {},
              .first_group = g0,
              .groups = min_of(kBlockGroups, t.w.groups - g0),
              .next = {},
              .next_bytes = 0,
              .step = 0};
      for (int64_t p = 0; p < 2; ++p) {
        float* scale = scales + p * kBlockGroups * kLanes;
        for (int64_t g = 0; g < b.groups; ++g) store(scale + g * kLanes, scales_of_group(t.w, panels[p], g0 + g));
        b.scales[p] = scale;
        const int64_t begin = g0 / 2 * span_bytes(t.w.four_bits);
        b.codes[p] = panels[p] + begin;
        if (t.w.four_bits) {
          uint8_t* out = widened + p * kBlockBytes;
          b.codes[p] = out;
          const Nibbles codes(panels[p] + begin, table);
          for (int64_t g = 0; g < b.groups; ++g) {
            uint8_t* to = out + g / 2 * span_bytes(false) + kLine + g % 2 * kGroupBytes;
            codes.each(g, [&](int64_t j, U8x64 bytes) { store_bytes(to + 64 * j, bytes); });
          }
        }
        // Of the next block of this panel, or of the first block of the panel after the next.
        const int64_t after = begin + kBlockGroups / 2 * span_bytes(t.w.four_bits);
        b.next[p] = g0 + kBlockGroups < t.w.groups ? panels[p] + after : panels[p] + 2 * t.w.panel_bytes;
      }
      b.next_bytes = min_of(kBlockGroups / 2 * span_bytes(t.w.four_bits), t.w.panel_bytes);
      const int64_t calls = row_blocks * b.groups;
      b.step = (b.next_bytes / kLine + calls - 1) / calls * kLine;
      // Blocks of rows as even as can be: one row alone would wait for its own sums.
      for (int64_t i = 0; i < row_blocks; ++i) {
        const int64_t m = t.row_begin + rows * i / row_blocks, end = t.row_begin + rows * (i + 1) / row_blocks;
        const int64_t ahead = i * b.groups * b.step;
        switch (end - m) {
#if FATHOM_SIMD_BITS == 512
          case 6: multiply_block<6>(t, b, m, n, ahead); break;
          case 5: multiply_block<5>(t, b, m, n, ahead); break;
          case 4: multiply_block<4>(t, b, m, n, ahead); break;
          case 3: multiply_block<3>(t, b, m, n, ahead); break;
#endif
          case 2: multiply_block<2>(t, b, m, n, ahead); break;
          default: multiply_block<1>(t, b, m, n, ahead); break;
        }
      }
    }
  }
}

}  // namespace

void quantize_activations(const float* x, int64_t groups, int8_t* codes, float* scales, int32_t* starts) {
  const F32x16 infinity = set1(__builtin_inff()), shift = set1(0x1.8p23f);
  for (int64_t g = 0; g < groups; ++g) {
    const F32x16 low = load(x + g * kGroup), high = load(x + g * kGroup + kLanes);
    // Not below infinity: infinity itself, or NaN.
    const auto magnitude = [&](F32x16 a) { return select(less(abs(a), infinity), abs(a), infinity); };
    const float largest = reduce_max(max(magnitude(low), magnitude(high)));
    int8_t* out = codes + g * kGroup;
    starts[g] = kStart;
    if (!(largest < __builtin_inff())) {
      scales[g] = __builtin_nanf("");
      for (int64_t i = 0; i < kGroup; ++i) out[i] = 0;
      continue;
    }
    scales[g] = largest / 127;
    const F32x16 inverse = set1(largest > 0 && 127 / largest < __builtin_inff() ? 127 / largest : 0);
    // |x| * inverse may exceed 127 by a rounding, never by enough to round to 128. Whole numbers: their sum is exact.
    const F32x16 low_codes = sub(add(mul(low, inverse), shift), shift);
    const F32x16 high_codes = sub(add(mul(high, inverse), shift), shift);
    store_i8(out, low_codes);
    store_i8(out + kLanes, high_codes);
    starts[g] = kStart - 128 * static_cast<int32_t>(reduce_add(add(low_codes, high_codes)));
  }
}

static_assert(kIntScratchBytes >= 2 * kBlockGroups * kLanes * 4 + kBlockGroups * span_bytes(false));

void int_tile(const IntTile& t, void* scratch) {
  if (t.row_end - t.row_begin > kFewRows) {
    multiply_many(t, scratch);
  } else if (t.w.four_bits) {
    multiply_few<Nibbles>(t);
  } else {
    multiply_few<Bytes>(t);
  }
}

}  // namespace fathom::cpu::FATHOM_LEVEL
