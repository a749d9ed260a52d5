#include "checkpoint/hf_hub.h"

#include <algorithm>
#include <cstdlib>

#include "checkpoint/safetensors.h"

namespace fathom {
namespace {

constexpr size_t kMaxNamePart = 96;
constexpr int64_t kMaxRefBytes = 4096;

std::string variable(const char* name) {
  const char* value = std::getenv(name);
  return value ? value : "";
}

// What the hub allows in ORG and NAME, and in the revision that refs/main holds; none of it can leave a directory.
bool is_name_part(std::string_view part) {
  return !part.empty() && part.size() <= kMaxNamePart && part[0] != '.' &&
         std::all_of(part.begin(), part.end(), [](char c) {
           return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_' ||
                  c == '.';
         });
}

std::string_view trimmed(std::string_view text) {
  constexpr std::string_view kSpace = " \t\r\n";
  const size_t first = text.find_first_not_of(kSpace);
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(kSpace) - first + 1);
}

bool is_existing_directory(const Path& path) {
  std::error_code ignored;  // unreadable counts as absent; the caller's error names the path
  return std::filesystem::is_directory(path, ignored);
}

}  // namespace

HubEnvironment HubEnvironment::of_process() {
  return {variable("HF_HUB_CACHE"), variable("HF_HOME"), variable("XDG_CACHE_HOME"), variable("HOME")};
}

Path HubEnvironment::hub_cache() const {
  const auto expanded = [this](const std::string& text) {
    return text.starts_with("~/") && !home.empty() ? Path(home) / text.substr(2) : Path(text);
  };
  if (!hf_hub_cache.empty()) return expanded(hf_hub_cache);
  if (!hf_home.empty()) return expanded(hf_home) / "hub";
  if (!xdg_cache_home.empty()) return expanded(xdg_cache_home) / "huggingface" / "hub";
  if (!home.empty()) return Path(home) / ".cache" / "huggingface" / "hub";
  return {};
}

Result<Path> resolve_model_dir(std::string_view name_or_path, const HubEnvironment& environment) {
  const Path path{std::string(name_or_path)};
  if (name_or_path.empty()) return invalid("the model is empty; give a directory or ORG/NAME");
  if (is_existing_directory(path)) return path;
  std::error_code ignored;
  if (std::filesystem::exists(path, ignored)) {
    if (path.extension() == ".gguf") return path;
    return invalid("model " + in_quotes(name_or_path) +
                   " is a file; give a *.gguf file or the directory that holds config.json");
  }
  if (path.extension() == ".gguf") return not_found("model " + in_quotes(name_or_path) + ": no such file");

  const size_t slash = name_or_path.find('/');
  const bool is_hub_name = slash != std::string_view::npos && is_name_part(name_or_path.substr(0, slash)) &&
                           is_name_part(name_or_path.substr(slash + 1));
  if (!is_hub_name) {
    return not_found("model " + in_quotes(name_or_path) +
                     ": no such directory, and not an ORG/NAME of the Hugging Face hub");
  }
  const std::string hub_name(name_or_path);
  const std::string advice = "; type: hf download " + hub_name;
  const Path cache = environment.hub_cache();
  if (cache.empty()) {
    return not_found("model " + in_quotes(hub_name) +
                     ": no such directory, and no Hugging Face cache is known; set HF_HOME or HF_HUB_CACHE");
  }
  const Path entry = cache / ("models--" + hub_name.substr(0, slash) + "--" + hub_name.substr(slash + 1));
  if (!is_existing_directory(entry)) {
    return not_found("model " + in_quotes(hub_name) + ": neither a directory nor in the cache (looked for " +
                     entry.string() + ")" + advice);
  }
  const Path ref = entry / "refs" / "main";
  const auto text = read_file(ref, kMaxRefBytes);
  if (!text) return not_found("model " + in_quotes(hub_name) + ": " + text.error().text + advice);
  const std::string_view revision = trimmed(*text);
  if (!is_name_part(revision)) {
    return corrupt(ref.string() + ": " + in_quotes(revision) + " is not a revision" + advice);
  }
  Path snapshot = entry / "snapshots" / std::string(revision);
  if (!is_existing_directory(snapshot)) {
    return not_found("model " + in_quotes(hub_name) + ": the cache has no " + snapshot.string() + advice);
  }
  return snapshot;
}

}  // namespace fathom
