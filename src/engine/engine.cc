#include "engine/engine.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "base/check.h"
#include "base/rng.h"

namespace fathom {
namespace {

constexpr int64_t kScoredRows = 32;  // prompt rows whose logits are in memory at once

DType dtype_of_cache(const EngineOptions& options) {
  return options.cache_dtype.value_or(default_cache_dtype(options.precision));
}

/// Pages are only for the same precision and dtype.
uint64_t seed_of(const EngineOptions& options) {
  return (static_cast<uint64_t>(options.precision) << 8) ^ static_cast<uint64_t>(dtype_of_cache(options));
}

}  // namespace

Engine::Engine(const Model& model, Kernels& kernels, EngineOptions options)
    : model_(model),
      options_(std::move(options)),
      cache_(model.config, dtype_of_cache(options_), options_.max_cache_tokens, options_.mtp_drafts ? 1 : 0),
      transformer_(model.config, model.weights),
      runner_(transformer_, kernels, options_.precision),
      speculator_(transformer_, kernels, options_.precision, options_.generation, options_.allowed_tokens),
      table_(cache_, {.token_budget = options_.prompt_chunk,
                      .max_running = options_.max_running,
                      .generation = options_.generation,
                      .prefix_cache = options_.prefix_cache,
                      .prefix_seed = seed_of(options_)}) {}

int64_t Engine::context_length() const { return std::min(model_.config.max_context(), options_.max_cache_tokens); }

Status Engine::check_prompt(std::span<const int32_t> prompt) const {
  if (prompt.empty()) return invalid("the prompt is empty: give at least one token");
  for (int32_t token : prompt) {
    if (token < 0 || token >= model_.config.vocab_size) {
      return invalid("token id " + std::to_string(token) + " is outside the vocabulary of " +
                     std::to_string(model_.config.vocab_size));
    }
  }
  if (static_cast<int64_t>(prompt.size()) >= context_length()) {
    const bool is_sparse_beyond = context_length() == model_.config.index_topk;
    return invalid("the prompt has " + std::to_string(prompt.size()) + " tokens; the context holds " +
                   std::to_string(context_length()) + " with the answer" +
                   (is_sparse_beyond ? ": " + model_.config.max_context_text() : ""));
  }
  return {};
}

Status Engine::check_request(const Request& request) const {
  if (auto s = check_sampling(request.sampling); !s) return s;
  for (const LogitBias& entry : request.sampling.logit_bias) {
    if (entry.token >= model_.config.vocab_size) {
      return invalid("logit_bias names token id " + std::to_string(entry.token) +
                     ", which is outside the vocabulary of " + std::to_string(model_.config.vocab_size));
    }
  }
  for (const int32_t token : request.stop_tokens) {
    if (token < 0 || token >= model_.config.vocab_size) {
      return invalid("stop_token_ids names token id " + std::to_string(token) +
                     ", which is outside the vocabulary of " + std::to_string(model_.config.vocab_size));
    }
  }
  if (request.min_new_tokens > std::max<int64_t>(request.max_new_tokens, 0)) {
    return invalid("min_new_tokens " + std::to_string(request.min_new_tokens) + " is above max_new_tokens " +
                   std::to_string(request.max_new_tokens));
  }
  if (request.num_logprobs > kMaxLogprobs) {
    return invalid("num_logprobs " + std::to_string(request.num_logprobs) + " is out of range; accepted: up to " +
                   std::to_string(kMaxLogprobs) + ", or negative for none");
  }
  if (request.prompt_logprobs && request.num_logprobs < 0) {
    return invalid("prompt_logprobs needs num_logprobs of 0 or more, not " + std::to_string(request.num_logprobs));
  }
  const int64_t num_mtp_modules = options_.mtp_drafts ? model_.config.num_nextn_predict_layers : 0;
  if (auto s = check_speculation(request.speculation, num_mtp_modules); !s) return s;
  return check_prompt(request.prompt);
}

void Engine::set_prompt(Sequence& sequence, std::span<const int32_t> prompt, int64_t max_new_tokens) {
  table_.set_prompt(sequence, prompt);
  const int64_t room = context_length() - sequence.prompt_length;
  sequence.max_length = sequence.prompt_length + std::clamp<int64_t>(max_new_tokens, 0, room);
  const bool has_work = max_new_tokens > 0 || sequence.prompt_logprobs_wanted() || sequence.wants_embedding;
  sequence.finish = has_work ? FinishReason::kNone : FinishReason::kMaxTokens;
}

Result<int64_t> Engine::submit(const Request& request) {
  if (auto s = check_request(request); !s) return s.error();
  auto sequence = std::make_unique<Sequence>(next_id_, cache_);
  sequence->sampling = request.sampling;
  sequence->priority = request.priority;
  sequence->deadline = request.deadline;
  sequence->num_logprobs = request.num_logprobs;
  sequence->wants_prompt_logprobs = request.prompt_logprobs;
  sequence->speculation.begin(request.speculation);
  if (!request.ignore_stop_tokens) sequence->stop_tokens = options_.stop_tokens;
  sequence->stop_tokens.insert(sequence->stop_tokens.end(), request.stop_tokens.begin(), request.stop_tokens.end());
  sequence->min_new_tokens = request.min_new_tokens;
  sequence->wants_embedding = request.embedding;
  sequence->use_prefix_cache = request.use_prefix_cache;
  set_prompt(*sequence, request.prompt, request.max_new_tokens);
  table_.add(std::move(sequence));
  return next_id_++;
}

Result<int64_t> Engine::submit(std::span<const int32_t> prompt, const SamplingParams& sampling,
                               int64_t max_new_tokens) {
  return submit({.prompt = {prompt.begin(), prompt.end()}, .sampling = sampling, .max_new_tokens = max_new_tokens});
}

Status Engine::resume(int64_t sequence_id, std::span<const int32_t> prompt, int64_t max_new_tokens) {
  if (auto s = check_prompt(prompt); !s) return s;
  Sequence* sequence = table_.find(sequence_id);
  check(sequence != nullptr, "a resumed sequence exists");
  // Only pages of prompt tokens may be kept: generated ones were computed in the absorbed form. The last prompt token
  // is computed again in any case, because its logits are wanted.
  const int64_t computed = sequence->finish == FinishReason::kNumericError ? 0 : sequence->num_computed;
  const int64_t reusable = std::min({sequence->prompt_length, computed, static_cast<int64_t>(prompt.size()) - 1});
  const auto shared = std::mismatch(prompt.begin(), prompt.begin() + reusable, sequence->tokens.begin()).first;
  sequence->num_computed = sequence->cache.truncate(shared - prompt.begin());
  speculator_.truncate(*sequence, sequence->num_computed);
  sequence->is_running = sequence->num_computed > 0;
  sequence->wants_prompt_logprobs = false;
  sequence->wants_embedding = false;
  set_prompt(*sequence, prompt, max_new_tokens);
  return {};
}

void Engine::remove(int64_t sequence_id) { table_.remove(sequence_id); }

Status Engine::open_prefix_store(PrefixStoreOptions options) {
  // A page's bits depend on the config, its layout on the MTP modules that draft too.
  options.identity ^=
      seed_of(options_) ^ stream_of(model_.config.to_json().dump() + " " + std::to_string(cache_.page_bytes()));
  auto store = PrefixStore::open(std::move(options), cache_.page_bytes());
  if (!store) return store.error();
  prefix_store_ = std::move(*store);
  table_.set_store(prefix_store_.get());
  return {};
}

void Engine::discard_prefix_store() {
  if (prefix_store_) prefix_store_->discard();
}

bool Engine::has_work() const {
  return std::any_of(table_.sequences().begin(), table_.sequences().end(),
                     [](const auto& sequence) { return sequence->finish == FinishReason::kNone; });
}

const SpeculationStats& Engine::speculation_stats(int64_t sequence_id) const {
  const Sequence* sequence = table_.find(sequence_id);
  check(sequence != nullptr, "the sequence asked about exists");
  return sequence->speculation.stats;
}

EngineStats Engine::stats() const {
  EngineStats stats = counters_;
  table_.add_to(stats);
  stats.speculation = speculator_.stats();
  return stats;
}

void Engine::expire(Clock::time_point now, std::vector<TokenEvent>& events) {
  for (const auto& s : table_.sequences()) {
    if (s->finish != FinishReason::kNone || !s->deadline || now < *s->deadline) continue;
    s->finish = FinishReason::kDeadline;
    ++counters_.deadlines_missed;
    events.push_back({.sequence_id = s->id, .finish = s->finish});
  }
}

Result<std::vector<TokenEvent>> Engine::step(Clock::time_point now) {
  std::vector<TokenEvent> events;
  expire(now, events);
  for (const auto& s : table_.sequences()) speculator_.wish(*s);
  StepPlan plan = table_.begin_step();
  if (plan.items.empty()) return events;
  const Clock::time_point begin = Clock::now();
  speculator_.draft(plan, table_.sequences());
  const Batch batch(plan.items, table_.sequences());
  const Tensor logits = runner_.step(batch);
  if (model_.experts) {
    if (auto s = model_.experts->take_status(); !s) return s.error();
  }

  int64_t row = 0;
  for (size_t k = 0; k < plan.items.size(); ++k) {
    const StepItem& item = plan.items[k];
    Sequence& sequence = *table_.sequences()[item.sequence];
    if (!sequence.begun) sequence.begun = begin;
    counters_.computed_tokens += item.count + item.num_draft;
    table_.end_item(item);
    int64_t num_accepted = 0, num_drawn = 0;
    if (item.samples) {
      num_accepted = verify_draft(sequence.speculation.draft, [&](int64_t guess) {
        const float* z = logits.ptr<const float>() + (row + guess) * logits.stride(0);
        events.push_back(sample(sequence, {z, static_cast<size_t>(logits.extent(1))}));
        ++num_drawn;
        return Draw{.token = events.back().token, .ends = events.back().finish != FinishReason::kNone};
      });
      row += 1 + item.num_draft;
      if (std::exchange(sequence.wants_embedding, false)) {
        const int64_t last = batch.segments[k].row + item.count - 1;
        const float* state = runner_.hidden(last, 1).ptr<const float>();
        events[events.size() - static_cast<size_t>(std::max<int64_t>(num_drawn, 1))].embedding.assign(
            state, state + model_.config.hidden_size);
      }
    }
    table_.end_draft(item, num_accepted);
    speculator_.verified(sequence, item, num_accepted, num_drawn,
                         runner_.hidden(batch.segments[k].row, batch.segments[k].count));
  }
  speculator_.account(std::chrono::duration<double>(Clock::now() - begin).count());
  // Scoring uses the memory behind the sampled logits: after them, in the same order.
  for (size_t k = 0; k < plan.items.size(); ++k) {
    Sequence& sequence = *table_.sequences()[plan.items[k].sequence];
    if (sequence.prompt_logprobs_wanted()) score_prompt(sequence, plan.items[k], batch.segments[k].row);
  }
  for (TokenEvent& event : events) {
    Sequence* sequence = table_.find(event.sequence_id);
    event.prefix_hit_tokens = sequence->num_prefix_hits;
    event.draft_tokens = sequence->speculation.stats.proposed;
    event.draft_accepted = sequence->speculation.stats.accepted;
    event.begun = sequence->begun.value_or(begin);
    if (sequence->wants_prompt_logprobs && !sequence->prompt_logprobs_wanted()) {
      event.prompt_logprobs = std::move(sequence->prompt_logprobs);
      sequence->wants_prompt_logprobs = false;
    }
  }
  return events;
}

/// The logits of position p say how probable the token at p + 1 was.
void Engine::score_prompt(Sequence& sequence, const StepItem& item, int64_t first_row) {
  const int64_t end = std::min(item.first_position + item.count, sequence.prompt_length - 1);
  int64_t position = std::max(item.first_position, std::ssize(sequence.prompt_logprobs));
  while (position < end) {
    const int64_t count = std::min(kScoredRows, end - position);
    const Tensor logits = runner_.score(first_row + position - item.first_position, count);
    for (int64_t i = 0; i < count; ++i, ++position) {
      const std::span<const float> row(logits.ptr<const float>() + i * logits.stride(0),
                                       static_cast<size_t>(logits.extent(1)));
      sequence.prompt_logprobs.push_back(logprobs_of(
          row, options_.allowed_tokens, sequence.tokens[static_cast<size_t>(position + 1)], sequence.num_logprobs));
    }
  }
}

TokenEvent Engine::sample(Sequence& sequence, std::span<const float> logits) {
  const auto position = static_cast<int64_t>(sequence.tokens.size());
  TokenEvent event{.sequence_id = sequence.id};
  if (std::any_of(logits.begin(), logits.end(), [](float z) { return std::isnan(z); })) {
    table_.distrust(sequence);
    ++counters_.numeric_errors;
    event.finish = sequence.finish = FinishReason::kNumericError;
    return event;
  }
  if (position >= sequence.max_length) {  // only the prompt's log-probabilities were wanted
    event.finish = sequence.finish = FinishReason::kMaxTokens;
    return event;
  }
  event.token = draw(sequence, logits);
  if (sequence.num_logprobs >= 0) {
    event.logprobs = logprobs_of(logits, options_.allowed_tokens, event.token, sequence.num_logprobs);
  }
  sequence.tokens.push_back(event.token);
  ++counters_.generated_tokens;
  if (std::ranges::find(sequence.stop_tokens, event.token) != sequence.stop_tokens.end()) {
    sequence.finish = FinishReason::kStopToken;
  } else if (position + 1 >= sequence.max_length) {
    sequence.finish = position + 1 >= context_length() ? FinishReason::kContextFull : FinishReason::kMaxTokens;
  }
  event.finish = sequence.finish;
  return event;
}

/// The next token; before min_new_tokens none that ends the sequence, as long as another may be drawn.
int32_t Engine::draw(const Sequence& sequence, std::span<const float> logits) const {
  const auto position = static_cast<int64_t>(sequence.tokens.size());
  const SamplingContext context{.tokens = sequence.tokens, .prompt_length = sequence.prompt_length};
  if (position - sequence.prompt_length < sequence.min_new_tokens) {
    std::vector<bool> allowed = options_.allowed_tokens;
    for (const int32_t token : sequence.stop_tokens) {
      if (token >= 0 && token < std::ssize(allowed)) allowed[static_cast<size_t>(token)] = false;
    }
    if (std::find(allowed.begin(), allowed.end(), true) != allowed.end()) {
      return sample_token(logits, allowed, context, sequence.sampling, position);
    }
  }
  return sample_token(logits, options_.allowed_tokens, context, sequence.sampling, position);
}

}  // namespace fathom
