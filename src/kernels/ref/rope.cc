#include "kernels/ref/real.h"
#include "kernels/ref/ref.h"

namespace fathom {

void RefKernels::rope(Tensor x, Tensor cos, Tensor sin, RopeDirection direction) {
  ref::on_real(x, [&]<class T>(T) {
    const auto xs = x.view<T, 3>();
    const auto cosines = cos.view<const T, 2>();
    const auto sines = sin.view<const T, 2>();
    for (int64_t t = 0; t < xs.extent(0); ++t) {
      for (int64_t h = 0; h < xs.extent(1); ++h) {
        for (int64_t j = 0; j < xs.extent(2) / 2; ++j) {
          const double c = cosines(t, j);
          const double s = direction == RopeDirection::kForward ? double{sines(t, j)} : -double{sines(t, j)};
          const double a = xs(t, h, 2 * j), b = xs(t, h, 2 * j + 1);
          xs(t, h, 2 * j) = static_cast<T>(a * c - b * s);
          xs(t, h, 2 * j + 1) = static_cast<T>(a * s + b * c);
        }
      }
    }
  });
}

}  // namespace fathom
