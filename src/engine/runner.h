// The runner: one step of the model. Items of a StepPlan -> packed rows with cache pages -> hidden states -> logits of
// the rows that sample.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "engine/scheduler.h"
#include "engine/sequence.h"
#include "model/transformer.h"

namespace fathom {

/// The rows of a plan's items as the model takes them. Pages of every sequence must have been reserved.
struct Batch {
  Batch(std::span<const StepItem> items, std::span<const std::unique_ptr<Sequence>> sequences);
  PackedTokens packed() const {
    return {.tokens = tokens, .positions = positions, .segments = segments, .read_rows = &read_rows};
  }

  std::vector<int32_t> tokens;
  std::vector<int64_t> positions;
  std::vector<Segment> segments;
  std::vector<int64_t> sampled_rows;  // in plan order: of an item its last known token and its guesses
  std::vector<int32_t>
      read_rows;  // these, all of sequences whose prompt is scored, the last of those that an MTP module follows
};

class Runner {
 public:
  Runner(const Transformer& model, Kernels& kernels, Precision precision);

  /// Computes the batch, filling the cache; logits [sampled rows, V] stay valid until the next call.
  Tensor step(const Batch& batch);
  /// The logits [count, V] of rows first_row .. of the last step's batch, among its read_rows; valid until the
  /// next call. For a few rows at a time: a vocabulary is long.
  Tensor score(int64_t first_row, int64_t count);
  /// The hidden states [count, D] of rows of the last step's batch, after the final norm, zero of those not among its
  /// read_rows; valid until the next step.
  Tensor hidden(int64_t first_row, int64_t count) const { return hidden_.rows(first_row, count); }
  /// Tokens of all steps by layer and expert.
  const ExpertLoad& expert_load() const { return expert_load_; }

 private:
  const Transformer& model_;
  Kernels& kernels_;
  Precision precision_;
  Arena arena_;
  ExpertLoad expert_load_;
  Tensor hidden_;           // of the last step [T, D]
  Arena::Mark after_step_;  // what score() computes begins here
};

}  // namespace fathom
