// Backward of naive attention for one head. With P = exp(S - lse), D = rowsum(dO O):  dV = P^T dO,
// dS = scale P (dO V^T - D),  dq = dS k,  dk = dS^T q. Blocks of 64 queries times 64 keys; every key's gradient is
// summed over the queries in their order and every query's over the keys in theirs, by the one thread that has the
// head.
#include "kernels/cpu/level/micro.h"
#include "kernels/cpu/level/ops.h"

namespace fathom::cpu::FATHOM_LEVEL {
namespace {

void clear(float* x, int64_t n) {
  each_vector(n, [&](int64_t i, int64_t lanes) { store_n(x + i, zero(), lanes); });
}

}  // namespace

int64_t prefill_backward_scratch_floats(int64_t nope, int64_t rope, int64_t value) {
  const int64_t key = panel_stride(key_width(nope, rope)), val = panel_stride(value), score = panel_stride(kKeyBlock);
  return kQueryBlock * (2 * key + val) + kKeyBlock * key + (nope + rope + value) * score + 2 * kQueryBlock * score +
         2 * kQueryBlock;
}

void prefill_backward_head(const PrefillBackwardTask& b, int64_t head, float* scratch) {
  const PrefillTask& t = b.forward;
  const int64_t depth = key_width(t.nope, t.rope), rope_at = round_up(t.nope, kLanes);
  const int64_t key_stride = panel_stride(depth), value_stride = panel_stride(t.value);
  const int64_t score_stride = panel_stride(kKeyBlock);
  float* q = scratch;
  float* dq = q + kQueryBlock * key_stride;
  float* dout = dq + kQueryBlock * key_stride;
  float* k = dout + kQueryBlock * value_stride;
  float* k_transposed = k + kKeyBlock * key_stride;
  float* v_transposed = k_transposed + (t.nope + t.rope) * score_stride;
  float* p = v_transposed + t.value * score_stride;
  float* ds = p + kQueryBlock * score_stride;
  float* row_dot = ds + kQueryBlock * score_stride;
  float* lse = row_dot + kQueryBlock;

  float* dk_rope = b.dk_rope_heads + head * b.num_keys * t.rope;
  clear(dk_rope, b.num_keys * t.rope);
  for (int64_t s = 0; s < b.num_keys; ++s) clear(b.dkv + s * b.dkv_token + head * b.dkv_head, t.nope + t.value);

  for (int64_t query_begin = 0; query_begin < t.num_queries; query_begin += kQueryBlock) {
    const int64_t queries = min_of(kQueryBlock, t.num_queries - query_begin);
    for (int64_t i = 0; i < queries; ++i) {
      const int64_t query = query_begin + i;
      const float* row = t.q + query * t.q_token + head * t.q_head;
      const float* grad = b.dout + query * b.dout_token + head * b.dout_head;
      const float* out = t.out + query * t.out_token + head * t.out_head;
      pack(row, t.nope, q + i * key_stride);
      pack(row + t.nope, t.rope, q + i * key_stride + rope_at);
      pack(grad, t.value, dout + i * value_stride);
      clear(dq + i * key_stride, depth);
      F32x16 sum = zero();
      each_vector(t.value,
                  [&](int64_t d, int64_t lanes) { sum = fma(load_n(grad + d, lanes), load_n(out + d, lanes), sum); });
      row_dot[i] = reduce_add(sum);
      lse[i] = t.lse[query * t.lse_token + head];
    }
    for (int64_t begin = 0; begin < query_begin + queries; begin += kKeyBlock) {
      const int64_t keys = min_of(kKeyBlock, query_begin + queries - begin);
      const float* kv = t.kv + begin * t.kv_token + head * t.kv_head;
      const float* k_rope = t.k_rope + begin * t.k_rope_token;
      for (int64_t s = 0; s < keys; ++s) {
        pack(kv + s * t.kv_token, t.nope, k + s * key_stride);
        pack(k_rope + s * t.k_rope_token, t.rope, k + s * key_stride + rope_at);
      }
      pack_transposed(kv, t.kv_token, keys, t.nope, k_transposed, score_stride);
      pack_transposed(k_rope, t.k_rope_token, keys, t.rope, k_transposed + t.nope * score_stride, score_stride);
      pack_transposed(kv + t.nope, t.kv_token, keys, t.value, v_transposed, score_stride);
      const auto visible = [&](int64_t i) { return min_of(keys, query_begin + i + 1 - begin); };
      score_block(t.q + query_begin * t.q_token + head * t.q_head, t.q_token, queries, k_transposed, score_stride,
                  t.nope + t.rope, keys, visible(0), p, score_stride);
      score_block(dout, value_stride, queries, v_transposed, score_stride, t.value, keys, visible(0), ds, score_stride);
      for (int64_t i = 0; i < queries; ++i) {
        const int64_t seen = visible(i);
        each_vector(keys, [&](int64_t s, int64_t lanes) {
          const int64_t here = seen - s < 0 ? 0 : min_of(lanes, seen - s);
          float* pi = p + i * score_stride + s;
          float* di = ds + i * score_stride + s;
          const F32x16 prob = select(first_lanes(here), exp(fma(load(pi), set1(t.scale), set1(-lse[i]))), zero());
          const F32x16 grad = mul(mul(set1(t.scale), prob), sub(load(di), set1(row_dot[i])));
          store(pi, prob);
          store(di, select(first_lanes(here), grad, zero()));
        });
      }
      // On the diagonal: groups of four queries up to the last key that one of them sees, and groups of four keys from
      // the first query that sees one of them. Below it everything is seen.
      const int64_t group = visible(0) == keys ? kKeyBlock : 4;
      for (int64_t i = 0; i < queries; i += group) {
        const int64_t rows = min_of(group, queries - i);
        sum_block(ds + i * score_stride, score_stride, 1, rows, PanelRows{k, key_stride}, visible(i + rows - 1), 0,
                  depth, dq + i * key_stride, key_stride);
      }
      for (int64_t s = 0; s < keys; s += group) {
        const int64_t rows = min_of(group, keys - s), first = begin + s > query_begin ? begin + s - query_begin : 0;
        const int64_t count = queries - first, at = first * score_stride + s;
        const PanelRows qs = {q + first * key_stride, key_stride}, ropes = {qs.data + rope_at, key_stride};
        float* dkv = b.dkv + (begin + s) * b.dkv_token + head * b.dkv_head;
        sum_block(ds + at, 1, score_stride, rows, qs, count, 0, t.nope, dkv, b.dkv_token);
        sum_block(p + at, 1, score_stride, rows, PanelRows{dout + first * value_stride, value_stride}, count, 0,
                  t.value, dkv + t.nope, b.dkv_token);
        sum_block(ds + at, 1, score_stride, rows, ropes, count, 0, t.rope, dk_rope + (begin + s) * t.rope, t.rope);
      }
    }
    for (int64_t i = 0; i < queries; ++i) {
      float* out = b.dq + (query_begin + i) * b.dq_token + head * b.dq_head;
      const float* in = dq + i * key_stride;
      each_vector(t.nope, [&](int64_t d, int64_t lanes) { store_n(out + d, load(in + d), lanes); });
      each_vector(t.rope, [&](int64_t d, int64_t lanes) { store_n(out + t.nope + d, load(in + rope_at + d), lanes); });
    }
  }
}

}  // namespace fathom::cpu::FATHOM_LEVEL
