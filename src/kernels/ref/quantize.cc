#include <algorithm>
#include <cmath>

#include "kernels/ref/real.h"
#include "kernels/ref/ref.h"

namespace fathom {

void RefKernels::round_to_bf16(Tensor x) {
  const auto xs = x.view<float, 2>();
  for (int64_t t = 0; t < xs.extent(0); ++t) {
    for (int64_t d = 0; d < xs.extent(1); ++d) xs(t, d) = to_float(to_bf16(xs(t, d)));
  }
}

void RefKernels::quantize_tiles(Tensor x, ScaleFormat format, Tensor codes, Tensor scales) {
  const auto xs = x.view<const float, 2>();
  const auto cs = codes.view<e4m3, 2>();
  const auto ss = scales.view<float, 2>();
  for (int64_t t = 0; t < xs.extent(0); ++t) {
    for (int64_t b = 0; b < ss.extent(1); ++b) {
      const int64_t begin = b * kScaleBlock, end = std::min(xs.extent(1), begin + kScaleBlock);
      float amax = 0;
      for (int64_t k = begin; k < end; ++k) amax = std::max(amax, std::fabs(xs(t, k)));
      ss(t, b) = format == ScaleFormat::kUe8m0 ? tile_scale_ue8m0(amax) : tile_scale(amax);
      for (int64_t k = begin; k < end; ++k) cs(t, k) = to_e4m3(xs(t, k) / ss(t, b));
    }
  }
}

}  // namespace fathom
