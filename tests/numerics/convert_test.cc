#include "numerics/convert.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <limits>
#include <vector>

#include "base/rng.h"
#include "numerics/decode.h"
#include "numerics/fp8.h"
#include "numerics/intq.h"
#include "numerics/panels.h"
#include "tensor/storage.h"

namespace fathom {
namespace {

/// A matrix of normal numbers in FP32.
struct Matrix {
  Matrix(int64_t n, int64_t k) {
    storage = Storage::for_tensor(DType::kF32, {n, k}, &weight.codes);
    const Rng rng(3, stream_of("convert"));
    for (int64_t i = 0; i < n * k; ++i) {
      weight.codes.ptr<float>()[i] = static_cast<float>(rng.normal(static_cast<uint64_t>(i)));
    }
  }
  Storage storage;
  Weight weight;
};

struct Groups {
  Groups(GroupFormat format, int64_t n, int64_t k) : weight(group_rows(format, n, k)) {
    codes = Storage(n * bytes_of(weight.codes.dtype, weight.codes.stride(0)));
    scales = Storage(weight.scales.num_bytes());
    weight.codes.data = codes.data();
    weight.scales.data = scales.data();
  }
  Weight weight;
  Storage codes, scales;
};

constexpr GroupFormat kGroupFormats[] = {GroupFormat::kInt8, GroupFormat::kInt4, GroupFormat::kIq4Nl,
                                         GroupFormat::kMxfp4};

// Panels are made from the numbers by code of their own; rows must hold the same codes and scales.
TEST(ConvertRows, GivesGroupsTheNumbersThatPanelsHave) {
  for (int64_t k : {32, 64, 37, 7}) {
    const Matrix from(19, k);
    for (GroupFormat format : kGroupFormats) {
      Groups rows(format, 19, k);
      ASSERT_TRUE(convert_rows(from.weight, 0, rows.weight));
      Weight panels = panels_of(format, 19, k);
      const Storage memory(num_panels(19) * panel_bytes(panels));
      panels.codes.data = memory.data();
      for (int64_t p = 0; p < num_panels(19); ++p) ASSERT_TRUE(pack_panel(from.weight, p, panels));
      for (int64_t n = 0; n < 19; ++n) {
        for (int64_t i = 0; i < k; ++i)
          ASSERT_EQ(weight_at(rows.weight, n, i), weight_at(panels, n, i)) << n << " " << i;
      }
      Weight repacked = panels_of(format, 19, k);
      const Storage again(num_panels(19) * panel_bytes(panels));
      repacked.codes.data = again.data();
      for (int64_t p = 0; p < num_panels(19); ++p) ASSERT_TRUE(pack_panel(rows.weight, p, repacked));
      EXPECT_EQ(std::memcmp(memory.data(), again.data(), static_cast<size_t>(memory.num_bytes())), 0)
          << "panels of the rows are the panels of the numbers";
    }
  }
}

TEST(ConvertRows, TakesAnyRowsOfTheMatrix) {
  const Matrix from(300, 40);
  Groups all(GroupFormat::kInt4, 300, 40), some(GroupFormat::kInt4, 5, 40);
  ASSERT_TRUE(convert_rows(from.weight, 0, all.weight));
  ASSERT_TRUE(convert_rows(from.weight, 201, some.weight));
  for (int64_t n = 0; n < 5; ++n) {
    for (int64_t k = 0; k < 40; ++k) EXPECT_EQ(weight_at(some.weight, n, k), weight_at(all.weight, 201 + n, k));
  }
}

TEST(ConvertRows, RoundsToBf16AndToBlocksOfE4m3) {
  const Matrix from(300, 130);
  Weight narrow, fp8, end, wanted;
  const Storage a = Storage::for_tensor(DType::kBF16, {300, 130}, &narrow.codes);
  const Storage b = Storage::for_tensor(DType::kE4M3, {300, 130}, &fp8.codes);
  const Storage c = Storage::for_tensor(DType::kF32, {3, 2}, &fp8.scales);
  ASSERT_TRUE(convert_rows(from.weight, 0, narrow));
  ASSERT_TRUE(convert_rows(from.weight, 0, fp8));
  const Storage d = Storage::for_tensor(DType::kE4M3, {300, 130}, &wanted.codes);
  const Storage e = Storage::for_tensor(DType::kF32, {3, 2}, &wanted.scales);
  quantize_blocks(from.weight.codes.view<const float, 2>(), ScaleFormat::kF32, wanted.codes.view<fathom::e4m3, 2>(),
                  wanted.scales.view<float, 2>());
  const Storage f = Storage::for_tensor(DType::kE4M3, {44, 130}, &end.codes);
  const Storage g = Storage::for_tensor(DType::kF32, {1, 2}, &end.scales);
  ASSERT_TRUE(convert_rows(from.weight, 256, end));
  for (int64_t n = 0; n < 300; ++n) {
    for (int64_t k = 0; k < 130; ++k) {
      EXPECT_EQ(weight_at(narrow, n, k), to_float(to_bf16(weight_at(from.weight, n, k))));
      EXPECT_EQ(weight_at(fp8, n, k), weight_at(wanted, n, k));
      EXPECT_EQ(weight_at(end, std::max<int64_t>(n - 256, 0), k), weight_at(wanted, std::max<int64_t>(n, 256), k));
    }
  }
}

TEST(ConvertRows, SaysWhatGroupsCannotHold) {
  for (float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    for (GroupFormat format : kGroupFormats) {
      const Matrix from(3, 40);
      from.weight.codes.ptr<float>()[45] = bad;
      Groups rows(format, 1, 40);
      EXPECT_TRUE(convert_rows(from.weight, 0, rows.weight));
      EXPECT_FALSE(convert_rows(from.weight, 1, rows.weight));
    }
  }
}

}  // namespace
}  // namespace fathom
