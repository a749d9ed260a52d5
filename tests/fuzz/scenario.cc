// Fuzz target: a scenario of fathom simulate: whatever the text, it is refused, or it is a scenario that survives a
// round trip and whose cluster and jobs are refused or made.
#include "sim/scenario.h"

#include "scratch.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace fathom;
  const fuzz::MemoryFile file(fuzz::text_of(data, size));
  const auto scenario = load_config<Scenario>({.file = file.path()});
  if (!scenario) return 0;
  const std::string written = to_toml(*scenario);
  const fuzz::MemoryFile again_file(written);
  const auto again = load_config<Scenario>({.file = again_file.path()});
  check(again && to_toml(*again) == written, "a scenario survives a round trip");
  constexpr int64_t kMostGpus = 512;  // larger clusters only take longer
  if (scenario->network.gpus <= kMostGpus) (void)cluster_of(*scenario).ok();
  (void)jobs_of(*scenario).ok();
  return 0;
}
