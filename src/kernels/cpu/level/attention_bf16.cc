// Attention forward of a level in BF16: both forms walk blocks of 64 absolute positions in order. Scores are computed
// transposed, K Q^T: keys are rows, queries (or heads of a generated token) lie in the lanes, so that the online
// softmax needs nothing across lanes. The probabilities, rounded and transposed once, are the rows of the second
// product, whose columns are the values as they lie, two keys interleaved. Sums, maxima and exponentials are FP32.
#include "kernels/cpu/level/attention_bf16.h"

#include "kernels/cpu/level/latent_page.h"
#include "kernels/cpu/level/micro.h"
#include "kernels/cpu/level/ops.h"

namespace fathom::cpu::FATHOM_LEVEL {
namespace {

/// One block of keys, ready to be multiplied.
struct KeyBlock {
  const XElement* k;  // rows
  int64_t k_stride;
  int64_t keys;   // that exist
  int64_t pairs;  // of the depth
};

/// Up to 32 queries (or heads), in the lanes, and their state. Column c sees the first `visible` + c keys of a block,
/// or `visible` keys where all see the same.
struct Queries {
  const uint16_t* panel;
  int64_t count;
  float *max, *sum, *out;  // out: rows of out_stride
  int64_t out_stride;
  XElement* p;     // their probabilities for one block: rows of the second product
  float* factors;  // what the output before that block is to be multiplied by
};

constexpr int64_t kProbabilityStride = kKeyBlock;
constexpr int64_t kProbabilities = (kColumns + kRowsRead) * kProbabilityStride;  // of a panel of queries

/// Cuts aligned pieces off a thread's scratch.
struct Cutter {
  uint8_t* at;
  template <class T>
  T* take(int64_t count) {
    auto* out = reinterpret_cast<T*>(at);
    at += round_up(count * static_cast<int64_t>(sizeof(T)), 64);
    return out;
  }
};

/// The online softmax of 16 columns over one block: scores (dots) become exp(score - max); the running maxima and sums
/// move on; factors are what the output so far is to be multiplied by. Where every score so far is -inf, nothing is
/// subtracted: the probabilities are 0 and so is the sum.
void softmax_columns(float* scores, int64_t keys, int64_t visible, float scale, float* max_at, float* sum_at,
                     float* factors) {
  const F32x16 nothing = set1(-__builtin_inff()), scales = set1(scale);
  F32x16 most[4] = {nothing, nothing, nothing, nothing};
  for (int64_t s = 0; s < kKeyBlock; ++s) {
    float* at = scores + s * kColumns;
    if (s >= keys) {
      store(at, nothing);
      continue;
    }
    F32x16 score = mul(load(at), scales);
    // Column c sees the keys s < visible + c.
    if (s >= visible) score = select(first_lanes(min_of(kLanes, s - visible + 1)), nothing, score);
    store(at, score);
    most[s % 4] = max(score, most[s % 4]);
  }
  const F32x16 before = load(max_at);
  const F32x16 next = max(max(max(most[0], most[1]), max(most[2], most[3])), before);
  const F32x16 base = select(less(nothing, next), next, zero());
  F32x16 sums[4] = {zero(), zero(), zero(), zero()};
  for (int64_t s = 0; s < kKeyBlock; s += 4) {
#pragma GCC unroll 4
    for (int64_t i = 0; i < 4; ++i) {
      float* at = scores + (s + i) * kColumns;
      const F32x16 p = exp(sub(load(at), base));
      store(at, p);
      sums[i] = add(sums[i], p);
    }
  }
  const F32x16 factor = exp(sub(before, base));
  store(factors, factor);
  store(max_at, next);
  store(sum_at, fma(load(sum_at), factor, add(add(sums[0], sums[1]), add(sums[2], sums[3]))));
}

/// Whether every value of a block is finite.
bool all_finite(const float* rows, int64_t stride, int64_t keys, int64_t width) {
  F32x16 none = zero();
  for (int64_t s = 0; s < keys; ++s) {
    each_vector(width, [&](int64_t c, int64_t lanes) {
      none = fma(round_bf16(load_n(rows + s * stride + c, lanes)), zero(), none);
    });
  }
  return reduce_add(none) == 0;
}

/// The first product and the softmax: probabilities and factors of some queries for a block. scores: [64 keys, 32]
void weigh_keys(const KeyBlock& block, const Queries& q, int64_t visible, float scale, float* scores,
                const ReadNext& next = kNothingNext) {
  multiply_scaled(block.k, block.k_stride, block.keys, q.panel, q.count, block.pairs, next,
                  {scores, kColumns, nullptr});
  for (int64_t c = 0; c < q.count; c += kLanes) {
    softmax_columns(scores + c, block.keys, visible + c, scale, q.max + c, q.sum + c, q.factors + c);
    fill_probabilities(scores + c, q.p + c * kProbabilityStride, kProbabilityStride);
  }
}

/// The second product for columns c .. c + 32 of `width`, whose panel is v: `rows` queries from `row` on.
void add_values(const Queries& q, int64_t row, int64_t rows, const uint16_t* v, int64_t keys, int64_t c, int64_t width,
                const ReadNext& next = kNothingNext) {
  multiply_scaled(q.p + row * kProbabilityStride, kProbabilityStride, rows, v, width - c, pairs_of(keys), next,
                  {q.out + row * q.out_stride + c, q.out_stride, q.factors + row});
}

/// Makes the values of the keys from `begin` on zero, in panels kKeyPanel apart.
void hide_values(uint16_t* panels, int64_t width, int64_t begin, int64_t end) {
  for (int64_t c = 0; c < width; c += kColumns) {
    for (int64_t s = begin; s < end; ++s) {
      uint16_t* pair = panels + c / kColumns * kKeyPanel + s / 2 * 2 * kColumns + s % 2;
      for (int64_t n = 0; n < kColumns; ++n) pair[2 * n] = 0;
    }
  }
}

/// The second product of a prompt's queries, all panels. `hide`: a value is not finite and some query does not see it;
/// times a probability of 0 it would still be NaN, so such queries are multiplied one by one, the last first, and what
/// each one does not see becomes 0 (the block is not used for later queries again).
void add_visible_values(const Queries& q, uint16_t* panels, int64_t keys, int64_t width, int64_t visible, bool hide) {
  const auto add = [&](int64_t row, int64_t rows) {
    for (int64_t c = 0; c < width; c += kColumns) {
      add_values(q, row, rows, panels + c / kColumns * kKeyPanel, keys, c, width);
    }
  };
  if (!hide || visible >= keys) {
    add(0, q.count);
    return;
  }
  for (int64_t row = q.count - 1, end = keys; row >= 0; --row) {
    const int64_t seen = max_of(0, min_of(end, visible + row));
    hide_values(panels, width, seen, end);
    end = seen;
    add(row, 1);
  }
}

void start(const Queries& q) {
  for (int64_t c = 0; c < round_up(q.count, kLanes); ++c) {
    q.max[c] = -__builtin_inff();
    q.sum[c] = 0;
  }
  for (int64_t c = 0; c < q.count; ++c) {
    for (int64_t d = 0; d < q.out_stride; d += kLanes) store(q.out + c * q.out_stride + d, zero());
  }
}

/// out = o / l. Adding 0 makes a zero positive: whether keys beyond a query's own were there cannot show in its sign.
void finish(const float* o, float l, float* out, int64_t width) {
  const F32x16 factor = set1(1.0f / l);
  each_vector(width, [&](int64_t d, int64_t lanes) {
    store_n(out + d, add(mul(load_n(o + d, lanes), factor), zero()), lanes);
  });
}

// Strides of rows in scratch: off the periods of the cache's sets.
int64_t x_stride(int64_t depth) { return round_up(depth, 32) + 32; }
int64_t out_stride(int64_t width) { return round_up(width, kColumns) + kLanes; }
int64_t num_panels(int64_t count) { return (count + kColumns - 1) / kColumns; }
int64_t panel_elements(int64_t depth) { return round_up(depth, 32) * kColumns; }

/// Bytes of the pieces that both forms need for `columns` queries (or heads) with `value_panels` panels of values: room
/// for the padding of each is included.
int64_t scratch_bytes(int64_t depth, int64_t value, int64_t columns, int64_t value_panels) {
  const int64_t panels = num_panels(columns), padded = panels * kColumns;
  return panels * panel_elements(depth) * 2 +
         (panels * kProbabilities + (kKeyBlock + kRowsRead) * x_stride(depth)) *
             static_cast<int64_t>(sizeof(XElement)) +
         value_panels * kKeyPanel * 2 +
         (kKeyBlock * kColumns + padded * (out_stride(value) + 3) + kColumns * x_stride(depth)) * 4 + 16 * 64;
}

/// The pieces of a thread's scratch for `columns` queries (or heads) of `depth` numbers over values of `value`.
struct Pieces {
  int64_t columns, panel_stride, row_stride, o_stride;
  uint16_t* q;    // panels of the queries
  XElement* k;    // a block's keys
  uint16_t* v;    // and its values
  float* scores;  // [64 keys, 32 columns], then exponentials
  XElement* p;    // probabilities, panel by panel
  float *o, *m, *l, *factors;
  float* rows;  // up to 32 rows on their way into a panel

  Pieces(Cutter& cutter, int64_t depth, int64_t value, int64_t count, int64_t value_panels)
      : columns(count), panel_stride(panel_elements(depth)), row_stride(x_stride(depth)), o_stride(out_stride(value)) {
    const int64_t panels = num_panels(count);
    q = cutter.take<uint16_t>(panels * panel_stride);
    k = cutter.take<XElement>((kKeyBlock + kRowsRead) * row_stride);
    v = cutter.take<uint16_t>(value_panels * kKeyPanel);
    scores = cutter.take<float>(kKeyBlock * kColumns);
    p = cutter.take<XElement>(panels * kProbabilities);
    o = cutter.take<float>(panels * kColumns * o_stride);
    m = cutter.take<float>(panels * kColumns);
    l = cutter.take<float>(panels * kColumns);
    factors = cutter.take<float>(panels * kColumns);
    rows = cutter.take<float>(kColumns * row_stride);
  }
  Queries queries(int64_t i) const {
    return {q + i * panel_stride,
            min_of(kColumns, columns - i * kColumns),
            m + i * kColumns,
            l + i * kColumns,
            o + i * kColumns * o_stride,
            o_stride,
            p + i * kProbabilities,
            factors + i * kColumns};
  }
};

}  // namespace

int64_t prefill_bf16_scratch_bytes(int64_t nope, int64_t rope, int64_t value) {
  return scratch_bytes(nope + rope, value, kQueryBlockBf16, num_panels(value));
}

void prefill_tile_bf16(const PrefillTask& t, int64_t head, int64_t query_begin, int64_t query_end, void* scratch) {
  const int64_t depth = t.nope + t.rope, queries = query_end - query_begin, panels = num_panels(queries);
  Cutter cutter{static_cast<uint8_t*>(scratch)};
  const Pieces in(cutter, depth, t.value, queries, num_panels(t.value));
  [[maybe_unused]] const Registers registers(kTileRows);
  for (int64_t i = 0; i < panels; ++i) {
    const Queries panel = in.queries(i);
    start(panel);
    for (int64_t n = 0; n < panel.count; ++n) {
      const float* from = t.q + (query_begin + i * kColumns + n) * t.q_token + head * t.q_head;
      float* to = in.rows + n * in.row_stride;
      pack(from, depth, to);
      for (int64_t d = round_up(depth, kLanes); d < round_up(depth, 32); d += kLanes) store(to + d, zero());
    }
    fill_columns([&](int64_t n) { return in.rows + n * in.row_stride; }, panel.count, depth,
                 in.q + i * in.panel_stride);
  }
  // The tail of the nope part is overwritten by the rope part, which starts where nope ends.
  const int64_t nope_padded = round_up(t.nope, kLanes);
  const bool is_aligned = nope_padded == t.nope;
  const int64_t last_position = t.first_position + query_end - 1;
  for (int64_t begin = 0; begin <= last_position; begin += kKeyBlock) {
    const int64_t keys = min_of(kKeyBlock, last_position + 1 - begin);
    const float* kv = t.kv + begin * t.kv_token + head * t.kv_head;
    const float* k_rope = t.k_rope + begin * t.k_rope_token;
    for (int64_t s = 0; s < keys; ++s) {
      XElement* row = in.k + s * in.row_stride;
      if (is_aligned) {
        fill_x(kv + s * t.kv_token, t.nope, t.nope, row);
        fill_x(k_rope + s * t.k_rope_token, t.rope, round_up(depth, 32) - t.nope, row + t.nope);
      } else {
        pack(kv + s * t.kv_token, t.nope, in.rows);
        pack(k_rope + s * t.k_rope_token, t.rope, in.rows + t.nope);
        fill_x(in.rows, depth, round_up(depth, 32), row);
      }
    }
    for (int64_t c = 0; c < t.value; c += kColumns) {
      fill_values(kv + t.nope + c, t.kv_token, keys, t.value - c, in.v + c / kColumns * kKeyPanel);
    }
    // How many keys the tile's first query sees; all of them see the whole block unless it is fewer.
    const int64_t first_visible = t.first_position + query_begin + 1 - begin;
    const bool hide = first_visible < keys && !all_finite(kv + t.nope, t.kv_token, keys, t.value);
    const KeyBlock block{in.k, in.row_stride, keys, pairs_of(depth)};
    for (int64_t i = panels - 1; i >= 0; --i) {
      const Queries panel = in.queries(i);
      const int64_t visible = first_visible + i * kColumns;
      if (visible + panel.count - 1 <= 0) break;
      weigh_keys(block, panel, visible, t.scale, in.scores);
      add_visible_values(panel, in.v, keys, t.value, visible, hide);
    }
  }
  for (int64_t i = 0; i < queries; ++i) {
    finish(in.o + i * in.o_stride, in.l[i], t.out + (query_begin + i) * t.out_token + head * t.out_head, t.value);
    if (t.lse != nullptr) {
      t.lse[(query_begin + i) * t.lse_token + head] =
          static_cast<float>(static_cast<double>(in.m[i]) + __builtin_log(static_cast<double>(in.l[i])));
    }
  }
}

int64_t decode_bf16_scratch_bytes(int64_t latent, int64_t rope, int64_t num_heads) {
  return scratch_bytes(latent + rope, latent, num_heads, 1) + round_up(kKeyBlock * (latent + rope) * 2, 64);
}

namespace {

/// The rows of a page as rows of x.
template <class T>
KeyBlock page_keys(const Pieces& in, const T* rows, int64_t keys, int64_t depth) {
#if FATHOM_BF16 != 0
  if constexpr (sizeof(T) == sizeof(XElement)) {
    if (depth % (2 * kPairStep) == 0) return {rows, depth, keys, pairs_of(depth)};  // a page has all its 64 rows
  }
#endif
  for (int64_t s = 0; s < keys; ++s) fill_x(rows + s * depth, depth, round_up(depth, 32), in.k + s * in.row_stride);
  return {in.k, in.row_stride, keys, pairs_of(depth)};
}

/// The step of all heads over one page. `next` is asked for meanwhile, evenly: half of it during each product of the
/// first heads.
template <class T>
void attend_page(const DecodeTask& t, const Pieces& in, const T* rows, int64_t keys, const ReadNext& next) {
  const int64_t depth = t.latent + t.rope, panels = num_panels(t.num_heads);
  const KeyBlock block = page_keys(in, rows, keys, depth);
  for (int64_t i = 0; i < panels; ++i) {
    weigh_keys(block, in.queries(i), keys, t.scale, in.scores, i == 0 ? next.part(0, 1, 2) : kNothingNext);
  }
  // 32 columns of the values, two keys interleaved, stay in the first cache for all heads.
  for (int64_t c = 0; c < t.latent; c += kColumns) {
    fill_values(rows + c, depth, keys, t.latent - c, in.v);
    const ReadNext share = next.part(1, 2, 2).part(c, min_of(c + kColumns, t.latent), t.latent);
    for (int64_t i = 0; i < panels; ++i) {
      const Queries q = in.queries(i);
      add_values(q, 0, q.count, in.v, keys, c, t.latent, i == 0 ? share : kNothingNext);
    }
  }
}

}  // namespace

void decode_heads_bf16(const DecodeTask& t, void* scratch) {
  const int64_t depth = t.latent + t.rope, panels = num_panels(t.num_heads);
  Cutter cutter{static_cast<uint8_t*>(scratch)};
  const Pieces in(cutter, depth, t.latent, t.num_heads, 1);
  auto* const decoded = cutter.take<uint16_t>(kKeyBlock * depth);  // an E4M3 page in BF16
  [[maybe_unused]] const Registers registers(kTileRows);
  for (int64_t i = 0; i < panels; ++i) {
    const Queries panel = in.queries(i);
    start(panel);
    for (int64_t n = 0; n < panel.count; ++n) {
      const int64_t h = i * kColumns + n;
      float* to = in.rows + n * in.row_stride;
      pack(t.q_latent + h * t.q_latent_head, t.latent, to);
      pack(t.q_rope + h * t.q_rope_head, t.rope, to + t.latent);
      each_vector(round_up(depth, 32) - depth,
                  [&](int64_t d, int64_t lanes) { store_n(to + depth + d, zero(), lanes); });
    }
    fill_columns([&](int64_t n) { return in.rows + n * in.row_stride; }, panel.count, depth,
                 in.q + i * in.panel_stride);
  }
  for (int64_t begin = t.begin; begin <= t.position; begin += kKeyBlock) {
    const int64_t keys = min_of(kKeyBlock, t.position + 1 - begin), last = t.position / kKeyBlock;
    const void *page = t.pages[begin / kKeyBlock], *next = t.pages[min_of(begin / kKeyBlock + 1, last)];
    if (t.stored == Stored::kE4M3) {
      const E4M3Page codes(page, t.latent, t.rope);
      codes.to_bf16(keys, decoded);
      attend_page(t, in, static_cast<const uint16_t*>(decoded), keys, {next, codes.num_bytes()});
    } else if (t.stored == Stored::kBF16) {
      attend_page(t, in, static_cast<const uint16_t*>(page), keys, {next, kKeyBlock * depth * 2});
    } else {
      attend_page(t, in, static_cast<const float*>(page), keys, {next, kKeyBlock * depth * 4});
    }
  }
  for (int64_t h = 0; h < t.num_heads; ++h) {
    if (t.max == nullptr) {
      finish(in.o + h * in.o_stride, in.l[h], t.out + h * t.out_head, t.latent);
      continue;
    }
    t.max[h] = in.m[h];
    t.sum[h] = in.l[h];
    each_vector(t.latent, [&](int64_t d, int64_t lanes) {
      store_n(t.out + h * t.out_head + d, load_n(in.o + h * in.o_stride + d, lanes), lanes);
    });
  }
}

// With m = max_i m_i and w_i = exp(m_i - m):  out = (sum_i w_i o_i) / (sum_i w_i l_i), both in order of i. One part has
// w = 1: its own bits.
void merge_parts(const MergeTask& t) {
  float m = -__builtin_inff();
  for (int64_t i = 0; i < t.count; ++i) m = t.max[i * t.step] > m ? t.max[i * t.step] : m;
  const auto weight = [&](int64_t i) { return exp(sub(set1(t.max[i * t.step]), set1(m > -__builtin_inff() ? m : 0))); };
  F32x16 sum = zero();
  for (int64_t i = 0; i < t.count; ++i) sum = fma(weight(i), set1(t.sum[i * t.step]), sum);
  each_vector(t.width, [&](int64_t d, int64_t lanes) { store_n(t.out + d, zero(), lanes); });
  for (int64_t i = 0; i < t.count; ++i) {
    const F32x16 w = weight(i);
    each_vector(t.width, [&](int64_t d, int64_t lanes) {
      store_n(t.out + d, fma(w, load_n(t.partial + i * t.partial_step + d, lanes), load_n(t.out + d, lanes)), lanes);
    });
  }
  float sums[16];
  store(sums, sum);
  finish(t.out, sums[0], t.out, t.width);
}

}  // namespace fathom::cpu::FATHOM_LEVEL
