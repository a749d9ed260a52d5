#include "numerics/decode.h"

#include <gtest/gtest.h>

#include <vector>

#include "tensor/storage.h"

namespace fathom {
namespace {

TEST(Decode, GivesAPartOfARowAsTheWholeRowDoes) {
  for (GroupFormat format : {GroupFormat::kNone, GroupFormat::kInt8, GroupFormat::kMxfp4}) {
    std::vector<uint8_t> codes(3 * 128 * 2), scales(3 * 4 * 2);
    for (size_t i = 0; i < codes.size(); ++i) codes[i] = static_cast<uint8_t>(i * 7 % 120);
    for (size_t i = 0; i < scales.size(); ++i) scales[i] = static_cast<uint8_t>(40 + i % 3);
    Weight w;
    w.groups = format;
    const DType dtype = format == GroupFormat::kNone   ? DType::kBF16
                        : format == GroupFormat::kInt8 ? DType::kI8
                                                       : DType::kU4;
    w.codes = Tensor::contiguous(codes.data(), dtype, {3, 100});
    w.codes.strides[0] = 128;
    if (format != GroupFormat::kNone) {
      w.scales = Tensor::contiguous(scales.data(), format == GroupFormat::kMxfp4 ? DType::kE8M0 : DType::kF16, {3, 4});
    }
    std::vector<float> row(100), part(41);
    decode_row(w, 2, row.data());
    decode_row(w, 2, 31, 72, part.data());
    for (int64_t k = 0; k < 100; ++k) {
      EXPECT_EQ(row[static_cast<size_t>(k)], weight_at(w, 2, k));
    }
    for (size_t k = 31; k < 72; ++k) EXPECT_EQ(part[k - 31], row[k]);
  }
}

}  // namespace
}  // namespace fathom
