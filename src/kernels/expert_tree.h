// The order in which a token's expert outputs are added: a binary tree over expert ids. Leaves are ids; two neighbours
// meet at the level of the highest bit in which they differ, absent leaves are skipped. A rank that owns an aligned
// power-of-two range of ids holds a whole subtree, so its partial sum is the same in every layout.
#pragma once

#include <array>
#include <bit>
#include <cstdint>

#include "base/check.h"

namespace fathom {

inline constexpr int64_t kMaxExpertsPerToken = 64;

/// Calls merge(i, j), meaning "leaf-sum i += leaf-sum j" (i < j, indices into ids), in tree order; the total ends in 0.
/// ids are ascending and distinct.
template <class Merge>
void merge_expert_tree(const int32_t* ids, int64_t count, Merge&& merge) {
  check(count <= kMaxExpertsPerToken, "at most 64 experts per token");
  std::array<int64_t, kMaxExpertsPerToken> stack;
  int64_t top = 0;
  // The level at which the subtree starting at leaf `begin` meets its left neighbour (which ends at leaf begin - 1).
  const auto level = [ids](int64_t begin) {
    return std::bit_width(static_cast<uint32_t>(ids[begin - 1] ^ ids[begin]));
  };
  for (int64_t i = 0; i < count; ++i) {
    while (top >= 2 && level(stack[top - 1]) < level(i)) {
      merge(stack[top - 2], stack[top - 1]);
      --top;
    }
    stack[top++] = i;
  }
  for (; top >= 2; --top) merge(stack[top - 2], stack[top - 1]);
}

}  // namespace fathom
