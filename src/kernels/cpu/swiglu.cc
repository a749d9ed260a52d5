#include "kernels/cpu/cpu.h"
#include "kernels/cpu/operands.h"

namespace fathom {

using cpu::expect_f32;
using cpu::row;

void CpuKernels::swiglu(Tensor gate, Tensor up, Tensor h) {
  const int64_t rows = gate.extent(0), width = gate.extent(1);
  for (const Tensor& t : {gate, up, h}) expect_f32(t, rows, width);
  each(rows, 8 * width, [&](int64_t m, int) { level_.swiglu_row(row(gate, m), row(up, m), row(h, m), width); });
}

void CpuKernels::swiglu_backward(Tensor gate, Tensor up, Tensor dh, Tensor dgate, Tensor dup) {
  const int64_t rows = gate.extent(0), width = gate.extent(1);
  for (const Tensor& t : {gate, up, dh, dgate, dup}) expect_f32(t, rows, width);
  each(rows, 10 * width, [&](int64_t m, int) {
    level_.swiglu_backward_row(row(gate, m), row(up, m), row(dh, m), row(dgate, m), row(dup, m), width);
  });
}

}  // namespace fathom
