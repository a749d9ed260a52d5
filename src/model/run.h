// Run: what every layer needs of one pass: the kernels, the precision of its linear layers, the dtype of its
// activations and the arena they live in. Layers are stateless; a pass carries its state in tensors of this arena.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <span>
#include <vector>

#include "base/arena.h"
#include "kernels/kernels.h"
#include "tensor/tensor.h"

namespace fathom {

/// Sees the inputs of the products of a forward pass with the model's matrices (not of kv_b and of the gate).
class ProductObserver {
 public:
  virtual ~ProductObserver() = default;
  virtual void see(Tensor x, const Weight& w) = 0;
};
/// How many tokens each routed expert got, [layer][expert]; a dense layer has no experts.
using ExpertLoad = std::vector<std::vector<int64_t>>;

struct Run {
  Kernels& k;
  Arena& arena;
  Precision precision = Precision::kF32;
  DType activation = DType::kF32;  // F64 with the ref kernels, for finite differences
  /// Naive attention expands keys and values of so many heads at a time that they fit (one head always does).
  int64_t expansion_bytes = int64_t{64} << 20;
  ProductObserver* observer = nullptr;
  /// If given, forward of a Transformer adds its tokens (to the last layer those whose rows are read); it has the
  /// model's layers and experts.
  ExpertLoad* expert_load = nullptr;

  /// An uninitialised activation tensor of this pass.
  Tensor make(std::initializer_list<int64_t> extents) const { return Tensor::allocate(arena, activation, extents); }
  /// Kernels::gemm and grouped_gemm, before the observer's eyes.
  void product(Tensor x, const Weight& w, Tensor y, Precision p) const {
    if (observer != nullptr) observer->see(x, w);
    k.gemm(x, w, y, p);
  }
  void grouped_product(Tensor x, std::span<const int64_t> offsets, std::span<const Weight> w, Tensor y) const {
    for (size_t e = 0; observer != nullptr && e < w.size(); ++e) {
      observer->see(x.rows(offsets[e], offsets[e + 1] - offsets[e]), w[e]);
    }
    k.grouped_gemm(x, offsets, w, y, precision);
  }
  /// Kernels::grouped_swiglu likewise.
  void grouped_swiglu(const GroupedSwigluArgs& args) const {
    for (size_t e = 0; observer != nullptr && e < args.w_gate.size(); ++e) {
      const Tensor rows = args.x.rows(args.offsets[e], args.offsets[e + 1] - args.offsets[e]);
      observer->see(rows, args.w_gate[e]);
      observer->see(rows, args.w_up[e]);
    }
    k.grouped_swiglu(args);
  }
  /// Precision of products that stay out of FP8 (V3 report section 3.3.1): attention's up-projection, head, eh_proj.
  Precision unquantized() const { return precision == Precision::kFp8 ? Precision::kF32 : precision; }
};

}  // namespace fathom
