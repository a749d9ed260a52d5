// The engine's loop with its logits in view: the scheduler's plans, the cache, the runner and greedy choice, for
// several requests that begin at different steps. What the determinism tests compare.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <memory>
#include <string>
#include <vector>

#include "engine/runner.h"
#include "engine/scheduler.h"
#include "kernels/registry.h"
#include "model/model.h"

namespace fathom::testing {

struct TracedRequest {
  std::vector<int32_t> prompt;
  int64_t new_tokens = 8;
  int64_t first_step = 0;             // it joins the batch before this step
  std::vector<int32_t> earlier = {};  // a prompt that is in the cache before this one comes, as after Engine::resume
};

struct Trace {
  std::vector<int32_t> tokens;             // generated
  std::vector<std::vector<float>> logits;  // one row of the vocabulary per generated token

  bool operator==(const Trace& other) const {
    if (tokens != other.tokens || logits.size() != other.logits.size()) return false;
    for (size_t i = 0; i < logits.size(); ++i) {  // bits, so that NaN and -0 count
      if (!std::equal(logits[i].begin(), logits[i].end(), other.logits[i].begin(), other.logits[i].end(),
                      [](float a, float b) { return std::bit_cast<uint32_t>(a) == std::bit_cast<uint32_t>(b); })) {
        return false;
      }
    }
    return true;
  }
};

/// For a failed comparison: where they part.
inline std::ostream& operator<<(std::ostream& out, const Trace& trace) {
  out << "tokens";
  for (int32_t t : trace.tokens) out << " " << t;
  out << "; first logits";
  out.precision(9);
  for (const auto& row : trace.logits) out << " " << row[0];
  return out;
}

struct TraceOptions {
  std::string kernels = "cpu";
  int threads = 1;
  int64_t chunk = 4096;
  Precision precision = Precision::kF32;
  std::optional<DType> cache_dtype;  // none: default_cache_dtype
  GenerationForm generation = GenerationForm::kAbsorbed;
};

inline std::vector<Trace> trace(const Model& model, const TraceOptions& options,
                                const std::vector<TracedRequest>& requests) {
  ThreadPool pool(options.threads);
  const auto kernels = make_kernels(options.kernels, pool);
  EXPECT_TRUE(kernels) << kernels.error().text;
  LatentCache cache(model.config, options.cache_dtype.value_or(default_cache_dtype(options.precision)), 4096);
  const Transformer transformer(model.config, model.weights);
  Runner runner(transformer, **kernels, options.precision);
  std::vector<std::unique_ptr<Sequence>> sequences;
  for (size_t i = 0; i < requests.size(); ++i) {
    sequences.push_back(std::make_unique<Sequence>(static_cast<int64_t>(i), cache));
    sequences.back()->tokens = requests[i].prompt;
    sequences.back()->prompt_length = static_cast<int64_t>(requests[i].prompt.size());
  }

  std::vector<Trace> traces(requests.size());
  /// Runs one step over the sequences that have joined; the new rows of logits go to `traces`.
  const auto step = [&](int64_t number) {
    std::vector<SequenceState> states;
    for (size_t i = 0; i < requests.size(); ++i) {
      const Sequence& s = *sequences[i];
      const auto length = static_cast<int64_t>(s.tokens.size());
      const bool done = static_cast<int64_t>(traces[i].tokens.size()) == requests[i].new_tokens;
      const bool waits = number < requests[i].first_step;
      states.push_back({.phase = done || waits ? SequencePhase::kFinished : SequencePhase::kRunning,
                        .arrival = static_cast<int64_t>(i),
                        .num_tokens = length,
                        .num_computed = s.num_computed,
                        .prompt_length = s.prompt_length,
                        .pages = s.cache.pages()});
    }
    const auto plan = plan_step(states, {.token_budget = options.chunk,
                                         .available_pages = cache.available_pages(),
                                         .generation = options.generation})
                          .items;
    for (const StepItem& item : plan) {
      const auto reserved = sequences[item.sequence]->cache.reserve(item.first_position + item.count);
      EXPECT_TRUE(reserved) << reserved.error().text;
    }
    if (plan.empty()) return;
    const Batch batch(plan, sequences);
    const Tensor logits = runner.step(batch);
    int64_t row = 0;
    for (const StepItem& item : plan) {
      Sequence& s = *sequences[item.sequence];
      s.num_computed += item.count;
      if (!item.samples) continue;
      const float* begin = logits.ptr<float>() + row++ * logits.stride(0);
      traces[item.sequence].logits.emplace_back(begin, begin + logits.extent(1));
      const auto& last = traces[item.sequence].logits.back();
      const auto token = static_cast<int32_t>(std::max_element(last.begin(), last.end()) - last.begin());
      traces[item.sequence].tokens.push_back(token);
      s.tokens.push_back(token);
    }
  };

  // Earlier prompts: computed alone, then cut to what the new prompt shares with them.
  for (size_t i = 0; i < requests.size(); ++i) {
    if (requests[i].earlier.empty()) continue;
    Sequence& s = *sequences[i];
    const auto length = static_cast<int64_t>(requests[i].earlier.size());
    s.tokens = requests[i].earlier;
    EXPECT_TRUE(s.cache.reserve(length));
    const std::vector<StepItem> plan{{.sequence = i, .first_position = 0, .count = length}};
    runner.step(Batch(plan, sequences));
    const auto shared = static_cast<int64_t>(std::mismatch(requests[i].earlier.begin(), requests[i].earlier.end(),
                                                           requests[i].prompt.begin(), requests[i].prompt.end())
                                                 .first -
                                             requests[i].earlier.begin());
    s.num_computed = std::min(shared, s.prompt_length - 1);
    s.cache.truncate(s.num_computed);
    s.tokens = requests[i].prompt;
  }
  const auto finished = [&] {
    for (size_t i = 0; i < requests.size(); ++i) {
      if (static_cast<int64_t>(traces[i].tokens.size()) < requests[i].new_tokens) return false;
    }
    return true;
  };
  for (int64_t number = 0; !finished() && number < 100'000; ++number) step(number);
  EXPECT_TRUE(finished());
  return traces;
}

inline Trace trace_alone(const Model& model, const TraceOptions& options, const TracedRequest& request) {
  return trace(model, options, {request})[0];
}

}  // namespace fathom::testing
