#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "kernels/ref/real.h"
#include "kernels/ref/ref.h"
#include "numerics/fp8.h"

namespace fathom {

using ref::on_real;
using ref::real_weight;
using ref::rounded;

namespace {

// Scaled scores of one query against keys 0 .. count-1, and their log-sum-exp.
template <class T>
double attention_scores(const MlaPrefillArgs& a, int64_t t, int64_t h, std::vector<double>& score) {
  const auto q = a.q.view<const T, 3>();
  const auto kv = a.kv.view<const T, 3>();
  const auto k_rope = a.k_rope.view<const T, 2>();
  const int64_t nope = a.qk_nope_head_dim, rope = k_rope.extent(1), count = a.first_position + t + 1;
  score.resize(static_cast<size_t>(count));
  double largest = -std::numeric_limits<double>::infinity();
  for (int64_t s = 0; s < count; ++s) {
    double dot = 0;
    for (int64_t d = 0; d < nope; ++d) dot += rounded(q(t, h, d), a.precision) * rounded(kv(s, h, d), a.precision);
    for (int64_t d = 0; d < rope; ++d) {
      dot += rounded(q(t, h, nope + d), a.precision) * rounded(k_rope(s, d), a.precision);
    }
    score[static_cast<size_t>(s)] = dot * a.softmax_scale;
    largest = std::max(largest, score[static_cast<size_t>(s)]);
  }
  double sum = 0;
  for (double s : score) sum += std::exp(s - largest);
  return largest + std::log(sum);
}

// Element [head, i, c] of W_UK (part 0 .. Dn-1) or W_UV (Dn ..) inside kv_b.
double kv_b_at(const Weight& kv_b, int64_t heads, int64_t head, int64_t i, int64_t c) {
  return real_weight(kv_b, head * (kv_b.out_features() / heads) + i, c);
}

double latent_at(const LatentPages& pages, int64_t position, int64_t column) {
  if (pages.dtype == DType::kE4M3) {
    const auto token = E4M3Latent::of(pages, position);
    if (column >= pages.kv_lora_rank) return to_float(token.rope[column - pages.kv_lora_rank]);
    return to_float(token.codes[column]) * to_float(token.scales[column / kScaleBlock]);
  }
  const int64_t row = position % LatentPages::kPageTokens;
  const void* page = pages.pages[static_cast<size_t>(position / LatentPages::kPageTokens)];
  const int64_t at = row * pages.width() + column;
  switch (pages.dtype) {
    case DType::kF64: return static_cast<const double*>(page)[at];
    case DType::kF32: return static_cast<const float*>(page)[at];
    case DType::kBF16: return to_float(static_cast<const bf16*>(page)[at]);
    default: check(false, "latent pages are F64, F32, BF16 or E4M3"); return 0;
  }
}

void set_latent(const LatentPages& pages, int64_t position, int64_t column, double v) {
  void* page = pages.pages[static_cast<size_t>(position / LatentPages::kPageTokens)];
  const int64_t at = position % LatentPages::kPageTokens * pages.width() + column;
  switch (pages.dtype) {
    case DType::kF64: static_cast<double*>(page)[at] = v; return;
    case DType::kF32: static_cast<float*>(page)[at] = static_cast<float>(v); return;
    case DType::kBF16: static_cast<bf16*>(page)[at] = to_bf16(static_cast<float>(v)); return;
    default: check(false, "latent pages are F64, F32, BF16 or E4M3");
  }
}

void quantize_latent(std::span<const float> latent, std::span<const float> rope, const E4M3Latent& out) {
  for (size_t begin = 0; begin < latent.size(); begin += kScaleBlock) {
    const size_t end = std::min(latent.size(), begin + kScaleBlock);
    float amax = 0;
    for (size_t i = begin; i < end; ++i) amax = std::max(amax, std::fabs(latent[i]));
    const float scale = tile_scale_ue8m0(amax);
    for (size_t i = begin; i < end; ++i) out.codes[i] = to_e4m3(latent[i] / scale);
    out.scales[begin / kScaleBlock] = to_e8m0(scale);
  }
  for (size_t i = 0; i < rope.size(); ++i) out.rope[i] = to_bf16(rope[i]);
}

}  // namespace

void RefKernels::mla_prefill(const MlaPrefillArgs& a) {
  on_real(a.q, [&]<class T>(T) {
    const auto kv = a.kv.view<const T, 3>();
    const auto out = a.out.view<T, 3>();
    std::vector<double> score;
    for (int64_t t = 0; t < a.q.extent(0); ++t) {
      for (int64_t h = 0; h < a.q.extent(1); ++h) {
        const double lse = attention_scores<T>(a, t, h, score);
        if (a.lse) a.lse.view<T, 2>()(t, h) = static_cast<T>(lse);
        for (int64_t v = 0; v < out.extent(2); ++v) {
          double sum = 0;
          for (size_t s = 0; s < score.size(); ++s) {
            sum +=
                std::exp(score[s] - lse) * rounded(kv(static_cast<int64_t>(s), h, a.qk_nope_head_dim + v), a.precision);
          }
          out(t, h, v) = static_cast<T>(sum);
        }
      }
    }
  });
}

// With P = softmax(S), D = rowsum(dO O):  dV = P^T dO,  dS = scale P (dO V^T - D),  dq = dS k,  dk = dS^T q.
void RefKernels::mla_prefill_backward(const MlaPrefillBackwardArgs& b) {
  const MlaPrefillArgs& a = b.forward;
  on_real(a.q, [&]<class T>(T) {
    const auto q = a.q.view<const T, 3>();
    const auto kv = a.kv.view<const T, 3>();
    const auto k_rope = a.k_rope.view<const T, 2>();
    const auto out = a.out.view<const T, 3>();
    const auto dout = b.dout.view<const T, 3>();
    const auto dq = b.dq.view<T, 3>();
    const int64_t num_keys = kv.extent(0), heads = kv.extent(1), kv_width = kv.extent(2), rope = k_rope.extent(1);
    const int64_t nope = a.qk_nope_head_dim, value = out.extent(2);
    std::vector<double> dkv(static_cast<size_t>(num_keys * heads * kv_width));
    std::vector<double> dk_rope(static_cast<size_t>(num_keys * rope));
    std::vector<double> score, dq_row(static_cast<size_t>(nope + rope));
    for (int64_t t = 0; t < q.extent(0); ++t) {
      for (int64_t h = 0; h < heads; ++h) {
        const double lse = attention_scores<T>(a, t, h, score);
        double row_dot = 0;
        for (int64_t v = 0; v < value; ++v) row_dot += double{dout(t, h, v)} * double{out(t, h, v)};
        std::fill(dq_row.begin(), dq_row.end(), 0.0);
        for (int64_t s = 0; s < static_cast<int64_t>(score.size()); ++s) {
          const double p = std::exp(score[static_cast<size_t>(s)] - lse);
          double* dkv_row = &dkv[static_cast<size_t>((s * heads + h) * kv_width)];
          double dp = 0;
          for (int64_t v = 0; v < value; ++v) {
            dp += double{dout(t, h, v)} * double{kv(s, h, nope + v)};
            dkv_row[nope + v] += p * double{dout(t, h, v)};
          }
          const double ds = a.softmax_scale * p * (dp - row_dot);
          for (int64_t d = 0; d < nope; ++d) {
            dq_row[static_cast<size_t>(d)] += ds * double{kv(s, h, d)};
            dkv_row[d] += ds * double{q(t, h, d)};
          }
          for (int64_t d = 0; d < rope; ++d) {
            dq_row[static_cast<size_t>(nope + d)] += ds * double{k_rope(s, d)};
            dk_rope[static_cast<size_t>(s * rope + d)] += ds * double{q(t, h, nope + d)};
          }
        }
        for (int64_t d = 0; d < nope + rope; ++d) dq(t, h, d) = static_cast<T>(dq_row[static_cast<size_t>(d)]);
      }
    }
    const auto dkv_out = b.dkv.view<T, 3>();
    const auto dk_rope_out = b.dk_rope.view<T, 2>();
    for (int64_t s = 0; s < num_keys; ++s) {
      for (int64_t h = 0; h < heads; ++h) {
        for (int64_t i = 0; i < kv_width; ++i) {
          dkv_out(s, h, i) = static_cast<T>(dkv[static_cast<size_t>((s * heads + h) * kv_width + i)]);
        }
      }
      for (int64_t d = 0; d < rope; ++d) dk_rope_out(s, d) = static_cast<T>(dk_rope[static_cast<size_t>(s * rope + d)]);
    }
  });
}

void RefKernels::mla_absorb_query(Tensor q_nope, const Weight& kv_b, Tensor q_latent, Precision precision) {
  if (kv_b.scales) precision = Precision::kF32;
  on_real(q_nope, [&]<class T>(T) {
    const auto q = q_nope.view<const T, 3>();
    const auto out = q_latent.view<T, 3>();
    for (int64_t t = 0; t < q.extent(0); ++t) {
      for (int64_t h = 0; h < q.extent(1); ++h) {
        for (int64_t c = 0; c < out.extent(2); ++c) {
          double sum = 0;
          for (int64_t d = 0; d < q.extent(2); ++d) {
            sum += rounded(q(t, h, d), precision) * rounded(kv_b_at(kv_b, q.extent(1), h, d, c), precision);
          }
          out(t, h, c) = static_cast<T>(sum);
        }
      }
    }
  });
}

void RefKernels::mla_expand_value(Tensor o_latent, const Weight& kv_b, Tensor o, Precision precision) {
  const Precision weights = kv_b.scales ? Precision::kF32 : precision;  // codes are exact in BF16
  on_real(o_latent, [&]<class T>(T) {
    const auto latent = o_latent.view<const T, 3>();
    const auto out = o.view<T, 3>();
    const int64_t heads = latent.extent(1), nope = kv_b.out_features() / heads - out.extent(2);
    for (int64_t t = 0; t < latent.extent(0); ++t) {
      for (int64_t h = 0; h < heads; ++h) {
        for (int64_t v = 0; v < out.extent(2); ++v) {
          double sum = 0;
          for (int64_t c = 0; c < latent.extent(2); ++c) {
            sum += rounded(latent(t, h, c), precision) * rounded(kv_b_at(kv_b, heads, h, nope + v, c), weights);
          }
          out(t, h, v) = static_cast<T>(sum);
        }
      }
    }
  });
}

void RefKernels::mla_decode(const MlaDecodeArgs& a) {
  on_real(a.q_latent, [&]<class T>(T) {
    const auto q_latent = a.q_latent.view<const T, 3>();
    const auto q_rope = a.q_rope.view<const T, 3>();
    const auto out = a.out.view<T, 3>();
    const int64_t latent = q_latent.extent(2), rope = q_rope.extent(2);
    for (int64_t t = 0; t < q_latent.extent(0); ++t) {
      const LatentPages& pages = a.sequences[static_cast<size_t>(t)];
      const int64_t count = a.positions[static_cast<size_t>(t)] + 1;
      for (int64_t h = 0; h < q_latent.extent(1); ++h) {
        std::vector<double> score(static_cast<size_t>(count));
        double largest = -std::numeric_limits<double>::infinity(), sum = 0;
        for (int64_t s = 0; s < count; ++s) {
          double dot = 0;
          for (int64_t c = 0; c < latent; ++c) {
            dot += rounded(q_latent(t, h, c), a.precision) * rounded(latent_at(pages, s, c), a.precision);
          }
          for (int64_t d = 0; d < rope; ++d) {
            dot += rounded(q_rope(t, h, d), a.precision) * rounded(latent_at(pages, s, latent + d), a.precision);
          }
          score[static_cast<size_t>(s)] = dot * a.softmax_scale;
          largest = std::max(largest, score[static_cast<size_t>(s)]);
        }
        for (double& s : score) sum += s = std::exp(s - largest);
        for (int64_t c = 0; c < latent; ++c) {
          double o = 0;
          for (int64_t s = 0; s < count; ++s) {
            o += score[static_cast<size_t>(s)] * rounded(latent_at(pages, s, c), a.precision);
          }
          out(t, h, c) = static_cast<T>(o / sum);
        }
      }
    }
  });
}

void RefKernels::append_latents(Tensor latent, Tensor k_rope, std::span<const int64_t> positions,
                                const LatentPages& pages) {
  on_real(latent, [&]<class T>(T) {
    const auto c = latent.view<const T, 2>();
    const auto r = k_rope.view<const T, 2>();
    for (int64_t t = 0; t < c.extent(0); ++t) {
      const int64_t position = positions[static_cast<size_t>(t)];
      if (pages.dtype == DType::kE4M3) {
        std::vector<float> latent_row, rope_row;
        for (int64_t i = 0; i < c.extent(1); ++i) latent_row.push_back(static_cast<float>(c(t, i)));
        for (int64_t i = 0; i < r.extent(1); ++i) rope_row.push_back(static_cast<float>(r(t, i)));
        quantize_latent(latent_row, rope_row, E4M3Latent::of(pages, position));
        continue;
      }
      for (int64_t i = 0; i < c.extent(1); ++i) set_latent(pages, position, i, c(t, i));
      for (int64_t i = 0; i < r.extent(1); ++i) set_latent(pages, position, c.extent(1) + i, r(t, i));
    }
  });
}

void RefKernels::gather_latents(const LatentPages& pages, Tensor latent, Tensor k_rope) {
  on_real(latent, [&]<class T>(T) {
    const auto c = latent.view<T, 2>();
    const auto r = k_rope.view<T, 2>();
    for (int64_t s = 0; s < c.extent(0); ++s) {
      for (int64_t i = 0; i < c.extent(1); ++i) c(s, i) = static_cast<T>(latent_at(pages, s, i));
      for (int64_t i = 0; i < r.extent(1); ++i) r(s, i) = static_cast<T>(latent_at(pages, s, c.extent(1) + i));
    }
  });
}

}  // namespace fathom
