// The engine: requests in, tokens out. Each step() lets the scheduler plan, runs the model once and samples. A
// sequence's tokens do not depend on what else is in the batch, on chunking, threads, what the prefix cache had, or on
// having been preempted.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "engine/latent_cache.h"
#include "engine/prefix_store.h"
#include "engine/runner.h"
#include "engine/sequence.h"
#include "engine/sequence_table.h"
#include "engine/speculator.h"
#include "model/model.h"

namespace fathom {

struct EngineOptions {
  Precision precision = Precision::kF32;
  GenerationForm generation = GenerationForm::kAbsorbed;
  int64_t prompt_chunk = 512;        // tokens of a step at most
  int64_t max_cache_tokens = 8192;   // over all sequences
  std::optional<DType> cache_dtype;  // F32, BF16 or E4M3; none: default_cache_dtype of the precision
  int64_t max_running = 256;         // sequences in a step at most; never more than prompt_chunk
  bool prefix_cache = true;          // pages of prompts are kept and shared
  bool mtp_drafts = false;           // room in the cache for the MTP module, so that requests may ask for its drafts
  std::vector<int32_t> stop_tokens;  // end of sequence
  std::vector<bool> allowed_tokens;  // sampleable rows of the vocabulary
};

/// A generated token, or the end of a sequence. A sequence that ends without a further token says kNoToken: its
/// deadline has passed, its logits hold a NaN (kNumericError), or no token was wanted but the prompt's
/// log-probabilities or embedding.
struct TokenEvent {
  static constexpr int32_t kNoToken = -1;

  int64_t sequence_id = 0;
  int32_t token = kNoToken;
  FinishReason finish = FinishReason::kNone;
  std::optional<Logprobs> logprobs = {};       // if asked for
  std::vector<Logprobs> prompt_logprobs = {};  // with the first event: of the prompt's tokens from the second on
  std::vector<float> embedding = {};           // with the first event, if asked for: [D]
  // Of the sequence, up to this step:
  int64_t prefix_hit_tokens = 0;  // of the prompt, found in the cache
  int64_t draft_tokens = 0;       // guessed
  int64_t draft_accepted = 0;     // of them right
  Clock::time_point begun = {};   // when its first tokens began to be computed
};

class Engine {
 public:
  static constexpr int64_t kMaxLogprobs = 128;

  /// The model and the kernels must outlive the engine.
  Engine(const Model& model, Kernels& kernels, EngineOptions options);

  const EngineOptions& options() const { return options_; }
  DType cache_dtype() const { return cache_.dtype(); }
  /// Positions the model was made for, or max_cache_tokens if that is less.
  int64_t context_length() const;

  /// Starts a sequence. For n answers to one prompt, submit it n times with n seeds: the first computes the prompt's
  /// full pages, the others wait for them and share them.
  /// Errors: empty prompt, a token id outside the vocabulary, a prompt that leaves no room for an answer in the
  /// context, a sampling parameter out of range, num_logprobs above kMaxLogprobs, a stop token outside the vocabulary,
  /// min_new_tokens above max_new_tokens, speculation that the model or the options do not provide for.
  Result<int64_t> submit(const Request& request);
  Result<int64_t> submit(std::span<const int32_t> prompt, const SamplingParams& sampling, int64_t max_new_tokens);
  /// Goes on with a finished sequence: `prompt` is its whole new prompt. What it shares with the old prompt is kept in
  /// the cache; generated tokens become prompt tokens and are computed again in prompt form, so that the answer is the
  /// one a fresh sequence would get.
  Status resume(int64_t sequence_id, std::span<const int32_t> prompt, int64_t max_new_tokens);
  /// Forgets a sequence, finished or not: it is not in the next step, and its pages are free at once.
  void remove(int64_t sequence_id);

  /// Keeps full pages of prompts in a directory too and looks for them there (engine/prefix_store.h). `identity` stands
  /// for the weights, the kernels and the program; precision, dtype and shape are seen to here. Before the first step.
  Status open_prefix_store(PrefixStoreOptions options);
  /// PrefixStore::discard(), where there is one.
  void discard_prefix_store();

  bool has_work() const;
  EngineStats stats() const;
  /// Tokens computed since the start by layer and routed expert, drafts included; MTP modules are not counted.
  const ExpertLoad& expert_load() const { return runner_.expert_load(); }
  /// What guessing has brought a sequence that was not removed.
  const SpeculationStats& speculation_stats(int64_t sequence_id) const;
  /// One step of the model; no events when there is no work, several of a sequence whose guesses were right. Sequences
  /// whose deadline is not after `now` end first. When pages run out, sequences wait or are preempted; what they had is
  /// computed again later, to the same bits. Error: an expert could not be read from its file (model/stream_experts);
  /// nothing was computed, and the next step tries again.
  Result<std::vector<TokenEvent>> step(Clock::time_point now = Clock::now());

 private:
  Status check_prompt(std::span<const int32_t> prompt) const;
  Status check_request(const Request& request) const;
  void set_prompt(Sequence& sequence, std::span<const int32_t> prompt, int64_t max_new_tokens);
  void expire(Clock::time_point now, std::vector<TokenEvent>& events);
  void score_prompt(Sequence& sequence, const StepItem& item, int64_t first_row);
  TokenEvent sample(Sequence& sequence, std::span<const float> logits);
  int32_t draw(const Sequence& sequence, std::span<const float> logits) const;

  const Model& model_;
  EngineOptions options_;
  LatentCache cache_;
  Transformer transformer_;
  Runner runner_;
  Speculator speculator_;
  std::unique_ptr<PrefixStore> prefix_store_;  // of the table
  SequenceTable table_;
  int64_t next_id_ = 0;
  EngineStats counters_;
};

}  // namespace fathom
