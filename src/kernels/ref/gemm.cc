#include <algorithm>
#include <cmath>
#include <vector>

#include "kernels/ref/real.h"
#include "kernels/ref/ref.h"
#include "numerics/panels.h"

namespace fathom {

using ref::on_real;
using ref::real_weight;
using ref::rounded;

namespace {

template <class T>
void store(T& at, double v, Into into) {
  at = static_cast<T>(into == Into::kAccumulate ? double{at} + v : v);
}

// One FP8 linear as DeepSeek's kernel does it: per 128 of K the codes' products are summed (exactly: 43 bits span them
// all), rounded to FP32, and acc = fma(partial, s_x s_w, acc) in FP32. Every back end reproduces these bits.
void fp8_gemm(View<const float, 2> x, const Weight& w, View<float, 2> y, Into into) {
  const int64_t width = x.extent(1), blocks = num_scale_blocks(width);
  std::vector<e4m3> codes(static_cast<size_t>(width));
  std::vector<float> scales(static_cast<size_t>(blocks));
  RefKernels quantizer;
  const auto w_scales = w.scales.view<const float, 2>();
  for (int64_t t = 0; t < x.extent(0); ++t) {
    quantizer.quantize_tiles(Tensor::contiguous(const_cast<float*>(&x(t, 0)), DType::kF32, {1, width}), w.scale_format,
                             Tensor::contiguous(codes.data(), DType::kE4M3, {1, width}),
                             Tensor::contiguous(scales.data(), DType::kF32, {1, blocks}));
    for (int64_t n = 0; n < w.out_features(); ++n) {
      const e4m3* row = w.codes.ptr<const e4m3>() + n * w.codes.stride(0);
      float acc = 0;
      for (int64_t b = 0; b < blocks; ++b) {
        double partial = 0;
        for (int64_t k = b * kScaleBlock; k < std::min(width, (b + 1) * kScaleBlock); ++k) {
          partial += double{to_float(codes[static_cast<size_t>(k)])} * double{to_float(row[k])};
        }
        acc =
            std::fmaf(static_cast<float>(partial), scales[static_cast<size_t>(b)] * w_scales(n / kScaleBlock, b), acc);
      }
      y(t, n) = into == Into::kAccumulate ? y(t, n) + acc : acc;
    }
  }
}

/// Products of integer groups, in the order of the contract.
void group_gemm(View<const float, 2> x, const Weight& w, View<float, 2> y) {
  const int64_t width = x.extent(1), groups = num_groups(width);
  // Of how many numbers the products are summed exactly before they are scaled.
  const int64_t depth = has_half_scales(w.groups) ? kGroupSize / 2 : kGroupSize;
  std::vector<float> row(static_cast<size_t>(groups * kGroupSize)), x_scales(static_cast<size_t>(groups));
  std::vector<int8_t> codes(row.size());
  for (int64_t t = 0; t < x.extent(0); ++t) {
    std::copy_n(&x(t, 0), width, row.begin());
    quantize_activations(row.data(), groups, codes.data(), x_scales.data());
    for (int64_t n = 0; n < w.out_features(); ++n) {
      float acc = 0;
      for (int64_t g = 0; g < groups; ++g) {
        const GroupValues group = group_values(w, n, g);
        const int8_t* x_codes = codes.data() + g * kGroupSize;
        const float x_scale = x_scales[static_cast<size_t>(g)];
        int32_t x_sum = 0;
        for (int64_t begin = 0; begin < kGroupSize; begin += depth) {
          int32_t products = 0;
          for (int64_t i = begin; i < begin + depth; ++i) {
            products += x_codes[i] * group.values[static_cast<size_t>(i)];  // codes of x are 0 beyond its width
            x_sum += x_codes[i];
          }
          const float scale = group.scales[static_cast<size_t>(begin / (kGroupSize / 2))];
          acc = std::fmaf(static_cast<float>(products), scale * x_scale, acc);
        }
        if (has_offsets(w.groups)) acc = std::fmaf(-group.offset, static_cast<float>(x_sum) * x_scale, acc);
      }
      y(t, n) = acc;
    }
  }
}

}  // namespace

bool RefKernels::pack(const Weight& rows, const Weight& panels) {
  bool all = true;
  for (int64_t p = 0; p < num_panels(rows.out_features()); ++p) all &= pack_panel(rows, p, panels);
  return all;
}

void RefKernels::gemm(Tensor x, const Weight& w, Tensor y, Precision precision, Into into) {
  if (w.groups != GroupFormat::kNone) {
    check(into == Into::kAssign, "products of integer groups are assigned");
    group_gemm(x.view<const float, 2>(), w, y.view<float, 2>());
    return;
  }
  if (precision == Precision::kFp8 && w.scales) {
    fp8_gemm(x.view<const float, 2>(), w, y.view<float, 2>(), into);
    return;
  }
  on_real(x, [&]<class T>(T) {
    const auto xs = x.view<const T, 2>();
    const auto ys = y.view<T, 2>();
    for (int64_t n = 0; n < w.out_features(); ++n) {
      std::vector<double> row(static_cast<size_t>(w.in_features()));
      const Precision weights = w.scales ? Precision::kF32 : precision;  // codes are exact in BF16
      for (size_t k = 0; k < row.size(); ++k) row[k] = rounded(real_weight(w, n, static_cast<int64_t>(k)), weights);
      for (int64_t t = 0; t < xs.extent(0); ++t) {
        const T* x_row = &xs(t, 0);
        double sum = 0;
        for (size_t k = 0; k < row.size(); ++k) sum += rounded(x_row[k], precision) * row[k];
        store(ys(t, n), sum, into);
      }
    }
  });
}

void RefKernels::gemm_backward_input(Tensor dy, const Weight& w, Tensor dx, Precision precision, Into into) {
  if (w.scales) precision = Precision::kF32;
  on_real(dy, [&]<class T>(T) {
    const auto dys = dy.view<const T, 2>();
    const auto dxs = dx.view<T, 2>();
    std::vector<double> column(static_cast<size_t>(dys.extent(1)));
    for (int64_t k = 0; k < dxs.extent(1); ++k) {
      for (size_t n = 0; n < column.size(); ++n) {
        column[n] = rounded(real_weight(w, static_cast<int64_t>(n), k), precision);
      }
      for (int64_t t = 0; t < dys.extent(0); ++t) {
        const T* dy_row = &dys(t, 0);
        double sum = 0;
        for (size_t n = 0; n < column.size(); ++n) sum += rounded(dy_row[n], precision) * column[n];
        store(dxs(t, k), sum, into);
      }
    }
  });
}

void RefKernels::gemm_backward_weight(Tensor dy, Tensor x, Tensor dw, Precision precision) {
  on_real(dy, [&]<class T>(T) {
    const auto dys = dy.view<const T, 2>();
    const auto xs = x.view<const T, 2>();
    const auto dws = dw.view<T, 2>();
    for (int64_t n = 0; n < dys.extent(1); ++n) {
      for (int64_t k = 0; k < xs.extent(1); ++k) {
        double sum = 0;
        for (int64_t t = 0; t < dys.extent(0); ++t) sum += rounded(dys(t, n), precision) * rounded(xs(t, k), precision);
        store(dws(n, k), sum, Into::kAccumulate);
      }
    }
  });
}

}  // namespace fathom
