#include "train/muon.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

namespace fathom {
namespace {

constexpr int kNewtonSchulzSteps = 5;
constexpr float kA = 3.4445f, kB = -4.7750f,
                kC = 2.0315f;  // Jordan et al.: steepest at 0 among those that stay bounded
constexpr int64_t kMatricesAtOnce = 32;

/// Row offsets of `count` stacked matrices of `rows` rows, and each of them as a weight.
struct Stack {
  Stack(Tensor x, int64_t count) {
    const int64_t rows = x.extent(0) / count;
    for (int64_t i = 0; i <= count; ++i) offsets.push_back(i * rows);
    for (int64_t i = 0; i < count; ++i) weights.push_back({.codes = x.rows(i * rows, rows), .scales = {}});
    for (const Weight& weight : weights) tensors.push_back(weight.codes);
  }
  std::vector<int64_t> offsets;
  std::vector<Weight> weights;
  std::vector<Tensor> tensors;
};

/// X / ||X|| for one matrix, the norm summed in double.
void normalise(Tensor x) {
  float* v = x.ptr<float>();
  const int64_t n = x.numel();
  double sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += double{v[i]} * double{v[i]};
  if (sum == 0) return;
  const auto factor = static_cast<float>(1 / std::sqrt(sum));
  for (int64_t i = 0; i < n; ++i) v[i] *= factor;
}

/// mix = a I + b A + c A^2, where mix holds A^2.
void polynomial(Tensor gram, Tensor mix) {
  const float* a = gram.ptr<const float>();
  float* m = mix.ptr<float>();
  for (int64_t i = 0; i < mix.numel(); ++i) m[i] = kB * a[i] + kC * m[i];
  for (int64_t i = 0; i < mix.extent(0); ++i) m[i * mix.extent(1) + i] += kA;
}

}  // namespace

void orthogonalise(Kernels& k, ThreadPool& pool, Arena& arena, Tensor x, int64_t count) {
  const ArenaScope scope(arena);
  const int64_t rows = x.extent(0) / count, columns = x.extent(1), side = std::min(rows, columns);
  const auto square = [&] { return Tensor::allocate(arena, DType::kF32, {count * side, side}); };
  const Tensor gram = square(), mix = square();
  const Tensor next = Tensor::allocate(arena, DType::kF32, {count * rows, columns});
  const Stack xs(x, count), grams(gram, count), mixes(mix, count);
  const auto each = [&](const auto& body) {
    pool.parallel_for(count, 1, [&](int64_t begin, int64_t end, int) {
      for (int64_t i = begin; i < end; ++i) body(static_cast<size_t>(i));
    });
  };
  each([&](size_t i) { normalise(xs.tensors[i]); });
  // A is taken on the shorter side; the polynomial is the same from the left or from the right, and A is symmetric.
  const bool wide = rows <= columns;
  for (int step = 0; step < kNewtonSchulzSteps; ++step) {
    if (wide) {
      k.grouped_gemm(x, xs.offsets, xs.weights, gram, Precision::kBF16);  // A = X X^T
    } else {
      std::memset(gram.data, 0, static_cast<size_t>(gram.num_bytes()));
      k.grouped_gemm_backward_weight(x, x, xs.offsets, grams.tensors, Precision::kBF16);  // A = X^T X
    }
    k.grouped_gemm(gram, grams.offsets, grams.weights, mix, Precision::kBF16);  // A^2
    each([&](size_t i) { polynomial(grams.tensors[i], mixes.tensors[i]); });
    if (wide) {
      k.grouped_gemm_backward_input(mix, mixes.offsets, xs.weights, next, Precision::kBF16, Into::kAssign);
    } else {
      k.grouped_gemm(x, xs.offsets, mixes.weights, next, Precision::kBF16);
    }
    std::memcpy(x.data, next.data, static_cast<size_t>(x.num_bytes()));
  }
}

void muon_step(Kernels& kernels, ThreadPool& pool, Arena& arena, const MuonSettings& settings,
               std::span<const MuonMatrix> matrices, double learning_rate, double gradient_scale) {
  const auto mu = static_cast<float>(settings.momentum), clip = static_cast<float>(gradient_scale);
  const auto rate = static_cast<float>(learning_rate), decay = static_cast<float>(settings.weight_decay);
  for (size_t begin = 0; begin < matrices.size();) {
    const int64_t rows = matrices[begin].master.extent(0), columns = matrices[begin].master.extent(1);
    size_t end = begin + 1;
    while (end < matrices.size() && end - begin < static_cast<size_t>(kMatricesAtOnce) &&
           matrices[end].master.extent(0) == rows && matrices[end].master.extent(1) == columns) {
      ++end;
    }
    const auto count = static_cast<int64_t>(end - begin);
    const ArenaScope scope(arena);
    const Tensor direction = Tensor::allocate(arena, DType::kF32, {count * rows, columns});
    const int64_t numel = rows * columns;
    pool.parallel_for(count, 1, [&](int64_t first, int64_t last, int) {
      for (int64_t i = first; i < last; ++i) {
        const MuonMatrix& matrix = matrices[begin + static_cast<size_t>(i)];
        const float* grad = matrix.grad.ptr<const float>();
        bf16* momentum = matrix.momentum.ptr<bf16>();
        float* d = direction.ptr<float>() + i * numel;
        for (int64_t j = 0; j < numel; ++j) {
          const float g = grad[j] * clip;
          const float m = mu * to_float(momentum[j]) + g;
          momentum[j] = to_bf16(m);
          d[j] = g + mu * m;  // Nesterov
        }
      }
    });
    orthogonalise(kernels, pool, arena, direction, count);
    const auto size = static_cast<float>(0.2 * std::sqrt(static_cast<double>(std::max(rows, columns))));
    pool.parallel_for(count, 1, [&](int64_t first, int64_t last, int) {
      for (int64_t i = first; i < last; ++i) {
        float* master = matrices[begin + static_cast<size_t>(i)].master.ptr<float>();
        const float* d = direction.ptr<const float>() + i * numel;
        for (int64_t j = 0; j < numel; ++j) master[j] -= rate * (size * d[j] + decay * master[j]);
      }
    });
    begin = end;
  }
}

}  // namespace fathom
