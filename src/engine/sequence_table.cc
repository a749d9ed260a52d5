#include "engine/sequence_table.h"

#include <algorithm>
#include <unordered_map>
#include <utility>

#include "base/check.h"
#include "base/rng.h"
#include "engine/mtp_drafter.h"

namespace fathom {
namespace {

constexpr size_t kMostLookedUp = 64;   // waiting sequences that may begin in one step
constexpr int64_t kMostRestored = 64;  // pages read from the store in one step
constexpr int64_t kLeastTail = 16;     // tokens for which the rest of a page is kept from other uses

}  // namespace

int64_t SequenceTable::Prefix::num_tokens() const {
  return std::ssize(pages) * LatentPages::kPageTokens + beginning.num_tokens;
}

Sequence* SequenceTable::find(int64_t sequence_id) const {
  for (const auto& sequence : sequences_) {
    if (sequence->id == sequence_id) return sequence.get();
  }
  return nullptr;
}

void SequenceTable::remove(int64_t sequence_id) {
  std::erase_if(sequences_, [&](const auto& sequence) { return sequence->id == sequence_id; });
}

void SequenceTable::set_prompt(Sequence& sequence, std::span<const int32_t> prompt) {
  sequence.tokens.assign(prompt.begin(), prompt.end());
  sequence.prompt_length = static_cast<int64_t>(prompt.size());
  sequence.prefix_seed = options_.prefix_seed;
  sequence.page_hashes = page_hashes(options_.prefix_seed, prompt, LatentPages::kPageTokens);
  sequence.arrival = next_arrival_++;
  sequence.num_overtaken = 0;
  sequence.is_promoted = false;
  sequence.is_counted = false;
}

/// The promoted sequence, or the one that plan_step would promote; null when there is none.
const Sequence* SequenceTable::promoted_or_next() const {
  const Sequence* next = nullptr;
  for (const auto& s : sequences_) {
    if (s->finish != FinishReason::kNone) continue;
    if (s->is_promoted) return s.get();
    if (s->num_overtaken < options_.max_overtaken) continue;
    if (next == nullptr || s->arrival < next->arrival) next = s.get();
  }
  return next;
}

/// Reads the pages that waiting sequences would find next from the store, so many that nobody waits long for the step;
/// who has more of them there is passed over. Only for those who may well begin in this step: pages that wait for a
/// sequence would push out others'.
void SequenceTable::restore_pages(std::span<const size_t> waiting) {
  const auto is_running = [](const auto& s) { return s->is_running && s->finish == FinishReason::kNone; };
  int64_t places = options_.max_running - std::ranges::count_if(sequences_, is_running);
  std::vector<SequenceCache> restored;  // use the pages meanwhile, so that none pushes out another
  int64_t pages_left = kMostRestored;
  for (const size_t i : waiting) {
    const Sequence& s = *sequences_[i];
    if (places-- <= 0 || cache_.available_pages() < pages_for(std::ssize(s.tokens) + 1)) return;
    const auto most = static_cast<size_t>(s.num_shareable() / LatentPages::kPageTokens);
    const std::span<const uint64_t> hashes = std::span(s.page_hashes).first(most);
    SequenceCache& pages = restored.emplace_back(cache_);
    pages.attach(pages.find_prefix(s.tokens, hashes));
    for (size_t next = pages.pages().size(); next < most && store_->contains(hashes[next]); ++next) {
      passed_over_[i] = pages_left == 0;
      if (passed_over_[i]) break;
      --pages_left;
      const auto prefix = std::span(s.tokens).first((next + 1) * static_cast<size_t>(LatentPages::kPageTokens));
      if (!pages.reserve(std::ssize(prefix)) ||
          !store_->load(hashes[next], prefix, cache_.data(pages.pages().back()))) {
        break;
      }
      pages.publish(s.tokens, hashes.first(next + 1));
    }
  }
}

/// Fills prefixes_ and passed_over_. A sequence is passed over while another one of at least its priority, running or
/// before it in rank, is computing the page it needs next: that page is then computed once.
void SequenceTable::look_up_prefixes() {
  prefixes_.assign(sequences_.size(), {});
  passed_over_.assign(sequences_.size(), false);
  std::unordered_map<uint64_t, int64_t> in_work;  // hash of a page that is being computed -> priority
  std::vector<size_t> waiting;
  for (size_t i = 0; i < sequences_.size(); ++i) {
    const Sequence& s = *sequences_[i];
    if (s.finish != FinishReason::kNone) continue;
    const auto next = static_cast<size_t>(s.num_computed / LatentPages::kPageTokens);
    if (!s.is_running) {
      waiting.push_back(i);
    } else if (next < s.page_hashes.size()) {
      int64_t& priority = in_work.try_emplace(s.page_hashes[next], s.priority).first->second;
      priority = std::max(priority, s.priority);
    }
  }
  // In a long queue it may stand far behind.
  const Sequence* goes_first = promoted_or_next();
  std::stable_sort(waiting.begin(), waiting.end(), [&](size_t a, size_t b) {
    const Sequence &x = *sequences_[a], &y = *sequences_[b];
    if ((&x == goes_first) != (&y == goes_first)) return &x == goes_first;
    return x.priority != y.priority ? x.priority > y.priority : x.arrival < y.arrival;
  });
  // Who is too far behind to begin in this step is not looked up: with a long queue that would cost more than the step.
  for (size_t k = kMostLookedUp; k < waiting.size(); ++k) passed_over_[waiting[k]] = true;
  waiting.resize(std::min(waiting.size(), kMostLookedUp));
  if (!options_.prefix_cache) return;
  if (store_ != nullptr) restore_pages(waiting);  // before any is looked up: what is read evicts pages
  for (size_t i : waiting) {
    const Sequence& s = *sequences_[i];
    const auto most = static_cast<size_t>(s.num_shareable() / LatentPages::kPageTokens);
    Prefix& prefix = prefixes_[i];
    prefix.pages = s.cache.find_prefix(s.tokens, std::span(s.page_hashes).first(most));
    const size_t next = prefix.pages.size();
    prefix.pages_wanted = prefix.pages;
    // An MTP module begins with a page, which the copied tokens would put off.
    if (s.speculation.params.kind != SpeculationKind::kMtp) {
      const auto begin = static_cast<int64_t>(next) * LatentPages::kPageTokens;
      const int64_t shareable = std::min(s.num_shareable() - begin, LatentPages::kPageTokens);
      if (shareable > 0) {
        prefix.beginning = cache_.index().find_beginning(
            next == 0 ? PrefixIndex::kNoPage : prefix.pages.back(), next == 0 ? s.prefix_seed : s.page_hashes[next - 1],
            std::span(s.tokens).subspan(static_cast<size_t>(begin), static_cast<size_t>(shareable)));
      }
      if (prefix.beginning.num_tokens > 0) prefix.pages_wanted.push_back(-2 - static_cast<int32_t>(i));
    }
    if (next >= s.page_hashes.size()) continue;
    const auto [found, is_new] = in_work.try_emplace(s.page_hashes[next], s.priority);
    passed_over_[i] = passed_over_[i] || (next < most && !is_new && found->second >= s.priority);
  }
}

StepPlan SequenceTable::make_plan() {
  look_up_prefixes();
  std::vector<SequenceState> states;
  for (size_t i = 0; i < sequences_.size(); ++i) {
    const Sequence& s = *sequences_[i];
    SequenceState state{.phase = s.is_running ? SequencePhase::kRunning : SequencePhase::kWaiting,
                        .priority = s.priority,
                        .arrival = s.arrival,
                        .num_tokens = static_cast<int64_t>(s.tokens.size()),
                        .num_computed = s.num_computed,
                        .prompt_length = s.prompt_length,
                        .pages = s.cache.pages(),
                        .num_draft = s.speculation.wish,
                        .num_overtaken = s.num_overtaken,
                        .is_promoted = s.is_promoted};
    if (s.finish != FinishReason::kNone) {
      state.phase = SequencePhase::kFinished;
    } else if (!s.is_running) {
      state.num_computed = prefixes_[i].num_tokens();
      state.pages = prefixes_[i].pages_wanted;
      state.passed_over = passed_over_[i];
    }
    states.push_back(state);
  }
  StepPlan plan = plan_step(states, {.token_budget = options_.token_budget,
                                     .max_running = options_.max_running,
                                     .available_pages = cache_.available_pages(),
                                     .max_overtaken = options_.max_overtaken,
                                     .generation = options_.generation});
  for (const size_t i : overtaken(states, plan)) ++sequences_[i]->num_overtaken;
  return plan;
}

void SequenceTable::change_phases(const StepPlan& plan) {
  if (plan.promoted) {
    sequences_[*plan.promoted]->is_promoted = true;
    ++counters_.promotions;
  }
  // First all prefixes, then the pages that go, then the copies: so none of the found ones can be evicted in between,
  // and what the plan frees is there for the copies.
  for (size_t i : plan.admitted) {
    Sequence& s = *sequences_[i];
    s.cache.attach(prefixes_[i].pages);
    if (store_ != nullptr) store_->use(std::span(s.page_hashes).first(prefixes_[i].pages.size()));
    if (prefixes_[i].beginning.num_tokens > 0) cache_.share(prefixes_[i].beginning.page);
    s.num_computed = prefixes_[i].num_tokens();
    MtpDrafter::restart(s, s.num_computed);
    s.is_running = true;
  }
  for (size_t i : plan.preempted) {
    Sequence& s = *sequences_[i];
    if (s.finish == FinishReason::kNone) {
      ++counters_.preemptions;
      counters_.preempted_tokens += s.num_computed;
    }
    s.cache.truncate(0);
    s.num_computed = 0;
    MtpDrafter::restart(s, 0);
    s.is_running = false;
  }
  for (size_t i : plan.admitted) {
    if (prefixes_[i].beginning.num_tokens > 0) sequences_[i]->cache.attach_copy(prefixes_[i].beginning.page);
  }
  for (const StepItem& item : plan.items) {
    Sequence& s = *sequences_[item.sequence];
    if (!std::exchange(s.is_counted, true)) {
      s.num_prefix_hits = s.num_computed;
      if (!s.use_prefix_cache) continue;  // never looked
      counters_.prefix_hit_tokens += s.num_computed;
      counters_.prefix_miss_tokens += s.prompt_length - s.num_computed;
    }
  }
}

StepPlan SequenceTable::begin_step() {
  StepPlan plan = make_plan();
  change_phases(plan);
  for (const StepItem& item : plan.items) {
    const auto reserved = sequences_[item.sequence]->cache.reserve(item.first_position + item.count + item.num_draft);
    check(reserved.ok(), "the scheduler plans no more pages than there are");
  }
  return plan;
}

void SequenceTable::end_item(const StepItem& item) {
  Sequence& s = *sequences_[item.sequence];
  s.num_computed += item.count;
  if (!options_.prefix_cache || !s.use_prefix_cache || item.first_position >= s.prompt_length) return;
  const auto full = static_cast<size_t>(s.num_computed / LatentPages::kPageTokens);
  s.cache.publish(s.tokens, std::span(s.page_hashes).first(full));
  if (store_ != nullptr) {
    for (auto i = static_cast<size_t>(item.first_position / LatentPages::kPageTokens); i < full; ++i) {
      const auto prefix = std::span(s.tokens).first((i + 1) * static_cast<size_t>(LatentPages::kPageTokens));
      store_->save(s.page_hashes[i], prefix, cache_.data(s.cache.pages()[i]));
    }
    store_->use(std::span(s.page_hashes).first(full));
  }
  // The rest of the prompt.
  const int64_t begin = static_cast<int64_t>(full) * LatentPages::kPageTokens;
  const bool is_whole = s.num_computed == s.prompt_length && s.prompt_length - begin >= kLeastTail;
  if (!is_whole) return;
  s.cache.publish_tail(
      full == 0 ? s.prefix_seed : s.page_hashes[full - 1],
      std::span(s.tokens).subspan(static_cast<size_t>(begin), static_cast<size_t>(s.prompt_length - begin)));
}

void SequenceTable::end_draft(const StepItem& item, int64_t num_accepted) {
  Sequence& s = *sequences_[item.sequence];
  if (s.speculation.wish == 0) return;  // then no page was taken for guesses
  s.num_computed += num_accepted;
  s.cache.truncate(s.num_computed);
}

void SequenceTable::distrust(Sequence& sequence) {
  sequence.cache.unpublish();
  if (store_ == nullptr) return;
  for (const uint64_t hash : sequence.page_hashes) store_->remove(hash);
}

void SequenceTable::add_to(EngineStats& stats) const {
  for (const auto& s : sequences_) {
    if (s->finish != FinishReason::kNone) continue;
    ++(s->is_running ? stats.running : stats.waiting);
  }
  stats.pages_in_use = cache_.pages_in_use();
  stats.max_pages = cache_.max_pages();
  stats.prefix_pages = cache_.index().num_pages();
  if (store_ != nullptr) stats.store = store_->stats();
  stats.prefix_hit_tokens = counters_.prefix_hit_tokens;
  stats.prefix_miss_tokens = counters_.prefix_miss_tokens;
  stats.prompt_tokens = stats.prefix_hit_tokens + stats.prefix_miss_tokens;
  stats.preemptions = counters_.preemptions;
  stats.preempted_tokens = counters_.preempted_tokens;
  stats.promotions = counters_.promotions;
}

}  // namespace fathom
