// Times every case of tests/kernels/op_cases.h. Their shapes are chosen to find faults, so the figures say what a small
// call costs, not how fast a large one is.
#include <algorithm>
#include <chrono>

#include "base/spread.h"
#include "bench/op_bench.h"
#include "kernels/op_cases.h"

namespace fathom::bench {

void bench_table_of_cases(const OpBench& bench) {
  for (const op_cases::OpCase& c : op_cases::all_cases()) {
    if (!bench.wants(c.name)) continue;
    op_cases::Operands fresh;
    c.setup(fresh);
    // Few calls a round, each round on fresh operands: some operations scale theirs in place, and hundreds of times
    // that leads to subnormal numbers, which are slow.
    constexpr int kRounds = 5, kMostCalls = 16;
    constexpr double kLongEnough = 0.0005;
    int num_calls = 1;
    const auto round = [&] {
      op_cases::Operands operands = fresh;
      const auto start = std::chrono::steady_clock::now();
      for (int i = 0; i < num_calls; ++i) c.run(bench.kernels(), operands);
      return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    };
    while (round() < kLongEnough && num_calls < kMostCalls) num_calls *= 2;
    std::vector<double> seconds;
    for (int i = 0; i < kRounds; ++i) seconds.push_back(round() / num_calls);
    const Precision precision = c.name.find("_bf16_") != std::string::npos  ? Precision::kBF16
                                : c.name.find("_fp8_") != std::string::npos ? Precision::kFp8
                                                                            : Precision::kF32;
    bench.add(c.name, {.operations = 2 * c.macs, .precision = precision}, spread_of(std::move(seconds)).median);
  }
}

}  // namespace fathom::bench
