// Which lines fathom bench measures, and the measuring of one.
#include <algorithm>
#include <chrono>

#include "apps/bench.h"
#include "apps/console.h"
#include "base/check.h"
#include "base/machine.h"
#include "base/rng.h"
#include "model/tensor_plan.h"

namespace fathom::apps {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

const SamplingParams kGreedy{.temperature = 0};

/// Tokens of a sequence when the line has been measured.
int64_t length_of(const BenchLine& line) {
  return (line.work == kPrefill ? 0 : prompt_of_depth(line.depth)) + line.tokens + 1;
}

/// Cache tokens that a line needs, in whole pages for each sequence, and one to spare for each: without it the
/// scheduler lets fewer in (engine/scheduler).
int64_t cache_tokens_of(const BenchLine& line) {
  constexpr int64_t kPage = LatentPages::kPageTokens;
  return line.batch * ((length_of(line) + kPage - 1) / kPage + 1) * kPage;
}

/// A decoded token waits for all the weights of its step, a prompt's tokens share them.
int64_t run_effort(const BenchLine& line) {
  constexpr int64_t kStep = 16;
  return line.work == kPrefill ? line.tokens : line.tokens * (kStep + line.batch);
}

Status step(Engine& engine) {
  const auto events = engine.step();
  if (!events) return events.error();
  if (interrupted()) return interrupted_error("measuring");
  return {};
}

/// Steps until every sequence has ended; how many they were.
Result<int64_t> run(Engine& engine) {
  int64_t num_steps = 0;
  for (; engine.has_work(); ++num_steps) {
    if (const auto done = step(engine); !done) return done.error();
  }
  return num_steps;
}

}  // namespace

int64_t prompt_of_depth(int64_t depth) { return std::max<int64_t>(1, depth); }

std::vector<BenchLine> plan_lines(const BenchOptions& options, int64_t num_threads) {
  std::vector<BenchLine> lines;
  const auto add = [&](std::string_view work, int64_t batch, int64_t depth, int64_t tokens) {
    BenchLine line;
    line.work = work;
    line.threads = num_threads;
    line.batch = batch;
    line.depth = depth;
    line.tokens = tokens;
    line.unit = work == kPrefill ? "GFLOP/s" : "GB/s";
    lines.push_back(std::move(line));
  };
  if (options.only != kDecode) {
    for (int64_t tokens : options.prompt_tokens) add(kPrefill, 1, 0, tokens);
  }
  if (options.only == kPrefill) return lines;
  for (int64_t batch : options.batches) {
    for (int64_t depth : options.depths) add(kDecode, batch, depth, options.decode_tokens);
  }
  return lines;
}

Status check_lines(const std::vector<BenchLine>& lines, const ModelConfig& config, const BenchOptions& options,
                   int64_t cache_token_bytes) {
  const auto available = inspect_machine().memory_available_bytes;
  for (size_t i = 0; i < lines.size(); ++i) {
    const BenchLine& line = lines[i];
    const std::string name = line.name();
    if (std::any_of(lines.begin(), lines.begin() + static_cast<std::ptrdiff_t>(i),
                    [&](const BenchLine& other) { return other.name() == name; })) {
      return invalid("the flags ask twice for \"" + name + "\"");
    }
    const std::string length_flags = line.work == kPrefill ? "--prompt " + std::to_string(line.tokens)
                                                           : "--depth " + std::to_string(line.depth) +
                                                                 " with --decode " + std::to_string(line.tokens);
    if (length_of(line) > config.max_context()) {
      return invalid(length_flags + " needs a context of " + std::to_string(length_of(line)) +
                     " tokens; the model's is " + std::to_string(config.max_context()));
    }
    if (line.batch > options.compute.prompt_chunk) {
      return invalid("--batch " + std::to_string(line.batch) + " is more than a step takes; raise --prompt-chunk " +
                     std::to_string(options.compute.prompt_chunk));
    }
    if (available && cache_tokens_of(line) > *available / cache_token_bytes) {
      return invalid("--batch " + std::to_string(line.batch) + ", " + length_flags + " needs a cache of " +
                     bytes_text(cache_tokens_of(line) * cache_token_bytes) + "; " + bytes_text(*available) +
                     " of memory are available");
    }
  }
  return {};
}

int64_t effort_of(const BenchLine& line, int64_t repeat) {
  const int64_t fill = line.work == kPrefill ? 0 : line.batch * prompt_of_depth(line.depth);
  return fill + (repeat + 1) * run_effort(line);
}

Stopwatch::Stopwatch(const Model& model, Kernels& kernels, EngineOptions options, int64_t repeat,
                     std::function<void(int64_t)> advance)
    : model_(model), kernels_(kernels), options_(std::move(options)), repeat_(repeat), advance_(std::move(advance)) {
  options_.stop_tokens.clear();
}

Result<Spread> Stopwatch::time(const BenchLine& line) {
  EngineOptions options = options_;
  options.max_cache_tokens = cache_tokens_of(line);
  if (line.work == kDecode) {  // the ends of all prompts, a page at most each, fit one step
    options.prompt_chunk = std::max(options.prompt_chunk, line.batch * (LatentPages::kPageTokens + 1));
  }
  Engine engine(model_, kernels_, std::move(options));
  return line.work == kPrefill ? time_prompts(engine, line) : time_decoding(engine, line);
}

std::vector<int32_t> Stopwatch::random_prompt(int64_t num_tokens, uint64_t seed) const {
  const Rng rng(seed, stream_of("bench"));
  std::vector<int32_t> prompt(static_cast<size_t>(num_tokens));
  for (size_t i = 0; i < prompt.size(); ++i) {
    prompt[i] = static_cast<int32_t>(rng.below(i, static_cast<uint64_t>(model_.config.vocab_size)));
  }
  return prompt;
}

Result<Spread> Stopwatch::time_prompts(Engine& engine, const BenchLine& line) {
  std::vector<double> speeds;
  for (int64_t i = 0; i <= repeat_; ++i) {
    const auto prompt = random_prompt(line.tokens, static_cast<uint64_t>(i));
    const auto start = Clock::now();
    const auto id = engine.submit(prompt, kGreedy, 1);
    if (!id) return id.error();
    if (const auto done = run(engine); !done) return done.error();
    const double seconds = seconds_since(start);
    engine.remove(*id);
    advance_(run_effort(line));
    if (i > 0) speeds.push_back(static_cast<double>(line.tokens) / seconds);
  }
  return spread_of(std::move(speeds));
}

// The caches are filled once. Each run goes back to the end of the prompts: their last tokens are computed again, in a
// step that is not timed, and then `tokens` steps are timed.
Result<Spread> Stopwatch::time_decoding(Engine& engine, const BenchLine& line) {
  std::vector<std::vector<int32_t>> prompts;
  std::vector<int64_t> ids;
  for (int64_t b = 0; b < line.batch; ++b) {
    prompts.push_back(random_prompt(prompt_of_depth(line.depth), static_cast<uint64_t>(b)));
    const auto id = engine.submit(prompts.back(), kGreedy, 1);
    if (!id) return id.error();
    ids.push_back(*id);
  }
  int64_t left = line.batch * prompt_of_depth(line.depth);
  while (engine.has_work()) {
    if (const auto done = step(engine); !done) return done.error();
    const int64_t computed = std::min(left, engine.options().prompt_chunk);
    left -= computed;
    advance_(computed);
  }
  std::vector<double> speeds;
  for (int64_t i = 0; i <= repeat_; ++i) {
    for (size_t b = 0; b < ids.size(); ++b) {
      if (auto s = engine.resume(ids[b], prompts[b], line.tokens + 1); !s) return s.error();
    }
    if (const auto first = step(engine); !first) return first.error();
    const auto start = Clock::now();
    const auto num_steps = run(engine);
    if (!num_steps) return num_steps.error();
    const double seconds = seconds_since(start);
    check(*num_steps == line.tokens, "every sequence is in every step");
    advance_(run_effort(line));
    if (i > 0) speeds.push_back(static_cast<double>(line.batch * line.tokens) / seconds);
  }
  return spread_of(std::move(speeds));
}

}  // namespace fathom::apps
