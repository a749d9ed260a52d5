// Bench lines: measured speeds with their spread and their share of what the machine could do; as a table, as JSON, and
// beside the lines of an earlier run.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "base/result.h"
#include "base/spread.h"

namespace fathom {

/// One measured piece of work.
struct BenchLine {
  std::string work;  // "prefill", "decode"
  int64_t threads = 1;
  int64_t batch = 1;    // sequences at once
  int64_t depth = 0;    // tokens in the cache of each before the work begins
  int64_t tokens = 0;   // of each sequence
  std::string weights;  // other than the run's own (--also-quant): their format
  Spread tokens_per_s;  // of all sequences together
  double reached = 0;   // what the median amounts to in `unit`
  double limit = 0;     // of the machine; 0: none is known
  std::string unit;     // "GB/s", "GFLOP/s" or, of integers, "GOP/s"

  /// reached / limit; 0 without a limit.
  double share() const { return limit > 0 ? reached / limit : 0; }
  /// "decode, 2 threads, batch 4, depth 0, 32 tokens": what makes two lines comparable.
  std::string name() const;
};

/// One object with every member of the line, and "share".
Json to_json(const BenchLine& line);

/// The lines of a report: the array "lines" of the object `report`, each as to_json wrote it. `where` names the report
/// in errors. Errors: a member that is missing, of the wrong kind, not finite or negative; a line that is there twice.
Result<std::vector<BenchLine>> bench_lines_of(const Json& report, std::string_view where);

/// A table for people: one line of column titles, then one line each.
std::string bench_table(std::span<const BenchLine> lines);

/// A line and the same work in an earlier run, if that has it.
struct BenchComparison {
  BenchLine now;
  std::optional<double> before_tokens_per_s;

  /// now / before: above 1 is faster. Nothing without an earlier figure above 0.
  std::optional<double> ratio() const;
};

/// Every line of `now` in its order, with the line of `before` that has the same name().
std::vector<BenchComparison> compare_lines(std::span<const BenchLine> now, std::span<const BenchLine> before);

/// A table of old, new and ratio; "-" where the earlier run has no such line.
std::string comparison_table(std::span<const BenchComparison> comparisons);

/// The lines whose ratio is below `least`, as their names.
std::vector<std::string> slower_than(std::span<const BenchComparison> comparisons, double least);

/// Rows of cells as lines of text, each column as wide as its widest cell; the first `num_left` columns are flush left,
/// the others right. Columns stand two blanks apart.
std::string aligned(std::span<const std::vector<std::string>> rows, size_t num_left);

}  // namespace fathom
