#include "numerics/decode.h"

#include <algorithm>

#include "numerics/fp8.h"
#include "numerics/intq.h"
#include "numerics/panels.h"

namespace fathom {
float weight_at(const Weight& w, int64_t n, int64_t k) {
  if (w.layout == WeightLayout::kPanels) return panel_at(w, n, k);
  if (w.groups != GroupFormat::kNone) return group_values(w, n, k / kGroupSize).at(k % kGroupSize);
  const int64_t at = n * w.codes.stride(0) + k;
  switch (w.codes.dtype) {
    case DType::kF64: return static_cast<float>(static_cast<const double*>(w.codes.data)[at]);
    case DType::kF32: return static_cast<const float*>(w.codes.data)[at];
    case DType::kBF16: return to_float(static_cast<const bf16*>(w.codes.data)[at]);
    case DType::kF16: return to_float(static_cast<const f16*>(w.codes.data)[at]);
    case DType::kE4M3: {
      const float scale = w.scales.ptr<const float>()[n / kScaleBlock * w.scales.stride(0) + k / kScaleBlock];
      return to_float(static_cast<const e4m3*>(w.codes.data)[at]) * scale;
    }
    default: check(false, "weights are F64, F32, BF16, F16, E4M3 or integer groups"); return 0;
  }
}

void decode_row(const Weight& w, int64_t n, int64_t begin, int64_t end, float* out) {
  if (w.layout == WeightLayout::kRows && w.groups == GroupFormat::kNone) {
    const int64_t at = n * w.codes.stride(0);
    switch (w.codes.dtype) {
      case DType::kF32:
        std::copy(w.codes.ptr<const float>() + at + begin, w.codes.ptr<const float>() + at + end, out);
        return;
      case DType::kBF16: {
        const bf16* row = w.codes.ptr<const bf16>() + at;
        for (int64_t k = begin; k < end; ++k) out[k - begin] = to_float(row[k]);
        return;
      }
      case DType::kE4M3: {
        const auto& values = e4m3_values();
        const e4m3* row = w.codes.ptr<const e4m3>() + at;
        const float* scale = w.scales.ptr<const float>() + n / kScaleBlock * w.scales.stride(0);
        for (int64_t k = begin; k < end; ++k) out[k - begin] = values[row[k].bits] * scale[k / kScaleBlock];
        return;
      }
      default: break;
    }
  }
  if (w.groups != GroupFormat::kNone) {
    for (int64_t g = begin / kGroupSize; g * kGroupSize < end; ++g) {
      const GroupValues group = group_values(w, n, g);
      for (int64_t k = std::max(begin, g * kGroupSize); k < std::min(end, (g + 1) * kGroupSize); ++k) {
        out[k - begin] = group.at(k % kGroupSize);
      }
    }
    return;
  }
  for (int64_t k = begin; k < end; ++k) out[k - begin] = weight_at(w, n, k);
}

}  // namespace fathom
