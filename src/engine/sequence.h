// Request: what a caller wants. Sequence: one request inside the engine: its tokens, how far they are in the cache, and
// how to go on.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <optional>
#include <vector>

#include "engine/latent_cache.h"
#include "engine/logprobs.h"
#include "engine/sampler.h"
#include "engine/speculate.h"

namespace fathom {

using Clock = std::chrono::steady_clock;

enum class FinishReason { kNone, kStopToken, kMaxTokens, kContextFull, kNumericError, kDeadline };

struct Request {
  std::vector<int32_t> prompt = {};
  SamplingParams sampling = {};
  int64_t max_new_tokens = 16;
  int64_t priority = 0;                            // higher goes first
  std::optional<Clock::time_point> deadline = {};  // from then on it is not worth going on
  /// The log-probability of each generated token and of that many most probable ones; none when negative.
  int64_t num_logprobs = -1;
  /// The same of every prompt token but the first (num_logprobs must not be negative).
  bool prompt_logprobs = false;
  SpeculationParams speculation = {};
  std::vector<int32_t> stop_tokens = {};  // ends of this answer beside the engine's
  bool ignore_stop_tokens = false;        // the engine's, not those above
  int64_t min_new_tokens = 0;             // no end is drawn before (unless nothing else may be)
  /// The hidden state of the last prompt token, after the final norm; max_new_tokens should be 0.
  bool embedding = false;
  bool use_prefix_cache = true;  // false: neither takes pages of others nor gives its own
};

struct Sequence {
  Sequence(int64_t sequence_id, LatentCache& pages) : id(sequence_id), cache(pages) {}

  /// Tokens whose pages may be another request's: of the prompt, and not the last one, whose logits are wanted; none
  /// while the logits of the whole prompt are.
  int64_t num_shareable() const {
    if (prompt_logprobs_wanted() || !use_prefix_cache) return 0;
    return std::min(prompt_length, static_cast<int64_t>(tokens.size()) - 1);
  }
  bool prompt_logprobs_wanted() const {
    return wants_prompt_logprobs && static_cast<int64_t>(prompt_logprobs.size()) + 1 < prompt_length;
  }

  int64_t id;
  std::vector<int32_t> tokens;  // prompt, then generated
  int64_t prompt_length = 0;    // tokens before it are computed in the naive form
  int64_t num_computed = 0;     // tokens whose latents are in the cache
  int64_t max_length = 0;       // generation ends when tokens reach this many
  SamplingParams sampling;
  int64_t priority = 0;
  int64_t arrival = 0;
  std::optional<Clock::time_point> deadline;
  int64_t num_logprobs = -1;
  bool wants_prompt_logprobs = false;
  std::vector<Logprobs> prompt_logprobs;  // of the prompt's tokens from the second on, as far as they are known
  bool is_running = false;                // admitted, and not preempted since
  int64_t num_overtaken = 0;              // steps in which it was overtaken (scheduler.h)
  bool is_promoted = false;               // and by now goes first
  bool is_counted = false;                // in the statistics of the prefix cache
  int64_t num_prefix_hits = 0;            // prompt tokens that were found when it began
  std::vector<int32_t> stop_tokens;       // that end it: the engine's and its own
  int64_t min_new_tokens = 0;
  bool wants_embedding = false;
  bool use_prefix_cache = true;
  FinishReason finish = FinishReason::kNone;
  SequenceSpeculation speculation;
  SequenceCache cache;
  std::vector<uint64_t> page_hashes;  // of the prompt's full pages
  uint64_t prefix_seed = 0;           // of the first page's hash
};

}  // namespace fathom
