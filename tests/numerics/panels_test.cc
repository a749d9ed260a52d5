#include "numerics/panels.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <vector>

#include "base/rng.h"
#include "numerics/blocks.h"
#include "numerics/decode.h"
#include "numerics/fp8.h"
#include "tensor/storage.h"

namespace fathom {
namespace {

Weight normal_matrix(DType dtype, int64_t n, int64_t k, std::vector<Storage>& storage) {
  Weight w;
  storage.push_back(Storage::for_tensor(dtype, {n, k}, &w.codes));
  const Rng rng(1, stream_of("panels"));
  for (int64_t i = 0; i < n * k; ++i) {
    const auto v = static_cast<float>(rng.normal(static_cast<uint64_t>(i)));
    if (dtype == DType::kF32) w.codes.ptr<float>()[i] = v;
    if (dtype == DType::kBF16) w.codes.ptr<bf16>()[i] = to_bf16(v);
    if (dtype == DType::kE4M3) w.codes.ptr<e4m3>()[i] = to_e4m3(v);
  }
  if (dtype == DType::kE4M3) {
    storage.push_back(Storage::for_tensor(DType::kF32, {num_scale_blocks(n), num_scale_blocks(k)}, &w.scales));
    for (int64_t i = 0; i < w.scales.numel(); ++i) w.scales.ptr<float>()[i] = 1 + 0.25f * static_cast<float>(i);
  }
  return w;
}

Weight packed(const Weight& from, Weight to, std::vector<Storage>& storage) {
  const int64_t bytes = num_panels(to.out_features()) * panel_bytes(to);
  storage.emplace_back(bytes);
  to.codes.data = storage.back().data();
  std::memset(to.codes.data, 0xA5, static_cast<size_t>(bytes));
  to.scales = from.groups == GroupFormat::kNone ? from.scales : Tensor{};
  for (int64_t p = 0; p < num_panels(to.out_features()); ++p) EXPECT_TRUE(pack_panel(from, p, to));
  return to;
}

constexpr int64_t kShapes[][2] = {{1, 1}, {15, 31}, {16, 32}, {17, 33}, {37, 200}, {130, 129}};

TEST(Panels, HoldTheNumbersOfTheirRows) {
  for (const auto& [n, k] : kShapes) {
    for (DType dtype : {DType::kBF16, DType::kE4M3}) {
      std::vector<Storage> storage;
      const Weight rows = normal_matrix(dtype, n, k, storage);
      const Weight panels = packed(rows, panels_of(dtype, n, k), storage);
      for (int64_t i = 0; i < n; ++i) {
        for (int64_t j = 0; j < k; ++j) ASSERT_EQ(weight_at(panels, i, j), weight_at(rows, i, j)) << i << " " << j;
      }
    }
  }
}

TEST(Panels, RoundOthersToBf16) {
  std::vector<Storage> storage;
  const Weight rows = normal_matrix(DType::kF32, 18, 70, storage);
  const Weight panels = packed(rows, panels_of(DType::kBF16, 18, 70), storage);
  for (int64_t i = 0; i < 18; ++i) {
    for (int64_t j = 0; j < 70; ++j) ASSERT_EQ(weight_at(panels, i, j), to_float(to_bf16(weight_at(rows, i, j))));
  }
}

TEST(Panels, HoldWhatQuantizingARowGives) {
  for (GroupFormat format : {GroupFormat::kInt8, GroupFormat::kInt4, GroupFormat::kIq4Nl, GroupFormat::kMxfp4}) {
    for (const auto& [n, k] : kShapes) {
      std::vector<Storage> storage;
      const Weight rows = normal_matrix(DType::kF32, n, k, storage);
      const Weight panels = packed(rows, panels_of(format, n, k), storage);
      const int64_t groups = num_groups(k);
      std::vector<float> row(static_cast<size_t>(groups * kGroupSize));
      std::vector<uint8_t> codes(row.size());
      std::vector<uint16_t> scales(static_cast<size_t>(groups));
      for (int64_t i = 0; i < n; ++i) {
        std::fill(row.begin(), row.end(), 0.0f);
        decode_row(rows, i, row.data());
        quantize_groups(row.data(), groups, format, codes.data(), scales.data());
        for (int64_t j = 0; j < k; ++j) {
          const uint8_t code = codes[static_cast<size_t>(j)];
          const uint16_t bits = scales[static_cast<size_t>(j / kGroupSize)];
          const float value = format == GroupFormat::kInt8 ? static_cast<float>(static_cast<int8_t>(code))
                                                           : static_cast<float>(code_values(format)[code]);
          const float scale =
              format == GroupFormat::kMxfp4 ? to_float(e8m0{static_cast<uint8_t>(bits)}) / 2 : to_float(f16{bits});
          ASSERT_EQ(weight_at(panels, i, j), value * scale) << static_cast<int>(format) << " " << i << " " << j;
        }
      }
    }
  }
}

TEST(Panels, KeepGroupsOfTheirOwnFormat) {
  for (GroupFormat format : {GroupFormat::kInt8, GroupFormat::kInt4, GroupFormat::kIq4Nl, GroupFormat::kMxfp4}) {
    constexpr int64_t kN = 21, kK = 97;
    std::vector<Storage> storage;
    Weight rows = group_rows(format, kN, kK);
    storage.emplace_back(kN * bytes_of(rows.codes.dtype, rows.codes.stride(0)));
    rows.codes.data = storage.back().data();
    storage.emplace_back(rows.scales.num_bytes());
    rows.scales.data = storage.back().data();
    const Rng rng(7, stream_of("codes"));
    for (int64_t i = 0; i < storage[0].num_bytes(); ++i) {
      const auto byte = static_cast<uint8_t>(rng.below(static_cast<uint64_t>(i), 255));
      static_cast<uint8_t*>(rows.codes.data)[i] = format == GroupFormat::kInt8 && byte == 128 ? 0 : byte;
    }
    for (int64_t i = 0; i < rows.scales.numel(); ++i) {
      if (format == GroupFormat::kMxfp4) {
        rows.scales.ptr<e8m0>()[i] = {static_cast<uint8_t>(rng.below(static_cast<uint64_t>(1000 + i), 255))};
      } else {
        rows.scales.ptr<f16>()[i] = to_f16(0.01f * static_cast<float>(1 + i % 11));
      }
    }
    const Weight panels = packed(rows, panels_of(format, kN, kK), storage);
    for (int64_t i = 0; i < kN; ++i) {
      for (int64_t j = 0; j < kK; ++j) ASSERT_EQ(weight_at(panels, i, j), weight_at(rows, i, j)) << i << " " << j;
    }
  }
}

// Every code and factor that blocks can have; scales of blocks are numbers near one, so that none is a NaN.
TEST(Panels, KeepTheGroupsOfBlocks) {
  for (int f = 1; f <= static_cast<int>(GroupFormat::kIq4Xs); ++f) {
    const auto format = static_cast<GroupFormat>(f);
    SCOPED_TRACE(f);
    constexpr int64_t kN = 21, kK = 768;
    const int64_t bytes = block_bytes(format), count = kN * kK / kGroupSize / groups_of_block(format);
    std::vector<std::byte> blocks(static_cast<size_t>(bytes * count));
    const Rng rng(7, stream_of("blocks"));
    for (size_t i = 0; i < blocks.size(); ++i) blocks[i] = static_cast<std::byte>(rng.below(i, 256));
    for (int64_t i = 0; i < count; ++i) {
      std::byte* block = blocks.data() + i * bytes;
      if (format == GroupFormat::kMxfp4) {
        *block &= std::byte{0x7F};
        continue;
      }
      const uint16_t halves[2] = {static_cast<uint16_t>(0x3800 + i % 512), static_cast<uint16_t>(0xB000 + i % 512)};
      std::memcpy(block + (format == GroupFormat::kQ6K ? bytes - 2 : 0), halves, has_offsets(format) ? 4 : 2);
    }
    const Weight rows = blocks_of(format, kN, kK, blocks.data());
    std::vector<Storage> storage;
    const Weight panels = packed(rows, panels_of(format, kN, kK), storage);
    for (int64_t n = 0; n < kN; ++n) {
      std::vector<float> row(kK);
      decode_row(rows, n, 0, kK, row.data());
      for (int64_t k = 0; k < kK; ++k) {
        ASSERT_EQ(weight_at(rows, n, k), row[static_cast<size_t>(k)]) << n << " " << k;
        ASSERT_EQ(weight_at(panels, n, k), row[static_cast<size_t>(k)]) << n << " " << k;
      }
    }
  }
}

TEST(Panels, CountTheirBytes) {
  EXPECT_EQ(weight_bytes(panels_of(DType::kBF16, 33, 65)), 3 * 16 * 96 * 2);
  EXPECT_EQ(weight_bytes(panels_of(GroupFormat::kInt8, 32, 128)), 2 * (16 * 128 + 4 * 16 * 2));
  EXPECT_EQ(weight_bytes(panels_of(GroupFormat::kInt4, 32, 128)), 2 * (16 * 64 + 4 * 16 * 2));
  // Per 256 k of 16 rows: a line for the super-blocks, 4 spans of a line of factors and the codes.
  EXPECT_EQ(weight_bytes(panels_of(GroupFormat::kQ4K, 32, 512)), 2 * 2 * (64 + 4 * (64 + 16 * 32)));
  EXPECT_EQ(weight_bytes(panels_of(GroupFormat::kQ5K, 32, 512)), 2 * 2 * (64 + 4 * (64 + 16 * 40)));
  EXPECT_EQ(weight_bytes(panels_of(GroupFormat::kQ6K, 32, 512)), 2 * 2 * (64 + 4 * (64 + 16 * 48)));
  EXPECT_EQ(weight_bytes(panels_of(GroupFormat::kIq4Xs, 32, 512)), 2 * 2 * (64 + 4 * (64 + 16 * 32)));
  EXPECT_EQ(weight_bytes(panels_of(GroupFormat::kQ5_0, 32, 96)), 2 * 2 * (64 + 16 * 40));
  EXPECT_EQ(weight_bytes(group_rows(GroupFormat::kInt4, 3, 33)), 3 * 32 + 3 * 2 * 2);
}

}  // namespace
}  // namespace fathom
