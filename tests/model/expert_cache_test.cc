// ExpertCache: who makes room for whom.
#include "model/expert_cache.h"

#include <gtest/gtest.h>

namespace fathom {
namespace {

/// Uses experts of a layer and gives those without a slot one.
void use(ExpertCache& cache, int64_t layer, std::initializer_list<int32_t> experts) {
  std::vector<ExpertUse> uses;
  for (int32_t e : experts) uses.push_back({.expert = e});
  cache.visit(layer, uses);
  for (int32_t e : experts) {
    if (cache.slot_of(cache.key(layer, e)) == ExpertCache::kNone) cache.take_slot(cache.key(layer, e));
  }
}
bool has(const ExpertCache& cache, int64_t layer, int64_t expert) {
  return cache.slot_of(cache.key(layer, expert)) != ExpertCache::kNone;
}

TEST(ExpertCache, FillsFreeSlotsFirst) {
  ExpertCache cache(2, 4, 3);
  use(cache, 0, {0, 1});
  use(cache, 1, {3});
  EXPECT_TRUE(has(cache, 0, 0) && has(cache, 0, 1) && has(cache, 1, 3));
  for (int32_t slot = 0; slot < 3; ++slot) EXPECT_EQ(cache.slot_of(cache.key_of(slot)), slot);
}

TEST(ExpertCache, KeepsAFavouriteThroughOneUseOfManyOthers) {
  ExpertCache cache(1, 16, 3);
  for (int i = 0; i < 10; ++i) use(cache, 0, {5});
  for (int32_t e = 6; e < 16; ++e) use(cache, 0, {e});  // the least recently used would be gone after two
  EXPECT_TRUE(has(cache, 0, 5));
}

TEST(ExpertCache, ForgetsAFavouriteThatIsNoLongerOne) {
  ExpertCache cache(1, 4, 1);
  for (int i = 0; i < 100; ++i) use(cache, 0, {0});
  for (int i = 0; i < 100; ++i) cache.visit(0, std::vector<ExpertUse>{{.expert = 1}});
  EXPECT_GT(cache.worth(cache.key(0, 1)), cache.worth(cache.key(0, 0)));
}

TEST(ExpertCache, AmongEqualsTheLayerThatComesLastMakesRoom) {
  ExpertCache cache(4, 2, 4);
  for (int64_t layer = 0; layer < 4; ++layer) use(cache, layer, {0});  // layer 3 was the last, layer 0 comes next
  ASSERT_EQ(cache.worth(cache.key(0, 0)), cache.worth(cache.key(3, 0)));
  cache.take_slot(cache.key(0, 1));
  EXPECT_FALSE(has(cache, 3, 0)) << "the least recently used would have been layer 0's";
  EXPECT_TRUE(has(cache, 0, 0) && has(cache, 1, 0) && has(cache, 2, 0));
}

TEST(ExpertCache, PinsHoldAndCount) {
  ExpertCache cache(1, 4, 2);
  use(cache, 0, {0, 1});
  const int32_t zero = cache.slot_of(cache.key(0, 0)), one = cache.slot_of(cache.key(0, 1));
  cache.pin(zero);
  cache.pin(zero);
  cache.pin(one);
  EXPECT_EQ(cache.take_slot(cache.key(0, 2)), ExpertCache::kNone);
  cache.unpin(zero);
  EXPECT_EQ(cache.take_slot(cache.key(0, 2)), ExpertCache::kNone) << "a second pin holds";
  cache.unpin(zero);
  EXPECT_EQ(cache.take_slot(cache.key(0, 2)), zero);
  EXPECT_FALSE(has(cache, 0, 0));
  EXPECT_TRUE(has(cache, 0, 1));
}

TEST(ExpertCache, ADroppedExpertLeavesItsSlotFree) {
  ExpertCache cache(1, 4, 1);
  use(cache, 0, {2});
  const int32_t slot = cache.slot_of(cache.key(0, 2));
  cache.drop(cache.key(0, 2));
  EXPECT_FALSE(has(cache, 0, 2));
  EXPECT_EQ(cache.key_of(slot), ExpertCache::kNone);
  EXPECT_EQ(cache.take_slot(cache.key(0, 3)), slot);
}

TEST(ExpertCache, AShareOfTokensIsAShareOfWorth) {
  ExpertCache cache(1, 2, 1);
  cache.visit(0, std::vector<ExpertUse>{{.expert = 0, .share = 0.25f}, {.expert = 1, .share = 1}});
  EXPECT_EQ(4 * cache.worth(0), cache.worth(1));
}

}  // namespace
}  // namespace fathom
