// Run: what every layer needs of one pass: the kernels, the precision of its linear layers, the dtype of its
// activations and the arena they live in. Layers are stateless; a pass carries its state in tensors of this arena.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <vector>

#include "base/arena.h"
#include "kernels/kernels.h"
#include "tensor/tensor.h"

namespace fathom {

/// How many tokens each routed expert got, [layer][expert]; a dense layer has no experts.
using ExpertLoad = std::vector<std::vector<int64_t>>;

struct Run {
  Kernels& k;
  Arena& arena;
  Precision precision = Precision::kF32;
  DType activation = DType::kF32;  // F64 with the ref kernels, for finite differences
  /// Naive attention expands keys and values of so many heads at a time that they fit (one head always does).
  int64_t expansion_bytes = int64_t{64} << 20;
  /// If given, forward of a Transformer adds its tokens; it has the model's layers and experts.
  ExpertLoad* expert_load = nullptr;

  /// An uninitialised activation tensor of this pass.
  Tensor make(std::initializer_list<int64_t> extents) const { return Tensor::allocate(arena, activation, extents); }
  /// Precision of products that stay out of FP8 (V3 report section 3.3.1): attention's up-projection, head, eh_proj.
  Precision unquantized() const { return precision == Precision::kFp8 ? Precision::kF32 : precision; }
};

}  // namespace fathom
