// Arena: alignment, disjoint blocks, nested lifetimes, and that a repeated step takes no new memory.
#include "base/arena.h"

#include <gtest/gtest.h>

#include <cstring>

namespace fathom {
namespace {

TEST(Arena, BlocksAreAlignedAndDisjoint) {
  Arena arena(256);
  std::vector<std::pair<unsigned char*, size_t>> blocks;
  for (size_t i = 0; i < 200; ++i) {
    const size_t bytes = i * 7 % 300;
    auto* block = static_cast<unsigned char*>(arena.allocate(bytes));
    EXPECT_EQ(reinterpret_cast<uintptr_t>(block) % Arena::kAlignment, 0u);
    std::memset(block, static_cast<int>(i), bytes);
    blocks.emplace_back(block, bytes);
  }
  for (size_t i = 0; i < blocks.size(); ++i) {
    for (size_t b = 0; b < blocks[i].second; ++b) ASSERT_EQ(blocks[i].first[b], i) << "block " << i << " byte " << b;
  }
}

TEST(Arena, RewindGivesTheSameMemoryAgain) {
  Arena arena;
  arena.allocate(100);
  const Arena::Mark mark = arena.mark();
  void* first = arena.allocate(1000);
  arena.allocate(1000);
  arena.rewind(mark);
  EXPECT_EQ(arena.allocate(1000), first);
}

TEST(Arena, ARepeatedStepTakesNoNewMemory) {
  Arena arena(1024);
  const auto step = [&arena] {
    const ArenaScope scope(arena);
    for (int i = 0; i < 50; ++i) arena.allocate_array<double>(1 + i * 37);
  };
  step();
  const size_t capacity = arena.capacity_bytes();
  EXPECT_GT(capacity, 0u);
  for (int i = 0; i < 10; ++i) step();
  EXPECT_EQ(arena.capacity_bytes(), capacity);
}

TEST(Arena, ScopesNest) {
  Arena arena(64);
  char* outer = nullptr;
  {
    const ArenaScope a(arena);
    outer = arena.allocate_array<char>(64);
    outer[0] = 'o';
    char* inner = nullptr;
    {
      const ArenaScope b(arena);
      inner = arena.allocate_array<char>(500);
      std::memset(inner, 'i', 500);
    }
    EXPECT_EQ(arena.allocate_array<char>(500), inner);
    EXPECT_EQ(outer[0], 'o');
  }
  EXPECT_EQ(arena.allocate_array<char>(64), outer);
}

TEST(Arena, ABlockLargerThanTheNextChunkGetsItsOwn) {
  Arena arena(64);
  auto* block = arena.allocate_array<char>(1 << 20);
  std::memset(block, 1, 1 << 20);
  EXPECT_GE(arena.capacity_bytes(), size_t{1} << 20);
}

}  // namespace
}  // namespace fathom
