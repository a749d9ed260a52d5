// Panels of integer groups (numerics/panels.h) as the products read them: the bytes of a group's codes, quad after
// quad, and its scales as vectors.
#pragma once

#include "kernels/cpu/level/int_dot.h"
#include "kernels/cpu/level/level.h"

namespace fathom::cpu::FATHOM_LEVEL {

constexpr int64_t kGroup = 32, kQuadsOfGroup = kGroup / 4;
constexpr int64_t kLine = 64;
constexpr int64_t kSuperBlock = 8;  // groups

constexpr int64_t group_bytes(IntCodes codes) {
  constexpr int64_t kLines[] = {8, 4, 4, 5, 6};
  return kLines[static_cast<int>(codes)] * kLine;
}
constexpr int64_t span_bytes(IntCodes codes) { return kLine + 2 * group_bytes(codes); }
constexpr bool has_super_blocks(IntScales scales) { return scales > IntScales::kBF16; }

template <IntCodes kCodes, IntScales kScales>
struct IntFormat {
  static constexpr bool kHasOffset = kScales == IntScales::kWithOffset, kHasHalves = kScales == IntScales::kOfHalves;
  static constexpr int kFactors = kHasOffset || kHasHalves ? 2 : 1;  // vectors: the scale, then an offset or a scale
  static constexpr int64_t kGroupBytes = group_bytes(kCodes);
  // What is added to values so that they are unsigned, and the largest: 128, or as little as will do, so that the bits
  // of a code are the byte, without a table (kIsSmall); narrow sums need that too.
  static constexpr bool kIsMxfp4 = kScales == IntScales::kBF16;
  static constexpr bool kIsSmall =
      (kHasNarrowSums || kStartsOffset) && kCodes != IntCodes::kBytes && (kCodes != IntCodes::kTable || kIsMxfp4);
  static constexpr bool kIsNarrow = kHasNarrowSums && kIsSmall;
  static constexpr int kBits = kCodes == IntCodes::kSixBits ? 6 : kCodes == IntCodes::kFiveBits ? 5 : 4;
  static constexpr int kBias = !kIsSmall ? 128 : kIsMxfp4 ? 12 : kHasOffset ? 0 : 1 << (kBits - 1);
  static constexpr int kLargest = kIsMxfp4 ? 24 : (1 << kBits) - 1;
  /// Quads whose pairs of products add up to less than 2^15 (a power of two of them).
  static constexpr int64_t kQuadsOfPairs = kLargest <= 15 ? 8 : kLargest <= 31 ? 4 : 2;
  static_assert(kLargest * 127 * 2 * kQuadsOfPairs < 1 << 15);
  static auto ready(U8x64 bytes) {
    if constexpr (kIsNarrow) {
      return bytes;
    } else {
      return quads_of(bytes);
    }
  }
  /// Whether many rows take quads as Flipped, and sums begin at vectors that serve all of them.
  static constexpr bool kIsFlipped = kFlips && !kIsNarrow;
  static Table table(const IntPanels& w) {
    if constexpr (kIsSmall && kIsMxfp4) {
      uint8_t values[16];
      for (int i = 0; i < 16; ++i) values[i] = static_cast<uint8_t>(w.table[i] - 128 + kBias);
      return table_of(values);
    } else {
      return table_of(w.table);
    }
  }

  static constexpr int kHighBits = kCodes == IntCodes::kFiveBits ? 1 : kCodes == IntCodes::kSixBits ? 2 : 0;

  static constexpr int64_t span_at(int64_t group) {
    return group / 2 * span_bytes(kCodes) + (has_super_blocks(kScales) ? (group / kSuperBlock + 1) * kLine : 0);
  }
  static const uint8_t* codes_of(const uint8_t* panel, int64_t group) {
    return panel + span_at(group) + kLine + group % 2 * kGroupBytes;
  }

  static void factors_of(const uint8_t* panel, int64_t group, F32x16 (&out)[kFactors]) {
    const uint8_t* span = panel + span_at(group);
    if constexpr (kFactors == 1) {
      const auto* at = reinterpret_cast<const uint16_t*>(span) + group % 2 * kLanes;
      out[0] = kScales == IntScales::kBF16 ? load_bf16(at) : scales_of_f16(at);
    } else {
      const auto* super = reinterpret_cast<const uint16_t*>(panel + span_at(group / kSuperBlock * kSuperBlock) - kLine);
      const uint8_t* at = span + group % 2 * 2 * kLanes;
      const F32x16 scale = scales_of_f16(super);
      if constexpr (kHasOffset) {
        out[0] = mul(scale, numbers_of_u8(at));
        out[1] = mul(scales_of_f16(super + kLanes), numbers_of_u8(at + kLanes));
      } else {
        out[0] = mul(scale, numbers_of_i8(at));
        out[1] = mul(scale, numbers_of_i8(at + kLanes));
      }
    }
  }

  /// body(j, bytes) for the eight quads of a group, value + kBias in a byte.
  template <class Body>
  [[gnu::always_inline]] static void each(const uint8_t* panel, Table table, int64_t group, Body body) {
    const uint8_t* codes = codes_of(panel, group);
    if constexpr (kCodes == IntCodes::kBytes) {
#pragma GCC unroll 8
      for (int64_t j = 0; j < kQuadsOfGroup; ++j) body(j, load_bytes(codes + kLine * j));
    } else {
#pragma GCC unroll 4
      for (int64_t j = 0; j < kQuadsOfGroup; j += 2) {
        const U8x64 both = load_bytes(codes + kLine / 2 * j);
        U8x64 low = low_nibbles(both), high = high_nibbles(both);
        if constexpr (!kIsSmall || kIsMxfp4) {
          low = look_up(table, low);
          high = look_up(table, high);
        }
        if constexpr (kHighBits > 0) {
          constexpr int64_t kQuadsOfLine = 8 / kHighBits;
          const U8x64 bits = load_bytes(codes + kLine * (kQuadsOfGroup / 2 + j / kQuadsOfLine));
          const int at = static_cast<int>(j % kQuadsOfLine) * kHighBits;
          low = add_high_bits<kHighBits>(low, bits, at);
          high = add_high_bits<kHighBits>(high, bits, at + kHighBits);
        }
        body(j, low);
        body(j + 1, high);
      }
    }
  }
};

/// The sum of the products of one row and panel, exact. `add` takes the quads of a part of a group one after the other;
/// kSplit: two sums in turn, which wait for each other less.
template <class Format, int64_t kQuadsOfPart, bool kSplit, bool kIsNarrow = Format::kIsNarrow>
struct PartSum {
  I32x16 even, odd;
  [[gnu::always_inline]] void begin(I32x16 start) {
    even = start;
    odd = set1_i32(0);
  }
  template <class W>
  [[gnu::always_inline]] void add(int64_t j, const W& w, const int8_t* x) {
    I32x16& sum = kSplit && j % 2 != 0 ? odd : even;
    sum = dot(sum, w, x);
  }
  [[gnu::always_inline]] I32x16 sum() const {
    if constexpr (kSplit) return cpu::FATHOM_LEVEL::add(even, odd);
    return even;
  }
};
template <class Format, int64_t kQuadsOfPart, bool kSplit>
struct PartSum<Format, kQuadsOfPart, kSplit, true> {
  static constexpr int64_t kOfPairs = Format::kQuadsOfPairs < kQuadsOfPart ? Format::kQuadsOfPairs : kQuadsOfPart;
  I32x16 total;
  Pairs pairs;
  [[gnu::always_inline]] void begin(I32x16 start) {
    total = start;
    pairs = no_pairs();
  }
  [[gnu::always_inline]] void add(int64_t j, U8x64 w, const int8_t* x) {
    pairs = dot(pairs, w, x);
    if (j % kOfPairs != kOfPairs - 1) return;
    total = cpu::FATHOM_LEVEL::add(total, widened(pairs));
    pairs = no_pairs();
  }
  [[gnu::always_inline]] I32x16 sum() const { return total; }
};

/// body(IntFormat<...>{}) with the format of a matrix.
template <class Body>
static inline void with_format(const IntPanels& w, Body body) {
  using C = IntCodes;
  using S = IntScales;
  switch (w.codes) {
    case C::kBytes: body(IntFormat<C::kBytes, S::kF16>{}); return;
    case C::kSixBits: body(IntFormat<C::kSixBits, S::kOfHalves>{}); return;
    case C::kFiveBits:
      w.scales == S::kF16 ? body(IntFormat<C::kFiveBits, S::kF16>{}) : body(IntFormat<C::kFiveBits, S::kWithOffset>{});
      return;
    case C::kFourBits:
      w.scales == S::kF16 ? body(IntFormat<C::kFourBits, S::kF16>{}) : body(IntFormat<C::kFourBits, S::kWithOffset>{});
      return;
    case C::kTable: break;
  }
  switch (w.scales) {
    case S::kF16: body(IntFormat<C::kTable, S::kF16>{}); return;
    case S::kBF16: body(IntFormat<C::kTable, S::kBF16>{}); return;
    default: body(IntFormat<C::kTable, S::kOfHalves>{}); return;
  }
}

}  // namespace fathom::cpu::FATHOM_LEVEL
