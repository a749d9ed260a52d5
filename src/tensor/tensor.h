// Tensor: what crosses the Kernels seam: memory with a run-time dtype, extents and strides (in elements, innermost 1).
// It never owns; Storage does. Weight: a tensor with the scales that belong to it. Param: a weight with its gradient.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>

#include "base/arena.h"
#include "base/check.h"
#include "tensor/dtype.h"
#include "tensor/view.h"

namespace fathom {

struct Tensor {
  static constexpr int kMaxRank = 3;

  void* data = nullptr;
  DType dtype = DType::kF32;
  int rank = 0;
  std::array<int64_t, kMaxRank> extents{};
  std::array<int64_t, kMaxRank> strides{};

  /// A contiguous tensor over `data`.
  static Tensor contiguous(void* data, DType dtype, std::initializer_list<int64_t> extents) {
    Tensor t;
    t.data = data;
    t.dtype = dtype;
    for (int64_t e : extents) t.extents[static_cast<size_t>(t.rank++)] = e;
    int64_t stride = 1;
    for (int a = t.rank - 1; a >= 0; --a) {
      t.strides[static_cast<size_t>(a)] = stride;
      stride *= t.extents[static_cast<size_t>(a)];
    }
    return t;
  }
  /// A contiguous, uninitialised tensor that lives as long as the arena's current lifetime.
  static Tensor allocate(Arena& arena, DType dtype, std::initializer_list<int64_t> extents) {
    Tensor t = contiguous(nullptr, dtype, extents);
    t.data = arena.allocate(static_cast<size_t>(t.numel() * size_of(dtype)));
    return t;
  }

  explicit operator bool() const { return data != nullptr; }
  int64_t extent(int axis) const { return extents[static_cast<size_t>(axis)]; }
  int64_t stride(int axis) const { return strides[static_cast<size_t>(axis)]; }
  int64_t numel() const {
    int64_t n = 1;
    for (int a = 0; a < rank; ++a) n *= extent(a);
    return n;
  }
  int64_t num_bytes() const { return bytes_of(dtype, numel()); }
  bool is_contiguous() const {
    int64_t expected = 1;
    for (int a = rank - 1; a >= 0; --a) {
      if (extent(a) != 1 && stride(a) != expected) return false;
      expected *= extent(a);
    }
    return true;
  }

  /// Indices [begin, begin + count) of `axis`; shares memory.
  Tensor slice(int axis, int64_t begin, int64_t count) const {
    check(begin >= 0 && count >= 0 && begin + count <= extent(axis), "slice lies inside the tensor");
    Tensor t = *this;
    t.data = static_cast<std::byte*>(data) + begin * stride(axis) * size_of(dtype);
    t.extents[static_cast<size_t>(axis)] = count;
    return t;
  }
  Tensor rows(int64_t begin, int64_t count) const { return slice(0, begin, count); }

  /// Splits the last axis (A * B) into [..., A, B].
  Tensor split_last(int64_t a, int64_t b) const {
    check(rank < kMaxRank && extent(rank - 1) == a * b, "the last axis splits evenly");
    Tensor t = *this;
    t.rank = rank + 1;
    t.extents[static_cast<size_t>(rank - 1)] = a;
    t.strides[static_cast<size_t>(rank - 1)] = b;
    t.extents[static_cast<size_t>(rank)] = b;
    t.strides[static_cast<size_t>(rank)] = 1;
    return t;
  }
  /// Joins the last two axes, which must be adjacent in memory.
  Tensor join_last() const {
    check(rank >= 2 && stride(rank - 2) == extent(rank - 1), "the last two axes are adjacent");
    Tensor t = *this;
    t.rank = rank - 1;
    t.extents[static_cast<size_t>(rank - 2)] = extent(rank - 2) * extent(rank - 1);
    t.strides[static_cast<size_t>(rank - 2)] = 1;
    return t;
  }

  /// The typed view a back end works on; dtype and rank must match.
  template <class T, int Rank>
  View<T, Rank> view() const {
    check(dtype == DTypeOf<std::remove_const_t<T>>::value, "tensor has the dtype of the view");
    check(rank == Rank, "tensor has the rank of the view");
    View<T, Rank> v;
    v.data = static_cast<T*>(data);
    for (int a = 0; a < Rank; ++a) {
      v.extents[static_cast<size_t>(a)] = extent(a);
      v.strides[static_cast<size_t>(a)] = stride(a);
    }
    return v;
  }
  template <class T>
  T* ptr() const {
    check(dtype == DTypeOf<std::remove_const_t<T>>::value, "tensor has the dtype of the pointer");
    return static_cast<T*>(data);
  }
};

/// How FP8 scales are made: amax / 448 in FP32, or that rounded up to a power of two (scale_fmt "ue8m0").
enum class ScaleFormat { kF32, kUe8m0 };

/// The integer formats (numerics/intq.h): 32 neighbours along `in` share a scale, of kQ6K 16 do; the real value is
/// table[code] * scale, of kQ4K and kQ5K less an offset. Those from kQ5_0 on are read from GGUF files and never made.
enum class GroupFormat : uint8_t { kNone, kInt8, kInt4, kIq4Nl, kMxfp4, kQ5_0, kQ4K, kQ5K, kQ6K, kIq4Xs };

/// How a matrix lies in memory: row after row; in panels of 16 rows (numerics/panels.h), which products alone read; or,
/// of integer groups, row after row in the blocks of a GGUF file (numerics/blocks.h), to be packed into panels.
enum class WeightLayout : uint8_t { kRows, kPanels, kBlocks };

/// A matrix [out, in] (or vector) as stored: FP8 codes carry one FP32 scale per 128x128 block, [ceil(out/128),
/// ceil(in/128)]; the real value is code * scale. Integer codes (groups) are I8 or U4 with one scale per row and group,
/// [out, ceil(in/32)] F16 or E8M0; their rows are whole groups long; those of 5 and 6 bits, which are in blocks and
/// panels alone, are called U8. Other dtypes have no scales. A product in FP8
/// quantises its activations with scales of the weight's format. In panels and blocks, codes has the shape of the
/// matrix but its strides mean nothing, and the scales of groups lie beside their codes.
struct Weight {
  Tensor codes;
  Tensor scales;
  ScaleFormat scale_format = ScaleFormat::kF32;
  GroupFormat groups = GroupFormat::kNone;
  WeightLayout layout = WeightLayout::kRows;

  int64_t out_features() const { return codes.extent(0); }
  int64_t in_features() const { return codes.extent(1); }
  explicit operator bool() const { return static_cast<bool>(codes); }
};

inline constexpr int64_t kScaleBlock = 128;

/// A learnable parameter: its value for computing, and where its gradient is summed up (FP32; none outside training).
struct Param {
  Weight value;
  Tensor grad;

  explicit operator bool() const { return static_cast<bool>(value); }
};

}  // namespace fathom
