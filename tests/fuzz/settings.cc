// Fuzz target: the settings of a training run from a file, the environment and flags. Input: TOML, a zero byte, one
// "NAME=value" of the environment, a zero byte, one "key=value". They are refused by name, or they are settings that
// survive being written and read again.
#include "scratch.h"
#include "train/train_config.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace fathom;
  std::string_view rest = fuzz::text_of(data, size);
  const fuzz::MemoryFile file(fuzz::cut(rest));
  ConfigSources sources{.file = file.path()};
  if (const std::string_view variable = fuzz::cut(rest); !variable.empty()) sources.environment.emplace_back(variable);
  if (!rest.empty()) sources.overrides.emplace_back(rest);
  const auto config = load_train_config(sources);
  if (!config) {
    check(!config.error().text.empty(), "refused settings have a reason");
    return 0;
  }
  if (config->validate()) (void)config->model_config().ok();
  const std::string written = to_toml(*config);
  const fuzz::MemoryFile again_file(written);
  const auto again = load_train_config({.file = again_file.path()});
  check(again.ok(), "written settings can be read");
  check(to_toml(*again) == written, "settings survive a round trip");
  return 0;
}
