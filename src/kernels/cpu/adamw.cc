#include <algorithm>
#include <cmath>

#include "kernels/cpu/cpu.h"
#include "kernels/cpu/operands.h"

namespace fathom {

namespace {

constexpr int64_t kBlock = 4096;

}  // namespace

// Blocks of 4096 elements, then a binary tree over the blocks: the order depends on the size alone.
double CpuKernels::sum_of_squares(Tensor x) {
  check(x.is_contiguous(), "sum_of_squares reads a contiguous tensor");
  const auto* values = x.ptr<const float>();
  const int64_t count = x.numel(), blocks = (count + kBlock - 1) / kBlock;
  if (count == 0) return 0;
  auto* sums = shared<double>(blocks);
  each(blocks, kBlock, [&](int64_t b, int) {
    sums[b] = level_.sum_of_squares(values + b * kBlock, std::min(kBlock, count - b * kBlock));
  });
  for (int64_t left = blocks; left > 1; left = (left + 1) / 2) {
    for (int64_t i = 0; i < left / 2; ++i) sums[i] = sums[2 * i] + sums[2 * i + 1];
    if (left % 2 != 0) sums[left / 2] = sums[left - 1];
  }
  return sums[0];
}

void CpuKernels::adamw(const AdamWArgs& a) {
  const int64_t count = a.master.numel();
  for (const Tensor& t : {a.master, a.grad, a.first_moment, a.second_moment}) {
    check(t.is_contiguous() && t.numel() == count, "the tensors of one parameter are contiguous and of one size");
  }
  auto* master = a.master.ptr<float>();
  const auto* grad = a.grad.ptr<const float>();
  auto* first = reinterpret_cast<uint16_t*>(a.first_moment.ptr<bf16>());
  auto* second = reinterpret_cast<uint16_t*>(a.second_moment.ptr<bf16>());
  const auto step = static_cast<double>(a.step);
  const cpu::AdamWNumbers numbers = {
      .beta1 = static_cast<float>(a.beta1),
      .beta2 = static_cast<float>(a.beta2),
      .correct1 = static_cast<float>(1 / (1 - std::pow(a.beta1, step))),
      .correct2 = static_cast<float>(1 / (1 - std::pow(a.beta2, step))),
      .rate = static_cast<float>(a.learning_rate),
      .epsilon = static_cast<float>(a.epsilon),
      .decay = static_cast<float>(a.weight_decay),
      .scale = static_cast<float>(a.gradient_scale),
  };
  each((count + kBlock - 1) / kBlock, 6 * kBlock, [&](int64_t b, int) {
    const int64_t at = b * kBlock;
    level_.adamw(numbers, grad + at, master + at, first + at, second + at, std::min(kBlock, count - at));
  });
}

}  // namespace fathom
