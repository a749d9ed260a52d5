#include "numerics/blocks.h"

#include <algorithm>
#include <cstring>

#include "base/check.h"

namespace fathom {
namespace {

uint16_t half_at(const uint8_t* at) {
  uint16_t bits;
  std::memcpy(&bits, at, sizeof(bits));
  return bits;
}

// Bytes are taken four at a time.
constexpr size_t kWord = 4;
constexpr uint32_t kEachByte = 0x01010101;
uint32_t word_at(const uint8_t* at) {
  uint32_t word;
  std::memcpy(&word, at, sizeof(word));
  return word;
}
void set_word(StoredGroup& out, size_t i, uint32_t word) { std::memcpy(out.codes.data() + i, &word, sizeof(word)); }
/// Bits [shift, shift + width) of each byte.
uint32_t bits_at(const uint8_t* at, int64_t shift, int width) {
  return word_at(at) >> shift & kEachByte * ((1u << width) - 1);
}

/// Two codes of four bits a byte: the low ones are the first half of the group, the high ones the second.
void take_nibbles(const uint8_t* bytes, StoredGroup& out) {
  for (size_t i = 0; i < kGroupSize / 2; i += kWord) {
    set_word(out, i, bits_at(bytes + i, 0, 4));
    set_word(out, i + kGroupSize / 2, bits_at(bytes + i, 4, 4));
  }
}

/// A byte of each of the four lowest bits, 0 or 1.
uint32_t spread(uint32_t bits) { return (bits & 15) * 0x00204081u & kEachByte; }

StoredGroup small_block(GroupFormat format, const uint8_t* block) {
  StoredGroup out;
  if (format == GroupFormat::kMxfp4) {
    out.scale = block[0];
    take_nibbles(block + 1, out);
    return out;
  }
  out.scale = half_at(block);
  if (format == GroupFormat::kInt8) {
    std::copy_n(block + 2, kGroupSize, out.codes.begin());
  } else if (format == GroupFormat::kQ5_0) {  // the fifth bits are a word before the others
    take_nibbles(block + 6, out);
    const uint32_t fifth = word_at(block + 2);
    for (size_t i = 0; i < kGroupSize; i += kWord) {
      set_word(out, i, word_at(out.codes.data() + i) | spread(fifth >> i) << 4);
    }
  } else {
    take_nibbles(block + 2, out);
  }
  return out;
}

/// Q4_K: scale, offset, 12 bytes with the factors of the groups, 6 bits each, then nibbles: a byte holds codes of two
/// groups. Q5_K has a byte for each k of a group between: bit g is the fifth of group g.
StoredGroup group_with_offset(GroupFormat format, const uint8_t* block, int64_t g) {
  StoredGroup out;
  out.scale = half_at(block);
  out.offset = half_at(block + 2);
  const uint8_t* const packed = block + 4;
  if (g < 4) {
    out.factors = {static_cast<uint8_t>(packed[g] & 63), static_cast<uint8_t>(packed[g + 4] & 63)};
  } else {
    out.factors = {static_cast<uint8_t>((packed[g + 4] & 15) | packed[g - 4] >> 6 << 4),
                   static_cast<uint8_t>(packed[g + 4] >> 4 | packed[g] >> 6 << 4)};
  }
  const uint8_t* const fifth_bits = block + 16;
  const bool has_fifth = format == GroupFormat::kQ5K;
  const uint8_t* const nibbles = fifth_bits + (has_fifth ? kGroupSize : 0) + g / 2 * kGroupSize;
  for (size_t i = 0; i < kGroupSize; i += kWord) {
    const uint32_t fifth = has_fifth ? bits_at(fifth_bits + i, g, 1) : 0;
    set_word(out, i, bits_at(nibbles + i, 4 * (g % 2), 4) | fifth << 4);
  }
  return out;
}

/// Q6_K: 128 bytes of low halves, 64 of high pairs of bits, a scale of each 16 numbers, the super-block's. In each half
/// of the super-block, low nibbles are its groups 0 and 1, high nibbles 2 and 3, and the pairs of a byte all four.
StoredGroup group_of_q6_k(const uint8_t* block, int64_t g) {
  StoredGroup out;
  const int64_t half = g / 4, quarter = g % 4;
  const uint8_t* const low = block + 64 * half + 32 * (quarter % 2);
  const uint8_t* const high = block + 128 + 32 * half;
  for (size_t i = 0; i < kGroupSize; i += kWord) {
    set_word(out, i, bits_at(low + i, quarter / 2 * 4, 4) | bits_at(high + i, 2 * quarter, 2) << 4);
  }
  out.factors = {block[192 + 2 * g], block[192 + 2 * g + 1]};
  out.scale = half_at(block + 208);
  return out;
}

/// IQ4_XS: scale, 2 bytes of high and 4 of low bits of the groups' factors, which are less 32, then nibbles.
StoredGroup group_of_iq4_xs(const uint8_t* block, int64_t g) {
  StoredGroup out;
  out.scale = half_at(block);
  const int low = block[4 + g / 2] >> (4 * (g % 2)) & 15, high = block[2 + g / 4] >> (2 * (g % 4)) & 3;
  out.factors.fill(static_cast<uint8_t>((low | high << 4) - 32));
  take_nibbles(block + 8 + g * kGroupSize / 2, out);
  return out;
}

}  // namespace

int64_t block_bytes(GroupFormat format) {
  switch (format) {
    case GroupFormat::kInt8: return 34;
    case GroupFormat::kInt4:
    case GroupFormat::kIq4Nl: return 18;
    case GroupFormat::kMxfp4: return 17;
    case GroupFormat::kQ5_0: return 22;
    case GroupFormat::kQ4K: return 144;
    case GroupFormat::kQ5K: return 176;
    case GroupFormat::kQ6K: return 210;
    case GroupFormat::kIq4Xs: return 136;
    case GroupFormat::kNone: break;
  }
  check(false, "a format of groups");
  return 0;
}

Weight blocks_of(GroupFormat format, int64_t n, int64_t k, const std::byte* blocks) {
  check(k % (groups_of_block(format) * kGroupSize) == 0, "rows in blocks are whole blocks");
  Weight w;
  w.codes = Tensor::contiguous(const_cast<std::byte*>(blocks), codes_dtype(format), {n, k});  // read-only in truth
  w.groups = format;
  w.layout = WeightLayout::kBlocks;
  return w;
}

StoredGroup group_in_blocks(GroupFormat format, const std::byte* blocks, int64_t group) {
  const auto* const bytes = reinterpret_cast<const uint8_t*>(blocks);
  if (!has_super_blocks(format)) return small_block(format, bytes + group * block_bytes(format));
  const uint8_t* const block = bytes + group / kSuperBlockGroups * block_bytes(format);
  const int64_t g = group % kSuperBlockGroups;
  if (has_offsets(format)) return group_with_offset(format, block, g);
  return format == GroupFormat::kQ6K ? group_of_q6_k(block, g) : group_of_iq4_xs(block, g);
}

}  // namespace fathom
