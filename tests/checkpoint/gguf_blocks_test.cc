// GGUF block types against an oracle that is written the other way round: it computes number i of a block from the
// format's description by random access to single bits, in double. Hand-computed blocks stand beside it.
#include "checkpoint/gguf_blocks.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "base/rng.h"

namespace fathom {
namespace {

using Block = std::vector<uint8_t>;

// --- the oracle -----------------------------------------------------------------------------------------------------

/// Bits [first, first + count) of the block, as one number; bit 0 of byte 0 is bit 0.
int bits(const Block& b, int64_t first, int64_t count) {
  int v = 0;
  for (int64_t k = 0; k < count; ++k) {
    const int64_t at = first + k;
    v |= (b[static_cast<size_t>(at / 8)] >> (at % 8) & 1) << k;
  }
  return v;
}

/// IEEE half by its definition.
double half(const Block& b, int64_t byte) {
  const int sign = bits(b, 8 * byte + 15, 1), exponent = bits(b, 8 * byte + 10, 5), fraction = bits(b, 8 * byte, 10);
  const double magnitude = exponent == 0 ? std::ldexp(fraction, -24) : std::ldexp(1024 + fraction, exponent - 25);
  return sign != 0 ? -magnitude : magnitude;
}

int signed_byte(const Block& b, int64_t byte) { return static_cast<int8_t>(b[static_cast<size_t>(byte)]); }

/// Code i of 32 whose four-bit codes begin at `byte`: the low halves first.
int nibble32(const Block& b, int64_t byte, int64_t i) { return bits(b, 8 * (byte + i % 16) + 4 * (i / 16), 4); }

/// The six-bit scale (part 0) or offset (part 1) of sub-block s, in the 12 bytes at `byte`.
int six_bits(const Block& b, int64_t byte, int64_t s, int part) {
  if (s < 4) return bits(b, 8 * (byte + s + 4 * part), 6);
  return bits(b, 8 * (byte + s + 4) + 4 * part, 4) + 16 * bits(b, 8 * (byte + s - 4 + 4 * part) + 6, 2);
}

constexpr double kIq4[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};
constexpr double kE2M1[16] = {0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6};

double oracle(GgmlType type, const Block& b, int64_t i) {
  switch (type) {
    case GgmlType::kQ4_0: return half(b, 0) * (nibble32(b, 2, i) - 8);
    case GgmlType::kQ4_1: return half(b, 0) * nibble32(b, 4, i) + half(b, 2);
    case GgmlType::kQ5_0: return half(b, 0) * (nibble32(b, 6, i) + 16 * bits(b, 16 + i, 1) - 16);
    case GgmlType::kQ5_1: return half(b, 0) * (nibble32(b, 8, i) + 16 * bits(b, 32 + i, 1)) + half(b, 2);
    case GgmlType::kQ8_0: return half(b, 0) * signed_byte(b, 2 + i);
    case GgmlType::kIQ4_NL: return half(b, 0) * kIq4[nibble32(b, 2, i)];
    case GgmlType::kMXFP4: return std::ldexp(kE2M1[nibble32(b, 1, i)], b[0] - 127);
    case GgmlType::kIQ4_XS: {
      const int64_t s = i / 32;
      const int scale = bits(b, 8 * 4 + 4 * s, 4) + 16 * bits(b, 8 * 2 + 2 * s, 2) - 32;
      return half(b, 0) * scale * kIq4[nibble32(b, 8 + 16 * s, i % 32)];
    }
    case GgmlType::kQ2_K: {
      // scales 0..15, codes 16..79, scale at 80, offset at 82
      const int64_t byte = 16 + 32 * (i / 128) + i % 32;
      const int q = bits(b, 8 * byte + 2 * (i % 128 / 32), 2);
      return half(b, 80) * bits(b, 8 * (i / 16), 4) * q - half(b, 82) * bits(b, 8 * (i / 16) + 4, 4);
    }
    case GgmlType::kQ3_K: {
      // third bits 0..31, codes 32..95, scales 96..107, scale at 108
      const int64_t plane = i % 128 / 32, s = i / 16;
      const int q = bits(b, 8 * (32 + 32 * (i / 128) + i % 32) + 2 * plane, 2) +
                    4 * bits(b, 8 * (i % 32) + 4 * (i / 128) + plane, 1) - 4;
      const int scale = bits(b, 8 * (96 + s % 8) + 4 * (s / 8), 4) + 16 * bits(b, 8 * (104 + s % 4) + 2 * (s / 4), 2);
      return half(b, 108) * (scale - 32) * q;
    }
    case GgmlType::kQ4_K: {
      const int64_t s = i / 32;
      const int q = bits(b, 8 * (16 + 32 * (s / 2) + i % 32) + 4 * (s % 2), 4);
      return half(b, 0) * six_bits(b, 4, s, 0) * q - half(b, 2) * six_bits(b, 4, s, 1);
    }
    case GgmlType::kQ5_K: {
      const int64_t s = i / 32;
      const int q = bits(b, 8 * (48 + 32 * (s / 2) + i % 32) + 4 * (s % 2), 4) + 16 * bits(b, 8 * (16 + i % 32) + s, 1);
      return half(b, 0) * six_bits(b, 4, s, 0) * q - half(b, 2) * six_bits(b, 4, s, 1);
    }
    case GgmlType::kQ6_K: {
      // low bits 0..127, high bits 128..191, scales 192..207, scale at 208
      const int64_t quarter = i % 128 / 32;
      const int q = bits(b, 8 * (64 * (i / 128) + 32 * (quarter % 2) + i % 32) + 4 * (quarter / 2), 4) +
                    16 * bits(b, 8 * (128 + 32 * (i / 128) + i % 32) + 2 * quarter, 2) - 32;
      return half(b, 208) * signed_byte(b, 192 + i / 16) * q;
    }
    default: ADD_FAILURE() << "no oracle"; return 0;
  }
}

/// Bytes where the block has halves; they must be finite for the comparison.
std::vector<int64_t> half_offsets(GgmlType type) {
  switch (type) {
    case GgmlType::kQ4_1:
    case GgmlType::kQ5_1:
    case GgmlType::kQ4_K:
    case GgmlType::kQ5_K: return {0, 2};
    case GgmlType::kQ2_K: return {80, 82};
    case GgmlType::kQ3_K: return {108};
    case GgmlType::kQ6_K: return {208};
    case GgmlType::kMXFP4: return {};
    default: return {0};
  }
}

constexpr GgmlType kBlockTypes[] = {GgmlType::kQ4_0, GgmlType::kQ4_1, GgmlType::kQ5_0,   GgmlType::kQ5_1,
                                    GgmlType::kQ8_0, GgmlType::kQ2_K, GgmlType::kQ3_K,   GgmlType::kQ4_K,
                                    GgmlType::kQ5_K, GgmlType::kQ6_K, GgmlType::kIQ4_NL, GgmlType::kIQ4_XS,
                                    GgmlType::kMXFP4};

Block random_block(GgmlType type, SequentialRng& rng) {
  Block block(static_cast<size_t>(info_of(type).block_bytes));
  for (uint8_t& byte : block) byte = static_cast<uint8_t>(rng.below(256));
  for (int64_t at : half_offsets(type)) {
    uint8_t& high_byte = block[static_cast<size_t>(at) + 1];
    if ((high_byte & 0x7C) == 0x7C) high_byte = static_cast<uint8_t>(high_byte & ~0x40);
  }
  if (type == GgmlType::kMXFP4 && block[0] > 250) block[0] = 250;  // 6 * 2^127 would not fit
  return block;
}

std::vector<float> decode(GgmlType type, const Block& bytes) {
  const GgmlTypeInfo& info = info_of(type);
  const auto blocks = static_cast<int64_t>(bytes.size()) / info.block_bytes;
  std::vector<float> out(static_cast<size_t>(blocks * info.block_length));
  decode_blocks(type, reinterpret_cast<const std::byte*>(bytes.data()), blocks, out.data());
  return out;
}

TEST(GgufBlocks, EveryTypeIsTheFormulaRoundedOnce) {
  SequentialRng rng(3, 14);
  for (GgmlType type : kBlockTypes) {
    SCOPED_TRACE(std::string(info_of(type).name));
    for (int round = 0; round < 60; ++round) {
      const Block block = random_block(type, rng);
      const std::vector<float> got = decode(type, block);
      for (size_t i = 0; i < got.size(); ++i) {
        // The double is exact: halves have 11 bits, codes and scales together at most 13.
        ASSERT_EQ(got[i], static_cast<float>(oracle(type, block, static_cast<int64_t>(i)))) << "number " << i;
      }
    }
  }
}

TEST(GgufBlocks, BlocksFollowEachOtherAtAnyAddress) {
  SequentialRng rng(5, 9);
  for (GgmlType type : kBlockTypes) {
    const Block first = random_block(type, rng), second = random_block(type, rng);
    Block both(1);  // one byte in front: nothing is aligned
    both.insert(both.end(), first.begin(), first.end());
    both.insert(both.end(), second.begin(), second.end());
    std::vector<float> expected = decode(type, first);
    const std::vector<float> tail = decode(type, second);
    expected.insert(expected.end(), tail.begin(), tail.end());
    std::vector<float> got(expected.size());
    decode_blocks(type, reinterpret_cast<const std::byte*>(both.data()) + 1, 2, got.data());
    EXPECT_EQ(got, expected) << info_of(type).name;
  }
}

TEST(GgufBlocks, HandComputedBlocks) {
  // 0x3800 is 0.5, 0xBC00 is -1.
  Block q8(34);
  q8[1] = 0x38;
  q8[2] = 3;
  q8[3] = 0x80;  // -128
  q8[33] = 0x7F;
  const auto a = decode(GgmlType::kQ8_0, q8);
  EXPECT_EQ(a[0], 1.5f);
  EXPECT_EQ(a[1], -64.0f);
  EXPECT_EQ(a[31], 63.5f);

  Block q4(18);
  q4[1] = 0x38;
  q4[2] = 0xF0;  // number 0 has code 0, number 16 code 15
  const auto b = decode(GgmlType::kQ4_0, q4);
  EXPECT_EQ(b[0], -4.0f);
  EXPECT_EQ(b[16], 3.5f);
  EXPECT_EQ(b[1], -4.0f);

  Block iq4(18);
  iq4[1] = 0x38;
  iq4[17] = 0x9E;  // number 15 has code 14, number 31 code 9
  const auto c = decode(GgmlType::kIQ4_NL, iq4);
  EXPECT_EQ(c[15], 44.5f);
  EXPECT_EQ(c[31], 6.5f);
  EXPECT_EQ(c[0], -63.5f);

  Block mx(17);
  mx[0] = 128;   // 2
  mx[1] = 0xA7;  // number 0: 6, number 16: -1
  const auto d = decode(GgmlType::kMXFP4, mx);
  EXPECT_EQ(d[0], 12.0f);
  EXPECT_EQ(d[16], -2.0f);

  // Q4_K: scale 0.5, offset 1; sub-block 0 has scale 2, offset 3; sub-block 5 scale 0b010011 (low 3, high 1), offset 0.
  Block k(144);
  k[1] = 0x38;
  k[3] = 0x3C;
  k[4] = 2;             // scale of 0
  k[8] = 3;             // offset of 0
  k[5] = 1 << 6;        // high bits of the scale of 5
  k[13] = 3;            // low bits of the scale of 5
  k[16] = 5;            // number 0
  k[16 + 64] = 7 << 4;  // number 160: sub-block 5, first
  const auto e = decode(GgmlType::kQ4_K, k);
  EXPECT_EQ(e[0], 0.5f * 2 * 5 - 3);
  EXPECT_EQ(e[1], -3.0f);
  EXPECT_EQ(e[160], 0.5f * 19 * 7);
}

TEST(GgufBlocks, PlainTypesAreWidened) {
  const Block f16_bytes = {0x00, 0x3C, 0x01, 0x00};  // 1, 2^-24
  const auto a = decode(GgmlType::kF16, f16_bytes);
  EXPECT_EQ(a, (std::vector<float>{1.0f, std::ldexp(1.0f, -24)}));
  const Block bf16_bytes = {0x80, 0x3F, 0x00, 0xC0};
  EXPECT_EQ(decode(GgmlType::kBF16, bf16_bytes), (std::vector<float>{1.0f, -2.0f}));
  const Block f32_bytes = {0x00, 0x00, 0x20, 0x41};
  EXPECT_EQ(decode(GgmlType::kF32, f32_bytes), (std::vector<float>{10.0f}));
}

TEST(GgufBlocks, AScaleThatIsNoNumberStaysOne) {
  Block block(34);
  block[1] = 0x7E;
  EXPECT_TRUE(std::isnan(decode(GgmlType::kQ8_0, block)[7]));
  Block mx(17);
  mx[0] = 255;
  EXPECT_TRUE(std::isnan(decode(GgmlType::kMXFP4, mx)[7]));
}

TEST(GgufBlocks, TheTableKnowsNumbersNamesAndSizes) {
  // Bits per number, as the format's documents give them.
  for (const auto& [number, name, bits_per_number] : {std::tuple{2u, "Q4_0", 4.5},
                                                      {3u, "Q4_1", 5.0},
                                                      {6u, "Q5_0", 5.5},
                                                      {7u, "Q5_1", 6.0},
                                                      {8u, "Q8_0", 8.5},
                                                      {10u, "Q2_K", 2.625},
                                                      {11u, "Q3_K", 3.4375},
                                                      {12u, "Q4_K", 4.5},
                                                      {13u, "Q5_K", 5.5},
                                                      {14u, "Q6_K", 6.5625},
                                                      {16u, "IQ2_XXS", 2.0625},
                                                      {20u, "IQ4_NL", 4.5},
                                                      {23u, "IQ4_XS", 4.25},
                                                      {30u, "BF16", 16.0},
                                                      {39u, "MXFP4", 4.25}}) {
    const GgmlTypeInfo* info = find_ggml_type(number);
    ASSERT_NE(info, nullptr) << name;
    EXPECT_EQ(info->name, name);
    EXPECT_EQ(8.0 * static_cast<double>(info->block_bytes) / static_cast<double>(info->block_length), bits_per_number);
  }
  for (uint32_t removed : {4u, 5u, 31u, 36u, 1000u}) EXPECT_EQ(find_ggml_type(removed), nullptr);
  EXPECT_FALSE(info_of(GgmlType::kIQ2_XXS).decodable);
  EXPECT_EQ(decodable_ggml_types(),
            "F32, F16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q2_K, Q3_K, Q4_K, Q5_K, Q6_K, IQ4_NL, IQ4_XS, BF16, MXFP4");
}

}  // namespace
}  // namespace fathom
