#include <cmath>
#include <limits>

#include "kernels/ref/real.h"
#include "kernels/ref/ref.h"

namespace fathom {

using ref::on_real;

void RefKernels::cross_entropy(Tensor logits, std::span<const int32_t> targets, double gradient_scale, Tensor loss,
                               Tensor dlogits) {
  on_real(logits, [&]<class T>(T) {
    const auto zs = logits.view<const T, 2>();
    for (int64_t t = 0; t < zs.extent(0); ++t) {
      const int32_t target = targets[static_cast<size_t>(t)];
      double largest = -std::numeric_limits<double>::infinity(), sum = 0;
      for (int64_t v = 0; v < zs.extent(1); ++v) largest = std::max(largest, double{zs(t, v)});
      for (int64_t v = 0; v < zs.extent(1); ++v) sum += std::exp(double{zs(t, v)} - largest);
      const double lse = largest + std::log(sum);
      loss.view<T, 1>()[t] = static_cast<T>(target < 0 ? 0.0 : lse - double{zs(t, target)});
      if (!dlogits) continue;
      const auto ds = dlogits.view<T, 2>();
      for (int64_t v = 0; v < zs.extent(1); ++v) {
        const double p = std::exp(double{zs(t, v)} - lse);
        ds(t, v) = static_cast<T>(target < 0 ? 0.0 : gradient_scale * (p - (v == target ? 1.0 : 0.0)));
      }
    }
  });
}

}  // namespace fathom
