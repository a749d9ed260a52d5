#include <algorithm>

#include "kernels/cpu/cpu.h"
#include "kernels/cpu/operands.h"

namespace fathom {

using cpu::expect_f32;
using cpu::row;

void CpuKernels::rms_norm(Tensor x, Tensor gain, double eps, Tensor y) {
  const int64_t tokens = x.extent(0), width = x.extent(1);
  expect_f32(x, tokens, width);
  expect_f32(y, tokens, width);
  expect_f32(gain, width);
  const auto* gains = gain.ptr<const float>();
  each(tokens, 2 * width, [&](int64_t t, int) { level_.rms_norm_row(row(x, t), gains, eps, row(y, t), width); });
}

void CpuKernels::rms_norm_backward(Tensor x, Tensor gain, double eps, Tensor dy, Tensor dx, Into into, Tensor dgain) {
  const int64_t tokens = x.extent(0), width = x.extent(1);
  expect_f32(x, tokens, width);
  expect_f32(dy, tokens, width);
  expect_f32(dx, tokens, width);
  expect_f32(gain, width);
  expect_f32(dgain, width);
  const auto* gains = gain.ptr<const float>();
  auto* dgains = dgain.ptr<float>();
  auto* inverse = shared<float>(tokens);
  each(tokens, 4 * width, [&](int64_t t, int) {
    inverse[t] =
        level_.rms_norm_backward_row(row(x, t), gains, eps, row(dy, t), row(dx, t), into == Into::kAccumulate, width);
  });
  // The gain's gradient sums over tokens, so it is split over columns.
  constexpr int64_t kColumns = 64;
  each((width + kColumns - 1) / kColumns, 2 * kColumns * tokens, [&](int64_t i, int) {
    const int64_t begin = i * kColumns, count = std::min(kColumns, width - begin);
    level_.rms_gain_backward(row(x, 0) + begin, x.stride(0), row(dy, 0) + begin, dy.stride(0), inverse, tokens,
                             dgains + begin, count);
  });
}

void CpuKernels::add(Tensor x, Tensor y) {
  const int64_t tokens = x.extent(0), width = x.extent(1);
  expect_f32(x, tokens, width);
  expect_f32(y, tokens, width);
  each(tokens, width, [&](int64_t t, int) { level_.add_row(row(x, t), row(y, t), width); });
}

}  // namespace fathom
