// The sampler: from logits to a token. Bias and penalties; then greedy at temperature 0, otherwise temperature, top-k,
// top-p, min-p, typical-p in the order of Hugging Face's generation. A draw is a function of (seed, position), so it
// does not depend on the batch.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/result.h"

namespace fathom {

struct LogitBias {
  int32_t token = 0;
  double bias = 0;  // added to the token's logit; biases of one token add up
};

struct SamplingParams {
  double temperature = 0.6;
  int64_t top_k = 0;              // 0: off
  double top_p = 1;               // keep the smallest set of at least this mass
  double min_p = 0;               // drop what is below min_p times the best probability
  double typical_p = 1;           // keep the most typical set of at least this mass (Meister et al. 2022)
  double repetition_penalty = 1;  // divides positive logits of tokens in prompt and answer, multiplies negative ones
  double presence_penalty = 0;    // off the logit of every token in the answer
  double frequency_penalty = 0;   // off it once for every time the token is there
  // "Don't repeat yourself" (p-e-w, text-generation-webui 2024): a token that would go on with a repetition is made
  // less probable, the more the longer the repetition is already.
  double dry_multiplier = 0;  // 0: off
  double dry_base = 1.75;
  int64_t dry_allowed_length = 2;                   // repetitions shorter than this are free
  std::vector<int32_t> dry_sequence_breakers = {};  // tokens that no repetition goes through
  std::vector<LogitBias> logit_bias = {};
  uint64_t seed = 0;
};

/// Errors: a parameter out of range (NaN included), by name.
Status check_sampling(const SamplingParams& params);

/// What the penalties look at: the sequence so far.
struct SamplingContext {
  std::span<const int32_t> tokens = {};
  int64_t prompt_length = 0;  // of tokens; the rest is the answer
};

struct Candidate {
  int32_t token = 0;
  double probability = 0;
};

/// The logits that choice and draws begin with: in double; rows that cannot be sampled (padding, NaN) at -infinity,
/// +infinity at the largest float. Then in this order: logit_bias, repetition penalty (CTRL, Keskar et al. 2019),
/// frequency and presence penalty (OpenAI: z -= count * frequency + (count > 0) * presence), DRY (z -= dry_multiplier *
/// dry_base^(n - dry_allowed_length), where n >= dry_allowed_length is the longest end of the context that stands
/// before an earlier occurrence of the token too, without a breaker in it).
std::vector<double> penalized_logits(std::span<const float> logits, const std::vector<bool>& allowed,
                                     const SamplingContext& context, const SamplingParams& params);

/// The candidates left after all filters, most probable first (ties: lower id), probabilities renormalised.
/// `allowed[v]` is false for rows of the vocabulary that no token owns (padding): they are never sampled; at least one
/// row is allowed. NaN counts as -infinity; when every logit does, the first allowed token is left. params must pass
/// check_sampling; temperature must be > 0.
std::vector<Candidate> sampling_candidates(std::span<const float> logits, const std::vector<bool>& allowed,
                                           const SamplingContext& context, const SamplingParams& params);

/// The next token, to stand at `position` of its sequence.
int32_t sample_token(std::span<const float> logits, const std::vector<bool>& allowed, const SamplingContext& context,
                     const SamplingParams& params, int64_t position);

}  // namespace fathom
