#include <cmath>

#include "kernels/ref/real.h"
#include "kernels/ref/ref.h"

namespace fathom {

using ref::on_real;
using ref::real_add;
using ref::real_at;

namespace {

// (mean x^2 + eps)^-1/2 with the roundings of the reference implementation in FP32: mean, sum and root are each
// rounded. A norm's output often lies exactly between two FP8 codes (its inputs are BF16), so these roundings decide
// codes.
template <class T>
T inverse_rms(View<const T, 1> x, double eps) {
  double sum = 0;
  for (int64_t d = 0; d < x.extent(0); ++d) sum += double{x[d]} * double{x[d]};
  const T mean = static_cast<T>(sum / static_cast<double>(x.extent(0)));
  return static_cast<T>(1.0 / std::sqrt(double{mean + static_cast<T>(eps)}));
}

}  // namespace

void RefKernels::rms_norm(Tensor x, Tensor gain, double eps, Tensor y) {
  on_real(x, [&]<class T>(T) {
    const auto xs = x.view<const T, 2>();
    const auto ys = y.view<T, 2>();
    for (int64_t t = 0; t < xs.extent(0); ++t) {
      const T r = inverse_rms<T>(xs[t], eps);
      for (int64_t d = 0; d < xs.extent(1); ++d) ys(t, d) = xs(t, d) * r * static_cast<T>(real_at(gain, d));
    }
  });
}

// With r = (mean x^2 + eps)^-1/2:  dgain += dy x r,  dx = r (g dy) - x r^3 / D sum_j g_j dy_j x_j.
void RefKernels::rms_norm_backward(Tensor x, Tensor gain, double eps, Tensor dy, Tensor dx, Into into, Tensor dgain) {
  on_real(x, [&]<class T>(T) {
    const auto xs = x.view<const T, 2>();
    const auto dys = dy.view<const T, 2>();
    const auto dxs = dx.view<T, 2>();
    const int64_t width = xs.extent(1);
    for (int64_t t = 0; t < xs.extent(0); ++t) {
      const double r = inverse_rms<T>(xs[t], eps);
      double dot = 0;
      for (int64_t d = 0; d < width; ++d) dot += real_at(gain, d) * double{dys(t, d)} * double{xs(t, d)};
      for (int64_t d = 0; d < width; ++d) {
        real_add(dgain, d, double{dys(t, d)} * double{xs(t, d)} * r);
        const double g =
            r * real_at(gain, d) * double{dys(t, d)} - double{xs(t, d)} * r * r * r / static_cast<double>(width) * dot;
        dxs(t, d) = static_cast<T>(g + (into == Into::kAccumulate ? double{dxs(t, d)} : 0.0));
      }
    }
  });
}

void RefKernels::add(Tensor x, Tensor y) {
  on_real(x, [&]<class T>(T) {
    const auto xs = x.view<const T, 2>();
    const auto ys = y.view<T, 2>();
    for (int64_t t = 0; t < xs.extent(0); ++t) {
      for (int64_t d = 0; d < xs.extent(1); ++d) ys(t, d) += xs(t, d);
    }
  });
}

}  // namespace fathom
