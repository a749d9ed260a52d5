// Finds a model that the user names: a directory, a GGUF file, or ORG/NAME in the local Hugging Face cache. Nothing is
// downloaded.
#pragma once

#include <string>
#include <string_view>

#include "base/file.h"
#include "base/result.h"

namespace fathom {

/// The environment variables that place the Hugging Face cache; empty means unset.
struct HubEnvironment {
  std::string hf_hub_cache = {};    // HF_HUB_CACHE: the cache itself
  std::string hf_home = {};         // HF_HOME: the cache is HF_HOME/hub
  std::string xdg_cache_home = {};  // XDG_CACHE_HOME: the cache is XDG_CACHE_HOME/huggingface/hub
  std::string home = {};            // HOME: the cache is HOME/.cache/huggingface/hub

  static HubEnvironment of_process();
  /// The cache directory: the first variable that is set, in the order above; empty when none is.
  Path hub_cache() const;
};

/// The model directory for what the user typed: a directory or a *.gguf file as it is, else ORG/NAME in the cache
/// (CACHE/models--ORG--NAME/refs/main names the snapshot). The error of a miss says where it looked and what to type.
Result<Path> resolve_model_dir(std::string_view name_or_path, const HubEnvironment& environment);

}  // namespace fathom
