// What the files of fathom bench share: lines to measure and the stopwatch that measures one (bench_timing.cc),
// training steps (bench_train.cc).
#pragma once

#include <functional>
#include <string_view>
#include <vector>

#include "apps/verbs.h"
#include "report/bench_lines.h"

namespace fathom::apps {

inline constexpr std::string_view kPrefill = "prefill";
inline constexpr std::string_view kDecode = "decode";

/// A sequence has at least one token before it decodes.
int64_t prompt_of_depth(int64_t depth);

/// What is to be measured with `num_threads`, in the order of the report, without speeds.
std::vector<BenchLine> plan_lines(const BenchOptions& options, int64_t num_threads);

/// Errors: a line that is there twice, or does not fit the model's context, a step's budget of prompt tokens or the
/// memory.
Status check_lines(const std::vector<BenchLine>& lines, const ModelConfig& config, const BenchOptions& options,
                   int64_t cache_token_bytes);

/// How long a line takes relative to others, for the time that is left.
int64_t effort_of(const BenchLine& line, int64_t repeat);

/// Times lines with one back end.
class Stopwatch {
 public:
  /// `advance` hears of every part of effort_of(line) that is done.
  Stopwatch(const Model& model, Kernels& kernels, EngineOptions options, int64_t repeat,
            std::function<void(int64_t effort)> advance);

  /// Tokens per second of each of `repeat` runs after a first one that warms caches and scratch. Errors: kCancelled
  /// when the user interrupts.
  Result<Spread> time(const BenchLine& line);

 private:
  std::vector<int32_t> random_prompt(int64_t num_tokens, uint64_t seed) const;
  Result<Spread> time_prompts(Engine& engine, const BenchLine& line);
  Result<Spread> time_decoding(Engine& engine, const BenchLine& line);

  const Model& model_;
  Kernels& kernels_;
  EngineOptions options_;
  int64_t repeat_;
  std::function<void(int64_t)> advance_;
};

/// Steps of a preset: forward, backward, clipping and update, all of it.
Status bench_training(const BenchOptions& options);

}  // namespace fathom::apps
