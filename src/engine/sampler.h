// The sampler: from logits to a token. Greedy at temperature 0; otherwise temperature, top-k, top-p, min-p in the order
// of Hugging Face's generation. A draw is a function of (seed, position), so it does not depend on the batch.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/result.h"

namespace fathom {

struct SamplingParams {
  double temperature = 0.6;
  int64_t top_k = 0;  // 0: off
  double top_p = 1;   // keep the smallest set of at least this mass
  double min_p = 0;   // drop what is below min_p times the best probability
  double repetition_penalty = 1;
  uint64_t seed = 0;
};

/// Errors: a parameter out of range (NaN included), by name.
Status check_sampling(const SamplingParams& params);

struct Candidate {
  int32_t token = 0;
  double probability = 0;
};

/// The candidates left after all filters, most probable first (ties: lower id), probabilities renormalised.
/// `allowed[v]` is false for rows of the vocabulary that no token owns (padding): they are never sampled; at least one
/// row is allowed. NaN counts as -infinity; when every logit does, the first allowed token is left. `context` are the
/// tokens that the repetition penalty looks at. params must pass check_sampling; temperature must be > 0.
std::vector<Candidate> sampling_candidates(std::span<const float> logits, const std::vector<bool>& allowed,
                                           std::span<const int32_t> context, const SamplingParams& params);

/// The next token, to stand at `position` of its sequence.
int32_t sample_token(std::span<const float> logits, const std::vector<bool>& allowed, std::span<const int32_t> context,
                     const SamplingParams& params, int64_t position);

}  // namespace fathom
