// Load report: what the requests of a load test amount to: percentiles of latencies, throughput, errors by kind,
// goodput; as JSON, as a table, and beside an earlier report. Pure arithmetic.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "base/result.h"

namespace fathom::serve {

/// One request as the client saw it. Times are seconds on the generator's clock.
struct LoadRecord {
  double start_s = 0;        // before connecting
  double first_s = 0;        // its first text has come
  double end_s = 0;          // its last text has come; of one that failed: when that was known
  double longest_gap_s = 0;  // between two pieces of text
  int64_t input_tokens = 0;
  int64_t output_tokens = 0;
  int64_t cached_tokens = 0;       // of the prompt, found in the server's cache, if it says so
  bool tokens_are_pieces = false;  // the server counts no tokens: these are pieces of text
  std::string error{};             // its kind; empty: it was answered
  std::string error_text{};        // what the server said of it

  bool answered() const { return error.empty(); }
  double ttft_s() const { return first_s - start_s; }
  double e2e_s() const { return end_s - start_s; }
  /// The mean time of a token after the first; nothing when there is none.
  std::optional<double> tpot_s() const;
};

/// Times between pieces of text in buckets 1 % apart from 1 us to above an hour: memory does not grow with their
/// number, percentiles are right within 0.5 %.
class GapHistogram {
 public:
  void add(double seconds);
  int64_t count() const { return count_; }
  double mean_s() const { return count_ == 0 ? 0 : sum_ / static_cast<double>(count_); }
  /// The value below which the share q in [0, 1] lies; 0 without values.
  double quantile_s(double q) const;

 private:
  static constexpr double kRatio = 1.01;
  static constexpr double kLeast = 1e-6;
  static constexpr size_t kNumBuckets = 2304;
  std::array<int64_t, kNumBuckets> counts_{};
  int64_t count_ = 0;
  double sum_ = 0;
};

/// Milliseconds; zeros without values.
struct Latency {
  double mean = 0, p50 = 0, p90 = 0, p95 = 0, p99 = 0;
};

/// Percentiles by linear interpolation between the sorted values (numpy's default), times a thousand.
Latency latency_of(std::vector<double> seconds);
Latency latency_of(const GapHistogram& gaps);

/// What a request has to keep to count as good; those that are not given are kept by all.
struct LatencyGoals {
  std::optional<double> ttft_ms, tpot_ms, itl_ms, e2e_ms;  // itl: its longest gap between two pieces

  bool any() const { return ttft_ms || tpot_ms || itl_ms || e2e_ms; }
  bool kept_by(const LoadRecord& record) const;
};

/// "ttft:200,itl:50". Errors: another name, a number that is not above 0, a name given twice.
Result<LatencyGoals> parse_goals(std::string_view text);

struct ErrorCount {
  int64_t count = 0;
  std::string text;  // of the first
};

struct LoadReport {
  int64_t requests = 0, answered = 0;
  std::map<std::string, ErrorCount> errors;
  double duration_s = 0;  // from the first start to the last end
  int64_t input_tokens = 0, output_tokens = 0, cached_tokens = 0;
  bool tokens_are_pieces = false;
  Latency ttft, tpot, itl, e2e;
  std::optional<int64_t> good;  // requests that kept the goals
  /// With a shared prefix: of the request that computed it, and the median of those that could find it.
  std::optional<double> cold_ttft_ms;

  double per_s(int64_t count) const { return duration_s > 0 ? static_cast<double>(count) / duration_s : 0; }
  double cold_ratio() const { return cold_ttft_ms && ttft.p50 > 0 ? *cold_ttft_ms / ttft.p50 : 0; }
};

/// Latencies and tokens are those of answered requests.
LoadReport summarise(std::span<const LoadRecord> records, const GapHistogram& gaps, const LatencyGoals& goals);

Json to_json(const LoadReport& report);
/// Lines for people, the last one with its end.
std::string load_table(const LoadReport& report);

/// A figure of two reports.
struct LoadComparison {
  std::string name;
  double now = 0;
  std::optional<double> before;

  std::optional<double> ratio() const;
};

/// The throughputs and latencies of to_json's object `now`, each with that of the earlier one. Errors name `where`: an
/// earlier report that has none of them.
Result<std::vector<LoadComparison>> compare_loads(const Json& now, const Json& before, std::string_view where);
std::string comparison_table(std::span<const LoadComparison> comparisons);

}  // namespace fathom::serve
