// Tensor: extents and strides of slices, splits and joins, and the promises that are checked.
#include "tensor/tensor.h"

#include <gtest/gtest.h>

#include <numeric>

namespace fathom {
namespace {

struct Numbers {
  Numbers() { std::iota(values, values + 24, 0.0f); }
  float values[24];
};

TEST(Tensor, ContiguousStridesCountFromTheInnermostAxis) {
  Numbers n;
  const Tensor t = Tensor::contiguous(n.values, DType::kF32, {2, 3, 4});
  EXPECT_EQ(t.rank, 3);
  EXPECT_EQ(t.stride(0), 12);
  EXPECT_EQ(t.stride(1), 4);
  EXPECT_EQ(t.stride(2), 1);
  EXPECT_EQ(t.numel(), 24);
  EXPECT_EQ(t.num_bytes(), 96);
  EXPECT_TRUE(t.is_contiguous());
}

TEST(Tensor, SlicesShareMemory) {
  Numbers n;
  const Tensor t = Tensor::contiguous(n.values, DType::kF32, {4, 6});
  const Tensor rows = t.rows(1, 2);
  EXPECT_EQ(rows.ptr<float>(), n.values + 6);
  EXPECT_TRUE(rows.is_contiguous());
  const Tensor columns = t.slice(1, 2, 3);
  EXPECT_FALSE(columns.is_contiguous());
  const auto v = columns.view<const float, 2>();
  EXPECT_EQ(v(0, 0), 2.0f);
  EXPECT_EQ(v(3, 2), 22.0f);
  EXPECT_EQ(t.slice(0, 4, 0).numel(), 0);
}

TEST(Tensor, ARowOfOneIsContiguousWhateverItsStride) {
  Numbers n;
  const Tensor t = Tensor::contiguous(n.values, DType::kF32, {4, 6}).slice(1, 0, 3);
  EXPECT_TRUE(t.rows(2, 1).is_contiguous());
}

TEST(Tensor, SplitAndJoinUndoEachOther) {
  Numbers n;
  const Tensor t = Tensor::contiguous(n.values, DType::kF32, {4, 6});
  const Tensor split = t.split_last(3, 2);
  EXPECT_EQ(split.rank, 3);
  EXPECT_EQ((split.view<float, 3>()(2, 1, 1)), 15.0f);
  const Tensor joined = split.join_last();
  EXPECT_EQ(joined.rank, 2);
  EXPECT_EQ(joined.extents[0], 4);
  EXPECT_EQ(joined.extents[1], 6);
  EXPECT_EQ(joined.strides[0], 6);
}

TEST(Tensor, AllocatesFromTheArena) {
  Arena arena;
  const Tensor t = Tensor::allocate(arena, DType::kBF16, {3, 5});
  ASSERT_TRUE(t);
  EXPECT_EQ(t.num_bytes(), 30);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(t.data) % Arena::kAlignment, 0u);
  EXPECT_FALSE(Tensor());
}

TEST(Weight, FeaturesAreItsAxes) {
  Numbers n;
  const Weight w{Tensor::contiguous(n.values, DType::kF32, {4, 6}), {}};
  EXPECT_EQ(w.out_features(), 4);
  EXPECT_EQ(w.in_features(), 6);
  EXPECT_TRUE(w);
  EXPECT_FALSE(Param());
}

TEST(TensorDeathTest, BrokenPromisesAbort) {
  Numbers n;
  const Tensor t = Tensor::contiguous(n.values, DType::kF32, {4, 6});
  EXPECT_DEATH((void)t.rows(3, 2), "slice lies inside");
  EXPECT_DEATH((void)t.rows(-1, 1), "slice lies inside");
  EXPECT_DEATH((void)t.split_last(4, 2), "splits evenly");
  EXPECT_DEATH((void)t.slice(1, 0, 3).join_last(), "adjacent");
  EXPECT_DEATH((void)(t.view<double, 2>()), "dtype");
  EXPECT_DEATH((void)(t.view<float, 1>()), "rank");
  EXPECT_DEATH((void)t.ptr<bf16>(), "dtype");
}

}  // namespace
}  // namespace fathom
