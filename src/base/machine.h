// Machine: the facts of the computer this process runs on (processor, instruction sets, CPUs and memory it may use,
// caches, huge pages), read from cpuid, /proc and /sys. A fact the system does not tell is absent, never guessed.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/file.h"
#include "base/result.h"

namespace fathom {

/// Instruction sets that both the processor has and the operating system saves on a context switch.
struct CpuFeatures {
  bool avx2 = false;
  bool fma = false;
  bool f16c = false;
  bool avx512f = false;
  bool avx512bw = false;
  bool avx512dq = false;
  bool avx512vl = false;
  bool avx512_vbmi = false;
  bool avx512_bf16 = false;
  bool avx512_vnni = false;
  bool amx_tile = false;  // a process must ask the kernel for the tiles before it uses them
  bool amx_bf16 = false;
  bool amx_int8 = false;
};

/// One cache as CPU 0 sees it.
struct CpuCache {
  int level = 0;
  std::string type;  // "Data", "Instruction" or "Unified"
  int64_t size_bytes = 0;
  int num_sharing_cpus = 0;  // CPUs that share it; 0: not told
};

/// What the process may use of the machine, and what the machine is.
struct Machine {
  std::string cpu_model;  // "AMD EPYC 9654 96-Core Processor"; empty: not told
  CpuFeatures features;
  int num_usable_cpus = 1;          // the affinity mask, cut to whole CPUs of the cgroup quota; at least 1
  int num_affinity_cpus = 1;        // the affinity mask alone
  std::optional<double> cpu_quota;  // CPUs that the cgroup grants on average, if it limits them

  std::optional<int64_t> memory_total_bytes;  // the smaller of RAM and the cgroup limit
  std::optional<int64_t>
      memory_available_bytes;                 // of that, what can be had without swapping (page cache counts as free)
  std::optional<int64_t> memory_limit_bytes;  // the cgroup limit, if there is one below RAM

  std::vector<CpuCache> caches;
  std::optional<int64_t> huge_page_bytes;  // the default size of an explicit huge page
  int64_t num_huge_pages_free = 0;         // explicit huge pages that are reserved and free
  std::string transparent_huge_pages;      // "always", "madvise", "never"; empty: not told

  int num_online_cpus = 0;               // of the whole machine; 0: not told
  int num_numa_nodes = 0;                // banks of memory with CPUs of their own; 0: not told
  std::string cpu_governor;              // "performance", "powersave", ... of CPU 0; empty: not told
  std::string kernel_release;            // of the operating system's kernel; empty: not told
  std::vector<std::string> nvidia_gpus;  // their models, as the driver names them
};

/// Instruction sets of this processor (all false on other architectures than x86-64).
CpuFeatures detect_cpu_features();

/// The names of the features that are present, as in /proc/cpuinfo, joined by blanks.
std::string to_string(const CpuFeatures& features);

/// CPUs in this process's affinity mask, at least 1.
int count_affinity_cpus();

/// "1.50 GiB", "12.30 MiB", "980 B".
std::string bytes_text(int64_t bytes);
/// Bytes of memory as people write them: "8GB", "512 MiB", "1.5e9", or "50%" of `total`. Errors name the text and what
/// is accepted: a number above 0 with B, kB, MB, GB, TB (powers of 1000), KiB, MiB, GiB, TiB (of 1024) or, if the total
/// is known, % up to 100.
Result<int64_t> parse_memory(std::string_view text, std::optional<int64_t> total);

/// Bytes of memory that this process holds now (VmRSS of /proc/self/status). Absent where the system does not tell.
std::optional<int64_t> resident_bytes(const Path& root = "/");

/// Reads the machine. `root` is where /proc and /sys are looked up; instruction sets and the affinity mask are always
/// those of this process. Costs some small file reads; never fails.
Machine inspect_machine(const Path& root = "/");

}  // namespace fathom
