// Metrics: what the server counts, as Prometheus text (exposition format 0.0.4). Every name begins with fathom_.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "serve/engine_loop.h"

namespace fathom::serve {

/// Counts of observations at or below rising bounds, with their sum.
class Histogram {
 public:
  explicit Histogram(std::vector<double> bounds) : bounds_(std::move(bounds)), counts_(bounds_.size() + 1) {}
  /// Of what was counted elsewhere; one more count than bounds.
  Histogram(std::vector<double> bounds, std::vector<int64_t> counts, double sum);
  void observe(double value);
  /// The lines of one histogram: NAME_bucket{le=...} cumulated, NAME_sum, NAME_count; `labels` (a="b",...) are in each.
  std::string text(std::string_view name, std::string_view help, const std::string& labels = "") const;
  const std::vector<double>& bounds() const { return bounds_; }
  /// One more than bounds: the last counts what is above all of them.
  const std::vector<int64_t>& counts() const { return counts_; }
  double sum() const { return sum_; }

 private:
  std::vector<double> bounds_;
  std::vector<int64_t> counts_;  // the last is above every bound
  int64_t count_ = 0;
  double sum_ = 0;
};

/// Numbers that are true at the moment of a scrape.
struct Gauges {
  EngineLoopStats engine;
  int64_t connections = 0;
  bool ready = false;
};

/// What has been counted since the start.
struct MetricsSnapshot {
  int64_t prompt_tokens = 0, generated_tokens = 0;
  std::map<std::string, int64_t> finishes;     // sequences by reason
  Histogram first_token, next_token, request;  // seconds
  // Of sequences that ended by themselves, in seconds: before the first step, to the first token, from it to the last.
  Histogram queue, prefill, decode, inference;             // the last: of the two before it together
  Histogram prompt_lengths, answer_lengths;                // tokens
  std::map<std::array<std::string, 3>, int64_t> requests;  // by route, method and class of the status ("2xx")
  double tokens_per_second = 0;                            // generated in the last ten whole seconds
};

class Metrics {
 public:
  Metrics();

  // Any thread.
  void count_response(std::string_view route, int status, std::string_view method = "none");
  void count_error(std::string_view code);
  void count_prompt(int64_t tokens);
  void count_finish(std::string_view reason);
  void count_dropped_client(std::string_view why);
  void observe_first_token(double seconds);
  void observe_next_token(double seconds);
  void observe_request(double seconds);
  void count_token();
  /// A sequence that has ended: seconds from the request to its first step, its first and its last token.
  void observe_sequence(int64_t prompt_tokens, int64_t generated_tokens, double begun, double first, double last);

  MetricsSnapshot snapshot() const;
  std::string text(const Gauges& gauges, std::string_view model, std::string_view version) const;

 private:
  mutable std::mutex mutex_;
  std::map<std::pair<std::string, int>, int64_t> responses_;
  std::map<std::string, int64_t> errors_, dropped_;
  MetricsSnapshot counts_;
  static constexpr int64_t kRateSeconds = 10;
  struct Second {
    int64_t number = -1, tokens = 0;
  };
  std::array<Second, kRateSeconds + 1> seconds_{};  // tokens generated lately; by number modulo their size
};

/// A label's value with \, " and line breaks escaped.
std::string label_value(std::string_view text);
/// A value as the text format has it, nine digits.
std::string metric_number(double value);
/// The # HELP and # TYPE lines.
std::string metric_head(std::string_view name, std::string_view type, std::string_view help);

}  // namespace fathom::serve
