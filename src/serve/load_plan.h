// Load plan: which requests a load test sends and when: Poisson arrivals, all at once (the generator then keeps so many
// in flight), or a recorded trace. Pure and a function of the seed: the same plan gives the same prompts at the same
// times.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace fathom::serve {

/// Requests that are alike.
struct SyntheticLoad {
  int64_t num_prompts = 100;
  int64_t input_len = 128;        // random tokens of each prompt
  int64_t output_len = 64;        // tokens of each answer
  int64_t shared_prefix_len = 0;  // tokens in front of every prompt, the same in all
  double requests_per_s = 0;      // of Poisson arrivals; 0: all are due at once
};

/// How a trace is made to fit the machine.
struct TraceScale {
  double speed_up = 1;      // > 0: times are divided by it
  double length_scale = 1;  // > 0: lengths of prompts, answers and prefix blocks are multiplied by it; at least 1
  int64_t limit = 0;        // of requests, from the first; 0: all
};

/// Ids that random prompts are made of: [first, end).
struct TokenRange {
  int32_t first = 0;
  int32_t end = 1;
};

/// The range for a vocabulary of that many (>= 1): without the first 256 ids, which may be bytes and marks, if enough
/// are left.
TokenRange token_range(int64_t vocab_size);

class LoadPlan {
 public:
  static constexpr int64_t kMostRequests = int64_t{1} << 20;
  static constexpr int64_t kMostTokens = int64_t{1} << 24;  // of a prompt or an answer

  /// Poisson arrivals: the gaps are -ln(1 - u) / requests_per_s.
  static LoadPlan synthetic(const SyntheticLoad& load, uint64_t seed);
  /// A trace as its lines: Mooncake's (JSON objects with timestamp in ms, input_length, output_length and hash_ids,
  /// each of which stands for 512 tokens that are the same wherever it does) or Azure's (a title line
  /// TIMESTAMP,ContextTokens,GeneratedTokens, then "2023-11-16 18:15:46.6805900,374,44"). Requests are sorted by time;
  /// the first one is at 0. Errors name `where` and the line.
  static Result<LoadPlan> from_trace(std::string_view text, std::string_view where, const TraceScale& scale,
                                     uint64_t seed);

  int64_t size() const { return static_cast<int64_t>(requests_.size()); }
  /// Seconds after the beginning at which request i is due.
  double start_s(int64_t i) const { return at(i).start_s; }
  /// Tokens of its prompt, of the shared prefix too.
  int64_t input_len(int64_t i) const { return shared_prefix_len_ + at(i).input_len; }
  int64_t output_len(int64_t i) const { return at(i).output_len; }
  /// The largest input_len + output_len.
  int64_t longest() const;

  /// The prompt of request i as ids.
  std::vector<int32_t> prompt(int64_t i, TokenRange range) const;
  /// A prompt as long as that of request i that shares nothing with any: for warming up.
  std::vector<int32_t> warm_up_prompt(int64_t i, TokenRange range) const;

 private:
  struct Planned {
    double start_s = 0;
    int64_t input_len = 1;
    int64_t output_len = 1;
    std::vector<int64_t> blocks{};  // of a trace: what each block_len_ tokens are
  };
  const Planned& at(int64_t i) const { return requests_[static_cast<size_t>(i)]; }
  static Result<Planned> mooncake_line(std::string_view line, const std::string& where);
  static Result<Planned> azure_line(std::string_view line, const std::string& where);

  uint64_t seed_ = 0;
  int64_t shared_prefix_len_ = 0;
  int64_t block_len_ = 512;
  std::vector<Planned> requests_;
};

/// Words in place of ids, one for each, for servers whose vocabulary nobody knows.
std::string words_of(const std::vector<int32_t>& tokens);

}  // namespace fathom::serve
