// The scheduler: a pure function from the state of the sequences to the work of the next step: who computes how many
// tokens, who begins, who has to give up its pages. No clock, no memory, no model: a trace of requests can be replayed
// through it in virtual time.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "model/mla.h"

namespace fathom {

/// What of a generated token's attention is computed how (prompt tokens are always naive).
enum class GenerationForm { kAbsorbed, kNaive };

enum class SequencePhase {
  kWaiting,   // has no pages: not begun, or preempted
  kRunning,   // has pages and wants to go on
  kFinished,  // wants nothing; pages it still has (for a follow-up) are the first to go
};

struct SequenceState {
  SequencePhase phase = SequencePhase::kRunning;
  int64_t priority = 0;  // higher goes first
  int64_t arrival = 0;   // within a priority the lower goes first
  int64_t num_tokens = 0;
  int64_t num_computed = 0;  // of a waiting sequence: what cached pages will give it
  int64_t prompt_length = 0;
  std::span<const int32_t> pages = {};  // the pages it holds, some with others; of a waiting one: those it would find
  int64_t num_draft = 0;                // tokens it would have guessed, if it generates
  bool passed_over = false;             // a waiting one that does not begin in this step, though those after it may
  int64_t num_overtaken = 0;            // steps in which overtaken() had it
  bool is_promoted = false;             // a plan has said so
};

struct StepItem {
  size_t sequence = 0;  // index into the states
  int64_t first_position = 0;
  int64_t count = 0;
  MlaForm form = MlaForm::kNaive;
  bool samples = false;   // its last row is the last known token: its logits choose the next one
  int64_t num_draft = 0;  // rows of guesses behind it, which sample too
};

struct StepPlan {
  std::vector<size_t> preempted;   // give their pages back and wait (or, finished, have none), before anything else
  std::vector<size_t> admitted;    // take their cached pages and run from now on
  std::vector<StepItem> items;     // absorbed items come first
  std::optional<size_t> promoted;  // has waited for higher priorities long enough: first in rank until it ends
};

struct StepLimits {
  int64_t token_budget = 512;  // >= 1
  int64_t max_running =
      256;  // >= 1; never more than the token budget, so that every generating sequence gets its token
  int64_t available_pages = 0;   // without a user
  int64_t max_overtaken = 1024;  // steps that a sequence may be overtaken; >= 1
  GenerationForm generation = GenerationForm::kAbsorbed;
};

/// The next step.
///
/// Rank: the promoted sequence first, then higher priority, then earlier arrival.
/// Pages: every item of the plan has its pages, taken in rank order. Who lacks pages takes them from finished
/// sequences, then from running ones of lower rank, lowest first; if that is not enough it computes what fits or
/// stands still with the pages it has. The first in rank always goes on, provided that the cache holds any one
/// sequence. Admission: waiting sequences begin in rank order and none is overtaken for lack of room, so within a
/// priority nobody starves. One is admitted when all its known tokens fit beside what the running ones still need for
/// theirs, with a page to spare for each; running ones of strictly lower priority are preempted for it. Tokens:
/// generating sequences get one each. The rest of the budget goes to those who have to catch up (a prompt; what a
/// preempted sequence had generated): half of it to the first in rank, the other half to those with the least to do
/// within the same priority, so that a huge prompt holds up short ones for no longer than it takes to compute them at
/// half speed, and short ones cannot hold up a huge one for good. What nobody else needs goes to the first. Guesses
/// come last: in rank order, from tokens and pages that are left.
StepPlan plan_step(std::span<const SequenceState> states, const StepLimits& limits);

/// The sequences that want to go on and get nothing by this plan, although one of higher priority does that arrived
/// after them; in order. plan_step asks in how many steps this was so.
std::vector<size_t> overtaken(std::span<const SequenceState> states, const StepPlan& plan);

}  // namespace fathom
