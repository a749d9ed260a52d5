// The loops of a level that walk rows: norms, activations, rotations, scores, roundings, loss and the optimizer. Each
// row's result depends on that row alone; sums run in 16 lanes and end in the fixed tree.
#include "kernels/cpu/level/latent_page.h"
#include "kernels/cpu/level/operands.h"
#include "kernels/cpu/level/ops.h"

namespace fathom::cpu::FATHOM_LEVEL {
namespace {

// (mean(x^2) + eps)^-1/2 with the roundings of the contract: squares are summed in double (16 lanes, then the tree; the
// squares themselves are exact there), mean and mean + eps are rounded to FP32, the root once.
float inverse_rms(const float* x, double eps, int64_t n) {
  double lane[kLanes] = {};
  each_vector(n, [&](int64_t i, int64_t lanes) {
    for (int64_t l = 0; l < lanes; ++l) {
      const auto v = static_cast<double>(x[i + l]);
      lane[l] += v * v;
    }
  });
  for (int64_t half = kLanes / 2; half > 0; half /= 2) {
    for (int64_t l = 0; l < half; ++l) lane[l] += lane[l + half];
  }
  const auto mean = static_cast<float>(lane[0] / static_cast<double>(n));
  return static_cast<float>(1.0 / __builtin_sqrt(static_cast<double>(mean + static_cast<float>(eps))));
}

// Not below -infinity even for an empty or NaN row; lanes past the end do not count.
float row_max(const float* x, int64_t n) {
  F32x16 largest = set1(-__builtin_inff());
  each_vector(n, [&](int64_t i, int64_t lanes) {
    const F32x16 v = load_n(x + i, lanes);
    largest = max(lanes == kLanes ? v : select(first_lanes(lanes), v, largest), largest);
  });
  return reduce_max(largest);
}

}  // namespace

void decode_row(const MatrixRef& w, int64_t n, int64_t begin, int64_t end, float* out) {
  with_row_type(w.stored, [&](auto type) {
    const auto row = decltype(type)::of(w, n);
    each_vector(end - begin, [&](int64_t i, int64_t lanes) { store_n(out + i, row.load(begin + i, lanes), lanes); });
  });
}

void decode_latent(const uint8_t* codes, const uint8_t* scales, int64_t n, float* out) {
  each_latent(codes, scales, n, [&](int64_t i, F32x16 x, int64_t lanes) { store_n(out + i, x, lanes); });
}

void copy_to_bf16(const float* x, uint16_t* y, int64_t n) {
  each_vector(n, [&](int64_t i, int64_t lanes) { store_bf16_n(y + i, load_n(x + i, lanes), lanes); });
}

void rms_norm_row(const float* x, const float* gain, double eps, float* y, int64_t n) {
  const F32x16 r = set1(inverse_rms(x, eps, n));
  each_vector(n, [&](int64_t i, int64_t lanes) {
    store_n(y + i, mul(mul(load_n(x + i, lanes), r), load_n(gain + i, lanes)), lanes);
  });
}

// With r = 1 / rms:  dx = r (g dy) - x r^3 / n sum_j g_j dy_j x_j.
float rms_norm_backward_row(const float* x, const float* gain, double eps, const float* dy, float* dx, bool accumulate,
                            int64_t n) {
  const float r = inverse_rms(x, eps, n);
  F32x16 sum = zero();
  each_vector(n, [&](int64_t i, int64_t lanes) {
    sum = fma(mul(load_n(gain + i, lanes), load_n(dy + i, lanes)), load_n(x + i, lanes), sum);
  });
  const double wide = static_cast<double>(r);
  const auto pull =
      static_cast<float>(-wide * wide * wide / static_cast<double>(n) * static_cast<double>(reduce_add(sum)));
  const F32x16 rs = set1(r), pulls = set1(pull);
  each_vector(n, [&](int64_t i, int64_t lanes) {
    const F32x16 push = mul(rs, mul(load_n(gain + i, lanes), load_n(dy + i, lanes)));
    const F32x16 g = fma(load_n(x + i, lanes), pulls, push);
    store_n(dx + i, accumulate ? add(load_n(dx + i, lanes), g) : g, lanes);
  });
  return r;
}

// Blocks of 64 tokens are summed first, then added: long batches lose less.
void rms_gain_backward(const float* x, int64_t x_stride, const float* dy, int64_t dy_stride, const float* r,
                       int64_t tokens, float* dgain, int64_t n) {
  each_vector(n, [&](int64_t i, int64_t lanes) {
    F32x16 total = load_n(dgain + i, lanes);
    for (int64_t t0 = 0; t0 < tokens; t0 += 64) {
      F32x16 sum = zero();
      for (int64_t t = t0; t < min_of(tokens, t0 + 64); ++t) {
        const F32x16 normed = mul(load_n(x + t * x_stride + i, lanes), set1(r[t]));
        sum = fma(load_n(dy + t * dy_stride + i, lanes), normed, sum);
      }
      total = add(total, sum);
    }
    store_n(dgain + i, total, lanes);
  });
}

void add_row(const float* x, float* y, int64_t n) {
  each_vector(
      n, [&](int64_t i, int64_t lanes) { store_n(y + i, add(load_n(y + i, lanes), load_n(x + i, lanes)), lanes); });
}

void round_row(float* x, int64_t n) {
  each_vector(n, [&](int64_t i, int64_t lanes) { store_n(x + i, round_bf16(load_n(x + i, lanes)), lanes); });
}

// (a, b) -> (a c - b s, a s + b c), s = sign * sine.
void rope_row(float* x, const float* cosines, const float* sines, float sign, int64_t width) {
  float alternate[16];
  for (int i = 0; i < 16; ++i) alternate[i] = i % 2 == 0 ? -sign : sign;
  const F32x16 turn = load(alternate);
  int64_t i = 0;
  for (; i + kLanes <= width; i += kLanes) {
    const F32x16 v = load(x + i), c = load_doubled(cosines + i / 2), s = load_doubled(sines + i / 2);
    store(x + i, fma(v, c, mul(swap_pairs(v), mul(s, turn))));
  }
  for (; i + 1 < width; i += 2) {
    const float c = cosines[i / 2], s = sines[i / 2], a = x[i], b = x[i + 1];
    x[i] = __builtin_fmaf(a, c, b * (s * -sign));
    x[i + 1] = __builtin_fmaf(b, c, a * (s * sign));
  }
}

void swiglu_row(const float* gate, const float* up, float* h, int64_t n) {
  each_vector(n, [&](int64_t i, int64_t lanes) {
    const F32x16 g = load_n(gate + i, lanes);
    store_n(h + i, mul(div(g, add(set1(1), exp(sub(zero(), g)))), load_n(up + i, lanes)), lanes);
  });
}

// d silu(g) = s (1 + g (1 - s)) with s = sigmoid(g).
void swiglu_backward_row(const float* gate, const float* up, const float* dh, float* dgate, float* dup, int64_t n) {
  each_vector(n, [&](int64_t i, int64_t lanes) {
    const F32x16 g = load_n(gate + i, lanes), d = load_n(dh + i, lanes), s = sigmoid(g);
    const F32x16 slope = mul(s, fma(g, sub(set1(1), s), set1(1)));
    const F32x16 to_gate = mul(mul(d, load_n(up + i, lanes)), slope);
    store_n(dgate + i, to_gate, lanes);
    store_n(dup + i, mul(d, mul(g, s)), lanes);
  });
}

void sigmoid_row(const float* z, float* s, int64_t n) {
  each_vector(n, [&](int64_t i, int64_t lanes) { store_n(s + i, sigmoid(load_n(z + i, lanes)), lanes); });
}

void softmax_row(const float* z, float* s, int64_t n) {
  const F32x16 largest = set1(row_max(z, n));
  F32x16 sum = zero();
  each_vector(n, [&](int64_t i, int64_t lanes) {
    const F32x16 e = exp(sub(load_n(z + i, lanes), largest));
    store_n(s + i, e, lanes);
    sum = add(sum, lanes == kLanes ? e : select(first_lanes(lanes), e, zero()));
  });
  const F32x16 total = set1(reduce_add(sum));
  each_vector(n, [&](int64_t i, int64_t lanes) { store_n(s + i, div(load_n(s + i, lanes), total), lanes); });
}

/// The power of two that is not below v (positive and normal).
static float round_up_to_power_of_two(float v) {
  uint32_t bits;
  __builtin_memcpy(&bits, &v, sizeof(bits));
  bits = (bits + 0x7FFFFF) & 0x7F800000;
  __builtin_memcpy(&v, &bits, sizeof(v));
  return v;
}

void quantize_row(const float* x, bool power_of_two, uint8_t* codes, float* scales, int64_t n) {
  for (int64_t begin = 0; begin < n; begin += 128) {
    const int64_t count = min_of(128, n - begin);
    F32x16 largest = zero();
    each_vector(count, [&](int64_t i, int64_t lanes) { largest = max(abs(load_n(x + begin + i, lanes)), largest); });
    const float amax = reduce_max(largest);
    float scale = (amax > 1e-4f ? amax : 1e-4f) / 448.0f;
    if (power_of_two) scale = round_up_to_power_of_two(scale);
    scales[begin / 128] = scale;
    each_vector(count, [&](int64_t i, int64_t lanes) {
      store_e4m3_partial(codes + begin + i, div(load_n(x + begin + i, lanes), set1(scale)), lanes);
    });
  }
}

// exp(z - max) is summed in FP32 over blocks of 2048, the blocks in double; its values wait in dlogits.
float cross_entropy_row(const float* logits, int64_t n, int64_t target, double gradient_scale, float* dlogits) {
  if (target < 0) {
    if (dlogits != nullptr) each_vector(n, [&](int64_t i, int64_t lanes) { store_n(dlogits + i, zero(), lanes); });
    return 0;
  }
  const auto chosen = static_cast<double>(logits[target]);
  const float largest = row_max(logits, n);
  double sum = 0;
  for (int64_t begin = 0; begin < n; begin += 2048) {
    F32x16 part = zero();
    each_vector(min_of(2048, n - begin), [&](int64_t i, int64_t lanes) {
      const F32x16 e = exp(sub(load_n(logits + begin + i, lanes), set1(largest)));
      if (dlogits != nullptr) store_n(dlogits + begin + i, e, lanes);
      part = add(part, lanes == kLanes ? e : select(first_lanes(lanes), e, zero()));
    });
    sum += static_cast<double>(reduce_add(part));
  }
  if (dlogits != nullptr) {
    const double p = static_cast<double>(dlogits[target]) / sum;
    const F32x16 factor = set1(static_cast<float>(gradient_scale / sum));
    each_vector(
        n, [&](int64_t i, int64_t lanes) { store_n(dlogits + i, mul(load_n(dlogits + i, lanes), factor), lanes); });
    dlogits[target] = static_cast<float>(gradient_scale * (p - 1));
  }
  return static_cast<float>(static_cast<double>(largest) + __builtin_log(sum) - chosen);
}

double sum_of_squares(const float* x, int64_t n) {
  F64x8 low = zero_f64(), high = zero_f64();
  each_vector(n, [&](int64_t i, int64_t lanes) {
    const F32x16 v = load_n(x + i, lanes);
    low = fma(low_f64(v), low_f64(v), low);
    high = fma(high_f64(v), high_f64(v), high);
  });
  return reduce_add(add(low, high));
}

// Not one fused operation: the moments are stored in BF16, so this arithmetic is part of the format.
void adamw(const AdamWNumbers& a, const float* grad, float* master, uint16_t* first, uint16_t* second, int64_t n) {
  const F32x16 beta1 = set1(a.beta1), beta2 = set1(a.beta2), rest1 = set1(1 - a.beta1), rest2 = set1(1 - a.beta2);
  each_vector(n, [&](int64_t i, int64_t lanes) {
    const F32x16 g = mul(load_n(grad + i, lanes), set1(a.scale));
    const F32x16 m = add(mul(beta1, load_bf16_n(first + i, lanes)), mul(rest1, g));
    const F32x16 v = add(mul(beta2, load_bf16_n(second + i, lanes)), mul(mul(rest2, g), g));
    store_bf16_n(first + i, m, lanes);
    store_bf16_n(second + i, v, lanes);
    const F32x16 update = div(mul(m, set1(a.correct1)), add(sqrt(mul(v, set1(a.correct2))), set1(a.epsilon)));
    const F32x16 old = load_n(master + i, lanes);
    store_n(master + i, sub(old, mul(set1(a.rate), add(update, mul(set1(a.decay), old)))), lanes);
  });
}

void combine_row(const CombineTask& t) {
  each_vector(t.width, [&](int64_t d, int64_t lanes) {
    F32x16 leaf[64];  // kMaxExpertsPerToken
    for (int64_t k = 0; k < t.count; ++k) {
      const F32x16 x = load_n(t.rows[k] + d, lanes);
      leaf[k] = t.weights != nullptr ? mul(set1(t.weights[k]), x) : x;
    }
    for (int64_t m = 0; m < t.num_merges; ++m) {
      const auto into = static_cast<uint8_t>(t.merges[2 * m]), from = static_cast<uint8_t>(t.merges[2 * m + 1]);
      leaf[into] = add(leaf[into], leaf[from]);
    }
    store_n(t.out + d, t.accumulate ? add(load_n(t.out + d, lanes), leaf[0]) : leaf[0], lanes);
  });
}

float weigh_row(float* dh, float* h, float w, int64_t n) {
  F32x16 sum = zero();
  const F32x16 ws = set1(w);
  each_vector(n, [&](int64_t i, int64_t lanes) {
    const F32x16 d = load_n(dh + i, lanes), v = load_n(h + i, lanes);
    sum = fma(d, v, sum);
    store_n(dh + i, mul(d, ws), lanes);
    store_n(h + i, mul(v, ws), lanes);
  });
  return reduce_add(sum);
}

}  // namespace fathom::cpu::FATHOM_LEVEL
