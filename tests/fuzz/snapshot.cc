// Fuzz target: any two files as a training snapshot: refused, or a state and tensors that can be read. Input: the
// manifest, a zero byte, state.safetensors. Size and hashes of the manifest are filled in, because no fuzzer finds them
// by chance, unless the manifest has a member "as_it_is".
#include "checkpoint/snapshot.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <cstdio>

#include "scratch.h"

namespace {

std::string hash_of(std::string_view text) {
  char out[17];
  std::snprintf(out, sizeof(out), "%016llx", static_cast<unsigned long long>(XXH3_64bits(text.data(), text.size())));
  return out;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace fathom;
  static const fuzz::ScratchDirectory directory;
  static const bool made = std::filesystem::create_directory(directory.path() / "step-00000005");
  check(made, "the snapshot's folder is new");
  std::string_view rest = fuzz::text_of(data, size);
  std::string manifest(fuzz::cut(rest));
  auto json = Json::parse(manifest, "manifest");
  if (json && json->is_object() && json->find("as_it_is") == nullptr) {
    if (const Json* state = json->find("state")) {
      const std::string hash = hash_of(state->dump());
      json->set("state_xxh3", hash);
    }
    Json entry = Json::object().set("name", "state.safetensors").set("bytes", static_cast<int64_t>(rest.size()));
    json->set("files", Json::Array{std::move(entry.set("xxh3", hash_of(rest)))});
    manifest = json->dump();
  }
  directory.put("step-00000005/manifest.json", manifest);
  directory.put("step-00000005/state.safetensors", rest);
  const auto snapshot = load_snapshot(directory.path());
  if (!snapshot) {
    check(snapshot.error().text.starts_with(directory.path().string()), "an error names the directory");
    return 0;
  }
  check(snapshot->has_value() && (*snapshot)->step == 5, "it is the snapshot that is there");
  int64_t sum = 0;
  for (const StoredTensor& tensor : (*snapshot)->tensors.tensors()) {
    for (const std::byte b : tensor.bytes) sum += static_cast<int>(b);
  }
  check(sum >= 0 && !(*snapshot)->state.dump().empty(), "everything can be read");
  return 0;
}
