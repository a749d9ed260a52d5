// OpBench: times single operations of one back end and keeps what it found as lines.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "base/json.h"
#include "kernels/kernels.h"
#include "kernels/limits.h"

namespace fathom::bench {

/// What an operation does at least: the operations of its products and the unit they keep busy, or the bytes it waits
/// for where memory is the limit.
struct OpWork {
  double operations = 0;
  double bytes = 0;
  Precision precision = Precision::kF32;
};

/// A timed operation.
struct OpLine {
  std::string op;
  std::string kernels;  // a level of ours, "openblas" or "onednn"
  int num_threads = 1;
  double seconds = 0;  // median of one call
  OpWork work;
  double limit_per_s = 0;  // operations or, with bytes, bytes; 0: unknown

  /// Of the limit; 0 without one.
  double share() const;
};

/// The median time of one call of `body`: rounds of as many calls as take 5 ms (at most a million), after a first one.
double median_seconds(const std::function<void()>& body, int num_rounds = 7);

class OpBench {
 public:
  /// Lines whose name does not contain `filter` are not run.
  OpBench(Kernels& kernels, const MachineLimits& limits, std::string filter, std::vector<OpLine>& lines)
      : kernels_(kernels), limits_(limits), filter_(std::move(filter)), lines_(lines) {}

  Kernels& kernels() const { return kernels_; }
  const MachineLimits& limits() const { return limits_; }
  bool wants(const std::string& name) const { return name.find(filter_) != std::string::npos; }
  void time(const std::string& name, const OpWork& work, const std::function<void()>& body) const;
  /// Keeps what was timed elsewhere: of ours, or of a library whose products have the peak `peak_per_s`.
  void add(const std::string& name, const OpWork& work, double seconds) const;
  void add_peer(const std::string& peer, const std::string& name, const OpWork& work, double seconds,
                double peak_per_s) const;

 private:
  Kernels& kernels_;
  const MachineLimits& limits_;
  std::string filter_;
  std::vector<OpLine>& lines_;
};

/// The shapes that steps of models and of training spend themselves in (op_shapes.cc).
void bench_shapes(const OpBench& bench);
/// The table of tests/kernels/op_cases.h: every operation, on its small shapes (op_table.cc).
void bench_table_of_cases(const OpBench& bench);

Json to_json(const OpLine& line);
/// The lines as a table; products get their ratio to the same product of each peer, timed right after them.
std::string text_of(const std::vector<OpLine>& lines);

}  // namespace fathom::bench
