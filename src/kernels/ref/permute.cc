#include <vector>

#include "kernels/expert_tree.h"
#include "kernels/ref/real.h"
#include "kernels/ref/ref.h"

namespace fathom {

using ref::on_real;

void RefKernels::embed(Tensor tokens, const Weight& table, Tensor out) {
  on_real(out, [&]<class T>(T) {
    const auto ids = tokens.view<const int32_t, 1>();
    const auto rows = out.view<T, 2>();
    for (int64_t t = 0; t < rows.extent(0); ++t) {
      for (int64_t d = 0; d < rows.extent(1); ++d)
        rows(t, d) = ids[t] < 0 ? T{0} : static_cast<T>(ref::real_weight(table, ids[t], d));
    }
  });
}

void RefKernels::embed_backward(Tensor tokens, Tensor dout, Tensor dtable) {
  on_real(dout, [&]<class T>(T) {
    const auto ids = tokens.view<const int32_t, 1>();
    const auto rows = dout.view<const T, 2>();
    const auto table = dtable.view<T, 2>();
    for (int64_t t = 0; t < rows.extent(0); ++t) {
      if (ids[t] < 0) continue;
      for (int64_t d = 0; d < rows.extent(1); ++d) table(ids[t], d) += rows(t, d);
    }
  });
}

void RefKernels::gather_rows(Tensor x, std::span<const int32_t> row_token, Tensor out) {
  on_real(x, [&]<class T>(T) {
    const auto xs = x.view<const T, 2>();
    const auto rows = out.view<T, 2>();
    for (int64_t m = 0; m < rows.extent(0); ++m) {
      for (int64_t d = 0; d < rows.extent(1); ++d) rows(m, d) = xs(row_token[static_cast<size_t>(m)], d);
    }
  });
}

// The tree is part of the format, so the oracle walks it too, with each node rounded to the activations' type.
void RefKernels::combine_rows(Tensor rows, std::span<const int32_t> slot_row, Tensor expert_ids, Tensor weights,
                              Tensor out, Into into) {
  on_real(rows, [&]<class T>(T) {
    const auto xs = rows.view<const T, 2>();
    const auto ids = expert_ids.view<const int32_t, 2>();
    const auto ys = out.view<T, 2>();
    const int64_t chosen = ids.extent(1);
    std::vector<T> leaf(static_cast<size_t>(chosen));
    for (int64_t t = 0; t < ys.extent(0); ++t) {
      for (int64_t d = 0; d < ys.extent(1); ++d) {
        for (int64_t k = 0; k < chosen; ++k) {
          const T x = xs(slot_row[static_cast<size_t>(t * chosen + k)], d);
          leaf[static_cast<size_t>(k)] = weights ? weights.view<const T, 2>()(t, k) * x : x;
        }
        merge_expert_tree(&ids(t, 0), chosen,
                          [&](int64_t i, int64_t j) { leaf[static_cast<size_t>(i)] += leaf[static_cast<size_t>(j)]; });
        ys(t, d) = into == Into::kAccumulate ? ys(t, d) + leaf[0] : leaf[0];
      }
    }
  });
}

void RefKernels::weigh_rows_backward(Tensor dh, Tensor h, Tensor row_weight, Tensor drow_weight) {
  on_real(dh, [&]<class T>(T) {
    const auto dhs = dh.view<T, 2>();
    const auto hs = h.view<T, 2>();
    for (int64_t m = 0; m < dhs.extent(0); ++m) {
      const T w = row_weight.view<const T, 1>()[m];
      double dot = 0;
      for (int64_t i = 0; i < dhs.extent(1); ++i) {
        dot += double{dhs(m, i)} * double{hs(m, i)};
        dhs(m, i) *= w;
        hs(m, i) *= w;
      }
      drow_weight.view<T, 1>()[m] = static_cast<T>(dot);
    }
  });
}

}  // namespace fathom
