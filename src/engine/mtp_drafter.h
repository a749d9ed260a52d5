// MtpDrafter: guesses tokens with the model's MTP module (V3 report section 2.2 used as in its section 5.4.3). The
// module follows a sequence over its own layer of the cache pages, from a page near the place where it began to guess
// on; from the last known token it guesses the next one, and from its own guess and result the ones after it.
#pragma once

#include <algorithm>
#include <functional>
#include <span>
#include <vector>

#include "engine/scheduler.h"
#include "engine/sequence.h"
#include "model/mtp.h"

namespace fathom {

/// What a sequence wants of the drafter; its speculation.draft gets the guesses.
struct DraftRequest {
  Sequence* sequence = nullptr;
  int64_t num_draft = 0;  // 0: only follow, as tests do
};

class MtpDrafter {
 public:
  /// Chooses the token that follows `context` from the module's logits [V]. A draft is most often right when it is
  /// drawn as the sampler will draw, with the same random number.
  using Choose =
      std::function<int32_t(const Sequence&, std::span<const float> logits, std::span<const int32_t> context)>;

  /// The model has an MTP module; it and the kernels must outlive the drafter.
  MtpDrafter(const Transformer& model, Kernels& kernels, Precision precision, GenerationForm generation)
      : model_(model), kernels_(kernels), precision_(precision), generation_(generation) {}

  /// The sequence begins (again) with its first num_tokens positions in the cache. What the module's layer has there is
  /// not asked for: it begins with the next page.
  static void restart(Sequence& sequence, int64_t num_tokens);
  /// The first position of a prompt whose hidden state is kept.
  static int64_t first_read(const Sequence& sequence) {
    return std::max<int64_t>(0, sequence.prompt_length - kMaxKept);
  }
  /// Takes over the hidden states [T, D] of positions from `position` on, to be followed before the next draft. Of
  /// kMaxKept and more that wait, or after positions that were left out, the module begins anew with the last of them.
  static void keep(Sequence& sequence, int64_t position, Tensor hidden);
  /// Rows of hidden states that a sequence keeps.
  static int64_t num_kept(const Sequence& sequence, int64_t hidden_size) {
    return static_cast<int64_t>(sequence.speculation.mtp.hidden.size()) / hidden_size;
  }
  /// After the sequence was cut to its first num_tokens positions.
  static void truncate(Sequence& sequence, int64_t num_tokens, int64_t hidden_size);

  /// Follows every request's sequence to its last known token and guesses num_draft tokens beyond it. Sequences keep
  /// the hidden states of the positions from mtp.num_computed to their last token, at least one for a draft, and have
  /// pages for num_tokens + num_draft positions. One batch for all requests; the hidden state that goes on to the
  /// second guess is the module's after shared_head.norm, which the head sees too.
  void draft(std::span<DraftRequest> requests, const Choose& choose);

  /// A sequence keeps fewer rows than this: they are memory, and following them is what a first guess costs.
  static constexpr int64_t kMaxKept = LatentPages::kPageTokens + 16;

 private:
  const Transformer& model_;
  Kernels& kernels_;
  Precision precision_;
  GenerationForm generation_;
  Arena arena_;
};

}  // namespace fathom
