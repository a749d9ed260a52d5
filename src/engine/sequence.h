// Sequence: one request inside the engine: its tokens, how far they are in the cache, and how to go on.
#pragma once

#include <cstdint>
#include <vector>

#include "engine/latent_cache.h"
#include "engine/sampler.h"

namespace fathom {

enum class FinishReason { kNone, kStopToken, kMaxTokens, kContextFull, kNumericError };

struct Sequence {
  Sequence(int64_t sequence_id, LatentCache& pages) : id(sequence_id), cache(pages) {}

  int64_t id;
  std::vector<int32_t> tokens;  // prompt, then generated
  int64_t prompt_length = 0;    // tokens before it are computed in the naive form
  int64_t num_computed = 0;     // tokens whose latents are in the cache
  int64_t max_length = 0;       // generation ends when tokens reach this many
  SamplingParams sampling;
  FinishReason finish = FinishReason::kNone;
  SequenceCache cache;
};

}  // namespace fathom
