// The counting of op_bounds.h.
#include "kernels/op_bounds.h"

#include <algorithm>
#include <cmath>

#include "kernels/op_cases.h"

namespace fathom::op_cases {
namespace {

/// Additions of a sum of n numbers in 16 lanes and a tree of four steps.
double additions(int64_t n) { return static_cast<double>((n + 15) / 16 + 4); }

/// Softmax attention over the visible keys of each query and head, as prefill and decode both are. Operands in double:
/// q [T, H, depth], k [S, H, depth], v [S, H, value].
struct AttentionNumbers {
  int64_t num_queries = 0, num_keys = 0, num_heads = 0, depth = 0, value = 0;
  double scale = 0;
  std::vector<int64_t> visible = {};  // keys that a query sees
  std::vector<double> q = {}, k = {}, v = {};
  double of_probability = 0;                // 2^16: the level rounds probabilities to BF16 (kernels.h), 0 in FP32
  std::vector<double> dout = {}, out = {};  // for the backward alone
};

struct AttentionBounds {
  Bounds out, lse;    // [T, H, value], [T, H]
  Bounds dq, dk, dv;  // [T, H, depth], [S, H, depth], [S, H, value]
};

/// Forward, for key j: its score is a sum of `depth` products and a product with the scale, then exp(score - m):
///   e_j = (depth + 1) scale sum|q k| + |s_j| + (m - s_j) + kExp + 5 blocks
/// where (m - s_j) are the subtractions of the running maximum (a later maximum subtracts the rest) and each block may
/// multiply by one more exponential. With P the exact probabilities, an error e_j of a key moves the output by P_j e_j
/// |v_j| and, through the sum l, by P_j e_j of itself; l has 8 additions a block; o one a key and one a block; at the
/// end 1 / l, a product and ref's rounding.
/// Backward: p_j = exp(s_j - lse), dp_j = <dout, v_j>, delta = <dout, out>, ds_j = p_j (dp_j - delta), and from there
/// sums over keys (dq) and over queries and, for the rope key, heads (dk, dv).
AttentionBounds bounds_of_attention(const AttentionNumbers& a) {
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

}  // namespace

/// Units of the element itself: nothing cancels.
BoundsOf of_result(double roundings) {
  return [=](const Operands&, const Operands& after, const std::string& output) {
    const Block& b = after.blocks.at(output);
    Bounds bounds;
    for (int64_t i = 0; i < b.numel(); ++i) bounds.push_back(roundings * std::fabs(b.real(i)));
    return bounds;
  };
}

/// Of rms_norm: mean, mean + eps, its root r and two products. A level and ref may differ in the last place of a mean
/// whose double lies at a boundary: the mean by 2 units each way with the sum, r by half of that and 1, two products: 4
/// each, 8 together. Backward, with A = |r g dy| and B = |x| r^3 / D sum |g dy x|:
///   dx  r is 4 units between the two, r^3 12; products with g, dy and r 3; the sum D / 16 + 4 and a rounding of g dy;
///       pull and its product 2; the sum with dx 1; ref 1
///   dg  x r, 1 and the 4 of r; 64 additions and one a block; ref adds to FP32 per token
Bounds of_norm_backward(const Operands& before, const Operands&, const std::string& output) {
  const Block &x = before.blocks.at("x"), &gain = before.blocks.at("g"), &dy = before.blocks.at("dy");
  const Block& start = before.blocks.at(output);
  const int64_t width = gain.numel(), tokens = x.numel() / width;
  Bounds dx, dg(static_cast<size_t>(width));
  for (int64_t t = 0; t < tokens; ++t) {
    double squares = 0, dot = 0;
    for (int64_t d = 0; d < width; ++d) {
      const double v = x.real(t * width + d);
      squares += v * v, dot += std::fabs(gain.real(d) * dy.real(t * width + d) * v);
    }
    const double r = 1 / std::sqrt(squares / static_cast<double>(width) + 1e-6);
    for (int64_t d = 0; d < width; ++d) {
      const double v = std::fabs(x.real(t * width + d)), g = std::fabs(dy.real(t * width + d));
      const double a = r * std::fabs(gain.real(d)) * g, b = v * r * r * r / static_cast<double>(width) * dot;
      if (output == "dx") {
        dx.push_back((4 + 3 + 2) * a + (12 + additions(width) + 1 + 3 + 2) * b +
                     2 * std::fabs(start.real(t * width + d)));
      }
      dg[static_cast<size_t>(d)] += g * v * r;
    }
  }
  if (output == "dx") return dx;
  for (int64_t d = 0; d < width; ++d) {
    double& bound = dg[static_cast<size_t>(d)];
    const auto per_token = static_cast<double>(tokens), blocks = std::ceil(per_token / 64);
    bound = (5 + std::min(per_token, 64.0) + blocks + per_token + 1) * (bound + std::fabs(start.real(d)));
  }
  return dg;
}

/// s = sigmoid(g): exp, 1 + and 1 / give kExp (1 - s) + 2 units. dup = dh (g s): that, two products and ref.
/// dgate = dh up s (1 + g (1 - s)), relative to |dh up| s (1 + |g|), which the bracket cannot exceed: the outer s kExp
/// + 2; in the bracket s (kExp (1 - s) + 2) + (1 - s) <= 2.6 of |g|, and the fma; three products and ref.
Bounds of_swiglu_backward(const Operands& before, const Operands& after, const std::string& output) {
  if (output == "du") return of_result(kExp + 2 + 3)(before, after, output);
  Bounds bounds;
  for (int64_t i = 0; i < before.blocks.at("g").numel(); ++i) {
    const double g = before.blocks.at("g").real(i), s = 1 / (1 + std::exp(-g));
    const double product = std::fabs(before.blocks.at("dh").real(i) * before.blocks.at("u").real(i));
    bounds.push_back((kExp + 2 + 2.6 + 1 + 3 + 1) * product * s * (1 + std::fabs(g)));
  }
  return bounds;
}

/// The products with the weight are rounded alike; dw is a sum of `width` products.
Bounds of_weighed_rows(const Operands& before, const Operands& after, const std::string& output) {
  if (output != "dw") return of_result(0)(before, after, output);
  const Block &dh = before.blocks.at("dh"), &h = before.blocks.at("h");
  const int64_t rows = before.blocks.at("w").numel(), width = rows == 0 ? 0 : h.numel() / rows;
  Bounds bounds;
  for (int64_t t = 0; t < rows; ++t) {
    double sum = 0;
    for (int64_t d = 0; d < width; ++d) sum += std::fabs(dh.real(t * width + d) * h.real(t * width + d));
    bounds.push_back((additions(width) + 1) * sum);
  }
  return bounds;
}

/// x' = a c -+ b s: one rounding of b s, one of the fma, and ref's.
Bounds of_rope(const Operands& before, const Operands& after, const std::string&) {
  const Block &x = before.blocks.at("x"), &sines = before.blocks.at("sin"), &result = after.blocks.at("x");
  const Tensor shape = before.at("x");
  const int64_t per_token = shape.extent(1) * shape.extent(2), rope = shape.extent(2);
  Bounds bounds;
  for (int64_t i = 0; i < x.numel(); ++i) {
    const double s = sines.real(i / per_token * (rope / 2) + i % rope / 2);
    bounds.push_back(std::fabs(x.real(i ^ 1) * s) + 2 * std::fabs(result.real(i)));
  }
  return bounds;
}

namespace {

/// Softmax of one row: e_i = exp(z_i - m) is off by kExp and the subtraction's m - z_i, the sum of all by the mean of
/// that with their shares and by its additions.
struct SoftmaxRow {
  SoftmaxRow(const Block& z, int64_t row, int64_t width, int64_t terms) : p(static_cast<size_t>(width)), of_e(p) {
    double m = -INFINITY, sum = 0;
    for (int64_t i = 0; i < width; ++i) m = std::max(m, z.real(row * width + i));
    for (size_t i = 0; i < p.size(); ++i) {
      const double below = m - z.real(row * width + static_cast<int64_t>(i));
      sum += p[i] = std::exp(-below);
      of_e[i] = kExp + below;
    }
    of_sum = additions(terms);
    for (size_t i = 0; i < p.size(); ++i) of_sum += (p[i] /= sum) * of_e[i];
  }
  std::vector<double> p, of_e;
  double of_sum = 0;
};

}  // namespace

/// loss = m + log(sum) - z: of_sum, and a rounding each. dz = scale p: e, the sum, 1 / sum, a product, ref; at the
/// target scale (p - 1): p is e / sum. A sum runs over 2048 in FP32, over more in double.
Bounds of_cross_entropy(const Operands& before, const Operands& after, const std::string& output) {
  const Block &z = before.blocks.at("z"), &targets = before.blocks.at("target"), &result = after.blocks.at(output);
  const int64_t tokens = targets.numel(), width = tokens == 0 ? 0 : z.numel() / tokens;
  Bounds bounds;
  for (int64_t t = 0; t < tokens; ++t) {
    const SoftmaxRow row(z, t, width, std::min<int64_t>(width, 2048));
    const bool skipped = targets.real(t) < 0;
    if (output == "loss") bounds.push_back(skipped ? 0 : row.of_sum + 2 * std::fabs(result.real(t)));
    for (int64_t i = 0; i < width && output == "dz"; ++i) {
      const auto at = static_cast<size_t>(i);
      const double own = 2 * std::fabs(result.real(t * width + i));
      bounds.push_back(skipped ? 0 : kLossScale * row.p[at] * (row.of_e[at] + row.of_sum + 1) + own);
    }
  }
  return bounds;
}

/// Scores: softmax with a division, or sigmoid with exp, 1 + and 1 /; ref. Weights: a score, times a factor in double
/// that with norm_topk_prob has the sum of the chosen scores below it; a rounding each.
Bounds of_router(const RouterSpec& spec, const Operands& before, const Operands& after, const std::string& output) {
  const Block& z = before.blocks.at("z");
  const int64_t tokens = before.at("z").extent(0), experts = before.at("z").extent(1);
  Bounds bounds;
  if (output == "ids") return bounds;  // equal
  for (int64_t t = 0; t < tokens; ++t) {
    std::vector<double> of_score(static_cast<size_t>(experts), kExp + 3);
    if (!spec.sigmoid) {
      const SoftmaxRow row(z, t, experts, experts);
      for (size_t e = 0; e < of_score.size(); ++e) of_score[e] = row.of_e[e] + row.of_sum + 2;
    }
    if (output == "scores") {
      for (int64_t e = 0; e < experts; ++e) {
        bounds.push_back(of_score[static_cast<size_t>(e)] * after.blocks.at("scores").real(t * experts + e));
      }
      continue;
    }
    const Block &ids = after.blocks.at("ids"), &weights = after.blocks.at("weights");
    const int64_t chosen = spec.num_experts_per_tok;
    double of_chosen = 0;
    for (int64_t k = 0; k < chosen; ++k) {
      of_chosen = std::max(of_chosen, of_score[static_cast<size_t>(ids.real(t * chosen + k))]);
    }
    const double of_weight = (spec.norm_topk_prob ? 2 : 1) * of_chosen + 2;
    for (int64_t k = 0; k < chosen; ++k) bounds.push_back(of_weight * std::fabs(weights.real(t * chosen + k)));
  }
  return bounds;
}

/// What kBF16 rounds is rounded.
static double as_multiplied(double v, Precision p) {
  return p == Precision::kBF16 ? double{to_float(to_bf16(static_cast<float>(v)))} : v;
}

Bounds of_prefill(const PrefillShape& s, double scale, Precision precision, const Operands& before,
                  const Operands& after, const std::string& output) {
  AttentionNumbers a{.num_queries = s.t,
                     .num_keys = s.s,
                     .num_heads = s.h,
                     .depth = s.nope + s.rope,
                     .value = s.value,
                     .scale = scale,
                     .of_probability = precision == Precision::kBF16 ? 0x1p16 : 0};
  for (int64_t t = 0; t < s.t; ++t) a.visible.push_back(s.first + t + 1);
  const auto numbers = [&](const Operands& o, const char* name, int64_t i) {
    return as_multiplied(o.blocks.at(name).real(i), precision);
  };
  for (int64_t i = 0; i < s.t * s.h * a.depth; ++i) a.q.push_back(numbers(before, "q", i));
  const int64_t width = s.nope + s.value;
  for (int64_t j = 0; j < s.s * s.h; ++j) {
    for (int64_t d = 0; d < s.nope; ++d) a.k.push_back(numbers(before, "kv", j * width + d));
    for (int64_t d = 0; d < s.rope; ++d) a.k.push_back(numbers(before, "kr", j / s.h * s.rope + d));
    for (int64_t d = 0; d < s.value; ++d) a.v.push_back(numbers(before, "kv", j * width + s.nope + d));
  }
  if (output[0] == 'd') {
    for (int64_t i = 0; i < s.t * s.h * s.value; ++i) {
      a.dout.push_back(before.blocks.at("dout").real(i));
      a.out.push_back(after.blocks.at("out").real(i));
    }
  }
  const AttentionBounds b = bounds_of_attention(a);
  if (output == "out") return b.out;
  if (output == "lse") return b.lse;
  if (output == "dq") return b.dq;
  Bounds dkv, dkr(static_cast<size_t>(s.s * s.rope));
  for (int64_t j = 0; j < s.s * s.h; ++j) {
    const auto dk = b.dk.begin() + j * a.depth, dv = b.dv.begin() + j * s.value;
    dkv.insert(dkv.end(), dk, dk + s.nope);
    dkv.insert(dkv.end(), dv, dv + s.value);
    for (int64_t d = 0; d < s.rope; ++d) dkr[static_cast<size_t>(j / s.h * s.rope + d)] += dk[s.nope + d];
  }
  return output == "dkv" ? dkv : dkr;
}

std::vector<int64_t> positions_of_decode(int64_t num_tokens) {
  std::vector<int64_t> positions;
  for (int64_t t = 0; t < num_tokens; ++t) positions.push_back((t * 61 + 2) % 192);
  return positions;
}

/// The heads of a token are queries of one head: they share the keys, which are also the values.
Bounds of_decode(const Operands& before, const Operands& after, Precision precision) {
  const Tensor q = after.at("q"), latents = after.at("stored.latents"), keys = after.at("stored.keys");
  const int64_t tokens = q.extent(0), heads = q.extent(1), latent = q.extent(2), rope = keys.extent(1);
  AttentionNumbers a{.num_queries = tokens * heads,
                     .num_keys = latents.extent(0),
                     .num_heads = 1,
                     .depth = latent + rope,
                     .value = latent,
                     .scale = kDecodeScale,
                     .of_probability = precision == Precision::kBF16 ? 0x1p16 : 0};
  for (int64_t position : positions_of_decode(tokens)) {
    for (int64_t h = 0; h < heads; ++h) a.visible.push_back(position + 1);
  }
  const auto append = [&](std::vector<double>& to, const char* name, int64_t row, int64_t width) {
    const Block& b = before.blocks.at(name);
    for (int64_t d = 0; d < width; ++d) to.push_back(as_multiplied(b.real(row * width + d), precision));
  };
  for (int64_t i = 0; i < tokens * heads; ++i) append(a.q, "q", i, latent), append(a.q, "qr", i, rope);
  for (int64_t j = 0; j < a.num_keys; ++j) {
    append(a.k, "stored.latents", j, latent), append(a.k, "stored.keys", j, rope);
    append(a.v, "stored.latents", j, latent);
  }
  return bounds_of_attention(a).out;
}

}  // namespace fathom::op_cases
