#include "engine/scheduler.h"

#include <algorithm>
#include <map>
#include <numeric>
#include <unordered_map>

#include "engine/latent_cache.h"

namespace fathom {
namespace {

class Planner {
 public:
  Planner(std::span<const SequenceState> states, const StepLimits& limits)
      : states_(states),
        limits_(limits),
        available_(limits.available_pages),
        counts_(states.size()),
        drafts_(states.size()) {
    for (size_t i = 0; i < states.size(); ++i) {
      const SequenceState& s = states[i];
      if (s.phase == SequencePhase::kRunning) running_.push_back(i);
      if (s.phase == SequencePhase::kWaiting && !s.passed_over) waiting_.push_back(i);
      if (s.phase == SequencePhase::kFinished && !s.pages.empty()) victims_.push_back(i);
    }
    promote();
    const auto by_rank = [this](size_t a, size_t b) { return precedes(a, b); };
    std::sort(running_.begin(), running_.end(), by_rank);
    std::sort(waiting_.begin(), waiting_.end(), by_rank);
    std::sort(victims_.begin(), victims_.end(), by_rank);
  }

  StepPlan plan() && {
    admit();
    share_tokens();
    claim_pages();
    admit_drafts();
    for (const bool absorbed : {true, false}) {
      for (size_t i : running_) add_item(i, absorbed);
    }
    return std::move(plan_);
  }

 private:
  /// Keeps the promoted one, or chooses the next.
  void promote() {
    for (size_t i = 0; i < states_.size(); ++i) {
      if (states_[i].is_promoted && states_[i].phase != SequencePhase::kFinished) promoted_ = i;
    }
    if (promoted_) return;
    for (const auto& all : {std::span(running_), std::span(waiting_)}) {
      for (const size_t i : all) {
        if (states_[i].num_overtaken < limits_.max_overtaken) continue;
        if (!promoted_ || states_[i].arrival < states_[*promoted_].arrival) promoted_ = i;
      }
    }
    plan_.promoted = promoted_;
  }
  bool is_promoted(size_t i) const { return promoted_ == i; }
  bool precedes(size_t a, size_t b) const {
    if (is_promoted(a) != is_promoted(b)) return is_promoted(a);
    if (states_[a].priority != states_[b].priority) return states_[a].priority > states_[b].priority;
    return states_[a].arrival != states_[b].arrival ? states_[a].arrival < states_[b].arrival : a < b;
  }
  bool was_admitted(size_t i) const { return states_[i].phase == SequencePhase::kWaiting; }
  int64_t missing_pages(size_t i, int64_t num_tokens) const {
    return std::max<int64_t>(0, pages_for(num_tokens) - std::ssize(states_[i].pages));
  }
  int64_t todo(size_t i) const { return states_[i].num_tokens - states_[i].num_computed; }
  bool in_prompt(size_t i) const { return states_[i].num_computed < states_[i].prompt_length; }
  bool generates(size_t i) const { return !in_prompt(i) && todo(i) == 1; }

  /// Users of each page; counted when first asked for, which most steps do not.
  std::unordered_map<int32_t, int64_t>& num_users() {
    if (num_users_.empty()) {
      for (const SequenceState& s : states_) {
        if (s.phase == SequencePhase::kWaiting) continue;
        for (int32_t page : s.pages) ++num_users_[page];
      }
    }
    return num_users_;
  }
  /// Pages become available when their last user goes.
  void preempt(size_t i) {
    for (int32_t page : states_[i].pages) available_ += --num_users()[page] == 0 ? 1 : 0;
    plan_.preempted.push_back(i);
  }
  /// Pages that become unavailable when i finds its prefix: those without a user.
  int64_t unused_pages(size_t i) {
    const auto is_unused = [this](int32_t page) { return num_users()[page] == 0; };
    return std::count_if(states_[i].pages.begin(), states_[i].pages.end(), is_unused);
  }
  /// Takes pages from finished sequences until `wanted` are available.
  void reclaim(int64_t wanted) {
    for (; available_ < wanted && !victims_.empty(); victims_.pop_back()) preempt(victims_.back());
  }

  void admit() {
    const int64_t max_running = std::min(limits_.max_running, limits_.token_budget);
    for (size_t i : waiting_) {
      while (!fits(i, max_running)) {
        if (!preempt_for(i)) return;
      }
      available_ -= unused_pages(i);
      for (int32_t page : states_[i].pages) ++num_users()[page];
      plan_.admitted.push_back(i);
      const auto by_rank = [this](size_t a, size_t b) { return precedes(a, b); };
      running_.insert(std::upper_bound(running_.begin(), running_.end(), i, by_rank), i);
    }
  }
  bool fits(size_t i, int64_t max_running) {
    const int64_t beside = std::ssize(running_);
    if (beside >= max_running) return false;
    int64_t wanted = beside == 0 ? 0 : beside + 1;  // to spare
    for (size_t r : running_) wanted += missing_pages(r, states_[r].num_tokens);
    wanted += missing_pages(i, states_[i].num_tokens);
    // What is found is counted again after each reclaim: it may have been a finished sequence's.
    while (wanted + unused_pages(i) > available_ && !victims_.empty()) reclaim(available_ + 1);
    return wanted + unused_pages(i) <= available_;
  }
  /// Takes its place from the last in rank, if that has a strictly lower priority.
  bool preempt_for(size_t i) {
    if (running_.empty()) return false;
    const size_t last = running_.back();
    const bool is_lower = is_promoted(i) || states_[last].priority < states_[i].priority;
    if (!is_lower || is_promoted(last) || was_admitted(last)) return false;
    preempt(last);
    running_.pop_back();
    return true;
  }

  void share_tokens() {
    int64_t left = limits_.token_budget;
    std::vector<size_t> behind;
    for (size_t i : running_) {
      if (generates(i) && left > 0) {
        counts_[i] = 1;
        --left;
      } else if (todo(i) > 0) {
        behind.push_back(i);
      }
    }
    if (behind.empty()) return;
    const size_t first = behind.front();
    const auto give = [&](size_t i, int64_t count) {
      // One form per item: what was generated waits for the rest of the prompt.
      const int64_t end = in_prompt(i) ? states_[i].prompt_length : states_[i].num_tokens;
      count = std::min({count, left, end - states_[i].num_computed - counts_[i]});
      counts_[i] += count;
      left -= count;
    };
    give(first, (left + 1) / 2);
    std::stable_sort(behind.begin() + 1, behind.end(), [this](size_t a, size_t b) {
      if (states_[a].priority != states_[b].priority) return states_[a].priority > states_[b].priority;
      return todo(a) < todo(b);
    });
    for (size_t k = 1; k < behind.size(); ++k) give(behind[k], left);
    give(first, left);
  }

  void claim_pages() {
    for (size_t k = 0; k < running_.size(); ++k) {
      const size_t i = running_[k];
      if (counts_[i] == 0) continue;
      const auto missing = [&] { return missing_pages(i, states_[i].num_computed + counts_[i]); };
      reclaim(missing());
      while (missing() > available_ && running_.size() > k + 1) {
        preempt(running_.back());
        running_.pop_back();
      }
      if (missing() > available_) {  // what fits
        const int64_t room = (std::ssize(states_[i].pages) + available_) * LatentPages::kPageTokens;
        counts_[i] = std::max<int64_t>(0, room - states_[i].num_computed);
      }
      available_ -= missing();
    }
  }

  /// No sequence gives up pages for a guess.
  void admit_drafts() {
    int64_t left = limits_.token_budget;
    for (size_t i : running_) left -= counts_[i];
    for (size_t i : running_) {
      if (!generates(i) || counts_[i] == 0) continue;
      const int64_t next = states_[i].num_tokens;
      const int64_t held = std::max<int64_t>(std::ssize(states_[i].pages), pages_for(next));
      const int64_t room = (held + available_) * LatentPages::kPageTokens - next;
      drafts_[i] = std::max<int64_t>(0, std::min({states_[i].num_draft, left, room}));
      left -= drafts_[i];
      available_ -= std::max<int64_t>(0, pages_for(next + drafts_[i]) - held);
    }
  }

  void add_item(size_t i, bool absorbed) {
    const bool is_absorbed = !in_prompt(i) && limits_.generation == GenerationForm::kAbsorbed;
    if (counts_[i] == 0 || is_absorbed != absorbed) return;
    plan_.items.push_back({.sequence = i,
                           .first_position = states_[i].num_computed,
                           .count = counts_[i],
                           .form = absorbed ? MlaForm::kAbsorbed : MlaForm::kNaive,
                           .samples = counts_[i] == todo(i),
                           .num_draft = drafts_[i]});
  }

  std::span<const SequenceState> states_;
  const StepLimits& limits_;
  int64_t available_;
  std::vector<int64_t> counts_;  // tokens of each sequence in this step
  std::vector<int64_t> drafts_;  // guesses behind them
  std::vector<size_t> running_;  // in rank order
  std::vector<size_t> waiting_;  // in rank order
  std::optional<size_t> promoted_;
  std::vector<size_t> victims_;  // finished sequences with pages; the last goes first
  std::unordered_map<int32_t, int64_t> num_users_;
  StepPlan plan_;
};

}  // namespace

StepPlan plan_step(std::span<const SequenceState> states, const StepLimits& limits) {
  return Planner(states, limits).plan();
}

std::vector<size_t> overtaken(std::span<const SequenceState> states, const StepPlan& plan) {
  std::vector<bool> served(states.size());
  std::map<int64_t, int64_t> latest;  // by priority: the latest arrival that gets something
  for (const StepItem& item : plan.items) {
    const SequenceState& s = states[item.sequence];
    served[item.sequence] = true;
    int64_t& arrival = latest.try_emplace(s.priority, s.arrival).first->second;
    arrival = std::max(arrival, s.arrival);
  }
  std::vector<size_t> out;
  for (size_t i = 0; i < states.size(); ++i) {
    const SequenceState& s = states[i];
    if (served[i] || s.phase == SequencePhase::kFinished) continue;
    const bool later = std::any_of(latest.upper_bound(s.priority), latest.end(),
                                   [&](const auto& entry) { return entry.second > s.arrival; });
    if (later) out.push_back(i);
  }
  return out;
}

}  // namespace fathom
