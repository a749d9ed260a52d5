#include "model/mla.h"

#include <algorithm>
#include <numeric>
#include <vector>

#include "model/linear.h"
#include "numerics/fp8.h"

namespace fathom {
namespace {

Tensor as_heads(Tensor x) { return x.split_last(1, x.extent(x.rank - 1)); }  // [T, R] -> [T, 1, R]

// The rows of heads [begin, begin + count) of kv_b.
Weight heads_of(const Weight& kv_b, int64_t rows_per_head, int64_t begin, int64_t count) {
  Weight w = kv_b;
  w.codes = kv_b.codes.rows(begin * rows_per_head, count * rows_per_head);
  if (kv_b.scales) {
    check(begin * rows_per_head % kScaleBlock == 0, "a part of a weight begins with a block of scales");
    w.scales = kv_b.scales.rows(begin * rows_per_head / kScaleBlock, num_scale_blocks(count * rows_per_head));
  }
  return w;
}

/// The rows that ask, all of them without `rows`: in the order of q, so those of absorbed segments come first.
std::vector<Queries> queries_of(std::span<const Segment> segments, const std::vector<int32_t>* rows) {
  std::vector<Queries> out;
  size_t next = 0;
  int64_t asked = 0;
  for (const Segment& segment : segments) {
    if (rows == nullptr) {
      out.push_back({.segment = &segment, .first = 0, .count = segment.count, .row = segment.row});
      continue;
    }
    const int64_t end = segment.row + segment.count;
    while (next < rows->size() && (*rows)[next] < end) {
      Queries queries{.segment = &segment, .first = (*rows)[next] - segment.row, .count = 0, .row = asked};
      check(queries.first >= 0, "rows that are read are in ascending order");
      for (; next < rows->size() && (*rows)[next] < end; ++next, ++queries.count) {
        if ((*rows)[next] != segment.row + queries.first + queries.count) break;
      }
      asked += queries.count;
      out.push_back(queries);
    }
  }
  return out;
}

/// Rows of x, one after the other; x itself without `rows`.
Tensor rows_of(const Run& run, Tensor x, const std::vector<int32_t>* rows) {
  if (rows == nullptr) return x;
  const Tensor out = run.make({std::ssize(*rows), x.extent(1)});
  run.k.gather_rows(x, *rows, out);
  return out;
}

}  // namespace

void Mla::forward(const Run& run, Tensor x, const AttentionContext& context, Tensor out, MlaSaved* saved,
                  const std::vector<int32_t>* rows) const {
  check(rows == nullptr || saved == nullptr, "what is saved has all rows");
  const int64_t T = x.extent(0), H = config_.num_attention_heads, Dn = config_.qk_nope_head_dim,
                R = config_.qk_rope_head_dim, C = config_.kv_lora_rank, Dv = config_.v_head_dim;
  const Tensor kv_raw = run.make({T, C + R});
  linear(run, x, w_.kv_a, kv_raw);  // eq. 1, 3
  const Tensor k_rope = kv_raw.slice(1, C, R);
  run.k.rope(as_heads(k_rope), context.rotary.cos, context.rotary.sin, RopeDirection::kForward);
  const Tensor latent = run.make({T, C});
  run.k.rms_norm(kv_raw.slice(1, 0, C), w_.kv_a_norm.value.codes, config_.rms_norm_eps, latent);
  if (run.precision == Precision::kBF16) {  // what a BF16 cache would hold, so that training and prefill see the same
    run.k.round_to_bf16(latent);
    run.k.round_to_bf16(k_rope);
  }
  for (const Segment& segment : context.segments) {
    if (segment.pages.empty()) continue;
    std::vector<int64_t> positions(static_cast<size_t>(segment.count));
    std::iota(positions.begin(), positions.end(), segment.first_position);
    run.k.append_latents(latent.rows(segment.row, segment.count), k_rope.rows(segment.row, segment.count), positions,
                         segment.pages[static_cast<size_t>(context.layer)]);
  }

  const Tensor asking = rows_of(run, x, rows);
  const int64_t num_asking = asking.extent(0);
  if (num_asking == 0) return;
  Tensor q_raw, c_q;
  const Tensor q = run.make({num_asking, H, Dn + R});
  if (w_.q_b) {
    q_raw = run.make({num_asking, config_.q_lora_rank});
    c_q = run.make({num_asking, config_.q_lora_rank});
    linear(run, asking, w_.q_a, q_raw);  // eq. 6
    run.k.rms_norm(q_raw, w_.q_a_norm.value.codes, config_.rms_norm_eps, c_q);
    linear(run, c_q, w_.q_b, q.join_last());  // eq. 7, 8
  } else {
    linear(run, asking, w_.q_a, q.join_last());
  }
  run.k.rope(q.slice(2, Dn, R), rows_of(run, context.rotary.cos, rows), rows_of(run, context.rotary.sin, rows),
             RopeDirection::kForward);
  // Attention rounds q itself; backward is to see what was multiplied.
  if (saved != nullptr && run.precision == Precision::kBF16) run.k.round_to_bf16(q.join_last());

  const Tensor o = run.make({num_asking, H, Dv});
  const Tensor lse = saved != nullptr ? run.make({T, H}) : Tensor{};
  std::vector<Queries> absorbed;
  for (const Queries& queries : queries_of(context.segments, rows)) {
    if (queries.segment->form == MlaForm::kAbsorbed) {
      absorbed.push_back(queries);
    } else {
      attend_naive(run, queries, context.layer, q, latent, k_rope, o, lse);
    }
  }
  if (!absorbed.empty()) attend_absorbed(run, absorbed, context.layer, q, o);
  linear(run, o.join_last(), w_.o, out);  // eq. 11
  if (saved != nullptr) {
    saved->x = x;
    saved->q_raw = q_raw;
    saved->c_q = c_q;
    saved->q = q;
    saved->kv_raw = kv_raw;
    saved->latent = latent;
    saved->o = o;
    saved->lse = lse;
  }
}

/// Keys and values expanded from the latents of the sequence up to the last query: the cache's, or the segment's own
/// rows. A few heads at a time: a head's numbers depend on its own rows of kv_b alone, so how many cannot change a bit.
void Mla::attend_naive(const Run& run, const Queries& queries, int64_t layer, Tensor q, Tensor latent, Tensor k_rope,
                       Tensor o, Tensor lse) const {
  if (queries.count == 0) return;
  const ArenaScope scope(run.arena);
  const int64_t H = config_.num_attention_heads, Dn = config_.qk_nope_head_dim, Dv = config_.v_head_dim;
  const Segment& segment = *queries.segment;
  const int64_t first = queries.first_position(), S = first + queries.count;
  Tensor keys, rope_keys;
  if (segment.pages.empty()) {
    keys = latent.rows(segment.row, S);
    rope_keys = k_rope.rows(segment.row, S);
  } else {
    keys = run.make({S, config_.kv_lora_rank});
    rope_keys = run.make({S, config_.qk_rope_head_dim});
    run.k.gather_latents(segment.pages[static_cast<size_t>(layer)], keys, rope_keys);
  }
  // Parts of a weight with scales begin where a block of scales does.
  int64_t step = 1;
  while (w_.kv_b.value.scales && step < H && step * (Dn + Dv) % kScaleBlock != 0) ++step;
  const int64_t head_bytes = S * (Dn + Dv) * size_of(run.activation);
  const int64_t heads = std::clamp<int64_t>(run.expansion_bytes / head_bytes / step * step, std::min(step, H), H);
  const Tensor kv = run.make({S * heads * (Dn + Dv)});
  for (int64_t h = 0; h < H; h += heads) {
    const int64_t count = std::min(heads, H - h);
    const auto part = [&](const Tensor& rows) { return rows.rows(queries.row, queries.count).slice(1, h, count); };
    const Tensor expanded = Tensor::contiguous(kv.data, kv.dtype, {S, count, Dn + Dv});
    run.k.gemm(keys, heads_of(w_.kv_b.value, Dn + Dv, h, count), expanded.join_last(), run.unquantized());  // eq. 2, 5
    run.k.mla_prefill({.q = part(q),
                       .kv = expanded,
                       .k_rope = rope_keys,
                       .qk_nope_head_dim = Dn,
                       .first_position = first,
                       .softmax_scale = config_.softmax_scale(),
                       .out = part(o),
                       .lse = lse ? part(lse) : Tensor{},
                       .precision = run.unquantized()});  // eq. 10
  }
}

/// W_UK absorbed into the query and W_UV into the output: attention over the latents themselves.
void Mla::attend_absorbed(const Run& run, std::span<const Queries> queries, int64_t layer, Tensor q, Tensor o) const {
  const ArenaScope scope(run.arena);
  const int64_t H = config_.num_attention_heads, Dn = config_.qk_nope_head_dim, R = config_.qk_rope_head_dim,
                C = config_.kv_lora_rank;
  std::vector<LatentPages> sequences;
  std::vector<int64_t> positions;
  for (const Queries& of : queries) {
    check(of.row == std::ssize(positions), "rows of absorbed segments come first");
    for (int64_t i = 0; i < of.count; ++i) {
      sequences.push_back(of.segment->pages[static_cast<size_t>(layer)]);
      positions.push_back(of.first_position() + i);
    }
  }
  const int64_t rows = std::ssize(positions);
  const Tensor q_rows = q.rows(0, rows);
  const Tensor q_latent = run.make({rows, H, C}), o_latent = run.make({rows, H, C});
  run.k.mla_absorb_query(q_rows.slice(2, 0, Dn), w_.kv_b.value, q_latent, run.unquantized());
  run.k.mla_decode({.q_latent = q_latent,
                    .q_rope = q_rows.slice(2, Dn, R),
                    .sequences = sequences,
                    .positions = positions,
                    .softmax_scale = config_.softmax_scale(),
                    .out = o_latent,
                    .precision = run.unquantized()});
  run.k.mla_expand_value(o_latent, w_.kv_b.value, o.rows(0, rows), run.unquantized());
}

void Mla::backward_input(const Run& run, const AttentionContext& context, Tensor dout, MlaSaved& s, Tensor dx) const {
  const int64_t T = dout.extent(0), H = config_.num_attention_heads, Dn = config_.qk_nope_head_dim,
                R = config_.qk_rope_head_dim, C = config_.kv_lora_rank, Dv = config_.v_head_dim;
  s.dout = dout;
  s.dq = run.make({T, H, Dn + R});
  s.dkv = run.make({T, H, Dn + Dv});
  s.dkv_raw = run.make({T, C + R});
  const Tensor dk_rope = s.dkv_raw.slice(1, C, R), dlatent = run.make({T, C});

  const Tensor d_o = run.make({T, H, Dv});
  linear_backward_input(run, dout, w_.o, d_o.join_last());
  for (const Segment& segment : context.segments) {
    const ArenaScope scope(run.arena);
    const int64_t row = segment.row, count = segment.count;
    const Tensor kv = run.make({count, H, Dn + Dv});
    run.k.gemm(s.latent.rows(row, count), w_.kv_b.value, kv.join_last(), run.unquantized());
    if (run.precision == Precision::kBF16) run.k.round_to_bf16(kv.join_last());  // as forward's attention does
    run.k.mla_prefill_backward({.forward = {.q = s.q.rows(row, count),
                                            .kv = kv,
                                            .k_rope = s.kv_raw.slice(1, C, R).rows(row, count),
                                            .qk_nope_head_dim = Dn,
                                            .softmax_scale = config_.softmax_scale(),
                                            .out = s.o.rows(row, count),
                                            .lse = s.lse.rows(row, count)},
                                .dout = d_o.rows(row, count),
                                .dq = s.dq.rows(row, count),
                                .dkv = s.dkv.rows(row, count),
                                .dk_rope = dk_rope.rows(row, count)});
  }
  run.k.rope(as_heads(dk_rope), context.rotary.cos, context.rotary.sin, RopeDirection::kInverse);
  run.k.rope(s.dq.slice(2, Dn, R), context.rotary.cos, context.rotary.sin, RopeDirection::kInverse);

  run.k.gemm_backward_input(s.dkv.join_last(), w_.kv_b.value, dlatent, run.unquantized(), Into::kAssign);
  run.k.rms_norm_backward(s.kv_raw.slice(1, 0, C), w_.kv_a_norm.value.codes, config_.rms_norm_eps, dlatent,
                          s.dkv_raw.slice(1, 0, C), Into::kAssign, w_.kv_a_norm.grad);
  linear_backward_input(run, s.dkv_raw, w_.kv_a, dx);
  if (w_.q_b) {
    const Tensor dc_q = run.make({T, config_.q_lora_rank});
    s.dq_raw = run.make({T, config_.q_lora_rank});
    linear_backward_input(run, s.dq.join_last(), w_.q_b, dc_q);
    run.k.rms_norm_backward(s.q_raw, w_.q_a_norm.value.codes, config_.rms_norm_eps, dc_q, s.dq_raw, Into::kAssign,
                            w_.q_a_norm.grad);
    linear_backward_input(run, s.dq_raw, w_.q_a, dx, Into::kAccumulate);
  } else {
    linear_backward_input(run, s.dq.join_last(), w_.q_a, dx, Into::kAccumulate);
  }
}

void Mla::backward_weight(const Run& run, const MlaSaved& s) const {
  linear_backward_weight(run, s.dout, s.o.join_last(), w_.o);
  run.k.gemm_backward_weight(s.dkv.join_last(), s.latent, w_.kv_b.grad, run.unquantized());
  linear_backward_weight(run, s.dkv_raw, s.x, w_.kv_a);
  if (w_.q_b) {
    linear_backward_weight(run, s.dq.join_last(), s.c_q, w_.q_b);
    linear_backward_weight(run, s.dq_raw, s.x, w_.q_a);
  } else {
    linear_backward_weight(run, s.dq.join_last(), s.x, w_.q_a);
  }
}

}  // namespace fathom
