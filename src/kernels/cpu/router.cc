#include <algorithm>
#include <array>
#include <limits>

#include "kernels/cpu/cpu.h"
#include "kernels/cpu/operands.h"
#include "kernels/expert_tree.h"

namespace fathom {

using cpu::expect_f32;
using cpu::int_row;
using cpu::row;

namespace {

constexpr float kExcluded = -std::numeric_limits<float>::infinity();

/// Ids of the `count` largest of values[0 .. n), ties to the lower id, ascending, by insertion into a sorted list.
template <class T>
void top_ids(const T* values, int64_t n, int64_t count, int32_t* ids) {
  std::array<T, kMaxExpertsPerToken> best;
  int64_t held = 0;
  for (int64_t i = 0; i < n; ++i) {
    if (held == count && !(values[i] > best[static_cast<size_t>(count - 1)])) continue;
    int64_t at = held < count ? held++ : count - 1;
    for (; at > 0 && values[i] > best[static_cast<size_t>(at - 1)]; --at) {
      best[static_cast<size_t>(at)] = best[static_cast<size_t>(at - 1)];
      ids[at] = ids[at - 1];
    }
    best[static_cast<size_t>(at)] = values[i];
    ids[at] = static_cast<int32_t>(i);
  }
  std::sort(ids, ids + count);
}

/// Excludes the experts outside the best topk_group groups. A group's score is its best value (V2) or, with biased
/// selection, the sum of its two best (V3). `group_score` holds n_group values.
void keep_best_groups(const RouterSpec& spec, float* values, int64_t experts, double* group_score) {
  const int64_t size = experts / spec.n_group;
  for (int64_t g = 0; g < spec.n_group; ++g) {
    float first = kExcluded, second = kExcluded;
    for (const float* v = values + g * size; v != values + (g + 1) * size; ++v) {
      if (*v > first) {
        second = first;
        first = *v;
      } else if (*v > second) {
        second = *v;
      }
    }
    group_score[g] = spec.biased_selection && size > 1 ? double{first} + double{second} : double{first};
  }
  std::array<int32_t, kMaxExpertsPerToken> kept;
  top_ids(group_score, spec.n_group, spec.topk_group, kept.data());
  for (int64_t g = 0, k = 0; g < spec.n_group; ++g) {
    if (k < spec.topk_group && kept[static_cast<size_t>(k)] == g) {
      ++k;
    } else {
      std::fill_n(values + g * size, size, kExcluded);
    }
  }
}

void check_spec(const RouterSpec& spec, int64_t experts) {
  check(spec.num_experts_per_tok >= 1 && spec.num_experts_per_tok <= std::min(experts, kMaxExpertsPerToken),
        "1 to 64 chosen experts, no more than there are");
  check(spec.n_group >= 1 && experts % spec.n_group == 0, "groups of experts are equal");
  check(spec.topk_group >= 1 && spec.topk_group <= std::min(spec.n_group, kMaxExpertsPerToken),
        "1 to n_group groups are kept");
}

}  // namespace

void CpuKernels::router(const RouterArgs& a) {
  const int64_t tokens = a.logits.extent(0), experts = a.logits.extent(1), chosen = a.spec.num_experts_per_tok;
  expect_f32(a.logits, tokens, experts);
  expect_f32(a.scores, tokens, experts);
  expect_f32(a.weights, tokens, chosen);
  check_spec(a.spec, experts);
  if (a.spec.biased_selection) expect_f32(a.bias, experts);
  check(a.expert_ids.dtype == DType::kI32 && a.expert_ids.extent(0) == tokens && a.expert_ids.extent(1) == chosen,
        "expert ids are I32 [T, K]");
  // Per thread: the values of the choice, and the groups' scores.
  const int64_t choice_bytes = (experts * 4 + 63) / 64 * 64;
  reserve_scratch(choice_bytes + a.spec.n_group * 8);
  each(tokens, 24 * experts, [&](int64_t t, int thread_id) {
    float* scores = row(a.scores, t);
    (a.spec.sigmoid ? level_.sigmoid_row : level_.softmax_row)(row(a.logits, t), scores, experts);
    auto* choice = static_cast<float*>(scratch(thread_id));
    std::copy_n(scores, experts, choice);
    if (a.spec.biased_selection) level_.add_row(a.bias.ptr<const float>(), choice, experts);
    if (a.spec.n_group > 1) {
      auto* groups = reinterpret_cast<double*>(static_cast<std::byte*>(scratch(thread_id)) + choice_bytes);
      keep_best_groups(a.spec, choice, experts, groups);
    }
    int32_t* ids = int_row(a.expert_ids, t);
    top_ids(choice, experts, chosen, ids);
    double total = 1e-20;
    for (int64_t k = 0; k < chosen; ++k) total += double{scores[ids[k]]};
    const double factor = a.spec.routed_scaling_factor / (a.spec.norm_topk_prob ? total : 1.0);
    for (int64_t k = 0; k < chosen; ++k) row(a.weights, t)[k] = static_cast<float>(double{scores[ids[k]]} * factor);
  });
}

// Normalised: w_k = f s_k / S, so ds_k = f / S (dw_k - sum_j dw_j s_j / S). Plain: ds_k = f dw_k.
// Sigmoid: dz = ds s (1 - s). Softmax: dz_e = s_e (ds_e - sum_j ds_j s_j).
void CpuKernels::router_backward(const RouterBackwardArgs& a) {
  const int64_t tokens = a.scores.extent(0), experts = a.scores.extent(1), chosen = a.expert_ids.extent(1);
  expect_f32(a.scores, tokens, experts);
  expect_f32(a.dweights, tokens, chosen);
  expect_f32(a.dlogits, tokens, experts);
  if (a.dscores) expect_f32(a.dscores, tokens, experts);
  check(a.expert_ids.dtype == DType::kI32 && a.expert_ids.extent(0) == tokens, "expert ids are I32, a row per token");
  reserve_scratch(experts * 8);
  each(tokens, 16 * experts, [&](int64_t t, int thread_id) {
    auto* ds = static_cast<double*>(scratch(thread_id));
    const float* scores = row(a.scores, t);
    const float* dweights = row(a.dweights, t);
    const int32_t* ids = int_row(a.expert_ids, t);
    for (int64_t e = 0; e < experts; ++e) ds[e] = a.dscores ? double{row(a.dscores, t)[e]} : 0.0;
    double total = 1e-20, dot = 0;
    for (int64_t k = 0; k < chosen; ++k) {
      total += double{scores[ids[k]]};
      dot += double{dweights[k]} * double{scores[ids[k]]};
    }
    for (int64_t k = 0; k < chosen; ++k) {
      const double dw = dweights[k];
      ds[ids[k]] += a.spec.routed_scaling_factor * (a.spec.norm_topk_prob ? (dw - dot / total) / total : dw);
    }
    double softmax_dot = 0;
    for (int64_t e = 0; e < experts; ++e) softmax_dot += ds[e] * double{scores[e]};
    float* dlogits = row(a.dlogits, t);
    for (int64_t e = 0; e < experts; ++e) {
      const double s = scores[e];
      dlogits[e] = static_cast<float>(a.spec.sigmoid ? ds[e] * s * (1 - s) : s * (ds[e] - softmax_dot));
    }
  });
}

// With p_te = s_te / sum_j s_tj:  dL/ds_te = coefficient / (T_d sum_j s_tj) (f_e - sum_j f_j p_tj).
double CpuKernels::balance_loss(const BalanceLossArgs& a) {
  const int64_t tokens = a.scores.extent(0), experts = a.scores.extent(1), chosen = a.num_experts_per_tok;
  expect_f32(a.scores, tokens, experts);
  expect_f32(a.dscores, tokens, experts);
  check(chosen >= 1 && chosen <= std::min(experts, kMaxExpertsPerToken),
        "1 to 64 chosen experts, no more than there are");
  check(!a.document_offsets.empty() && a.document_offsets.front() == 0 && a.document_offsets.back() == tokens,
        "document offsets run from 0 to T");
  // Shared: the sum of every row, f and the mean of p for the document at hand, the choices of every row.
  auto* row_sum = shared<double>(tokens + 2 * experts + (tokens * chosen + 1) / 2);
  double* f = row_sum + tokens;
  double* mean_p = f + experts;
  auto* ids = reinterpret_cast<int32_t*>(mean_p + experts);
  each(tokens, 16 * experts, [&](int64_t t, int) {
    const float* scores = row(a.scores, t);
    double sum = 0;
    for (int64_t e = 0; e < experts; ++e) sum += double{scores[e]};
    row_sum[t] = sum;
    top_ids(scores, experts, chosen, ids + t * chosen);
  });
  double loss = 0;
  for (size_t d = 0; d + 1 < a.document_offsets.size(); ++d) {
    const int64_t begin = a.document_offsets[d], end = a.document_offsets[d + 1];
    const auto length = static_cast<double>(end - begin);
    std::fill_n(f, 2 * experts, 0.0);
    for (int64_t i = begin * chosen; i < end * chosen; ++i) {
      f[ids[i]] += static_cast<double>(experts) / (static_cast<double>(chosen) * length);
    }
    for (int64_t t = begin; t < end; ++t) {
      const double share = 1 / (row_sum[t] * length);
      for (int64_t e = 0; e < experts; ++e) mean_p[e] += double{row(a.scores, t)[e]} * share;
    }
    for (int64_t e = 0; e < experts; ++e) loss += a.coefficient * f[e] * mean_p[e];
    each(end - begin, 8 * experts, [&](int64_t i, int) {
      const int64_t t = begin + i;
      double fp = 0;
      for (int64_t e = 0; e < experts; ++e) fp += f[e] * double{row(a.scores, t)[e]};
      fp /= row_sum[t];
      const double factor = a.coefficient / (length * row_sum[t]);
      for (int64_t e = 0; e < experts; ++e) row(a.dscores, t)[e] = static_cast<float>(factor * (f[e] - fp));
    });
  }
  return loss;
}

}  // namespace fathom
