// What the operations of the cpu back end share: chunk sizes, scratch, operands.
#include "kernels/cpu/cpu.h"

#include <algorithm>

#include "kernels/cpu/operands.h"
#include "numerics/intq.h"

namespace fathom {

namespace cpu {

Stored stored_of(DType dtype) {
  switch (dtype) {
    case DType::kF32: return Stored::kF32;
    case DType::kBF16: return Stored::kBF16;
    case DType::kF16: return Stored::kF16;
    case DType::kE4M3: return Stored::kE4M3;
    default: check(false, "the cpu back end reads F32, BF16, F16 and E4M3"); return Stored::kF32;
  }
}

MatrixRef matrix_of(const Weight& w, int64_t first_row) {
  MatrixRef m{w.codes.data, stored_of(w.codes.dtype), w.codes.stride(0), nullptr, 0, first_row};
  if (w.layout == WeightLayout::kPanels) {
    check(first_row == 0, "panels are used whole");
    m.panels = true;
    m.stride = num_groups(w.in_features()) * kGroupSize;
  }
  if (m.stored == Stored::kE4M3) {
    check(static_cast<bool>(w.scales), "an E4M3 weight carries its scales");
    m.scales = w.scales.ptr<const float>();
    m.scale_stride = w.scales.stride(0);
    m.power_of_two_scales = w.scale_format == ScaleFormat::kUe8m0;
  }
  return m;
}

MatrixRef matrix_of(const Tensor& f32) { return {f32.ptr<const float>(), Stored::kF32, f32.stride(0), nullptr, 0, 0}; }

}  // namespace cpu

int64_t CpuKernels::grain(int64_t count, int64_t cost) const {
  // A chunk of 16k lanes is a few microseconds, several times what waking a spinning thread costs.
  constexpr int64_t kWorthAChunk = 16384;
  const int64_t least = std::max<int64_t>(1, kWorthAChunk / std::max<int64_t>(1, cost));
  if (count < 2 * least) return count;
  return std::max(least, count / (int64_t{8} * pool_.num_threads()));
}

void CpuKernels::reserve_scratch(int64_t bytes) {
  if (bytes <= scratch_stride_) return;
  // Threads' parts are whole pages plus a line, so that they share neither lines nor cache sets.
  scratch_stride_ = (bytes + 4095) / 4096 * 4096 + 64;
  grow(thread_scratch_, scratch_stride_ * pool_.num_threads());
}

}  // namespace fathom
