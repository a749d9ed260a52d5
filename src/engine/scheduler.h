// The scheduler: a pure function from the state of the sequences to the work of the next step. Generated tokens come
// first (one per sequence), then chunks of prompts until the step's token budget is used.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "model/mla.h"

namespace fathom {

struct SequenceState {
  int64_t num_tokens = 0;
  int64_t num_computed = 0;
  int64_t prompt_length = 0;
};

/// What of a generated token's attention is computed how (prompt tokens are always naive).
enum class GenerationForm { kAbsorbed, kNaive };

struct StepItem {
  size_t sequence = 0;  // index into the states
  int64_t first_position = 0;
  int64_t count = 0;
  MlaForm form = MlaForm::kNaive;
  bool samples = false;  // its last row is the last known token: its logits choose the next one
};

using StepPlan = std::vector<StepItem>;

/// Empty when nothing is left to compute. token_budget >= 1. Absorbed items come first.
StepPlan plan_step(std::span<const SequenceState> states, int64_t token_budget, GenerationForm generation);

}  // namespace fathom
