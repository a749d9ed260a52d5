// Divergence: how far the predictions of a model are from those of another, token by token of a text. What quantisation
// costs is told with it.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "base/threads.h"
#include "model/run.h"
#include "model/transformer.h"

namespace fathom {

/// Sums over the tokens of a text that were predicted. p is the reference's distribution of the next token, q the
/// model's, both softmaxes in double of FP32 logits.
struct Divergence {
  int64_t num_tokens = 0;
  double kl = 0;                 // KL(p || q) = sum p (log p - log q), in nats
  int64_t same_top = 0;          // tokens where the most probable one is the same (the lower id of equal ones)
  double error_squares = 0;      // ||logits - reference logits||^2
  double reference_squares = 0;  // ||reference logits||^2
  double nats = 0;               // -log q of the tokens that came
  double reference_nats = 0;     // -log p of them

  double kl_per_token() const { return kl / static_cast<double>(num_tokens); }
  double top_agreement() const { return static_cast<double>(same_top) / static_cast<double>(num_tokens); }
  double relative_l2() const;  // of all logits together
};

/// Adds the rows t of both [T, V] whose targets[t] is a token (>= 0), in order. Rows are spread over `pool`; the sums
/// do not depend on how many threads it has.
void compare_logits(Tensor reference, Tensor logits, std::span<const int32_t> targets, ThreadPool& pool,
                    Divergence& sum);

/// A part of a text that is scored: tokens [begin, end) are computed, [first_scored, end) are predicted.
struct ScoredWindow {
  int64_t begin = 0;
  int64_t end = 0;
  int64_t first_scored = 0;
};
/// Windows over a document of `length` tokens, the first of which (BOS) is given: the first whole, later ones start
/// half a window back and score their second half, so that every token is scored once and, but for the first ones, with
/// at least half a window of context. `window` >= 2.
std::vector<ScoredWindow> score_windows(int64_t length, int64_t window);
/// The windows of llama-perplexity: whole chunks of `chunk` tokens one after the other, `most` of them at most, what is
/// left at the end not scored. Of a chunk the tokens after the first of its second half are predicted, chunk -
/// chunk / 2 - 1 of them; its first token, which the caller replaces by BOS, is not. `chunk` >= 3.
std::vector<ScoredWindow> chunk_windows(int64_t length, int64_t chunk, int64_t most);
/// The token that each position of a window predicts, -1 where it is not scored.
std::vector<int32_t> targets_of(const ScoredWindow& window, std::span<const int32_t> ids);

/// A model and how it is run.
struct ScoredModel {
  const Run& run;
  const Transformer& model;
  /// One entry per layer, with room for a window: attention reads the latents as a cache of that dtype has them. Empty:
  /// as computed, which a cache in the precision of the run would not change.
  std::span<const LatentPages> pages = {};

  /// Hidden states of the window's tokens, as one sequence from position 0.
  Tensor forward(std::span<const int32_t> tokens) const;
};

/// Compares two models of one vocabulary on the windows of a document; `report` gets the share that is done and says
/// whether to go on. False: it said no.
bool measure_divergence(const ScoredModel& reference, const ScoredModel& model, std::span<const int32_t> ids,
                        std::span<const ScoredWindow> windows, ThreadPool& pool, Divergence& sum,
                        const std::function<bool(double)>& report);

}  // namespace fathom
