// MtpDrafter: guesses tokens with the model's MTP module (V3 report section 2.2 used as in its section 5.4.3). The
// module follows a sequence over its own layer of the cache pages; from the last known token it guesses the next one,
// and from its own guess and result the ones after it.
#pragma once

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
  int64_t num_draft = 0;  // 0: only follow
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

  /// Takes over the hidden states [T, D] of the sequence's next positions (from mtp.num_computed + kept rows on), to be
  /// followed before the next draft.
  static void keep(Sequence& sequence, Tensor hidden);
  /// Rows of hidden states that a sequence keeps.
  static int64_t num_kept(const Sequence& sequence, int64_t hidden_size) {
    return static_cast<int64_t>(sequence.speculation.mtp.hidden.size()) / hidden_size;
  }
  /// After the sequence was cut to its first num_tokens positions.
  static void truncate(Sequence& sequence, int64_t num_tokens, int64_t hidden_size);

  /// Follows every request's sequence to its last known token and guesses num_draft tokens beyond it. Sequences keep
  /// the hidden states of all positions before their last token, at least one for a draft, and have pages for
  /// num_tokens + num_draft positions. One batch for all requests; the hidden state that goes on to the second guess is
  /// the module's after shared_head.norm, which the head sees too.
  void draft(std::span<DraftRequest> requests, const Choose& choose);

  /// A sequence that keeps this many rows should be followed: they are memory, and rows of one batch are cheaper.
  static constexpr int64_t kMaxKept = 512;

 private:
  const Transformer& model_;
  Kernels& kernels_;
  Precision precision_;
  GenerationForm generation_;
  Arena arena_;
};

}  // namespace fathom
