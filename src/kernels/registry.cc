#include "kernels/registry.h"

#if defined(__x86_64__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

#include "base/machine.h"
#include "kernels/cpu/cpu.h"
#include "kernels/ref/ref.h"

namespace fathom {
namespace {

#if defined(__x86_64__)
/// Asks the kernel to save this process's tiles on a context switch, which it does not do unasked.
bool may_use_tiles() {
  constexpr int kRequestPermission = 0x1023, kTileData = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
  return ::syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}
#endif

/// The levels that this build has and this CPU and operating system can run, slowest first.
std::vector<const cpu::Level*> runnable_levels() {
  std::vector<const cpu::Level*> levels = {&cpu::generic::level()};
#if defined(__x86_64__)
  const CpuFeatures has = detect_cpu_features();
  if (!has.avx2 || !has.fma || !has.f16c) return levels;
  levels.push_back(&cpu::avx2::level());
  if (!has.avx512f || !has.avx512bw || !has.avx512vl || !has.avx512dq) return levels;
  levels.push_back(&cpu::avx512::level());
  if (!has.avx512_vnni || !has.avx512_vbmi) return levels;  // the levels below take them for granted
  if (has.avx512_bf16) {
    // Intel's vdpbf16ps does half the multiplications of its FP32 units in the same time; AMD's does twice as many.
    __builtin_cpu_init();
    levels.insert(__builtin_cpu_is("amd") ? levels.end() : levels.end() - 1, &cpu::avx512bf16::level());
  }
  if (has.amx_tile && has.amx_bf16 && may_use_tiles()) levels.push_back(&cpu::amx::level());
#elif defined(__aarch64__)
  levels.push_back(&cpu::neon::level());
#endif
  return levels;
}

}  // namespace

const cpu::Level& cpu::level_for(std::string_view name) {
  const auto levels = runnable_levels();
  for (const Level* level : levels) {
    if (name == level->name) return *level;
  }
  return *levels.back();
}

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
  if (name == "neon" || name == "avx2" || name == "avx512" || name == "avx512bf16" || name == "amx") {
    return unsupported("kernels \"" + std::string(name) + "\" cannot run on this CPU; use one of " + accepted);
  }
  return invalid("unknown kernels \"" + std::string(name) + "\"; use one of " + accepted);
}

}  // namespace fathom
