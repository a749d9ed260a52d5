#include <cmath>

#include "kernels/ref/real.h"
#include "kernels/ref/ref.h"

namespace fathom {

double RefKernels::sum_of_squares(Tensor x) {
  double sum = 0;
  for (int64_t i = 0; i < x.numel(); ++i) sum += ref::real_at(x, i) * ref::real_at(x, i);
  return sum;
}

// The moments are BF16, so their rounding is part of the format: this arithmetic is FP32 in every back end.
void RefKernels::adamw(const AdamWArgs& a) {
  float* master = a.master.ptr<float>();
  const float* grad = a.grad.ptr<const float>();
  bf16* first = a.first_moment.ptr<bf16>();
  bf16* second = a.second_moment.ptr<bf16>();
  const auto beta1 = static_cast<float>(a.beta1), beta2 = static_cast<float>(a.beta2);
  const auto correct1 = static_cast<float>(1 / (1 - std::pow(a.beta1, static_cast<double>(a.step))));
  const auto correct2 = static_cast<float>(1 / (1 - std::pow(a.beta2, static_cast<double>(a.step))));
  const auto rate = static_cast<float>(a.learning_rate), epsilon = static_cast<float>(a.epsilon);
  const auto decay = static_cast<float>(a.weight_decay), scale = static_cast<float>(a.gradient_scale);
  for (int64_t i = 0; i < a.master.numel(); ++i) {
    const float g = grad[i] * scale;
    const float m = beta1 * to_float(first[i]) + (1 - beta1) * g;
    const float v = beta2 * to_float(second[i]) + (1 - beta2) * g * g;
    first[i] = to_bf16(m);
    second[i] = to_bf16(v);
    const float update = (m * correct1) / (std::sqrt(v * correct2) + epsilon);
    master[i] = master[i] - rate * (update + decay * master[i]);
  }
}

}  // namespace fathom
