#include "engine/engine.h"

#include <algorithm>
#include <cmath>

namespace fathom {

Engine::Engine(const Model& model, Kernels& kernels, EngineOptions options)
    : model_(model),
      options_(std::move(options)),
      cache_(model.config, options_.precision == Precision::kBF16 ? DType::kBF16 : DType::kF32,
             options_.max_cache_tokens),
      transformer_(model.config, model.weights),
      runner_(transformer_, kernels, options_.precision) {}

int64_t Engine::context_length() const {
  return std::min(model_.config.max_position_embeddings, options_.max_cache_tokens);
}

Sequence* Engine::find(int64_t sequence_id) {
  for (auto& sequence : sequences_) {
    if (sequence->id == sequence_id) return sequence.get();
  }
  return nullptr;
}

Status Engine::check_prompt(std::span<const int32_t> prompt) const {
  if (prompt.empty()) return invalid("the prompt is empty: give at least one token");
  for (int32_t token : prompt) {
    if (token < 0 || token >= model_.config.vocab_size) {
      return invalid("token id " + std::to_string(token) + " is outside the vocabulary of " +
                     std::to_string(model_.config.vocab_size));
    }
  }
  if (static_cast<int64_t>(prompt.size()) >= context_length()) {
    return invalid("the prompt has " + std::to_string(prompt.size()) + " tokens; the context holds " +
                   std::to_string(context_length()) + " with the answer");
  }
  return {};
}

Result<int64_t> Engine::submit(std::span<const int32_t> prompt, const SamplingParams& sampling,
                               int64_t max_new_tokens) {
  if (auto s = check_sampling(sampling); !s) return s.error();
  sequences_.push_back(std::make_unique<Sequence>(next_id_, cache_));
  sequences_.back()->sampling = sampling;
  if (auto s = resume(next_id_, prompt, max_new_tokens); !s) {
    sequences_.pop_back();
    return s.error();
  }
  return next_id_++;
}

Status Engine::resume(int64_t sequence_id, std::span<const int32_t> prompt, int64_t max_new_tokens) {
  if (auto s = check_prompt(prompt); !s) return s;
  Sequence* sequence = find(sequence_id);
  check(sequence != nullptr, "a resumed sequence exists");
  // Only pages of prompt tokens may be kept: generated ones were computed in the absorbed form. The last prompt token
  // is computed again in any case, because its logits are wanted.
  const int64_t reusable =
      std::min({sequence->prompt_length, sequence->num_computed, static_cast<int64_t>(prompt.size()) - 1});
  const auto shared = std::mismatch(prompt.begin(), prompt.begin() + reusable, sequence->tokens.begin()).first;
  sequence->num_computed = shared - prompt.begin();
  sequence->cache.truncate(sequence->num_computed);
  sequence->tokens.assign(prompt.begin(), prompt.end());
  sequence->prompt_length = static_cast<int64_t>(prompt.size());
  const int64_t room = context_length() - sequence->prompt_length;
  sequence->max_length = sequence->prompt_length + std::min(room, max_new_tokens);
  sequence->finish = max_new_tokens > 0 ? FinishReason::kNone : FinishReason::kMaxTokens;
  return {};
}

void Engine::remove(int64_t sequence_id) {
  std::erase_if(sequences_, [&](const auto& sequence) { return sequence->id == sequence_id; });
}

bool Engine::has_work() const {
  return std::any_of(sequences_.begin(), sequences_.end(),
                     [](const auto& sequence) { return sequence->finish == FinishReason::kNone; });
}

Result<std::vector<TokenEvent>> Engine::step() {
  std::vector<SequenceState> states;
  for (const auto& s : sequences_) {
    const bool running = s->finish == FinishReason::kNone;
    const auto num_tokens = static_cast<int64_t>(s->tokens.size());
    states.push_back({.num_tokens = num_tokens,
                      .num_computed = running ? s->num_computed : num_tokens,
                      .prompt_length = s->prompt_length});
  }
  const StepPlan plan = plan_step(states, options_.prompt_chunk, options_.generation);
  if (plan.empty()) return std::vector<TokenEvent>{};
  for (const StepItem& item : plan) {
    if (auto s = sequences_[item.sequence]->cache.reserve(item.first_position + item.count); !s) return s.error();
  }
  const Batch batch(plan, sequences_);
  const Tensor logits = runner_.step(batch);

  std::vector<TokenEvent> events;
  int64_t row = 0;
  for (const StepItem& item : plan) {
    Sequence& sequence = *sequences_[item.sequence];
    sequence.num_computed += item.count;
    if (!item.samples) continue;
    const auto position = static_cast<int64_t>(sequence.tokens.size());
    const std::span<const float> row_logits(logits.ptr<const float>() + row++ * logits.stride(0),
                                            static_cast<size_t>(logits.extent(1)));
    if (std::any_of(row_logits.begin(), row_logits.end(), [](float z) { return std::isnan(z); })) {
      sequence.finish = FinishReason::kNumericError;
      ++counters_.numeric_errors;
      events.push_back({.sequence_id = sequence.id, .finish = sequence.finish});
      continue;
    }
    const int32_t token =
        sample_token(row_logits, options_.allowed_tokens, sequence.tokens, sequence.sampling, position);
    sequence.tokens.push_back(token);
    if (std::find(options_.stop_tokens.begin(), options_.stop_tokens.end(), token) != options_.stop_tokens.end()) {
      sequence.finish = FinishReason::kStopToken;
    } else if (position + 1 >= sequence.max_length) {
      sequence.finish = position + 1 >= context_length() ? FinishReason::kContextFull : FinishReason::kMaxTokens;
    }
    events.push_back({.sequence_id = sequence.id, .token = token, .finish = sequence.finish});
  }
  return events;
}

}  // namespace fathom
