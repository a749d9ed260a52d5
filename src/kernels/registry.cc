#include "kernels/registry.h"

#include "kernels/cpu/cpu.h"
#include "kernels/ref/ref.h"

namespace fathom {
namespace {

/// The levels that this build has and this CPU and operating system can run, slowest first. The compiler's run-time
/// check covers what the operating system saves of the registers (XGETBV), so a bit it reports may be used.
std::vector<const cpu::Level*> runnable_levels() {
  std::vector<const cpu::Level*> levels = {&cpu::generic::level()};
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c")) {
    levels.push_back(&cpu::avx2::level());
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bf16")) {
      levels.push_back(&cpu::avx512::level());
    }
  }
#endif
  return levels;
}

}  // namespace

std::vector<std::string> available_kernels() {
  std::vector<std::string> names = {"ref", "cpu"};
  for (const cpu::Level* level : runnable_levels()) names.emplace_back(level->name);
  return names;
}

Result<std::unique_ptr<Kernels>> make_kernels(std::string_view name, ThreadPool& pool) {
  if (name == "ref") return std::unique_ptr<Kernels>(std::make_unique<RefKernels>());
  const auto levels = runnable_levels();
  if (name == "cpu") return std::unique_ptr<Kernels>(std::make_unique<CpuKernels>(*levels.back(), pool));
  for (const cpu::Level* level : levels) {
    if (name == level->name) return std::unique_ptr<Kernels>(std::make_unique<CpuKernels>(*level, pool));
  }
  std::string accepted;
  for (const std::string& one : available_kernels()) accepted += (accepted.empty() ? "" : ", ") + one;
  if (name == "avx2" || name == "avx512" || name == "generic") {
    return unsupported("kernels \"" + std::string(name) + "\" cannot run on this CPU; use one of " + accepted);
  }
  return invalid("unknown kernels \"" + std::string(name) + "\"; use one of " + accepted);
}

}  // namespace fathom
