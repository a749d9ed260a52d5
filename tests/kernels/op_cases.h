// One table of operation cases: operands, how to run the operation on any back end, and how far a result may be from
// ref's. Tests and benches walk this table, so an operation added here is checked everywhere.
#pragma once

#include <cmath>
#include <cstring>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "base/rng.h"
#include "kernels/guarded_memory.h"
#include "kernels/kernels.h"
#include "kernels/op_bounds.h"
#include "numerics/blocks.h"
#include "numerics/compare.h"
#include "numerics/fp8.h"

namespace fathom::op_cases {

using testing::Guarded;

/// A tensor with its memory between two pages that may not be touched, at the one that `guarded` names; outputs start
/// as NaN.
class Block {
 public:
  Block() = default;
  Block(DType dtype, std::vector<int64_t> extents, Guarded guarded = Guarded::kEnd)
      : extents_(std::move(extents)), dtype_(dtype), memory_(num_bytes(), guarded) {
    if (num_bytes() > 0) std::memset(data(), 0xFF, static_cast<size_t>(num_bytes()));  // NaN in every floating type
  }

  int64_t numel() const {
    int64_t n = 1;
    for (int64_t e : extents_) n *= e;
    return n;
  }
  int64_t num_bytes() const { return numel() * size_of(dtype_); }
  uint8_t* data() const { return memory_.data(); }
  /// Nothing was written on the side whose guard page is further away (on the other one a write stops the program).
  bool rest_intact() const { return memory_.rest_intact(); }
  Tensor tensor() const {
    if (extents_.empty()) return {};
    if (extents_.size() == 1) return Tensor::contiguous(data(), dtype_, {extents_[0]});
    if (extents_.size() == 2) return Tensor::contiguous(data(), dtype_, {extents_[0], extents_[1]});
    return Tensor::contiguous(data(), dtype_, {extents_[0], extents_[1], extents_[2]});
  }
  double real(int64_t i) const {
    switch (dtype_) {
      case DType::kF64: return reinterpret_cast<const double*>(data())[i];
      case DType::kF32: return reinterpret_cast<const float*>(data())[i];
      case DType::kBF16: return to_float(reinterpret_cast<const bf16*>(data())[i]);
      case DType::kI32: return reinterpret_cast<const int32_t*>(data())[i];
      default: return data()[i];
    }
  }
  void set(int64_t i, double v) {
    switch (dtype_) {
      case DType::kF64: reinterpret_cast<double*>(data())[i] = v; return;
      case DType::kF32: reinterpret_cast<float*>(data())[i] = static_cast<float>(v); return;
      case DType::kBF16: reinterpret_cast<bf16*>(data())[i] = to_bf16(static_cast<float>(v)); return;
      case DType::kF16: reinterpret_cast<f16*>(data())[i] = to_f16(static_cast<float>(v)); return;
      case DType::kI32: reinterpret_cast<int32_t*>(data())[i] = static_cast<int32_t>(v); return;
      default: data()[i] = to_e4m3(static_cast<float>(v)).bits; return;
    }
  }
  void fill(Rng rng, double scale, double offset = 0) {
    for (int64_t i = 0; i < numel(); ++i) set(i, offset + scale * rng.normal(static_cast<uint64_t>(i)));
  }
  DType dtype() const { return dtype_; }
  bool bytes_equal(const Block& other) const {
    return num_bytes() == other.num_bytes() && std::memcmp(data(), other.data(), static_cast<size_t>(num_bytes())) == 0;
  }

 private:
  std::vector<int64_t> extents_;
  DType dtype_ = DType::kF32;
  testing::GuardedMemory memory_;
};

/// Named operands; `real` is the activations' dtype (F32, or F64 for finite differences on ref).
struct Operands {
  DType real = DType::kF32;
  Guarded guarded = Guarded::kEnd;
  std::map<std::string, Block> blocks;
  uint64_t seed = 1;

  /// A block of NaN.
  Block& block(const std::string& name, DType dtype, std::vector<int64_t> extents) {
    return blocks[name] = Block(dtype, std::move(extents), guarded);
  }

  Block& input(const std::string& name, std::vector<int64_t> extents, double scale = 1, double offset = 0) {
    Block& b = block(name, real, std::move(extents));
    b.fill(Rng(seed, stream_of(name)), scale, offset);
    return b;
  }
  Block& output(const std::string& name, std::vector<int64_t> extents) { return block(name, real, std::move(extents)); }
  /// A weight in `dtype` (F32 becomes `real`); E4M3 comes with block scales.
  void weight(const std::string& name, DType dtype, int64_t rows, int64_t columns, double scale) {
    Block& b = block(name, dtype == DType::kF32 ? real : dtype, {rows, columns});
    b.fill(Rng(seed, stream_of(name)), dtype == DType::kE4M3 ? 100 : scale);
    if (dtype == DType::kE4M3) {
      Block& s = block(name + ".scales", DType::kF32, {num_scale_blocks(rows), num_scale_blocks(columns)});
      for (int64_t i = 0; i < s.numel(); ++i) s.set(i, scale / 100 * (1 + 0.1 * static_cast<double>(i % 7)));
    }
  }
  /// A matrix in the blocks of a GGUF file: any codes and factors, scales (halves of the block, at these bytes) as of
  /// numbers near 0.1.
  Weight group_blocks(const std::string& name, GroupFormat format, int64_t rows, int64_t columns) {
    const int64_t bytes = block_bytes(format), numbers = groups_of_block(format) * kGroupSize;
    const int64_t count = rows * columns / numbers;
    Block& b = block(name, DType::kU8, {count * bytes});
    const Rng rng(seed, stream_of(name));
    for (int64_t i = 0; i < b.numel(); ++i)
      b.data()[i] = static_cast<uint8_t>(rng.below(static_cast<uint64_t>(i), 256));
    const bool at_end = format == GroupFormat::kQ6K;
    for (int64_t i = 0; i < count; ++i) {
      for (int64_t half = 0; half < (has_offsets(format) ? 2 : 1); ++half) {
        const f16 scale = to_f16(1e-3f * static_cast<float>(1 + (i + half) % 7));
        std::memcpy(b.data() + i * bytes + (at_end ? bytes - 2 : 2 * half), &scale.bits, sizeof(scale.bits));
      }
    }
    return blocks_of(format, rows, columns, reinterpret_cast<const std::byte*>(b.data()));
  }
  void ints(const std::string& name, std::vector<int64_t> extents, int64_t bound) {
    Block& b = block(name, DType::kI32, std::move(extents));
    const Rng rng(seed, stream_of(name));
    for (int64_t i = 0; i < b.numel(); ++i) {
      b.set(i, static_cast<double>(rng.below(static_cast<uint64_t>(i), static_cast<uint64_t>(bound))));
    }
  }
  Tensor at(const std::string& name) const { return blocks.at(name).tensor(); }
  Weight w(const std::string& name) const {
    const auto scales = blocks.find(name + ".scales");
    return {at(name), scales == blocks.end() ? Tensor{} : scales->second.tensor()};
  }
  std::span<const int32_t> span(const std::string& name) const {
    const Tensor t = at(name);
    return {t.ptr<const int32_t>(), static_cast<size_t>(t.numel())};
  }
};

/// How close a level must be to ref.
enum class Closeness { kBits, kSum, kCounted };

struct OpCase {
  std::string name;
  std::vector<std::string> outputs;
  std::function<void(Operands&)> setup;
  std::function<void(Kernels&, Operands&)> run;
  Closeness closeness = Closeness::kBits;
  /// kSum: terms per output; the bound is sum_bound(terms, |result| of the operation on the operands' magnitudes).
  int64_t terms = 0;
  /// kCounted: the bound of each element, in units of 2^-24.
  BoundsOf bounds = {};
  /// FP32 arithmetic: the same bits on every level.
  bool same_on_levels = true;
  /// Multiply-adds, for benches.
  double macs = 0;
};

inline std::string name_of_shape(std::initializer_list<int64_t> shape) {
  std::string out;
  for (int64_t e : shape) {
    if (!out.empty()) out += 'x';
    out += std::to_string(e);
  }
  return out;
}
inline std::string numbered(std::string name, int64_t i) { return name.append(std::to_string(i)); }

struct PrefillShape {
  int64_t t, s, first, h, nope, rope, value;
};

/// The shapes that cases are made of.
struct OpShapes {
  struct Grouped {
    std::vector<int64_t> offsets;
    int64_t n = 1, k = 1;
  };
  struct Router {
    int64_t t, e, k, groups, kept;
    bool sigmoid, biased, norm;
  };
  struct Decode {
    int64_t t, h, latent, rope;
    DType dtype;
  };
  struct Product {
    int64_t t, n, k;
  };
  struct Rows {
    int64_t t, d;
  };
  struct Rope {
    int64_t t, h, r;
  };
  std::vector<Product> gemms, panels;  // weights in rows and in panels
  std::vector<Grouped> grouped;
  std::vector<Rows> rows;
  std::vector<Rope> ropes;
  std::vector<int64_t> lengths;
  std::vector<Router> routers;
  std::vector<PrefillShape> prefills;
  std::vector<Decode> decodes;
};

/// Around the tiles: 1, tile, tile + 1, primes.
OpShapes fixed_shapes();
/// The same kinds of sizes, 0 among them, drawn anew for each seed.
OpShapes random_shapes(uint64_t seed);

std::vector<OpCase> cases_of(const OpShapes& shapes);
/// Of fixed_shapes.
std::vector<OpCase> all_cases();

/// The magnitudes of every floating-point operand, for Closeness::kSum.
inline void take_magnitudes(Operands& ops) {
  for (auto& [name, block] : ops.blocks) {
    if (block.dtype() == DType::kI32 || name.ends_with(".scales")) continue;
    const DType d = block.dtype();
    const int64_t size = size_of(d);
    for (int64_t i = 0; i < block.numel(); ++i) block.data()[i * size + size - 1] &= 0x7F;  // clear the sign
  }
}

}  // namespace fathom::op_cases
