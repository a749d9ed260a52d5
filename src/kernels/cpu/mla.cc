#include <algorithm>
#include <cstring>

#include "base/integers.h"
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/operands.h"
#include "numerics/fp8.h"

namespace fathom {

using cpu::expect_f32;
using cpu::row;

namespace {

cpu::PrefillTask prefill_task(const MlaPrefillArgs& a) {
  const int64_t tokens = a.q.extent(0), heads = a.q.extent(1), rope = a.k_rope.extent(1), value = a.out.extent(2);
  const int64_t keys = a.kv.extent(0);
  expect_f32(a.q, tokens, heads, a.qk_nope_head_dim + rope);
  expect_f32(a.kv, keys, heads, a.qk_nope_head_dim + value);
  expect_f32(a.k_rope, keys, rope);
  expect_f32(a.out, tokens, heads, value);
  if (a.lse) expect_f32(a.lse, tokens, heads);
  check(a.first_position >= 0 && keys >= a.first_position + tokens, "every query's own key is there");
  return {.q = row(a.q, 0),
          .q_token = a.q.stride(0),
          .q_head = a.q.stride(1),
          .kv = row(a.kv, 0),
          .kv_token = a.kv.stride(0),
          .kv_head = a.kv.stride(1),
          .k_rope = row(a.k_rope, 0),
          .k_rope_token = a.k_rope.stride(0),
          .nope = a.qk_nope_head_dim,
          .rope = rope,
          .value = value,
          .num_queries = tokens,
          .first_position = a.first_position,
          .scale = static_cast<float>(a.softmax_scale),
          .out = row(a.out, 0),
          .out_token = a.out.stride(0),
          .out_head = a.out.stride(1),
          .lse = a.lse ? row(a.lse, 0) : nullptr,
          .lse_token = a.lse ? a.lse.stride(0) : 0};
}

void check_pages(const LatentPages& pages, int64_t positions) {
  check(pages.dtype == DType::kF32 || pages.dtype == DType::kBF16 || pages.dtype == DType::kE4M3,
        "latent pages are F32, BF16 or E4M3");
  check(ceil_div(positions, LatentPages::kPageTokens) <= static_cast<int64_t>(pages.pages.size()),
        "the position has a page");
}

cpu::MatrixRef page_rows(const LatentPages& pages, int64_t page) {
  return {pages.pages[static_cast<size_t>(page)], cpu::stored_of(pages.dtype), pages.width(), nullptr, 0, 0};
}

/// `num_heads` heads from `head` on of row t, over all of its keys, into the output.
cpu::DecodeTask decode_task(const MlaDecodeArgs& a, int64_t t, int64_t head, int64_t num_heads) {
  const LatentPages& pages = a.sequences[static_cast<size_t>(t)];
  return {.q_latent = row(a.q_latent, t) + head * a.q_latent.stride(1),
          .q_latent_head = a.q_latent.stride(1),
          .q_rope = row(a.q_rope, t) + head * a.q_rope.stride(1),
          .q_rope_head = a.q_rope.stride(1),
          .num_heads = num_heads,
          .pages = pages.pages.data(),
          .stored = cpu::stored_of(pages.dtype),
          .latent = a.q_latent.extent(2),
          .rope = a.q_rope.extent(2),
          .position = a.positions[static_cast<size_t>(t)],
          .scale = static_cast<float>(a.softmax_scale),
          .out = row(a.out, t) + head * a.out.stride(1),
          .out_head = a.out.stride(1)};
}

}  // namespace

void CpuKernels::mla_prefill(const MlaPrefillArgs& a) {
  const cpu::PrefillTask task = prefill_task(a);
  const bool in_bf16 = a.precision == Precision::kBF16;
  const int64_t tokens = a.q.extent(0), heads = a.q.extent(1);
  int64_t block = in_bf16 ? cpu::kQueryBlockBf16 : cpu::kQueryBlock;
  while (block > (in_bf16 ? 32 : 16) && heads * ceil_div(tokens, block) < 4 * pool_.num_threads()) block /= 2;
  const int64_t blocks = ceil_div(tokens, block);
  reserve_scratch(in_bf16 ? level_.prefill_bf16_scratch_bytes(task.nope, task.rope, task.value)
                          : level_.prefill_scratch_floats(task.nope, task.rope, task.value) * 4);
  const int64_t keys = a.first_position + tokens, width = task.nope + task.rope + task.value;
  each(heads * blocks, std::min(block, tokens) * keys * width / 32 + 1, [&](int64_t i, int thread_id) {
    // The last queries see the most keys: they go first.
    const int64_t begin = (blocks - 1 - i / heads) * block, end = std::min(tokens, begin + block);
    if (in_bf16) {
      level_.prefill_tile_bf16(task, i % heads, begin, end, scratch(thread_id));
    } else {
      level_.prefill_tile(task, i % heads, begin, end, static_cast<float*>(scratch(thread_id)));
    }
  });
}

void CpuKernels::mla_prefill_backward(const MlaPrefillBackwardArgs& b) {
  const MlaPrefillArgs& a = b.forward;
  const int64_t tokens = a.q.extent(0), heads = a.q.extent(1), keys = a.kv.extent(0), rope = a.k_rope.extent(1);
  cpu::PrefillBackwardTask task;
  task.forward = prefill_task(a);
  check(a.first_position == 0 && a.lse, "backward of attention needs whole sequences and their lse");
  expect_f32(b.dout, tokens, heads, a.out.extent(2));
  expect_f32(b.dq, tokens, heads, a.q.extent(2));
  expect_f32(b.dkv, keys, heads, a.kv.extent(2));
  expect_f32(b.dk_rope, keys, rope);
  task.dout = row(b.dout, 0);
  task.dout_token = b.dout.stride(0);
  task.dout_head = b.dout.stride(1);
  task.dq = row(b.dq, 0);
  task.dq_token = b.dq.stride(0);
  task.dq_head = b.dq.stride(1);
  task.dkv = row(b.dkv, 0);
  task.dkv_token = b.dkv.stride(0);
  task.dkv_head = b.dkv.stride(1);
  task.num_keys = keys;
  task.dk_rope_heads = shared<float>(heads * keys * rope);
  reserve_scratch(level_.prefill_backward_scratch_floats(task.forward.nope, task.forward.rope, task.forward.value) * 4);
  each(heads, tokens * tokens * (task.forward.nope + rope + task.forward.value) / 16 + keys,
       [&](int64_t h, int id) { level_.prefill_backward_head(task, h, static_cast<float*>(scratch(id))); });
  // The rope key is shared by the heads: its gradients add up in their order.
  each(keys, heads * rope, [&](int64_t s, int) {
    std::memcpy(row(b.dk_rope, s), task.dk_rope_heads + s * rope, static_cast<size_t>(rope) * sizeof(float));
    for (int64_t h = 1; h < heads; ++h) {
      level_.add_row(task.dk_rope_heads + (h * keys + s) * rope, row(b.dk_rope, s), rope);
    }
  });
}

// One row of x at a time is multiplied by much of kv_b, so reading kv_b is what costs. In BF16 x is rounded once, and
// where BF16 holds the weights exactly the FP32 loops read them as fast as memory gives them: products exact, sums
// FP32. Weights with more bits go through the BF16 product, which rounds them.
const float* CpuKernels::rounded_rows(const Tensor& x) {
  const int64_t tokens = x.extent(0), heads = x.extent(1), width = x.extent(2);
  const int64_t bytes = tokens * heads * width * static_cast<int64_t>(sizeof(float));
  grow(rounded_, bytes);
  auto* const out = static_cast<float*>(rounded_.data());
  each(tokens * heads, 2 * width, [&](int64_t i, int) {
    float* to = out + i * width;
    std::memcpy(to, row(x, i / heads) + i % heads * x.stride(1), static_cast<size_t>(width) * sizeof(float));
    level_.round_row(to, width);
  });
  return out;
}

void CpuKernels::mla_absorb_query(Tensor q_nope, const Weight& kv_b, Tensor q_latent, Precision precision) {
  const int64_t tokens = q_nope.extent(0), heads = q_nope.extent(1), nope = q_nope.extent(2);
  const int64_t latent = kv_b.in_features(), rows_per_head = kv_b.out_features() / std::max<int64_t>(heads, 1);
  expect_f32(q_nope, tokens, heads, nope);
  expect_f32(q_latent, tokens, heads, latent);
  check(rows_per_head * heads == kv_b.out_features() && nope <= rows_per_head, "kv_b holds the rows of every head");
  const float* q = row(q_nope, 0);
  int64_t q_token = q_nope.stride(0), q_head = q_nope.stride(1);
  if (precision == Precision::kBF16 && !kv_b.scales) {
    if (kv_b.codes.dtype != DType::kBF16) {
      products_.clear();
      for (int64_t h = 0; h < heads; ++h) {
        Product product;
        product.whole = {.x = q + h * q_head,
                         .x_stride = q_token,
                         .w = cpu::matrix_of(kv_b, h * rows_per_head),
                         .w_transposed = true,
                         .depth = nope,
                         .y = row(q_latent, 0) + h * q_latent.stride(1),
                         .y_stride = q_latent.stride(0),
                         .arithmetic = cpu::Arithmetic::kBF16,
                         .row_end = tokens,
                         .column_end = latent};
        products_.push_back(product);
      }
      run_products();
      return;
    }
    q = rounded_rows(q_nope);
    q_token = heads * nope;
    q_head = nope;
  }
  const int64_t columns = tokens == 1 ? 256 : 64;
  const int64_t blocks = ceil_div(latent, columns);
  each(heads * blocks, tokens * nope * columns / 4, [&](int64_t i, int) {
    const int64_t h = i / blocks, begin = i % blocks * columns;
    level_.absorb({.q = q + h * q_head,
                   .q_token = q_token,
                   .num_tokens = tokens,
                   .nope = nope,
                   .w = cpu::matrix_of(kv_b, h * rows_per_head),
                   .out = row(q_latent, 0) + h * q_latent.stride(1),
                   .out_token = q_latent.stride(0),
                   .column_begin = begin,
                   .column_end = std::min(latent, begin + columns)});
  });
}

void CpuKernels::mla_expand_value(Tensor o_latent, const Weight& kv_b, Tensor o, Precision precision) {
  const int64_t tokens = o_latent.extent(0), heads = o_latent.extent(1), value = o.extent(2);
  const int64_t latent = kv_b.in_features(), rows_per_head = kv_b.out_features() / std::max<int64_t>(heads, 1);
  expect_f32(o_latent, tokens, heads, latent);
  expect_f32(o, tokens, heads, value);
  check(rows_per_head * heads == kv_b.out_features() && value <= rows_per_head, "kv_b holds the rows of every head");
  const float* x = row(o_latent, 0);
  int64_t x_token = o_latent.stride(0), x_head = o_latent.stride(1);
  auto arithmetic = precision == Precision::kBF16 ? cpu::Arithmetic::kBF16 : cpu::Arithmetic::kF32;
  if (precision == Precision::kBF16 && kv_b.codes.dtype == DType::kBF16) {
    x = rounded_rows(o_latent);
    x_token = heads * latent;
    x_head = latent;
    arithmetic = cpu::Arithmetic::kF32;
  }
  products_.clear();
  for (int64_t h = 0; h < heads; ++h) {
    Product product;
    product.whole = {.x = x + h * x_head,
                     .x_stride = x_token,
                     .w = cpu::matrix_of(kv_b, (h + 1) * rows_per_head - value),
                     .depth = latent,
                     .y = row(o, 0) + h * o.stride(1),
                     .y_stride = o.stride(0),
                     .arithmetic = arithmetic,
                     .row_end = tokens,
                     .column_end = value};
    products_.push_back(product);
  }
  run_products();
}

void CpuKernels::mla_decode(const MlaDecodeArgs& a) {
  const int64_t tokens = a.q_latent.extent(0), heads = a.q_latent.extent(1), latent = a.q_latent.extent(2);
  const int64_t rope = a.q_rope.extent(2);
  expect_f32(a.q_latent, tokens, heads, latent);
  expect_f32(a.q_rope, tokens, heads, rope);
  expect_f32(a.out, tokens, heads, latent);
  check(static_cast<int64_t>(a.sequences.size()) == tokens && static_cast<int64_t>(a.positions.size()) == tokens,
        "one cache and one position per row");
  int64_t keys = 0;
  for (size_t t = 0; t < a.sequences.size(); ++t) {
    const LatentPages& pages = a.sequences[t];
    check(pages.kv_lora_rank == latent && pages.qk_rope_head_dim == rope, "the cache has the query's widths");
    check(a.positions[t] >= 0, "positions are not negative");
    check_pages(pages, a.positions[t] + 1);
    keys = std::max(keys, a.positions[t] + 1);
  }
  if (a.precision == Precision::kBF16) {
    decode_bf16(a);
    return;
  }
  // All heads share one reading of the pages, unless there are fewer rows than threads.
  int64_t group = heads;
  while (group > 4 && tokens * ceil_div(heads, group) < pool_.num_threads()) group = (group / 2 + 3) / 4 * 4;
  const int64_t groups = ceil_div(heads, group);
  reserve_scratch(level_.decode_scratch_floats(latent, rope, group) * 4);
  each(tokens * groups, group * keys * (2 * latent + rope) / 16 + 1, [&](int64_t i, int thread_id) {
    const int64_t t = i / groups, h = i % groups * group;
    level_.decode_heads(decode_task(a, t, h, std::min(group, heads - h)), static_cast<float*>(scratch(thread_id)));
  });
}

// A row's keys in parts between absolute multiples of kDecodePart, each part with all heads over one reading of its
// pages, or some heads where there is less work than threads. A row of one part needs no merging. Memory for the parts'
// results is bounded: rows are taken in groups.
void CpuKernels::decode_bf16(const MlaDecodeArgs& a) {
  const int64_t tokens = a.q_latent.extent(0), heads = a.q_latent.extent(1), latent = a.q_latent.extent(2);
  const int64_t rope = a.q_rope.extent(2);
  constexpr int64_t kMergeBytes = int64_t{64} << 20;
  const auto num_parts = [&](int64_t t) { return a.positions[static_cast<size_t>(t)] / cpu::kDecodePart + 1; };
  const int64_t part_floats = heads * (latent + 2);
  for (int64_t first = 0, last = 0; first < tokens; first = last) {
    part_row_.clear();
    int64_t in_memory = 0, most_keys = 0;
    for (; last < tokens; ++last) {
      const int64_t parts = num_parts(last);
      if (last > first && (in_memory + parts) * part_floats * 4 > kMergeBytes) break;
      part_row_.insert(part_row_.end(), static_cast<size_t>(parts), last);
      in_memory += parts;
      most_keys = std::max(most_keys, std::min(cpu::kDecodePart, a.positions[static_cast<size_t>(last)] + 1));
    }
    const auto parts = static_cast<int64_t>(part_row_.size());
    int64_t group = heads;
    while (group > 8 && parts * ceil_div(heads, group) < pool_.num_threads()) group = ceil_div(group / 2, 8) * 8;
    const int64_t groups = ceil_div(heads, group);
    float* const outputs = shared<float>(parts * part_floats);
    float* const maxima = outputs + parts * heads * latent;
    float* const sums = maxima + parts * heads;
    reserve_scratch(level_.decode_bf16_scratch_bytes(latent, rope, group));
    each(parts * groups, group * most_keys * (2 * latent + rope) / 32 + 1, [&](int64_t i, int thread_id) {
      const int64_t p = i / groups, h = i % groups * group, t = part_row_[static_cast<size_t>(p)];
      const int64_t part = p - (std::lower_bound(part_row_.begin(), part_row_.end(), t) - part_row_.begin());
      cpu::DecodeTask task = decode_task(a, t, h, std::min(group, heads - h));
      if (num_parts(t) > 1) {
        task.begin = part * cpu::kDecodePart;
        task.position = std::min(task.position, (part + 1) * cpu::kDecodePart - 1);
        task.out = outputs + (p * heads + h) * latent;
        task.out_head = latent;
        task.max = maxima + p * heads + h;
        task.sum = sums + p * heads + h;
      }
      level_.decode_heads_bf16(task, scratch(thread_id));
    });
    if (parts == last - first) continue;
    each((last - first) * heads, most_keys / 16 + latent, [&](int64_t i, int) {
      const int64_t t = first + i / heads, h = i % heads;
      if (num_parts(t) == 1) return;
      const int64_t p = std::lower_bound(part_row_.begin(), part_row_.end(), t) - part_row_.begin();
      level_.merge_parts({.max = maxima + p * heads + h,
                          .sum = sums + p * heads + h,
                          .step = heads,
                          .partial = outputs + (p * heads + h) * latent,
                          .partial_step = heads * latent,
                          .count = num_parts(t),
                          .out = row(a.out, t) + h * a.out.stride(1),
                          .width = latent});
    });
  }
}

void CpuKernels::append_latents(Tensor latent, Tensor k_rope, std::span<const int64_t> positions,
                                const LatentPages& pages) {
  const int64_t tokens = latent.extent(0), width = pages.kv_lora_rank, rope = pages.qk_rope_head_dim;
  expect_f32(latent, tokens, width);
  expect_f32(k_rope, tokens, rope);
  check(static_cast<int64_t>(positions.size()) == tokens, "one position per row");
  each(tokens, pages.width(), [&](int64_t t, int) {
    const int64_t position = positions[static_cast<size_t>(t)];
    check(position >= 0, "positions are not negative");
    check_pages(pages, position + 1);
    if (pages.dtype == DType::kE4M3) {
      const auto out = E4M3Latent::of(pages, position);
      for (int64_t begin = 0; begin < width; begin += kScaleBlock) {
        float scale = 0;
        level_.quantize_row(row(latent, t) + begin, true, &out.codes[begin].bits, &scale,
                            std::min(kScaleBlock, width - begin));
        out.scales[begin / kScaleBlock] = to_e8m0(scale);
      }
      level_.copy_to_bf16(row(k_rope, t), &out.rope->bits, rope);
      return;
    }
    void* page = pages.pages[static_cast<size_t>(position / LatentPages::kPageTokens)];
    const int64_t at = position % LatentPages::kPageTokens * pages.width();
    if (pages.dtype == DType::kF32) {
      float* out = static_cast<float*>(page) + at;
      std::memcpy(out, row(latent, t), static_cast<size_t>(width) * sizeof(float));
      std::memcpy(out + width, row(k_rope, t), static_cast<size_t>(rope) * sizeof(float));
    } else {
      uint16_t* out = static_cast<uint16_t*>(page) + at;
      level_.copy_to_bf16(row(latent, t), out, width);
      level_.copy_to_bf16(row(k_rope, t), out + width, rope);
    }
  });
}

void CpuKernels::gather_latents(const LatentPages& pages, Tensor latent, Tensor k_rope) {
  const int64_t count = latent.extent(0), width = pages.kv_lora_rank, rope = pages.qk_rope_head_dim;
  expect_f32(latent, count, width);
  expect_f32(k_rope, count, rope);
  check_pages(pages, count);
  each(count, pages.width(), [&](int64_t s, int) {
    if (pages.dtype == DType::kE4M3) {
      const auto from = E4M3Latent::of(pages, s);
      level_.decode_latent(&from.codes->bits, &from.scales->bits, width, row(latent, s));
      level_.decode_row({.data = from.rope, .stored = cpu::Stored::kBF16}, 0, 0, rope, row(k_rope, s));
      return;
    }
    const cpu::MatrixRef rows = page_rows(pages, s / LatentPages::kPageTokens);
    const int64_t at = s % LatentPages::kPageTokens;
    level_.decode_row(rows, at, 0, width, row(latent, s));
    level_.decode_row(rows, at, width, width + rope, row(k_rope, s));
  });
}

}  // namespace fathom
