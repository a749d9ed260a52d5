#include "model/head.h"

#include <algorithm>

namespace fathom {
namespace {

// Fixed, because the weight gradient is summed chunk by chunk and that order is part of the format.
constexpr int64_t kLogitTokens = 512;

}  // namespace

void Head::forward(const Run& run, Tensor hidden, Tensor logits) const {
  run.product(hidden, w_.value, logits, run.unquantized());
}

double Head::loss(const Run& run, Tensor hidden, std::span<const int32_t> targets, double gradient_scale,
                  Tensor dhidden, std::span<double> token_loss) const {
  const int64_t T = hidden.extent(0), V = w_.value.out_features();
  double sum = 0;
  for (int64_t begin = 0; begin < T; begin += kLogitTokens) {
    const ArenaScope scope(run.arena);
    const int64_t count = std::min(kLogitTokens, T - begin);
    const Tensor logits = run.make({count, V}), loss = run.make({count});
    forward(run, hidden.rows(begin, count), logits);
    run.k.cross_entropy(logits, targets.subspan(static_cast<size_t>(begin), static_cast<size_t>(count)), gradient_scale,
                        loss, dhidden ? logits : Tensor{});
    for (int64_t t = 0; t < count; ++t) {
      const double l = run.activation == DType::kF64 ? loss.ptr<double>()[t] : double{loss.ptr<float>()[t]};
      sum += l;
      if (!token_loss.empty()) token_loss[static_cast<size_t>(begin + t)] = l;
    }
    if (!dhidden) continue;
    run.k.gemm_backward_input(logits, w_.value, dhidden.rows(begin, count), run.unquantized(), Into::kAssign);
    run.k.gemm_backward_weight(logits, hidden.rows(begin, count), w_.grad, run.unquantized());
  }
  return sum;
}

}  // namespace fathom
