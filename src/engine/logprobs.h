// Log-probabilities of tokens as APIs report them: of the model's own distribution, the softmax of its logits over the
// whole vocabulary, before bias, penalties, temperature and filters (as OpenAI's and vLLM's servers do by default).
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace fathom {

struct TokenLogprob {
  int32_t token = 0;
  double logprob = 0;
};

struct Logprobs {
  TokenLogprob chosen;
  std::vector<TokenLogprob> top;  // most probable first (ties: lower id), of the tokens that may be sampled
};

/// The log-probability of `token` and of the num_top most probable allowed tokens (fewer if fewer are allowed). In
/// double; -infinity for a logit of -infinity or NaN; +infinity counts as the largest float.
Logprobs logprobs_of(std::span<const float> logits, const std::vector<bool>& allowed, int32_t token, int64_t num_top);

}  // namespace fathom
