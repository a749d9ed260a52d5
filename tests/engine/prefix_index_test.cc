// The prefix index against a plain list of what it should know, and the rules its users rely on.
#include "engine/prefix_index.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "base/rng.h"

namespace fathom {
namespace {

constexpr int32_t kNone = PrefixIndex::kNoPage;
using Tokens = std::vector<int32_t>;

TEST(PageHash, DependsOnSeedTokensOrderAndEverythingBefore) {
  const Tokens a{1, 2, 3, 4}, b{1, 2, 4, 3};
  std::set<uint64_t> hashes{page_hash(0, a), page_hash(1, a), page_hash(0, b), page_hash(page_hash(0, a), a),
                            page_hash(page_hash(0, b), a)};
  EXPECT_EQ(hashes.size(), 5u);
  const Tokens tokens{1, 2, 3, 4, 5, 6, 7, 8, 9};
  const auto pages = page_hashes(9, tokens, 4);
  ASSERT_EQ(pages.size(), 2u) << "the ninth token fills no page";
  EXPECT_EQ(pages[0], page_hash(9, std::span(tokens).first(4)));
  EXPECT_EQ(pages[1], page_hash(pages[0], std::span(tokens).subspan(4, 4)));
  EXPECT_TRUE(page_hashes(9, std::span(tokens).first(3), 4).empty());
}

TEST(PrefixIndex, FindsTheLongestBeginningOfOneSeed) {
  PrefixIndex index;
  const auto insert = [&index](int32_t before, uint64_t seed, const Tokens& tokens, int32_t page) {
    index.insert(before, page_hash(seed, tokens), tokens, page);
  };
  const auto found = [&index](int32_t before, uint64_t seed, const Tokens& tokens) {
    const auto beginning = index.find_beginning(before, seed, tokens);
    return std::pair(beginning.page, beginning.num_tokens);
  };
  insert(kNone, 5, {1, 2, 3, 4}, 10);
  insert(kNone, 5, {1, 2, 7, 8}, 11);
  insert(kNone, 6, {1, 2, 3, 9}, 12);
  EXPECT_EQ(found(kNone, 5, {1, 2, 3, 9}), std::pair(10, int64_t{3})) << "page 12 is of another seed";
  EXPECT_EQ(found(kNone, 5, {1, 2, 7}), std::pair(11, int64_t{3}));
  EXPECT_EQ(found(kNone, 5, {2, 1}), std::pair(kNone, int64_t{0}));
  EXPECT_EQ(found(kNone, 5, {}), std::pair(kNone, int64_t{0}));
  const uint64_t hash = index.at(10).hash;
  EXPECT_EQ(found(10, hash, {5, 6}), std::pair(kNone, int64_t{0})) << "nothing follows page 10";
  insert(10, hash, {5, 6, 7, 8}, 13);
  EXPECT_EQ(found(10, hash, {5, 6}), std::pair(13, int64_t{2}));
  ASSERT_TRUE(index.forget(13));
  EXPECT_EQ(found(10, hash, {5, 6}), std::pair(kNone, int64_t{0}));
  // Of many pages only the latest are compared.
  for (int32_t i = 0; i < static_cast<int32_t>(PrefixIndex::kMostCompared); ++i)
    insert(kNone, 5, {100 + i, 0, 0, 0}, 20 + i);
  EXPECT_EQ(found(kNone, 5, {1, 2, 3, 9}), std::pair(kNone, int64_t{0}));
}

TEST(PrefixIndex, TellsEqualHashesApartByTokensAndByThePageBefore) {
  PrefixIndex index;
  index.insert(kNone, 42, Tokens{1, 2}, 10);
  index.insert(kNone, 42, Tokens{3, 4}, 11);
  index.insert(10, 42, Tokens{1, 2}, 12);
  EXPECT_EQ(index.find(kNone, 42, Tokens{1, 2}), 10);
  EXPECT_EQ(index.find(kNone, 42, Tokens{3, 4}), 11);
  EXPECT_EQ(index.find(10, 42, Tokens{1, 2}), 12);
  EXPECT_EQ(index.find(11, 42, Tokens{1, 2}), kNone);
  EXPECT_EQ(index.find(kNone, 42, Tokens{1, 3}), kNone);
  EXPECT_EQ(index.find(kNone, 42, Tokens{1}), kNone);
  EXPECT_EQ(index.find(kNone, 43, Tokens{1, 2}), kNone);
}

TEST(PrefixIndex, EvictsTheLeastRecentlyUsedRetiredPage) {
  PrefixIndex index;
  for (int32_t page : {1, 2, 3}) index.insert(kNone, static_cast<uint64_t>(page), Tokens{page}, page);
  EXPECT_EQ(index.evict(), kNone) << "all are in use";
  for (int32_t page : {2, 1, 3}) index.retire(page);
  index.revive(2);
  index.retire(2);
  EXPECT_EQ(index.num_retired(), 3);
  EXPECT_EQ(index.evict(), 1);
  EXPECT_EQ(index.find(kNone, 1, Tokens{1}), kNone);
  EXPECT_FALSE(index.contains(1));
  EXPECT_EQ(index.find(kNone, 3, Tokens{3}), 3);
  EXPECT_EQ(index.evict(), 3);
  EXPECT_EQ(index.evict(), 2);
  EXPECT_EQ(index.evict(), kNone);
  EXPECT_EQ(index.num_pages(), 0);
}

TEST(PrefixIndex, ForgetsAPageInUseUnlessAnotherFollows) {
  PrefixIndex index;
  index.insert(kNone, 1, Tokens{1}, 1);
  index.insert(1, 2, Tokens{2}, 2);
  EXPECT_FALSE(index.forget(1));
  EXPECT_TRUE(index.forget(2));
  EXPECT_EQ(index.find(1, 2, Tokens{2}), kNone);
  EXPECT_TRUE(index.forget(1));
  EXPECT_EQ(index.num_pages(), 0);
}

TEST(PrefixIndexDeathTest, HoldsItsUsersToTheRules) {
  PrefixIndex index;
  index.insert(kNone, 1, Tokens{1}, 1);
  index.insert(1, 2, Tokens{2}, 2);
  EXPECT_DEATH(index.insert(kNone, 3, Tokens{3}, 1), "once");
  EXPECT_DEATH(index.insert(9, 3, Tokens{3}, 3), "page before");
  EXPECT_DEATH(index.revive(1), "retired");
  index.retire(1);
  index.retire(2);
  EXPECT_DEATH(index.evict(), "from the last to the first") << "page 1 would go while page 2 follows it";
}

// Random users that hold chains of pages as sequences do, against a list of all entries in order of retirement.
TEST(PrefixIndex, KnowsWhatAPlainListKnows) {
  struct Known {
    int32_t page, before;
    Tokens tokens;
    int64_t users, retired_at;
  };
  SequentialRng rng(3, stream_of("prefix_index"));
  PrefixIndex index;
  std::vector<Known> list;
  std::vector<std::vector<int32_t>> held;  // by user: a chain
  int32_t next_page = 0;
  int64_t now = 0;
  const auto known = [&](int32_t page) {
    return std::find_if(list.begin(), list.end(), [&](const Known& k) { return k.page == page; });
  };
  for (int turn = 0; turn < 3000; ++turn) {
    const uint64_t what = rng.below(10);
    if (what < 5) {  // a new user walks and extends a chain of three kinds of tokens; all hashes are one of two
      std::vector<int32_t> chain;
      int32_t before = kNone;
      for (int64_t depth = rng.between(1, 5); depth > 0; --depth) {
        const Tokens tokens{static_cast<int32_t>(rng.below(3))};
        const auto hash = static_cast<uint64_t>(tokens[0] % 2);
        const auto wanted = std::find_if(list.begin(), list.end(),
                                         [&](const Known& k) { return k.before == before && k.tokens == tokens; });
        int32_t page = index.find(before, hash, tokens);
        ASSERT_EQ(page, wanted == list.end() ? kNone : wanted->page);
        if (page == kNone) {
          page = next_page++;
          index.insert(before, hash, tokens, page);
          list.push_back({page, before, tokens, 1, 0});
        } else if (wanted->users++ == 0) {
          index.revive(page);
        }
        chain.push_back(page);
        before = page;
      }
      held.push_back(chain);
    } else if (what < 9 && !held.empty()) {
      const auto user = held.begin() + static_cast<std::ptrdiff_t>(rng.below(held.size()));
      for (; !user->empty(); user->pop_back()) {
        const auto k = known(user->back());
        if (--k->users > 0) continue;
        k->retired_at = ++now;
        index.retire(k->page);
      }
      held.erase(user);
    } else {
      auto oldest = list.end();
      for (auto k = list.begin(); k != list.end(); ++k) {
        if (k->users == 0 && (oldest == list.end() || k->retired_at < oldest->retired_at)) oldest = k;
      }
      ASSERT_EQ(index.evict(), oldest == list.end() ? kNone : oldest->page);
      if (oldest != list.end()) list.erase(oldest);
    }
    ASSERT_EQ(index.num_pages(), std::ssize(list));
    ASSERT_EQ(index.num_retired(),
              std::count_if(list.begin(), list.end(), [](const Known& k) { return k.users == 0; }));
  }
}

}  // namespace
}  // namespace fathom
