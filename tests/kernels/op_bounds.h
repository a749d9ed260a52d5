// How far an operation's result may be from ref's where neither equal bits nor the bound of one sum apply. Each bound is
// counted: roundings of the level and of ref, each times what it is relative to (the condition of what follows), in
// units of 2^-24, which is the largest relative error of one rounding to FP32. ref computes in double and rounds once.
// Terms of second order (units of 2^-48) are not counted.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace fathom::op_cases {

struct Operands;

/// Units of 2^-24 per element of an output.
using Bounds = std::vector<double>;
/// From the operands before the operation and after ref's.
using BoundsOf = std::function<Bounds(const Operands& before, const Operands& after, const std::string& output)>;

/// exp of a level: within 2 ulp (kernels/cpu/level/simd.h), and an ulp is at most two units.
inline constexpr double kExp = 4;
/// Additions of a sum of n numbers in 16 lanes and a tree of four steps.
inline double additions(int64_t n) { return static_cast<double>((n + 15) / 16 + 4); }

/// Softmax attention over the visible keys of each query and head, as prefill and decode both are. Operands in double:
/// q [T, H, depth], k [S, H, depth], v [S, H, value].
struct AttentionNumbers {
  int64_t num_queries = 0, num_keys = 0, num_heads = 0, depth = 0, value = 0;
  double scale = 0;
  std::vector<int64_t> visible;  // keys that a query sees
  std::vector<double> q, k, v;
  double of_probability = 0;  // 2^16: the level rounds probabilities to BF16 (kernels.h), 0 in FP32
  std::vector<double> dout, out;  // for the backward alone
};

struct AttentionBounds {
  Bounds out, lse;     // [T, H, value], [T, H]
  Bounds dq, dk, dv;   // [T, H, depth], [S, H, depth], [S, H, value]
};

/// Forward, for key j: its score is a sum of `depth` products and a product with the scale, then exp(score - m):
///   e_j = (depth + 1) scale sum|q k| + |s_j| + (m - s_j) + kExp + 5 blocks
/// where (m - s_j) are the subtractions of the running maximum (a later maximum subtracts the rest) and each block may
/// multiply by one more exponential. With P the exact probabilities, an error e_j of a key moves the output by P_j e_j
/// |v_j| and, through the sum l, by P_j e_j of itself; l has 8 additions a block; o one a key and one a block; at the
/// end 1 / l, a product and ref's rounding.
/// Backward: p_j = exp(s_j - lse), dp_j = <dout, v_j>, delta = <dout, out>, ds_j = p_j (dp_j - delta), and from there
/// sums over keys (dq) and over queries and, for the rope key, heads (dk, dv).
inline AttentionBounds bounds_of_attention(const AttentionNumbers& a) {
  const auto n = [](int64_t i) { return static_cast<double>(i); };
  const int64_t T = a.num_queries, S = a.num_keys, H = a.num_heads, D = a.depth, V = a.value;
  AttentionBounds b;
  b.out.resize(static_cast<size_t>(T * H * V)), b.lse.resize(static_cast<size_t>(T * H));
  const bool backward = !a.dout.empty();
  if (backward) {
    b.dq.resize(static_cast<size_t>(T * H * D));
    b.dk.resize(static_cast<size_t>(S * H * D)), b.dv.resize(static_cast<size_t>(S * H * V));
  }
  std::vector<double> s(static_cast<size_t>(S)), error(s), p(s), magnitude(s);
  for (int64_t t = 0; t < T; ++t) {
    const int64_t keys = a.visible[static_cast<size_t>(t)];
    const double blocks = n((keys + 63) / 64);
    for (int64_t h = 0; h < H; ++h) {
      const double* q = a.q.data() + (t * H + h) * D;
      const auto k = [&](int64_t j) { return a.k.data() + (j * H + h) * D; };
      const auto v = [&](int64_t j) { return a.v.data() + (j * H + h) * V; };
      double m = -INFINITY, l = 0, mean_error = 0;
      for (int64_t j = 0; j < keys; ++j) {
        double dot = 0, sum = 0;
        for (int64_t d = 0; d < D; ++d) dot += q[d] * k(j)[d], sum += std::fabs(q[d] * k(j)[d]);
        s[j] = dot * a.scale, magnitude[j] = sum * a.scale;
        m = std::max(m, s[j]);
      }
      for (int64_t j = 0; j < keys; ++j) l += p[j] = std::exp(s[j] - m);
      for (int64_t j = 0; j < keys; ++j) {
        p[j] /= l;
        error[j] = (n(D) + 1) * magnitude[j] + std::fabs(s[j]) + (m - s[j]) + kExp + 5 * blocks;
        mean_error += p[j] * error[j];
      }
      const double of_sum = mean_error + 8 * blocks, lse = m + std::log(l), of_lse = of_sum + 2 * std::fabs(lse);
      double* out = b.out.data() + (t * H + h) * V;
      for (int64_t j = 0; j < keys; ++j) {
        for (int64_t d = 0; d < V; ++d) {
          out[d] += p[j] * std::fabs(v(j)[d]) * (error[j] + of_sum + n(keys) + blocks + 3 + a.of_probability);
        }
      }
      b.lse[static_cast<size_t>(t * H + h)] = of_lse;
      if (!backward) continue;
      const double *dout = a.dout.data() + (t * H + h) * V, *result = a.out.data() + (t * H + h) * V;
      double delta = 0, of_delta = 0;
      for (int64_t d = 0; d < V; ++d) {
        delta += std::fabs(dout[d] * result[d]);
        of_delta += std::fabs(dout[d]) * out[d];
      }
      for (int64_t j = 0; j < keys; ++j) {
        double dp = 0;
        for (int64_t d = 0; d < V; ++d) dp += std::fabs(dout[d] * v(j)[d]);
        const double of_p = (n(D) + 1) * magnitude[j] + std::fabs(s[j]) + std::fabs(s[j] - lse) + kExp + of_lse;
        const double ds = p[j] * (dp + delta), of_ds = (of_p + n(V) + 3) * ds + p[j] * of_delta;
        for (int64_t d = 0; d < D; ++d) {
          b.dq[(t * H + h) * D + d] += a.scale * std::fabs(k(j)[d]) * (of_ds + (n(keys) + 4) * ds);
          b.dk[(j * H + h) * D + d] += a.scale * std::fabs(q[d]) * (of_ds + (n(T * H) + 4) * ds);
        }
        for (int64_t d = 0; d < V; ++d) b.dv[(j * H + h) * V + d] += p[j] * std::fabs(dout[d]) * (of_p + n(T) + 2);
      }
    }
  }
  return b;
}

}  // namespace fathom::op_cases
