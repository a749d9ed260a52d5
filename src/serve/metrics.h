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
  void observe(double value);
  /// The lines of one histogram: NAME_bucket{le=...} cumulated, NAME_sum, NAME_count.
  std::string text(std::string_view name, std::string_view help) const;

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

class Metrics {
 public:
  Metrics();

  // Any thread.
  void count_response(std::string_view route, int status);
  void count_error(std::string_view code);
  void count_prompt(int64_t tokens);
  void count_finish(std::string_view reason);
  void count_dropped_client(std::string_view why);
  void observe_first_token(double seconds);
  void observe_next_token(double seconds);
  void observe_request(double seconds);
  void count_token();

  std::string text(const Gauges& gauges, std::string_view model, std::string_view version) const;

 private:
  mutable std::mutex mutex_;
  std::map<std::pair<std::string, int>, int64_t> responses_;
  std::map<std::string, int64_t> errors_, finishes_, dropped_;
  int64_t prompt_tokens_ = 0, generated_tokens_ = 0;
  Histogram first_token_, next_token_, request_;
};

/// A label's value with \, " and line breaks escaped.
std::string label_value(std::string_view text);

}  // namespace fathom::serve
