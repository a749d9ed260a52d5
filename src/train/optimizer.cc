// Sums, norms and updates, each in its one order.
#include "train/optimizer.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <utility>
#include <vector>

#include "base/check.h"

namespace fathom {

GradientTree::GradientTree(Tensor gradients, int64_t num_slots) : gradients_(gradients), num_slots_(num_slots) {
  check(num_slots >= 1, "a step has at least one slot");
  const auto levels = static_cast<int>(std::bit_width(static_cast<uint64_t>(num_slots - 1)));
  for (int level = 0; level < levels; ++level) {
    Tensor partial;
    storage_.push_back(Storage::for_tensor(DType::kF32, {gradients.extent(0), gradients.extent(1)}, &partial));
    partials_.push_back(partial);
  }
}

void GradientTree::finish_slot(Kernels& kernels, int64_t slot) {
  check(slot >= 0 && slot < num_slots_, "slots are finished in order");
  const bool is_last = slot + 1 == num_slots_;
  size_t level = 0;
  // The lowest set bits of `slot` are the subtrees that end right before it; the last slot closes all of them.
  for (; slot >> level != 0; ++level) {
    const bool is_pending = (slot >> level & 1) != 0;
    if (is_pending) kernels.add(partials_[level], gradients_);
    if (!is_pending && !is_last) break;
  }
  if (is_last) return;
  std::memcpy(partials_[level].data, gradients_.data, static_cast<size_t>(gradients_.num_bytes()));
  std::memset(gradients_.data, 0, static_cast<size_t>(gradients_.num_bytes()));
}

GradientNorm gradient_norm(Kernels& kernels, const Parameters& parameters) {
  GradientNorm out;
  double sum = 0;
  for (const Parameters::Entry& entry : parameters.entries()) {
    if (entry.is_router_bias()) continue;
    const double squares = kernels.sum_of_squares(entry.grad);
    if (!std::isfinite(squares) && out.not_finite.empty()) out.not_finite = entry.spec.name;
    sum += squares;
  }
  out.norm = std::sqrt(sum);
  return out;
}

double clip_factor(double norm, double limit) { return limit > 0 && norm > limit ? limit / norm : 1.0; }

namespace {

/// Muon is for matrices between hidden spaces; a row of the embedding, the head or the router is a vector of its own.
bool is_for_muon(const Parameters::Entry& entry) {
  switch (entry.spec.tensor_class) {
    case TensorClass::kAttention:
    case TensorClass::kDenseFfn:
    case TensorClass::kRoutedExpert:
    case TensorClass::kSharedExpert:
    case TensorClass::kMtp: return entry.is_matrix();
    default: return false;
  }
}

}  // namespace

void optimizer_step(Kernels& kernels, ThreadPool& pool, Arena& arena, Parameters& parameters,
                    const OptimizerSettings& settings, double learning_rate, double gradient_scale, int64_t step) {
  std::vector<MuonMatrix> muon;
  for (const Parameters::Entry& entry : parameters.entries()) {
    if (entry.is_router_bias()) continue;
    if (settings.use_muon && is_for_muon(entry)) {
      muon.push_back({.master = entry.master, .grad = entry.grad, .momentum = entry.first_moment});
      continue;
    }
    kernels.adamw({.master = entry.master,
                   .grad = entry.grad,
                   .first_moment = entry.first_moment,
                   .second_moment = entry.second_moment,
                   .learning_rate = learning_rate,
                   .beta1 = settings.adamw.beta1,
                   .beta2 = settings.adamw.beta2,
                   .epsilon = settings.adamw.epsilon,
                   .weight_decay = entry.is_matrix() ? settings.adamw.weight_decay : 0.0,
                   .gradient_scale = gradient_scale,
                   .step = step});
  }
  // Equal shapes side by side (plan order within a shape), so that many go through one product.
  std::stable_sort(muon.begin(), muon.end(), [](const MuonMatrix& a, const MuonMatrix& b) {
    return std::pair(a.master.extent(0), a.master.extent(1)) < std::pair(b.master.extent(0), b.master.extent(1));
  });
  muon_step(kernels, pool, arena, settings.muon, muon, learning_rate, gradient_scale);
}

}  // namespace fathom
