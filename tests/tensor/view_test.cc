// View: indexing through strides, rows, and the conversion to read-only.
#include "tensor/view.h"

#include <gtest/gtest.h>

namespace fathom {
namespace {

TEST(View, IndexesThroughStrides) {
  int data[12];
  for (int i = 0; i < 12; ++i) data[i] = i;
  const View<int, 2> v{data, {3, 2}, {4, 1}};
  EXPECT_EQ(v(0, 0), 0);
  EXPECT_EQ(v(2, 1), 9);
  EXPECT_EQ(v[1][1], 5);
  EXPECT_EQ(v[2].extent(0), 2);
  v(1, 0) = 40;
  EXPECT_EQ(data[4], 40);
  v[1][1] = 50;
  EXPECT_EQ(data[5], 50);
}

TEST(View, ARowOfRank3IsAViewOfRank2) {
  int data[24];
  for (int i = 0; i < 24; ++i) data[i] = i;
  const View<int, 3> v{data, {2, 3, 4}, {12, 4, 1}};
  const auto matrix = v[1];
  EXPECT_EQ(matrix.extents, (std::array<int64_t, 2>{3, 4}));
  EXPECT_EQ(matrix(2, 3), 23);
}

TEST(View, ConvertsToReadOnly) {
  int data[2] = {1, 2};
  const View<int, 1> v{data, {2}, {1}};
  const View<const int, 1> read = v;
  EXPECT_EQ(read(1), 2);
  static_assert(!std::is_convertible_v<View<const int, 1>, View<int, 1>>);
}

}  // namespace
}  // namespace fathom
