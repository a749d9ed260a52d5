#include "numerics/convert.h"

#include <algorithm>
#include <vector>

#include "base/check.h"
#include "numerics/decode.h"
#include "numerics/fp8.h"
#include "numerics/intq.h"

namespace fathom {
namespace {

void to_bf16_rows(const Weight& from, int64_t first, const Weight& to) {
  std::vector<float> row(static_cast<size_t>(from.in_features()));
  for (int64_t n = 0; n < to.out_features(); ++n) {
    decode_row(from, first + n, row.data());
    std::transform(row.begin(), row.end(), to.codes.ptr<bf16>() + n * to.codes.stride(0),
                   [](float v) { return to_bf16(v); });
  }
}

/// 128 rows, those that share scales, at a time.
void to_e4m3_rows(const Weight& from, int64_t first, const Weight& to) {
  const int64_t width = from.in_features();
  std::vector<float> rows(static_cast<size_t>(kScaleBlock * width));
  for (int64_t n = 0; n < to.out_features(); n += kScaleBlock) {
    const int64_t count = std::min(kScaleBlock, to.out_features() - n);
    for (int64_t i = 0; i < count; ++i) decode_row(from, first + n + i, rows.data() + i * width);
    const Tensor block = Tensor::contiguous(rows.data(), DType::kF32, {count, width});
    quantize_blocks(block.view<const float, 2>(), ScaleFormat::kF32, to.codes.rows(n, count).view<e4m3, 2>(),
                    to.scales.rows(n / kScaleBlock, 1).view<float, 2>());
  }
}

bool to_group_rows(const Weight& from, int64_t first, const Weight& to) {
  const int64_t width = from.in_features(), groups = num_groups(width), length = groups * kGroupSize;
  std::vector<float> numbers(static_cast<size_t>(length));
  std::vector<uint8_t> codes(static_cast<size_t>(length));
  std::vector<uint16_t> scales(static_cast<size_t>(groups));
  bool all = true;
  for (int64_t n = 0; n < to.out_features(); ++n) {
    decode_row(from, first + n, numbers.data());
    all &= quantize_groups(numbers.data(), groups, to.groups, codes.data(), scales.data());
    if (to.groups == GroupFormat::kMxfp4) {
      e8m0* out = to.scales.ptr<e8m0>() + n * to.scales.stride(0);
      for (int64_t g = 0; g < groups; ++g) out[g].bits = static_cast<uint8_t>(scales[static_cast<size_t>(g)]);
    } else {
      f16* out = to.scales.ptr<f16>() + n * to.scales.stride(0);
      for (int64_t g = 0; g < groups; ++g) out[g].bits = scales[static_cast<size_t>(g)];
    }
    auto* out = static_cast<uint8_t*>(to.codes.data) + bytes_of(to.codes.dtype, n * to.codes.stride(0));
    if (to.groups == GroupFormat::kInt8) {
      std::copy(codes.begin(), codes.end(), out);
    } else {
      for (size_t k = 0; k < codes.size(); k += 2) out[k / 2] = static_cast<uint8_t>(codes[k] | codes[k + 1] << 4);
    }
  }
  return all;
}

}  // namespace

bool convert_rows(const Weight& from, int64_t first, const Weight& to) {
  check(from.in_features() == to.in_features() && first + to.out_features() <= from.out_features(),
        "the rows are of the matrix");
  check(to.layout == WeightLayout::kRows, "rows become rows");
  if (to.groups != GroupFormat::kNone) return to_group_rows(from, first, to);
  if (to.codes.dtype == DType::kE4M3) {
    check(first % kScaleBlock == 0, "E4M3 rows begin with a block of scales");
    to_e4m3_rows(from, first, to);
  } else {
    to_bf16_rows(from, first, to);
  }
  return true;
}

}  // namespace fathom
