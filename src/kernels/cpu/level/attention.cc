// Attention forward of a level: the naive form for prompts, and the absorbed form for generated tokens, which reads the
// latent pages themselves. Both walk blocks of 64 absolute positions in order with an online softmax; a query's result
// depends on the keys up to its own position alone, so chunking a prompt cannot change a bit.
#include "kernels/cpu/level/latent_page.h"
#include "kernels/cpu/level/micro.h"
#include "kernels/cpu/level/ops.h"

namespace fathom::cpu::FATHOM_LEVEL {
namespace {

/// One block's step of the online softmax for one query: scores (dots) become exp(score - m), the running maximum m and
/// sum l and the unnormalised output o move on. Only the first `count` keys exist.
void softmax_step(float* scores, int64_t count, float scale, float& m, float& l, float* o, int64_t width) {
  F32x16 s[4], largest = set1(-__builtin_inff());
  for (int64_t v = 0; v < 4; ++v) {
    s[v] = select(first_lanes(min_of(kLanes, count - v * kLanes > 0 ? count - v * kLanes : 0)),
                  mul(load(scores + v * kLanes), set1(scale)), set1(-__builtin_inff()));
    largest = max(s[v], largest);
  }
  const float block = reduce_max(largest), next = block > m ? block : m;
  F32x16 sum = zero();
  for (int64_t v = 0; v < 4; ++v) {
    const F32x16 p = exp(sub(s[v], set1(next)));
    store(scores + v * kLanes, p);
    sum = add(sum, p);
  }
  const float block_sum = reduce_add(sum);
  if (next == m) {  // the correction is e^0 = 1, and times 1 is the same bits
    l = l + block_sum;
    return;
  }
  float corrections[16];
  store(corrections, exp(set1(m - next)));
  l = __builtin_fmaf(l, corrections[0], block_sum);
  m = next;
  const F32x16 factor = set1(corrections[0]);
  for (int64_t d = 0; d < width; d += kLanes) store(o + d, mul(load(o + d), factor));
}

}  // namespace

int64_t prefill_scratch_floats(int64_t nope, int64_t rope, int64_t value) {
  const int64_t score = panel_stride(kKeyBlock), val = panel_stride(value);
  return (nope + rope + kQueryBlock) * score + (kQueryBlock + kKeyBlock) * val + 2 * kQueryBlock;
}

void prefill_tile(const PrefillTask& t, int64_t head, int64_t query_begin, int64_t query_end, float* scratch) {
  const int64_t depth = t.nope + t.rope, queries = query_end - query_begin;
  const int64_t value_stride = panel_stride(t.value), value_width = round_up(t.value, kLanes);
  const int64_t score_stride = panel_stride(kKeyBlock);
  const float* q = t.q + query_begin * t.q_token + head * t.q_head;
  float* k = scratch;  // transposed: [depth, keys]
  float* v = k + depth * score_stride;
  float* o = v + kKeyBlock * value_stride;
  float* scores = o + kQueryBlock * value_stride;
  float* m = scores + kQueryBlock * score_stride;
  float* l = m + kQueryBlock;
  for (int64_t i = 0; i < queries; ++i) {
    for (int64_t d = 0; d < value_width; d += kLanes) store(o + i * value_stride + d, zero());
    m[i] = -__builtin_inff();
    l[i] = 0;
  }
  const int64_t last_position = t.first_position + query_end - 1;
  for (int64_t begin = 0; begin <= last_position; begin += kKeyBlock) {
    const int64_t keys = min_of(kKeyBlock, last_position + 1 - begin);
    const float* kv = t.kv + begin * t.kv_token + head * t.kv_head;
    pack_transposed(kv, t.kv_token, keys, t.nope, k, score_stride);
    pack_transposed(t.k_rope + begin * t.k_rope_token, t.k_rope_token, keys, t.rope, k + t.nope * score_stride,
                    score_stride);
    for (int64_t s = 0; s < keys; ++s) pack(kv + s * t.kv_token + t.nope, t.value, v + s * value_stride);
    // The first query of the tile that sees a key of this block, and how many keys each one sees.
    const int64_t first = begin - t.first_position - query_begin > 0 ? begin - t.first_position - query_begin : 0;
    const auto visible = [&](int64_t i) { return min_of(keys, t.first_position + query_begin + i + 1 - begin); };
    score_block(q + first * t.q_token, t.q_token, queries - first, k, score_stride, depth, keys, visible(first),
                scores + first * score_stride, score_stride);
    for (int64_t i = first; i < queries; ++i) {
      softmax_step(scores + i * score_stride, visible(i), t.scale, m[i], l[i], o + i * value_stride, value_width);
    }
    const int64_t group = visible(first) == keys ? kQueryBlock : 4;  // all at once when all see the whole block
    for (int64_t i = first; i < queries; i += group) {
      // Together over the keys that all of these queries see, then each over its own rest: a key that a query does not
      // see must not even add a zero to it.
      const int64_t rows = min_of(group, queries - i), common = visible(i);
      sum_block(scores + i * score_stride, score_stride, 1, rows, PanelRows{v, value_stride}, common, 0, value_width,
                o + i * value_stride, value_stride);
      for (int64_t r = i + 1; r < i + rows && common < keys; ++r) {
        sum_block(scores + r * score_stride + common, score_stride, 1, 1,
                  PanelRows{v + common * value_stride, value_stride}, visible(r) - common, 0, value_width,
                  o + r * value_stride, value_stride);
      }
    }
  }
  for (int64_t i = 0; i < queries; ++i) {
    const F32x16 factor = set1(1.0f / l[i]);
    float* out = t.out + (query_begin + i) * t.out_token + head * t.out_head;
    each_vector(t.value, [&](int64_t d, int64_t lanes) {
      store_n(out + d, mul(load(o + i * value_stride + d), factor), lanes);
    });
    if (t.lse != nullptr) {
      t.lse[(query_begin + i) * t.lse_token + head] =
          static_cast<float>(static_cast<double>(m[i]) + __builtin_log(static_cast<double>(l[i])));
    }
  }
}

int64_t decode_scratch_floats(int64_t latent, int64_t rope, int64_t num_heads) {
  const int64_t width = panel_stride(key_width(latent, rope)), out = panel_stride(latent);
  return (num_heads + kKeyBlock) * width + num_heads * (out + panel_stride(kKeyBlock) + 2);
}

void decode_heads(const DecodeTask& t, float* scratch) {
  const int64_t depth = key_width(t.latent, t.rope), rope_at = round_up(t.latent, kLanes);
  const int64_t stride = panel_stride(depth), out_stride = panel_stride(t.latent), out_width = rope_at;
  const int64_t score_stride = panel_stride(kKeyBlock);
  float* q = scratch;
  float* page = q + t.num_heads * stride;
  float* o = page + kKeyBlock * stride;
  float* scores = o + t.num_heads * out_stride;
  float* m = scores + t.num_heads * score_stride;
  float* l = m + t.num_heads;
  for (int64_t h = 0; h < t.num_heads; ++h) {
    pack(t.q_latent + h * t.q_latent_head, t.latent, q + h * stride);
    pack(t.q_rope + h * t.q_rope_head, t.rope, q + h * stride + rope_at);
    for (int64_t d = 0; d < out_width; d += kLanes) store(o + h * out_stride + d, zero());
    m[h] = -__builtin_inff();
    l[h] = 0;
  }
  const int64_t width = t.latent + t.rope;
  const bool in_place = t.stored == Stored::kF32 && t.latent % kLanes == 0 && t.rope % kLanes == 0;
  for (int64_t begin = 0; begin <= t.position; begin += kKeyBlock) {
    const int64_t keys = min_of(kKeyBlock, t.position + 1 - begin);
    const void* source = t.pages[begin / kKeyBlock];
    const float* rows = page;
    int64_t row_stride = stride;
    if (in_place) {
      rows = static_cast<const float*>(source);
      row_stride = width;
    } else if (t.stored == Stored::kF32) {
      for (int64_t s = 0; s < keys; ++s) {
        pack(static_cast<const float*>(source) + s * width, t.latent, page + s * stride);
        pack(static_cast<const float*>(source) + s * width + t.latent, t.rope, page + s * stride + rope_at);
      }
    } else if (t.stored == Stored::kE4M3) {
      const E4M3Page from(source, t.latent, t.rope);
      for (int64_t s = 0; s < keys; ++s) {
        float* out = page + s * stride;
        from.each_latent_of(s, [&](int64_t i, F32x16 x, int64_t) { store(out + i, x); });
        each_vector(t.rope, [&](int64_t i, int64_t lanes) {
          store(out + rope_at + i, load_bf16_n(from.rope + s * t.rope + i, lanes));
        });
      }
    } else {
      for (int64_t s = 0; s < keys; ++s) {
        const uint16_t* row = static_cast<const uint16_t*>(source) + s * width;
        float* out = page + s * stride;
        each_vector(t.latent, [&](int64_t i, int64_t lanes) { store(out + i, load_bf16_n(row + i, lanes)); });
        each_vector(t.rope, [&](int64_t i, int64_t lanes) {
          store(out + rope_at + i, load_bf16_n(row + t.latent + i, lanes));
        });
      }
    }
    dot_block(q, stride, t.num_heads, rows, row_stride, keys, depth, scores, score_stride);
    for (int64_t h = 0; h < t.num_heads; ++h) {
      softmax_step(scores + h * score_stride, keys, t.scale, m[h], l[h], o + h * out_stride, out_width);
    }
    sum_block(scores, score_stride, 1, t.num_heads, PanelRows{rows, row_stride}, keys, 0, out_width, o, out_stride);
  }
  for (int64_t h = 0; h < t.num_heads; ++h) {
    const F32x16 factor = set1(1.0f / l[h]);
    each_vector(t.latent, [&](int64_t d, int64_t lanes) {
      store_n(t.out + h * t.out_head + d, mul(load(o + h * out_stride + d), factor), lanes);
    });
  }
}

void absorb(const AbsorbTask& t) {
  // One token waits for memory: as much of a row at once as registers hold, rows asked for before their turn.
  constexpr int kWide = FATHOM_SIMD_BITS == 512 ? 16 : 4;
  constexpr int64_t kRowsAhead = 16;
  with_row_type(t.w.stored, [&](auto type) {
    const auto row = [&](int64_t d) { return decltype(type)::of(t.w, d); };
    int64_t begin = t.column_begin;
    for (; t.num_tokens == 1 && begin + kWide * kLanes <= t.column_end; begin += kWide * kLanes) {
      const auto asked = [&](int64_t d) {
        const auto* ahead = row(min_of(d + kRowsAhead, t.nope - 1)).at + begin;
#pragma GCC unroll 16
        for (int64_t i = 0; i < kWide * kLanes; i += 64 / sizeof(*ahead)) __builtin_prefetch(ahead + i, 0, 2);
        return row(d);
      };
      sum_tile<1, kWide>(t.q, t.q_token, 1, asked, t.nope, begin, kWide * kLanes, t.out, t.out_token, Start::kAssign);
    }
    sum_block(t.q, t.q_token, 1, t.num_tokens, row, t.nope, begin, t.column_end, t.out, t.out_token, Start::kAssign);
  });
}

}  // namespace fathom::cpu::FATHOM_LEVEL
