#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

#include "kernels/ref/real.h"
#include "kernels/ref/ref.h"

namespace fathom {

using ref::on_real;

namespace {

/// A NaN counts as the smallest value: sorting needs an order.
double ordered(double v) { return std::isnan(v) ? -std::numeric_limits<double>::infinity() : v; }

/// Indices of the `count` largest values, ties to the lower index, ascending.
std::vector<int32_t> top_indices(const std::vector<double>& values, int64_t count) {
  std::vector<int32_t> order(values.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) {
    return ordered(values[static_cast<size_t>(a)]) > ordered(values[static_cast<size_t>(b)]);
  });
  order.resize(static_cast<size_t>(count));
  std::sort(order.begin(), order.end());
  return order;
}

/// Excludes (-infinity) the experts outside the best topk_group groups. A group's score is its best value (V2) or, with
/// biased selection, the sum of its two best (V3).
void keep_best_groups(const RouterSpec& spec, std::vector<double>& values) {
  const int64_t size = static_cast<int64_t>(values.size()) / spec.n_group;
  std::vector<double> group_score(static_cast<size_t>(spec.n_group));
  for (int64_t g = 0; g < spec.n_group; ++g) {
    std::vector<double> members(values.begin() + g * size, values.begin() + (g + 1) * size);
    std::sort(members.begin(), members.end(), [](double a, double b) { return ordered(a) > ordered(b); });
    group_score[static_cast<size_t>(g)] = spec.biased_selection && size > 1 ? members[0] + members[1] : members[0];
  }
  const auto kept = top_indices(group_score, spec.topk_group);
  for (int64_t g = 0; g < spec.n_group; ++g) {
    if (std::binary_search(kept.begin(), kept.end(), static_cast<int32_t>(g))) continue;
    std::fill_n(values.begin() + g * size, size, -std::numeric_limits<double>::infinity());
  }
}

}  // namespace

void RefKernels::router(const RouterArgs& a) {
  on_real(a.logits, [&]<class T>(T) {
    const auto logits = a.logits.view<const T, 2>();
    const auto scores = a.scores.view<T, 2>();
    const auto ids = a.expert_ids.view<int32_t, 2>();
    const auto weights = a.weights.view<T, 2>();
    const int64_t experts = logits.extent(1);
    for (int64_t t = 0; t < logits.extent(0); ++t) {
      double largest = -std::numeric_limits<double>::infinity(), sum = 0;
      for (int64_t e = 0; e < experts; ++e) largest = std::max(largest, double{logits(t, e)});
      for (int64_t e = 0; e < experts; ++e) sum += std::exp(double{logits(t, e)} - largest);
      std::vector<double> choice(static_cast<size_t>(experts));
      for (int64_t e = 0; e < experts; ++e) {
        const double z = logits(t, e);
        scores(t, e) = static_cast<T>(a.spec.sigmoid ? 1 / (1 + std::exp(-z)) : std::exp(z - largest) / sum);
        // The choice is made on the scores as stored, so that another back end chooses alike from the same bits.
        choice[static_cast<size_t>(e)] =
            static_cast<T>(scores(t, e) + (a.spec.biased_selection ? static_cast<T>(ref::real_at(a.bias, e)) : T{0}));
      }
      if (a.spec.n_group > 1) keep_best_groups(a.spec, choice);
      const auto chosen = top_indices(choice, a.spec.num_experts_per_tok);
      double total = 1e-20;
      for (int32_t e : chosen) total += double{scores(t, e)};
      const double factor = a.spec.routed_scaling_factor / (a.spec.norm_topk_prob ? total : 1.0);
      for (size_t k = 0; k < chosen.size(); ++k) {
        ids(t, static_cast<int64_t>(k)) = chosen[k];
        weights(t, static_cast<int64_t>(k)) = static_cast<T>(double{scores(t, chosen[k])} * factor);
      }
    }
  });
}

// Normalised: w_k = f s_k / S, so ds_k = f / S (dw_k - sum_j dw_j s_j / S). Plain: ds_k = f dw_k.
// Sigmoid: dz = ds s (1 - s). Softmax: dz_e = s_e (ds_e - sum_j ds_j s_j).
void RefKernels::router_backward(const RouterBackwardArgs& a) {
  on_real(a.scores, [&]<class T>(T) {
    const auto scores = a.scores.view<const T, 2>();
    const auto ids = a.expert_ids.view<const int32_t, 2>();
    const auto dweights = a.dweights.view<const T, 2>();
    const auto dlogits = a.dlogits.view<T, 2>();
    const int64_t experts = scores.extent(1), chosen = ids.extent(1);
    for (int64_t t = 0; t < scores.extent(0); ++t) {
      std::vector<double> ds(static_cast<size_t>(experts));
      if (a.dscores) {
        for (int64_t e = 0; e < experts; ++e) ds[static_cast<size_t>(e)] = a.dscores.view<const T, 2>()(t, e);
      }
      double total = 1e-20, dot = 0;
      for (int64_t k = 0; k < chosen; ++k) {
        total += double{scores(t, ids(t, k))};
        dot += double{dweights(t, k)} * double{scores(t, ids(t, k))};
      }
      for (int64_t k = 0; k < chosen; ++k) {
        const double dw = dweights(t, k);
        ds[static_cast<size_t>(ids(t, k))] +=
            a.spec.routed_scaling_factor * (a.spec.norm_topk_prob ? (dw - dot / total) / total : dw);
      }
      double softmax_dot = 0;
      for (int64_t e = 0; e < experts; ++e) softmax_dot += ds[static_cast<size_t>(e)] * double{scores(t, e)};
      for (int64_t e = 0; e < experts; ++e) {
        const double s = scores(t, e), d = ds[static_cast<size_t>(e)];
        dlogits(t, e) = static_cast<T>(a.spec.sigmoid ? d * s * (1 - s) : s * (d - softmax_dot));
      }
    }
  });
}

// With p_te = s_te / sum_j s_tj:  dL/ds_te = coefficient / (T_d sum_j s_tj) (f_e - sum_j f_j p_tj).
double RefKernels::balance_loss(const BalanceLossArgs& a) {
  double loss = 0;
  on_real(a.scores, [&]<class T>(T) {
    const auto scores = a.scores.view<const T, 2>();
    const auto dscores = a.dscores.view<T, 2>();
    const int64_t experts = scores.extent(1);
    for (size_t d = 0; d + 1 < a.document_offsets.size(); ++d) {
      const int64_t begin = a.document_offsets[d], end = a.document_offsets[d + 1];
      const auto tokens = static_cast<double>(end - begin);
      std::vector<double> f(static_cast<size_t>(experts)), mean_p(static_cast<size_t>(experts));
      std::vector<double> row(static_cast<size_t>(experts));
      for (int64_t t = begin; t < end; ++t) {
        double sum = 0;
        for (int64_t e = 0; e < experts; ++e) sum += row[static_cast<size_t>(e)] = scores(t, e);
        for (int32_t e : top_indices(row, a.num_experts_per_tok)) {
          f[static_cast<size_t>(e)] +=
              static_cast<double>(experts) / (static_cast<double>(a.num_experts_per_tok) * tokens);
        }
        for (size_t e = 0; e < row.size(); ++e) mean_p[e] += row[e] / (sum * tokens);
      }
      for (size_t e = 0; e < f.size(); ++e) loss += a.coefficient * f[e] * mean_p[e];
      for (int64_t t = begin; t < end; ++t) {
        double sum = 0, fp = 0;
        for (int64_t e = 0; e < experts; ++e) sum += double{scores(t, e)};
        for (int64_t e = 0; e < experts; ++e) fp += f[static_cast<size_t>(e)] * double{scores(t, e)} / sum;
        for (int64_t e = 0; e < experts; ++e) {
          dscores(t, e) = static_cast<T>(a.coefficient / (tokens * sum) * (f[static_cast<size_t>(e)] - fp));
        }
      }
    }
  });
  return loss;
}

}  // namespace fathom
