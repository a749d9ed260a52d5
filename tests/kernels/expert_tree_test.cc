// The order of a token's expert sums, against its recursive definition over halved id ranges.
#include "kernels/expert_tree.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <string>
#include <vector>

#include "base/rng.h"

namespace fathom {
namespace {

/// The tree as an expression, like "((1+3)+6)", where leaf i is written as leaves[i].
std::string merged(const std::vector<int32_t>& ids, std::vector<std::string> leaves) {
  merge_expert_tree(ids.data(), static_cast<int64_t>(ids.size()), [&](int64_t i, int64_t j) {
    EXPECT_LT(i, j);
    auto& into = leaves[static_cast<size_t>(i)];
    auto& from = leaves[static_cast<size_t>(j)];
    EXPECT_FALSE(from.empty()) << "a leaf is added twice";
    into = "(" + into + "+" + from + ")";
    from.clear();
  });
  for (size_t i = 1; i < leaves.size(); ++i) EXPECT_TRUE(leaves[i].empty()) << "leaf " << i << " is in no sum";
  return leaves[0];
}

std::vector<std::string> names_of(const std::vector<int32_t>& ids) {
  std::vector<std::string> names;
  for (int32_t id : ids) names.push_back(std::to_string(id));
  return names;
}

/// The definition: the sum over [begin, begin + size) is the sum of its halves; an empty half is skipped.
std::string recursive(const std::vector<int32_t>& ids, int32_t begin, int32_t size) {
  if (size == 1) return std::binary_search(ids.begin(), ids.end(), begin) ? std::to_string(begin) : "";
  const std::string left = recursive(ids, begin, size / 2), right = recursive(ids, begin + size / 2, size / 2);
  if (left.empty() || right.empty()) return left + right;
  return "(" + left + "+" + right + ")";
}

/// `count` distinct ids below `bound`, ascending.
std::vector<int32_t> draw_ids(SequentialRng& rng, int64_t count, int32_t bound) {
  std::vector<int32_t> all(static_cast<size_t>(bound));
  std::iota(all.begin(), all.end(), 0);
  for (size_t i = 0; i < static_cast<size_t>(count); ++i) std::swap(all[i], all[i + rng.below(all.size() - i)]);
  all.resize(static_cast<size_t>(count));
  std::sort(all.begin(), all.end());
  return all;
}

TEST(ExpertTree, IsTheRecursionOverHalvedIdRanges) {
  for (int subset = 1; subset < 256; ++subset) {
    std::vector<int32_t> ids;
    for (int32_t id = 0; id < 8; ++id) {
      if ((subset >> id & 1) != 0) ids.push_back(id);
    }
    EXPECT_EQ(merged(ids, names_of(ids)), recursive(ids, 0, 8));
  }
  SequentialRng rng(1, stream_of("expert tree"));
  for (int trial = 0; trial < 500; ++trial) {
    const auto ids = draw_ids(rng, rng.between(1, kMaxExpertsPerToken), 256);
    EXPECT_EQ(merged(ids, names_of(ids)), recursive(ids, 0, 256));
  }
}

TEST(ExpertTree, IsTheSameWhenRanksOwnAlignedRanges) {
  SequentialRng rng(2, stream_of("expert ranges"));
  for (int trial = 0; trial < 300; ++trial) {
    const auto ids = draw_ids(rng, rng.between(1, 32), 256);
    const std::string whole = merged(ids, names_of(ids));
    for (int32_t range = 1; range <= 256; range *= 2) {
      // Each rank sums what it owns; the partial sums meet along the same tree over rank numbers.
      std::vector<int32_t> ranks;
      std::vector<std::string> partial_sums;
      for (int32_t rank = 0; rank < 256 / range; ++rank) {
        std::vector<int32_t> owned;
        for (int32_t id : ids) {
          if (id / range == rank) owned.push_back(id);
        }
        if (owned.empty()) continue;
        ranks.push_back(rank);
        partial_sums.push_back(merged(owned, names_of(owned)));
      }
      EXPECT_EQ(merged(ranks, partial_sums), whole) << "ranges of " << range;
    }
  }
}

TEST(ExpertTree, LeavesASingleExpertAlone) {
  const int32_t id = 200;
  merge_expert_tree(&id, 1, [](int64_t, int64_t) { FAIL() << "there is nothing to add"; });
}

TEST(ExpertTreeDeathTest, RefusesMoreExpertsThanItHasRoomFor) {
  std::vector<int32_t> ids(static_cast<size_t>(kMaxExpertsPerToken) + 1);
  std::iota(ids.begin(), ids.end(), 0);
  EXPECT_DEATH(merge_expert_tree(ids.data(), static_cast<int64_t>(ids.size()), [](int64_t, int64_t) {}),
               "at most 64 experts");
}

}  // namespace
}  // namespace fathom
