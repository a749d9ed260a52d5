#include "engine/scheduler.h"

#include <algorithm>

namespace fathom {

StepPlan plan_step(std::span<const SequenceState> states, int64_t token_budget, GenerationForm generation) {
  StepPlan plan;
  int64_t left = token_budget;
  const auto add = [&](bool generated) {
    for (size_t i = 0; i < states.size() && left > 0; ++i) {
      const SequenceState& s = states[i];
      const bool in_prompt = s.num_computed < s.prompt_length;
      if (s.num_computed >= s.num_tokens || in_prompt == generated) continue;
      const int64_t end = in_prompt ? s.prompt_length : s.num_tokens;
      const int64_t count = std::min(left, end - s.num_computed);
      plan.push_back(
          {.sequence = i,
           .first_position = s.num_computed,
           .count = count,
           .form = generated && generation == GenerationForm::kAbsorbed ? MlaForm::kAbsorbed : MlaForm::kNaive,
           .samples = s.num_computed + count == s.num_tokens});
      left -= count;
    }
  };
  add(true);
  add(false);
  return plan;
}

}  // namespace fathom
