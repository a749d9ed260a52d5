// The speculator: which sequences of a step get a draft, the drafts themselves, and the account of what they bring. The
// engine asks it before and after its plan and after the model; the tokens are the engine's and its sampler's alone.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "engine/mtp_drafter.h"
#include "engine/scheduler.h"
#include "engine/sequence.h"
#include "engine/speculate.h"

namespace fathom {

class Speculator {
 public:
  /// `allowed` are the tokens that may be sampled; it, the model and the kernels must outlive the speculator.
  Speculator(const Transformer& model, Kernels& kernels, Precision precision, GenerationForm generation,
             const std::vector<bool>& allowed)
      : drafter_(model, kernels, precision, generation), hidden_size_(model.config().hidden_size), allowed_(allowed) {}

  /// Sets speculation.wish: how many tokens a sequence that generates would have guessed in the next step; for prompt
  /// lookup its draft is made. No more than max_length leaves room for, and none while its account says that drafting
  /// does not pay.
  void wish(Sequence& sequence);
  /// Makes the drafts of the plan's items; their pages have been reserved. Takes num_draft back from an adaptive
  /// sequence when the step could not be compared with plain ones: prompts are computed in it too, or no plain step of
  /// its size was measured of late.
  void draft(StepPlan& plan, std::span<const std::unique_ptr<Sequence>> sequences);

  /// After an item was sampled: num_accepted of its draft's tokens are right, num_tokens were generated; hidden [rows,
  /// D] are the states of the item's rows, drafts included.
  void verified(Sequence& sequence, const StepItem& item, int64_t num_accepted, int64_t num_tokens, Tensor hidden);
  /// After the step, which took that many seconds from draft() on.
  void account(double seconds);

  /// The sequence was cut to its first num_tokens positions.
  void truncate(Sequence& sequence, int64_t num_tokens) const {
    MtpDrafter::truncate(sequence, num_tokens, hidden_size_);
  }

  const SpeculationStats& stats() const { return stats_; }

 private:
  struct Outcome {
    Sequence* sequence;
    int64_t num_draft, num_accepted;
    bool begins;
  };
  int64_t wanted(Sequence& sequence) const;
  bool may_draft(const Sequence& sequence) const;
  bool begins(const Sequence& sequence) const;
  const DraftLedger& ledger(SpeculationKind kind) const { return ledgers_[static_cast<size_t>(kind)]; }
  DraftLedger& ledger(SpeculationKind kind) { return ledgers_[static_cast<size_t>(kind)]; }

  MtpDrafter drafter_;
  int64_t hidden_size_;
  const std::vector<bool>& allowed_;
  PlainStepCost plain_;
  DraftLedger ledgers_[3] = {DraftLedger(), DraftLedger(SpeculationKind::kMtp),
                             DraftLedger(SpeculationKind::kLookup)};  // of all sequences of a kind
  SpeculationStats stats_;
  bool module_was_used_ = false;
  double reserved_ = 0;  // expected of the drafts that were wished for the next step, in plain tokens' time
  // Of the step:
  std::vector<Outcome> outcomes_;
  int64_t num_generating_ = 0;
  bool only_generates_ = false;
};

}  // namespace fathom
