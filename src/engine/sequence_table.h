// The sequence table: all sequences of an engine and their pages, without a model. It asks the scheduler for the next
// step and carries the plan out: prefixes are found, pages taken and given back, so that the model can compute. What
// makes tokens (the engine; a replay in virtual time) is above it.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "engine/latent_cache.h"
#include "engine/prefix_store.h"
#include "engine/scheduler.h"
#include "engine/sequence.h"

namespace fathom {

/// What metrics show: the state now, and counts since the engine was made.
struct EngineStats {
  int64_t running = 0;
  int64_t waiting = 0;
  int64_t pages_in_use = 0;  // by sequences, finished ones included until they are removed
  int64_t max_pages = 0;
  int64_t prefix_pages = 0;  // known to the prefix cache, used or not
  PrefixStoreStats store;    // of the pages in a directory

  int64_t prompt_tokens = 0;       // of requests that have begun and may use the cache: the sum of the next two
  int64_t prefix_hit_tokens = 0;   // found in the cache
  int64_t prefix_miss_tokens = 0;  // computed
  int64_t generated_tokens = 0;
  int64_t computed_tokens = 0;  // by the model, whatever became of them
  int64_t preemptions = 0;
  int64_t preempted_tokens = 0;  // that these had computed; some are found again
  int64_t promotions = 0;        // sequences that higher priorities had overtaken for too long
  int64_t numeric_errors = 0;    // sequences that ended because a logit was not a number
  int64_t deadlines_missed = 0;
  SpeculationStats speculation;
};

struct SequenceTableOptions {
  int64_t token_budget = 512;
  int64_t max_running = 256;
  int64_t max_overtaken = StepLimits{}.max_overtaken;
  GenerationForm generation = GenerationForm::kAbsorbed;
  bool prefix_cache = true;
  uint64_t prefix_seed = 0;  // stands for what pages depend on beside their tokens
};

class SequenceTable {
 public:
  /// The cache must outlive the table.
  SequenceTable(LatentCache& cache, SequenceTableOptions options) : cache_(cache), options_(options) {}

  std::span<const std::unique_ptr<Sequence>> sequences() const { return sequences_; }
  /// Null when there is none.
  Sequence* find(int64_t sequence_id) const;
  void add(std::unique_ptr<Sequence> sequence) { sequences_.push_back(std::move(sequence)); }
  /// Its pages are free at once, or stay known to the prefix cache.
  void remove(int64_t sequence_id);
  /// The sequence's tokens become `prompt`; it arrives now. What it has computed stays as it is.
  void set_prompt(Sequence& sequence, std::span<const int32_t> prompt);

  /// Full pages of prompts are kept there too, and looked for before they are computed; null: nowhere.
  void set_store(PrefixStore* store) { store_ = store; }
  /// What is in the sequence's pages is not to be trusted: nobody finds them any more.
  void distrust(Sequence& sequence);

  /// Plans the next step; when it returns, every item of the plan has its pages.
  StepPlan begin_step();
  /// The item has been computed: its tokens count, and full pages of prompt tokens are there for others.
  void end_item(const StepItem& item);
  /// After end_item: as many of the item's guesses were right; they count, and pages of the others go.
  void end_draft(const StepItem& item, int64_t num_accepted);

  /// Fills in the state, and the counts that belong to the table.
  void add_to(EngineStats& stats) const;

 private:
  const Sequence* promoted_or_next() const;
  void restore_pages(std::span<const size_t> waiting);
  void look_up_prefixes();
  StepPlan make_plan();
  void change_phases(const StepPlan& plan);

  LatentCache& cache_;
  PrefixStore* store_ = nullptr;
  SequenceTableOptions options_;
  std::vector<std::unique_ptr<Sequence>> sequences_;
  /// Of the waiting ones, by index: the pages they would find, and whether it is better to wait for more.
  /// What the index has of a waiting sequence's prompt.
  struct Prefix {
    std::vector<int32_t> pages;         // to be shared
    PrefixIndex::Beginning beginning;   // then, of a page to be copied
    std::vector<int32_t> pages_wanted;  // for the scheduler: both, the copy as a page that nobody has
    int64_t num_tokens() const;
  };
  std::vector<Prefix> prefixes_;
  std::vector<bool> passed_over_;
  int64_t next_arrival_ = 0;
  EngineStats counters_;
};

}  // namespace fathom
