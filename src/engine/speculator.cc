#include "engine/speculator.h"

#include <algorithm>
#include <numeric>

#include "base/check.h"

namespace fathom {
namespace {

bool generates(const Sequence& sequence, const StepItem& item) {
  return item.samples && item.count == 1 && item.first_position >= sequence.prompt_length;
}

}  // namespace

/// Its own account, and that of all sequences of its kind: so that many requests together lose no more than a share of
/// their time, one that comes when drafting has paid may draft at once, and none loses much more than a trial. Who has
/// gained so far goes on whatever the others lose.
bool Speculator::may_draft(const Sequence& sequence) const {
  const SequenceSpeculation& s = sequence.speculation;
  if (!s.params.adaptive || s.ledger.lost() < 0) return true;
  return s.ledger.may_draft(begins(sequence)) && ledger(s.params.kind).may_draft(begins(sequence), reserved_);
}

/// Whether an MTP draft would be more than a guess: nothing was followed since the origin, or more rows wait than those
/// of drafted steps in a row, or the module's weights were never used.
bool Speculator::begins(const Sequence& sequence) const {
  if (sequence.speculation.params.kind != SpeculationKind::kMtp) return false;
  const MtpProgress& mtp = sequence.speculation.mtp;
  return !module_was_used_ || mtp.num_computed == mtp.origin ||
         MtpDrafter::num_kept(sequence, hidden_size_) > kMaxDraft + 2;
}

void Speculator::wish(Sequence& sequence) {
  SequenceSpeculation& s = sequence.speculation;
  s.draft.clear();
  s.wish = wanted(sequence);
  if (s.wish > 0 && s.ledger.lost() >= 0) {
    reserved_ += ledger(s.params.kind).expected_cost(begins(sequence), s.wish);
  }
}

int64_t Speculator::wanted(Sequence& sequence) const {
  SequenceSpeculation& s = sequence.speculation;
  const auto next = static_cast<int64_t>(sequence.tokens.size()) - 1;  // the last known token's position
  const bool is_generating = sequence.is_running && sequence.finish == FinishReason::kNone &&
                             sequence.num_computed == next && next >= sequence.prompt_length;
  if (!is_generating || s.params.kind == SpeculationKind::kNone || !may_draft(sequence)) return 0;
  const int64_t room = sequence.max_length - next - 2;
  const int64_t wanted = std::min(room, s.params.adaptive ? s.ledger.num_draft(s.max_draft()) : s.max_draft());
  if (wanted <= 0) return 0;
  if (s.params.kind == SpeculationKind::kMtp) {
    return MtpDrafter::num_kept(sequence, hidden_size_) > 0 ? wanted : 0;
  }
  s.draft = lookup_draft(sequence.tokens, {.num_draft = wanted});
  // What cannot be sampled cannot be right, and neither can what follows it.
  const auto is_impossible = [this](int32_t token) {
    return static_cast<size_t>(token) >= allowed_.size() || !allowed_[static_cast<size_t>(token)];
  };
  s.draft.erase(std::find_if(s.draft.begin(), s.draft.end(), is_impossible), s.draft.end());
  return static_cast<int64_t>(s.draft.size());
}

void Speculator::draft(StepPlan& plan, std::span<const std::unique_ptr<Sequence>> sequences) {
  outcomes_.clear();
  reserved_ = 0;
  num_generating_ = static_cast<int64_t>(plan.items.size());
  only_generates_ = std::all_of(plan.items.begin(), plan.items.end(),
                                [&](const StepItem& item) { return generates(*sequences[item.sequence], item); });
  const bool is_comparable = only_generates_ && plain_.is_known(num_generating_);
  std::vector<DraftRequest> requests;
  for (StepItem& item : plan.items) {
    Sequence& sequence = *sequences[item.sequence];
    SequenceSpeculation& s = sequence.speculation;
    if (s.params.adaptive && !is_comparable) item.num_draft = 0;
    if (s.params.kind != SpeculationKind::kMtp) {
      s.draft.resize(static_cast<size_t>(item.num_draft));
    } else if (item.num_draft > 0) {
      s.begins = begins(sequence);
      requests.push_back({.sequence = &sequence, .num_draft = item.num_draft});
    }
  }
  if (requests.empty()) return;
  for (const DraftRequest& r : requests) {
    const int64_t followed = r.sequence->speculation.mtp.num_computed + MtpDrafter::num_kept(*r.sequence, hidden_size_);
    check(followed == r.sequence->num_computed, "the states of all computed positions were followed or kept");
  }
  module_was_used_ = true;
  drafter_.draft(requests,
                 [this](const Sequence& sequence, std::span<const float> logits, std::span<const int32_t> context) {
                   // As the sampler will draw, with the random number of the position: so a draft is right whenever the
                   // module's distribution is close enough to the model's.
                   return sample_token(logits, allowed_, {.tokens = context, .prompt_length = sequence.prompt_length},
                                       sequence.sampling, static_cast<int64_t>(context.size()));
                 });
}

void Speculator::verified(Sequence& sequence, const StepItem& item, int64_t num_accepted, int64_t num_tokens,
                          Tensor hidden) {
  SequenceSpeculation& s = sequence.speculation;
  if (s.params.kind == SpeculationKind::kNone) return;
  s.ledger.generated(num_tokens);
  ledger(s.params.kind).generated(num_tokens);
  if (item.num_draft > 0) {
    s.stats.add(item.num_draft, num_accepted);
    stats_.add(item.num_draft, num_accepted);
    outcomes_.push_back({&sequence, item.num_draft, num_accepted, s.begins});
  }
  if (s.params.kind == SpeculationKind::kMtp) {  // of a finished sequence too: it may be resumed
    const int64_t first = std::max<int64_t>(0, MtpDrafter::first_read(sequence) - item.first_position);
    const int64_t count = item.count + num_accepted - first;
    if (count > 0) MtpDrafter::keep(sequence, item.first_position + first, hidden.rows(first, count));
  }
}

void Speculator::account(double seconds) {
  if (!only_generates_) return;
  if (outcomes_.empty()) {
    plain_.record(num_generating_, seconds);
    return;
  }
  plain_.age(num_generating_);
  const double plain = plain_.seconds(num_generating_);
  if (plain <= 0) return;
  // In plain tokens' time: a plain step gives each sequence one. The step's extra time belongs to the drafts, by what
  // was expected of them.
  const double extra = (seconds / plain - 1) * static_cast<double>(num_generating_);
  std::vector<double> weights;
  for (const Outcome& o : outcomes_) {
    const double expected = ledger(o.sequence->speculation.params.kind).expected_cost(o.begins, o.num_draft);
    weights.push_back(std::max(expected, 1e-3 * static_cast<double>(o.num_draft)));
  }
  const double all = std::accumulate(weights.begin(), weights.end(), 0.0);
  for (size_t i = 0; i < outcomes_.size(); ++i) {
    const Outcome& o = outcomes_[i];
    SequenceSpeculation& s = o.sequence->speculation;
    const double own = extra * weights[i] / all;
    s.stats.add_time(1 + own, o.num_accepted);
    stats_.add_time(1 + own, o.num_accepted);
    s.ledger.drafted(own, o.num_draft, o.num_accepted, s.max_draft(), o.begins);
    ledger(s.params.kind).drafted(own, o.num_draft, o.num_accepted, s.max_draft(), o.begins);
  }
}

}  // namespace fathom
