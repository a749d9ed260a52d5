#include "kernels/cpu/cpu.h"
#include "kernels/cpu/operands.h"

namespace fathom {

using cpu::expect_f32;
using cpu::row;

void CpuKernels::cross_entropy(Tensor logits, std::span<const int32_t> targets, double gradient_scale, Tensor loss,
                               Tensor dlogits) {
  const int64_t tokens = logits.extent(0), vocabulary = logits.extent(1);
  expect_f32(logits, tokens, vocabulary);
  expect_f32(loss, tokens);
  if (dlogits) expect_f32(dlogits, tokens, vocabulary);
  check(static_cast<int64_t>(targets.size()) == tokens, "one target per row of logits");
  auto* losses = loss.ptr<float>();
  each(tokens, 10 * vocabulary, [&](int64_t t, int) {
    const int32_t target = targets[static_cast<size_t>(t)];
    check(target < vocabulary, "a target is a token of the vocabulary");
    losses[t * loss.stride(0)] = level_.cross_entropy_row(row(logits, t), vocabulary, target, gradient_scale,
                                                          dlogits ? row(dlogits, t) : nullptr);
  });
}

}  // namespace fathom
