#include "kernels/cpu/cpu.h"
#include "kernels/cpu/operands.h"
#include "numerics/fp8.h"

namespace fathom {

using cpu::expect_f32;
using cpu::row;

void CpuKernels::round_to_bf16(Tensor x) {
  const int64_t tokens = x.extent(0), width = x.extent(1);
  expect_f32(x, tokens, width);
  each(tokens, 2 * width, [&](int64_t t, int) { level_.round_row(row(x, t), width); });
}

void CpuKernels::quantize_tiles(Tensor x, ScaleFormat format, Tensor codes, Tensor scales) {
  const int64_t tokens = x.extent(0), width = x.extent(1);
  expect_f32(x, tokens, width);
  expect_f32(scales, tokens, num_scale_blocks(width));
  const auto out = codes.view<e4m3, 2>();
  check(out.extent(0) == tokens && out.extent(1) == width, "codes have the extents of x");
  each(tokens, 8 * width, [&](int64_t t, int) {
    level_.quantize_row(row(x, t), format == ScaleFormat::kUe8m0,
                        reinterpret_cast<uint8_t*>(out.data + t * out.strides[0]), row(scales, t), width);
  });
}

}  // namespace fathom
