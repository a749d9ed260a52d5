// Limits: what this machine could reach at best, measured: reading memory and the peak of each kind of dot product. A
// bench that measures them in its own run can say how much of the machine a figure is.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/machine.h"
#include "base/threads.h"

namespace fathom {

/// Bytes and operations per second of all threads of a pool together. A multiply-add counts as two operations.
struct MachineLimits {
  std::string level;  // the instruction set that was measured: "avx512bf16"
  int num_threads = 1;
  double read_bytes_per_s = 0;
  double f32_ops_per_s = 0;
  double bf16_ops_per_s = 0;  // a level without a BF16 dot product widens: its FP32 peak
  double int8_ops_per_s = 0;  // bytes by bytes into 32 bits; 0: the level has no such product
};

struct LimitsOptions {
  int64_t read_bytes = 0;  // the block that is read; 0: default_read_bytes of this machine
  int num_rounds = 5;      // measurements of each limit; the median counts
};

/// 1 GiB, but at most an eighth of the available memory, and never less than 64 MiB.
int64_t default_read_bytes(const Machine& machine);

/// Measures the level that `kernels` names (registry.h); for "ref" and "cpu" the best of this machine. Reading: each
/// thread walks 4 MiB pieces of one block on huge pages, made before the clock runs. Products: independent chains in
/// registers. Takes about half a second with the default options, most of it to make the block. Medians.
MachineLimits measure_limits(std::string_view kernels, ThreadPool& pool, const LimitsOptions& options = {});

/// The larger of each, for limits measured before and after a run: no figure then looks better than it is.
MachineLimits larger_of(const MachineLimits& a, const MachineLimits& b);

}  // namespace fathom
