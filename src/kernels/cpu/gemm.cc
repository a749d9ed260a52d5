#include <algorithm>
#include <atomic>

#include "base/integers.h"
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/operands.h"
#include "numerics/panels.h"

namespace fathom {

using cpu::Arithmetic;
using cpu::expect_f32;
using cpu::GemmTile;
using cpu::matrix_of;
using cpu::row;

namespace {

Arithmetic forward_arithmetic(Precision precision, const Weight& w) {
  if (precision == Precision::kBF16) return Arithmetic::kBF16;
  return precision == Precision::kFp8 && w.scales ? Arithmetic::kFp8 : Arithmetic::kF32;
}

Arithmetic backward_arithmetic(Precision precision, bool has_scales) {
  return precision == Precision::kBF16 && !has_scales ? Arithmetic::kBF16 : Arithmetic::kF32;
}

GemmTile forward(const Tensor& x, const Weight& w, const Tensor& y, Precision precision, Into into) {
  expect_f32(x, x.extent(0), w.in_features());
  expect_f32(y, x.extent(0), w.out_features());
  return {.x = row(x, 0),
          .x_stride = x.stride(0),
          .w = matrix_of(w),
          .depth = w.in_features(),
          .y = row(y, 0),
          .y_stride = y.stride(0),
          .accumulate = into == Into::kAccumulate,
          .arithmetic = forward_arithmetic(precision, w),
          .row_end = x.extent(0),
          .column_end = w.out_features()};
}

// The contraction runs over w's rows: w is the transposed operand.
GemmTile backward_input(const Tensor& dy, const Weight& w, const Tensor& dx, Precision precision, Into into) {
  expect_f32(dy, dy.extent(0), w.out_features());
  expect_f32(dx, dy.extent(0), w.in_features());
  return {.x = row(dy, 0),
          .x_stride = dy.stride(0),
          .w = matrix_of(w),
          .w_transposed = true,
          .depth = w.out_features(),
          .y = row(dx, 0),
          .y_stride = dx.stride(0),
          .accumulate = into == Into::kAccumulate,
          .arithmetic = backward_arithmetic(precision, static_cast<bool>(w.scales)),
          .row_end = dy.extent(0),
          .column_end = w.in_features()};
}

// The contraction runs over tokens: both operands are transposed.
GemmTile backward_weight(const Tensor& dy, const Tensor& x, const Tensor& dw, Precision precision) {
  expect_f32(dy, dy.extent(0), dw.extent(0));
  expect_f32(x, dy.extent(0), dw.extent(1));
  expect_f32(dw, dw.extent(0), dw.extent(1));
  return {.x = row(dy, 0),
          .x_stride = dy.stride(0),
          .x_transposed = true,
          .w = matrix_of(x),
          .w_transposed = true,
          .depth = dy.extent(0),
          .y = row(dw, 0),
          .y_stride = dw.stride(0),
          .accumulate = true,
          .arithmetic = backward_arithmetic(precision, false),
          .row_end = dw.extent(0),
          .column_end = dw.extent(1)};
}

/// Tables of the low 4 bits of codes as the loops take them: + 128.
const uint8_t* offset_table(GroupFormat format) {
  using Tables = std::array<std::array<uint8_t, 16>, 1 + static_cast<size_t>(GroupFormat::kIq4Xs)>;
  static const Tables tables = [] {
    Tables out{};
    for (size_t f = static_cast<size_t>(GroupFormat::kInt4); f < out.size(); ++f) {
      const auto& values = code_values(static_cast<GroupFormat>(f));
      for (size_t i = 0; i < values.size(); ++i) out[f][i] = static_cast<uint8_t>(values[i] + 128);
    }
    return out;
  }();
  return tables[static_cast<size_t>(format)].data();
}

cpu::IntPanels int_panels_of(const Weight& w) {
  using cpu::IntCodes;
  using cpu::IntScales;
  const int bits = bits_of(w.groups);
  return {.data = static_cast<const uint8_t*>(w.codes.data),
          .panel_bytes = panel_bytes(w),
          .groups = num_groups(w.in_features()),
          .codes = bits == 8                  ? IntCodes::kBytes
                   : bits == 6                ? IntCodes::kSixBits
                   : bits == 5                ? IntCodes::kFiveBits
                   : is_consecutive(w.groups) ? IntCodes::kFourBits
                                              : IntCodes::kTable,
          .scales = has_offsets(w.groups)             ? IntScales::kWithOffset
                    : has_half_scales(w.groups)       ? IntScales::kOfHalves
                    : w.groups == GroupFormat::kMxfp4 ? IntScales::kBF16
                                                      : IntScales::kF16,
          .table = offset_table(w.groups)};
}

void check_offsets(std::span<const int64_t> offsets, size_t groups, const Tensor& rows) {
  check(offsets.size() == groups + 1 && offsets.front() >= 0 && offsets.back() <= rows.extent(0),
        "offsets delimit the rows of every expert");
}

}  // namespace

// The tiles of all products form one list, split over the threads at once: an operation with many small experts is as
// parallel as one with a large matrix. How tiles are cut cannot change a bit: an output's order depends on k alone.
void CpuKernels::run_products() {
  int64_t work = 0, most_rows = 0, most_columns = cpu::kTileColumnsBf16;
  for (const Product& p : products_) {
    work += p.whole.row_end * p.whole.column_end * std::max<int64_t>(p.whole.depth, 1);
    most_rows = std::max(most_rows, p.whole.row_end);
    if (p.groups.w.data == nullptr && p.whole.arithmetic != Arithmetic::kBF16) most_columns = cpu::kTileColumns;
  }
  if (!ups_.empty()) work *= 2;
  if (work == 0) return;
  int64_t tile_rows = cpu::kTileRows, tile_columns = most_rows <= cpu::kFewRows ? 64 : most_columns;
  int64_t tiles = 0;
  for (;;) {
    tiles = 0;
    for (Product& p : products_) {
      p.first_tile = tiles;
      p.column_tiles = ceil_div(p.whole.column_end, tile_columns);
      tiles += ceil_div(p.whole.row_end, tile_rows) * p.column_tiles;
    }
    if (tiles >= 4 * pool_.num_threads() || tile_columns <= 32) break;
    (tile_rows >= tile_columns && tile_rows > 32 ? tile_rows : tile_columns) /= 2;
  }
  reserve_scratch(std::max(cpu::kGemmScratchBytes, cpu::kIntScratchBytes));
  // With few rows a product waits for memory, about 4 multiplications per lane and cycle; with many it does 16.
  const int64_t cost = work / tiles / (most_rows <= cpu::kFewRows ? 4 : 16) + 1;
  pool_.parallel_for(tiles, grain(tiles, cost), [&](int64_t begin, int64_t end, int thread_id) {
    auto next = std::upper_bound(products_.begin(), products_.end(), begin,
                                 [](int64_t tile, const Product& p) { return tile < p.first_tile; });
    for (int64_t i = begin; i < end; ++i) {
      while (next != products_.end() && next->first_tile <= i) ++next;
      const Product& p = *(next - 1);
      const int64_t at = i - p.first_tile;
      const auto cut = [&](auto tile) {
        tile.row_begin = at / p.column_tiles * tile_rows;
        tile.row_end = std::min(tile.row_begin + tile_rows, p.whole.row_end);
        tile.column_begin = at % p.column_tiles * tile_columns;
        tile.column_end = std::min(tile.column_begin + tile_columns, p.whole.column_end);
        return tile;
      };
      const auto multiply = [&](const Product& product) {
        if (product.groups.w.data != nullptr) {
          level_.int_tile(cut(product.groups), scratch(thread_id));
        } else {
          level_.gemm_tile(cut(product.whole), scratch(thread_id));
        }
      };
      multiply(p);
      if (ups_.empty()) continue;
      const Product& up = ups_[static_cast<size_t>(&p - products_.data())];
      multiply(up);
      const GemmTile tile = cut(p.whole);
      for (int64_t t = tile.row_begin; t < tile.row_end; ++t) {
        const int64_t n = tile.column_begin;
        level_.swiglu_row(p.whole.y + t * p.whole.y_stride + n, up.whole.y + t * up.whole.y_stride + n,
                          p.h + t * p.h_stride + n, tile.column_end - n);
      }
    }
  });
}

bool CpuKernels::pack(const Weight& rows, const Weight& panels) {
  std::atomic<bool> all{true};
  each(num_panels(rows.out_features()), rows.in_features() * kPanelColumns * 16, [&](int64_t p, int) {
    if (!pack_panel(rows, p, panels)) all.store(false, std::memory_order_relaxed);
  });
  return all.load();
}

cpu::IntRows CpuKernels::quantize_rows(const Tensor& x) {
  const int64_t rows = x.extent(0), width = x.extent(1), groups = num_groups(width);
  const int64_t stride = groups * kGroupSize + 64;  // off the period of the cache's sets
  auto* starts = shared<cpu::IntStarts>(rows * groups * 2 + (rows * stride + 7) / 8);
  auto* scales = reinterpret_cast<float*>(starts + rows * groups);
  auto* minus_sums = scales + rows * groups;
  auto* codes = reinterpret_cast<int8_t*>(minus_sums + rows * groups);
  reserve_scratch(groups * kGroupSize * 4);
  each(rows, width * 2, [&](int64_t t, int thread_id) {
    const float* numbers = row(x, t);
    if (width % kGroupSize != 0) {
      auto* filled = static_cast<float*>(scratch(thread_id));
      std::copy_n(numbers, width, filled);
      std::fill(filled + width, filled + groups * kGroupSize, 0.0f);
      numbers = filled;
    }
    level_.quantize_activations(numbers, groups,
                                {.codes = codes + t * stride,
                                 .scales = scales + t * groups,
                                 .minus_sums = minus_sums + t * groups,
                                 .starts = starts + t * groups});
  });
  return {.codes = codes,
          .stride = stride,
          .scales = scales,
          .minus_sums = minus_sums,
          .starts = starts,
          .scale_stride = groups};
}

cpu::RoundedRows CpuKernels::round_rows(const Tensor& x) {
  const int64_t rows = x.extent(0), depth = x.extent(1);
  const int64_t row_bytes = cpu::kBf16Stride * level_.bf16_element_bytes, block_bytes = rows * row_bytes;
  const int64_t bytes = ceil_div(depth, cpu::kDepthBlockBf16) * block_bytes + cpu::kRowsBeyond * row_bytes;
  grow(rounded_x_, bytes);
  auto* const data = static_cast<std::byte*>(rounded_x_.data());
  each(rows, depth / 4, [&](int64_t t, int) { level_.round_x(row(x, t), depth, data + t * row_bytes, block_bytes); });
  return {data, block_bytes, row_bytes};
}

void CpuKernels::prepare(const Tensor& x, std::span<const Weight> w, Precision precision, Prepared& prepared) {
  const auto in_groups = [](const Weight& one) { return one.groups != GroupFormat::kNone; };
  if (prepared.quantized.codes == nullptr && std::any_of(w.begin(), w.end(), in_groups)) {
    prepared.quantized = quantize_rows(x);
  }
  if (precision == Precision::kBF16 && prepared.rounded.data == nullptr &&
      !std::all_of(w.begin(), w.end(), in_groups)) {
    prepared.rounded = round_rows(x);
  }
}

CpuKernels::Product CpuKernels::product_of(const Tensor& x, const Weight& w, const Tensor& y, Precision precision,
                                           Into into, const Prepared& prepared) {
  Product product;
  if (w.groups == GroupFormat::kNone) {
    check(w.layout == WeightLayout::kRows || precision == Precision::kBF16, "panels of numbers are for BF16 products");
    product.whole = forward(x, w, y, precision, into);
    product.whole.rounded = prepared.rounded;
    return product;
  }
  expect_f32(x, x.extent(0), w.in_features());
  expect_f32(y, x.extent(0), w.out_features());
  check(into == Into::kAssign && w.layout == WeightLayout::kPanels, "integer groups are multiplied in panels");
  product.whole.depth = w.in_features();
  product.whole.y = row(y, 0);
  product.whole.y_stride = y.stride(0);
  product.whole.row_end = x.extent(0);
  product.whole.column_end = w.out_features();
  product.groups = {.w = int_panels_of(w), .x = prepared.quantized, .y = row(y, 0), .y_stride = y.stride(0)};
  return product;
}

void CpuKernels::gemm(Tensor x, const Weight& w, Tensor y, Precision precision, Into into) {
  Prepared prepared;
  prepare(x, {&w, 1}, precision, prepared);
  products_.assign(1, product_of(x, w, y, precision, into, prepared));
  run_products();
}

void CpuKernels::gemm_backward_input(Tensor dy, const Weight& w, Tensor dx, Precision precision, Into into) {
  GemmTile whole = backward_input(dy, w, dx, precision, into);
  if (whole.arithmetic == Arithmetic::kBF16) whole.rounded = round_rows(dy);
  multiply(whole);
}

void CpuKernels::gemm_backward_weight(Tensor dy, Tensor x, Tensor dw, Precision precision) {
  multiply(backward_weight(dy, x, dw, precision));
}

void CpuKernels::grouped_gemm(Tensor x, std::span<const int64_t> offsets, std::span<const Weight> w, Tensor y,
                              Precision precision) {
  check_offsets(offsets, w.size(), x);
  products_.clear();
  Prepared prepared;
  prepare(x, w, precision, prepared);
  for (size_t e = 0; e < w.size(); ++e) {
    const int64_t rows = offsets[e + 1] - offsets[e];
    if (rows > 0) {
      products_.push_back(product_of(x.rows(offsets[e], rows), w[e], y.rows(offsets[e], rows), precision, Into::kAssign,
                                     prepared.from(offsets[e])));
    }
  }
  run_products();
}

void CpuKernels::grouped_swiglu(const GroupedSwigluArgs& a) {
  check(a.w_gate.size() == a.w_up.size(), "every expert has gate and up");
  check_offsets(a.offsets, a.w_gate.size(), a.x);
  products_.clear();
  ups_.clear();
  Prepared prepared;
  prepare(a.x, a.w_gate, a.precision, prepared);
  prepare(a.x, a.w_up, a.precision, prepared);
  for (size_t e = 0; e < a.w_gate.size(); ++e) {
    const int64_t first = a.offsets[e], rows = a.offsets[e + 1] - first;
    if (rows == 0) continue;
    const auto product = [&](const Weight& w, const Tensor& y) {
      return product_of(a.x.rows(first, rows), w, y.rows(first, rows), a.precision, Into::kAssign,
                        prepared.from(first));
    };
    expect_f32(a.h.rows(first, rows), rows, a.w_gate[e].out_features());
    products_.push_back(product(a.w_gate[e], a.gate));
    products_.back().h = row(a.h, first);
    products_.back().h_stride = a.h.stride(0);
    ups_.push_back(product(a.w_up[e], a.up));
  }
  run_products();
  ups_.clear();
}

void CpuKernels::grouped_gemm_backward_input(Tensor dy, std::span<const int64_t> offsets, std::span<const Weight> w,
                                             Tensor dx, Precision precision, Into into) {
  check_offsets(offsets, w.size(), dy);
  products_.clear();
  cpu::RoundedRows rounded;
  for (size_t e = 0; e < w.size(); ++e) {
    const int64_t rows = offsets[e + 1] - offsets[e];
    if (rows == 0) continue;
    GemmTile whole = backward_input(dy.rows(offsets[e], rows), w[e], dx.rows(offsets[e], rows), precision, into);
    if (whole.arithmetic == Arithmetic::kBF16) {
      if (rounded.data == nullptr) rounded = round_rows(dy);
      whole.rounded = rounded.from(offsets[e]);
    }
    products_.push_back({.whole = whole, .groups = {}});
  }
  run_products();
}

void CpuKernels::grouped_gemm_backward_weight(Tensor dy, Tensor x, std::span<const int64_t> offsets,
                                              std::span<const Tensor> dw, Precision precision) {
  check_offsets(offsets, dw.size(), dy);
  products_.clear();
  for (size_t e = 0; e < dw.size(); ++e) {
    const int64_t rows = offsets[e + 1] - offsets[e];
    if (rows > 0) {
      products_.push_back(
          {.whole = backward_weight(dy.rows(offsets[e], rows), x.rows(offsets[e], rows), dw[e], precision),
           .groups = {}});
    }
  }
  run_products();
}

}  // namespace fathom
