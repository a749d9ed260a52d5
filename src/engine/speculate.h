// Speculation: guess the next tokens cheaply, compute them in one step, keep those that plain decoding would have
// drawn. The pure parts: guesses by prompt lookup, acceptance, its statistics, and when to stop guessing. A draw is a
// function of (seed, position), so a draft is verified by drawing: the output is plain decoding's, bit for bit, greedy
// or sampled.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <map>
#include <span>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace fathom {

enum class SpeculationKind { kNone, kMtp, kLookup };

struct SpeculationParams {
  SpeculationKind kind = SpeculationKind::kNone;
  int64_t num_draft = 0;  // tokens guessed per step at most; 0: default_num_draft(kind)
  bool adaptive = true;   // stop guessing where it does not pay; false: guess in every step

  bool operator==(const SpeculationParams&) const = default;
};

/// Larger drafts are refused: rows that are seldom accepted cost as much as rows that are.
inline constexpr int64_t kMaxDraft = 16;

/// "none", "mtp", "lookup". Errors: another name.
Result<SpeculationKind> parse_speculation(std::string_view name);
std::string_view name_of(SpeculationKind kind);

/// 1 for MTP (V3 was trained to look one token further), 4 for lookup.
int64_t default_num_draft(SpeculationKind kind);

/// Errors: num_draft outside 0..16; MTP with a model that has no MTP module.
Status check_speculation(const SpeculationParams& params, int64_t num_mtp_modules);

struct LookupOptions {
  int64_t num_draft = 4;
  int64_t min_match = 3;       // shorter repetitions are chance
  int64_t max_match = 16;      // a match this long is not bettered by a longer one
  int64_t max_window = 65536;  // looks back this many tokens
};

/// Prompt lookup (Saxena 2023): finds the longest earlier occurrence of the sequence's last tokens (min_match to
/// max_match of them; the most recent of equally long ones) and returns what followed it: num_draft tokens, or none
/// without a match. A copy that reaches the end goes on with itself, as in LZ77. Compares at most
/// max_window x max_match tokens and allocates nothing but the result.
std::vector<int32_t> lookup_draft(std::span<const int32_t> tokens, const LookupOptions& options);

/// What a draw made of a row: the token that plain decoding puts there, and whether generation ends with it.
struct Draw {
  int32_t token = 0;
  bool ends = false;
};

/// Verifies a draft. draw(j) draws from the logits of row j, whose context are the known tokens and draft[0 .. j), and
/// appends the token to the sequence; it is called for j = 0, 1, ... as long as the tokens drawn so far are the
/// draft's. Returns the number of draft tokens accepted; the number of tokens drawn is that plus 1, or that alone when
/// generation ended with an accepted one. Lossless: each token is drawn from the row that plain decoding would have.
int64_t verify_draft(std::span<const int32_t> draft, const std::function<Draw(int64_t row)>& draw);

/// Counts of a request or of an engine.
struct SpeculationStats {
  int64_t steps = 0;                       // with a draft
  int64_t proposed = 0;                    // draft tokens
  int64_t accepted = 0;                    // of them
  std::vector<int64_t> position_proposed;  // [j]: drafts with a token j
  std::vector<int64_t> position_accepted;  // [j]: of them accepted
  // Of the drafted steps that could be compared with plain ones (all but those of --always-draft, mostly):
  int64_t timed_steps = 0;
  int64_t timed_tokens = 0;  // that they generated
  double timed_cost = 0;     // the time they took, in plain steps

  void add(int64_t num_draft, int64_t num_accepted);
  /// A step that was added, in units of a plain one's time.
  void add_time(double plain_steps, int64_t num_accepted);
  SpeculationStats& operator+=(const SpeculationStats& other);
  /// accepted / proposed; 0 before the first.
  double acceptance() const;
  /// Tokens of a drafted step: 1 + accepted / steps; 1 before the first.
  double tokens_per_step() const;
  /// How many times as fast as plain decoding the timed steps were; 0 when there were none.
  double measured_speedup() const;
  /// The same by arithmetic, (1 + p0 + p0 p1 + ...) / (1 + draft + extra): tokens of a drafted step over its costs in
  /// units of a plain step, `draft` to guess, `extra` to compute the guesses' rows (for a MoE mostly the bytes of the
  /// experts they add).
  double modelled_speedup(double draft, double extra) const { return tokens_per_step() / (1 + draft + extra); }
};

/// Seconds of plain decoding steps by batch size: what drafted steps are compared with. The median of the last few,
/// so that neither a cold step nor one that the system interrupted counts.
class PlainStepCost {
 public:
  /// A step that generated one token for each of `num_sequences`, without a draft.
  void record(int64_t num_sequences, double seconds);
  /// A drafted step; after kRefresh of them the figure counts as old.
  void age(int64_t num_sequences);
  /// Whether enough recent steps of this size were seen.
  bool is_known(int64_t num_sequences) const;
  /// Median seconds of the last kRemembered steps; 0 when none was recorded.
  double seconds(int64_t num_sequences) const;

  static constexpr int64_t kWarmup = 3;    // steps before a figure is trusted
  static constexpr int64_t kRefresh = 64;  // drafted steps after which one plain step is measured again

 private:
  static constexpr size_t kRemembered = 5;
  struct Figure {
    std::vector<double> seconds;  // of the last steps, oldest first
    int64_t age = 0;
  };
  std::map<int64_t, Figure> figures_;
};

/// When to draft. Keeps account, in units of a plain token's time, of what drafting has cost more than it gave, and
/// lets it go on only while that, with the next draft, stays within allowance + kLossRate x the tokens generated. So n
/// tokens take at most a share kLossRate + allowance / n longer than plain ones, if the next draft costs what those of
/// its sort did; until one was seen, its worst case counts. An MTP module that has rested begins by following
/// positions, which costs more than a guess by itself, so such drafts are a sort of their own. When drafting does not
/// pay, the account lets a rare probe through. What was gained is remembered up to kMaxCredit, so that a change is
/// noticed soon.
class DraftLedger {
 public:
  /// What a draft may cost beyond a plain step before any was seen: lookup guesses for nothing and computes a row all
  /// of whose experts are others, 1; MTP guesses too, 2; with positions to follow (fewer than MtpDrafter::kMaxKept) and
  /// weights that were not used before, 8.
  static double first_cost(SpeculationKind kind) { return kind == SpeculationKind::kMtp ? 8 : 1; }

  explicit DraftLedger(SpeculationKind kind = SpeculationKind::kNone, double allowance = 0)
      : allowance_(allowance), guess_cost_(kind == SpeculationKind::kMtp ? kMaxGuessCost : first_cost(kind)) {}

  /// After a step with a draft: what it cost beyond a plain step (in plain tokens' time), how many draft tokens were
  /// accepted, and whether an MTP module began with it. A draft token can cost no more than kMaxGuessCost, one plain
  /// step to guess it and one to compute its row, a beginning no more than kMaxBeginCost: what was measured beyond
  /// that, or below 0, or is not a number, is the noise of the machine.
  void drafted(double extra_cost, int64_t num_draft, int64_t num_accepted, int64_t max_draft, bool begins = false);
  /// Tokens generated, however.
  void generated(int64_t num_tokens) { tokens_ += static_cast<double>(num_tokens); }

  /// What a draft of so many tokens is expected to cost.
  double expected_cost(bool begins, int64_t num_draft) const {
    return begins ? begin_cost_ : guess_cost_ * static_cast<double>(std::max<int64_t>(1, num_draft));
  }
  /// Whether another draft may be lost beside others of the step that are expected to cost `reserved`.
  bool may_draft(bool begins = false, double reserved = 0) const {
    return lost_ + reserved + expected_cost(begins, num_draft_) <= allowance_ + kLossRate * tokens_;
  }
  /// How many tokens to guess next: one at first, twice as many when a whole draft was accepted, else one more than was
  /// accepted.
  int64_t num_draft(int64_t max_draft) const {
    return num_draft_ == 0 ? std::min<int64_t>(1, max_draft) : std::min(num_draft_, max_draft);
  }
  /// Plain tokens' time lost so far; negative: gained.
  double lost() const { return lost_; }

  static constexpr double kLossRate = 0.018;  // of 2 %, the rest for what the clock does not see
  static constexpr double kMaxCredit = 16;
  static constexpr double kMaxGuessCost = 2;
  static constexpr double kMaxBeginCost = 16;

 private:
  double allowance_;
  double tokens_ = 0;
  double lost_ = 0;
  double guess_cost_;  // of one draft token, from those seen
  double begin_cost_ = first_cost(
      SpeculationKind::kMtp);  // of a draft with which the module begins: the last, or the mean where that was more
  bool has_guessed_ = false, has_begun_ = false;
  int64_t num_draft_ = 0;  // 0: none yet
};

/// How far the MTP module has followed a sequence that it drafts for. Its row at position i takes the main model's
/// hidden state there and token i + 1, and sees its own rows from the origin on: a guess needs the last of them, not
/// the whole prompt.
struct MtpProgress {
  int64_t origin = 0;         // a page's first position
  int64_t num_computed = 0;   // positions before the origin, and rows in the module's layer of the cache from there on
  std::vector<float> hidden;  // [rows, D]: hidden states of the positions from num_computed on, not yet followed
};

/// What a sequence has for speculation.
struct SequenceSpeculation {
  SpeculationParams params;
  int64_t wish = 0;            // how many tokens it would have guessed in the next step
  std::vector<int32_t> draft;  // of this step: the guesses for the positions after the last known token
  bool begins = false;         // with this draft the module begins
  MtpProgress mtp;
  DraftLedger ledger;
  SpeculationStats stats;

  /// Of a new request: its own account may lose a trial at once, that of all sequences may not (Speculator).
  void begin(const SpeculationParams& asked) {
    params = asked;
    ledger = DraftLedger(asked.kind, DraftLedger::first_cost(asked.kind));
  }
  int64_t max_draft() const { return params.num_draft > 0 ? params.num_draft : default_num_draft(params.kind); }
};

}  // namespace fathom
