#include <algorithm>
#include <array>
#include <cstring>

#include "kernels/cpu/cpu.h"
#include "kernels/cpu/operands.h"
#include "kernels/expert_tree.h"
#include "numerics/decode.h"

namespace fathom {

using cpu::expect_f32;
using cpu::int_row;
using cpu::row;

namespace {

/// The additions of one token's expert tree, as pairs (into, from).
struct MergeList {
  std::array<int8_t, 2 * kMaxExpertsPerToken> pairs;
  int64_t count = 0;
};

MergeList merges_of(const int32_t* ids, int64_t chosen) {
  MergeList list;
  merge_expert_tree(ids, chosen, [&](int64_t into, int64_t from) {
    list.pairs[static_cast<size_t>(2 * list.count)] = static_cast<int8_t>(into);
    list.pairs[static_cast<size_t>(2 * list.count + 1)] = static_cast<int8_t>(from);
    ++list.count;
  });
  return list;
}

}  // namespace

void CpuKernels::embed(Tensor tokens, const Weight& table, Tensor out) {
  const int64_t count = tokens.numel(), width = table.in_features();
  expect_f32(out, count, width);
  const bool is_plain = table.groups == GroupFormat::kNone;
  const cpu::MatrixRef rows = is_plain ? cpu::matrix_of(table) : cpu::MatrixRef{};
  const auto ids = tokens.view<const int32_t, 1>();
  each(count, width, [&](int64_t t, int) {
    check(ids[t] < table.out_features(), "a token is in the vocabulary");
    if (ids[t] < 0) {
      std::fill_n(row(out, t), width, 0.0f);
    } else if (is_plain) {
      level_.decode_row(rows, ids[t], 0, width, row(out, t));
    } else {  // a row of integer groups for each token: not worth a loop per level
      decode_row(table, ids[t], 0, width, row(out, t));
    }
  });
}

// A row of the table may be met by many tokens, in token order: so the work is split over columns.
void CpuKernels::embed_backward(Tensor tokens, Tensor dout, Tensor dtable) {
  const int64_t count = tokens.numel(), width = dtable.extent(1);
  expect_f32(dout, count, width);
  expect_f32(dtable, dtable.extent(0), width);
  const auto ids = tokens.view<const int32_t, 1>();
  constexpr int64_t kColumns = 64;
  each((width + kColumns - 1) / kColumns, 2 * kColumns * count, [&](int64_t i, int) {
    const int64_t begin = i * kColumns, columns = std::min(kColumns, width - begin);
    for (int64_t t = 0; t < count; ++t) {
      check(ids[t] < dtable.extent(0), "a token is in the vocabulary");
      if (ids[t] >= 0) level_.add_row(row(dout, t) + begin, row(dtable, ids[t]) + begin, columns);
    }
  });
}

void CpuKernels::gather_rows(Tensor x, std::span<const int32_t> row_token, Tensor out) {
  const int64_t count = static_cast<int64_t>(row_token.size()), width = x.extent(1);
  expect_f32(x, x.extent(0), width);
  expect_f32(out, count, width);
  each(count, width, [&](int64_t m, int) {
    const int32_t t = row_token[static_cast<size_t>(m)];
    check(t >= 0 && t < x.extent(0), "a gathered row exists");
    std::memcpy(row(out, m), row(x, t), static_cast<size_t>(width) * sizeof(float));
  });
}

void CpuKernels::combine_rows(Tensor rows, std::span<const int32_t> slot_row, Tensor expert_ids, Tensor weights,
                              Tensor out, Into into) {
  const int64_t tokens = out.extent(0), width = out.extent(1), chosen = expert_ids.extent(1);
  expect_f32(out, tokens, width);
  expect_f32(rows, rows.extent(0), width);
  if (weights) expect_f32(weights, tokens, chosen);
  check(expert_ids.dtype == DType::kI32 && expert_ids.extent(0) == tokens, "expert ids are I32, a row per token");
  check(static_cast<int64_t>(slot_row.size()) == tokens * chosen, "one row per token and slot");
  check(chosen >= 1 && chosen <= kMaxExpertsPerToken, "1 to 64 experts per token");
  each(tokens, chosen * width, [&](int64_t t, int) {
    std::array<const float*, kMaxExpertsPerToken> sources;
    for (int64_t k = 0; k < chosen; ++k) {
      const int32_t at = slot_row[static_cast<size_t>(t * chosen + k)];
      check(at >= 0 && at < rows.extent(0), "a combined row exists");
      sources[static_cast<size_t>(k)] = row(rows, at);
    }
    const MergeList merges = merges_of(int_row(expert_ids, t), chosen);
    level_.combine_row({.rows = sources.data(),
                        .weights = weights ? row(weights, t) : nullptr,
                        .count = chosen,
                        .merges = merges.pairs.data(),
                        .num_merges = merges.count,
                        .out = row(out, t),
                        .width = width,
                        .accumulate = into == Into::kAccumulate});
  });
}

void CpuKernels::weigh_rows_backward(Tensor dh, Tensor h, Tensor row_weight, Tensor drow_weight) {
  const int64_t rows = dh.extent(0), width = dh.extent(1);
  expect_f32(dh, rows, width);
  expect_f32(h, rows, width);
  expect_f32(row_weight, rows);
  expect_f32(drow_weight, rows);
  const auto* weights = row_weight.ptr<const float>();
  auto* dweights = drow_weight.ptr<float>();
  each(rows, 3 * width, [&](int64_t m, int) {
    dweights[m * drow_weight.stride(0)] =
        level_.weigh_row(row(dh, m), row(h, m), weights[m * row_weight.stride(0)], width);
  });
}

}  // namespace fathom
