#include "numerics/blocks.h"

#include <gtest/gtest.h>

#include <cstring>
#include <vector>

namespace fathom {
namespace {

// tests/checkpoint/gguf_blocks_test.cc has the formulas of every type with any bits; here are blocks by hand.
std::vector<std::byte> block_of(GroupFormat format) {
  return std::vector<std::byte>(static_cast<size_t>(block_bytes(format)));
}
void put(std::vector<std::byte>& block, size_t at, int byte) { block[at] = static_cast<std::byte>(byte); }

TEST(Blocks, OfQ4KHaveSixBitFactorsInTwelveBytes) {
  std::vector<std::byte> block = block_of(GroupFormat::kQ4K);
  put(block, 1, 0x38);              // scale 0.5
  put(block, 3, 0x3C);              // offset 1
  put(block, 4 + 2, 0xC0 | 5);      // group 2: scale 5; the two upper bits belong to group 6
  put(block, 4 + 4 + 2, 0x80 | 7);  // group 2: offset 7; upper bits of group 6
  put(block, 4 + 8 + 2, 0x9A);      // group 6: scale 0x3A, offset 0x29
  put(block, 16 + 32, 0x4B);        // groups 2 and 3, first number: 11 and 4
  const GroupValues second = values_of(GroupFormat::kQ4K, group_in_blocks(GroupFormat::kQ4K, block.data(), 2));
  EXPECT_EQ(second.at(0), 0.5f * 5 * 11 - 7);
  EXPECT_EQ(second.at(1), -7);
  const StoredGroup sixth = group_in_blocks(GroupFormat::kQ4K, block.data(), 6);
  EXPECT_EQ(sixth.factors[0], 0x3A);
  EXPECT_EQ(sixth.factors[1], 0x29);
  EXPECT_EQ(group_in_blocks(GroupFormat::kQ4K, block.data(), 3).codes[0], 4);
}

TEST(Blocks, OfQ5KAndQ50HaveFifthBits) {
  std::vector<std::byte> block = block_of(GroupFormat::kQ5K);
  put(block, 16 + 3, 1 << 4);              // group 4, number 3
  put(block, 16 + 32 + 2 * 32 + 3, 0x21);  // groups 4 and 5
  EXPECT_EQ(group_in_blocks(GroupFormat::kQ5K, block.data(), 4).codes[3], 17);
  EXPECT_EQ(group_in_blocks(GroupFormat::kQ5K, block.data(), 5).codes[3], 2);
  block = block_of(GroupFormat::kQ5_0);
  put(block, 2 + 2, 0x02);  // fifth bit of number 17
  put(block, 6 + 1, 0x30);  // numbers 1 and 17
  EXPECT_EQ(group_in_blocks(GroupFormat::kQ5_0, block.data(), 0).codes[17], 19);
}

TEST(Blocks, OfQ6KAndIq4XsHaveSignedFactors) {
  std::vector<std::byte> block = block_of(GroupFormat::kQ6K);
  put(block, 209, 0x38);            // scale 0.5
  put(block, 192 + 2 * 7 + 1, -3);  // group 7, its second half
  put(block, 64 + 32 + 20, 0x50);   // groups 5 and 7, number 20
  put(block, 128 + 32 + 20, 0x80);  // the pair of group 7
  const GroupValues seventh = values_of(GroupFormat::kQ6K, group_in_blocks(GroupFormat::kQ6K, block.data(), 7));
  EXPECT_EQ(seventh.at(20), 0.5f * -3 * (5 + 2 * 16 - 32));
  EXPECT_EQ(seventh.scales[0], 0);
  block = block_of(GroupFormat::kIq4Xs);
  put(block, 4 + 3 / 2, 0x60);  // group 3: low bits 6
  put(block, 2, 1 << 6);        // group 3: high bits 1, so 22 - 32
  EXPECT_EQ(static_cast<int8_t>(group_in_blocks(GroupFormat::kIq4Xs, block.data(), 3).factors[1]), -10);
}

TEST(Blocks, FollowEachOther) {
  std::vector<std::byte> blocks(2 * static_cast<size_t>(block_bytes(GroupFormat::kQ4K)));
  put(blocks, 144 + 16, 0x07);
  EXPECT_EQ(group_in_blocks(GroupFormat::kQ4K, blocks.data(), 8).codes[0], 7);
  EXPECT_EQ(groups_of_block(GroupFormat::kQ4K), 8);
  EXPECT_EQ(groups_of_block(GroupFormat::kInt8), 1);
  const Weight w = blocks_of(GroupFormat::kQ4K, 2, 256, blocks.data());
  EXPECT_EQ(w.layout, WeightLayout::kBlocks);
  EXPECT_EQ(w.groups, GroupFormat::kQ4K);
}

}  // namespace
}  // namespace fathom
