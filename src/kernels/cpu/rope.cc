#include "kernels/cpu/cpu.h"
#include "kernels/cpu/operands.h"

namespace fathom {

void CpuKernels::rope(Tensor x, Tensor cos, Tensor sin, RopeDirection direction) {
  const int64_t tokens = x.extent(0), heads = x.extent(1), width = x.extent(2);
  cpu::expect_f32(x, tokens, heads, width);
  check(width % 2 == 0, "rope rotates pairs");
  cpu::expect_f32(cos, tokens, width / 2);
  cpu::expect_f32(sin, tokens, width / 2);
  const float sign = direction == RopeDirection::kForward ? 1.0f : -1.0f;
  each(tokens, 2 * heads * width, [&](int64_t t, int) {
    for (int64_t h = 0; h < heads; ++h) {
      level_.rope_row(cpu::row(x, t) + h * x.stride(1), cpu::row(cos, t), cpu::row(sin, t), sign, width);
    }
  });
}

}  // namespace fathom
