// The runner: one step of the model. StepPlan -> packed rows with cache pages -> hidden states -> logits of the rows
// that sample.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "engine/scheduler.h"
#include "engine/sequence.h"
#include "model/transformer.h"

namespace fathom {

/// A plan's rows as the model takes them. Pages of every sequence must have been reserved.
struct Batch {
  Batch(const StepPlan& plan, std::span<const std::unique_ptr<Sequence>> sequences);
  PackedTokens packed() const { return {.tokens = tokens, .positions = positions, .segments = segments}; }

  std::vector<int32_t> tokens;
  std::vector<int64_t> positions;
  std::vector<Segment> segments;
  std::vector<int64_t> sampled_rows;  // in plan order
};

class Runner {
 public:
  Runner(const Transformer& model, Kernels& kernels, Precision precision)
      : model_(model), kernels_(kernels), precision_(precision) {}

  /// Computes the batch, filling the cache; logits [sampled rows, V] stay valid until the next call.
  Tensor step(const Batch& batch);

 private:
  const Transformer& model_;
  Kernels& kernels_;
  Precision precision_;
  Arena arena_;
};

}  // namespace fathom
