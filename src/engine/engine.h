// The engine: sequences in, tokens out. Each step() lets the scheduler plan, runs the model once and samples. A
// sequence's tokens do not depend on what else is in the batch, on chunking or on threads.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "engine/latent_cache.h"
#include "engine/runner.h"
#include "engine/scheduler.h"
#include "engine/sequence.h"
#include "model/model.h"

namespace fathom {

struct EngineOptions {
  Precision precision = Precision::kF32;
  GenerationForm generation = GenerationForm::kAbsorbed;
  int64_t prompt_chunk = 512;        // tokens of a step at most
  int64_t max_cache_tokens = 8192;   // over all sequences
  std::vector<int32_t> stop_tokens;  // end of sequence
  std::vector<bool> allowed_tokens;  // sampleable rows of the vocabulary
};

/// A sampled token, or the end of a sequence. A sequence that ends without a token more (kNumericError: its logits hold
/// a NaN) says kNoToken.
struct TokenEvent {
  static constexpr int32_t kNoToken = -1;

  int64_t sequence_id = 0;
  int32_t token = kNoToken;
  FinishReason finish = FinishReason::kNone;
};

/// Counts since the engine was made, and what is in use now.
struct EngineStats {
  int64_t pages_in_use = 0;    // pages of the cache that sequences hold
  int64_t numeric_errors = 0;  // sequences that ended because a logit was not a number
};

class Engine {
 public:
  /// The model and the kernels must outlive the engine.
  Engine(const Model& model, Kernels& kernels, EngineOptions options);

  const EngineOptions& options() const { return options_; }
  /// Positions the model was made for, or max_cache_tokens if that is less.
  int64_t context_length() const;

  /// Starts a sequence. Errors: empty prompt, a token id outside the vocabulary, a prompt that leaves no room for an
  /// answer in the context, a sampling parameter out of range.
  Result<int64_t> submit(std::span<const int32_t> prompt, const SamplingParams& sampling, int64_t max_new_tokens);
  /// Goes on with a finished sequence: `prompt` is its whole new prompt. What it shares with the old prompt is kept in
  /// the cache; generated tokens become prompt tokens and are computed again in prompt form, so that the answer is the
  /// one a fresh sequence would get.
  Status resume(int64_t sequence_id, std::span<const int32_t> prompt, int64_t max_new_tokens);
  void remove(int64_t sequence_id);

  bool has_work() const;
  EngineStats stats() const {
    EngineStats now = counters_;
    now.pages_in_use = cache_.pages_in_use();
    return now;
  }
  /// One step of the model; no events when there is no work. Errors: the cache is full (then nothing was computed;
  /// removing a sequence makes room).
  Result<std::vector<TokenEvent>> step();

 private:
  Sequence* find(int64_t sequence_id);
  Status check_prompt(std::span<const int32_t> prompt) const;

  const Model& model_;
  EngineOptions options_;
  LatentCache cache_;
  Transformer transformer_;
  Runner runner_;
  std::vector<std::unique_ptr<Sequence>> sequences_;
  int64_t next_id_ = 0;
  EngineStats counters_;
};

}  // namespace fathom
