// Fuzz target: any text as model.safetensors.index.json beside two shards: refused by name, or a checkpoint with every
// tensor of the shards that it names.
#include "checkpoint/hf_index.h"

#include "scratch.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace fathom;
  static const fuzz::ScratchDirectory directory;
  static const bool made = [] {
    directory.put("a.safetensors", fuzz::safetensors_of({"one", "two"}));
    directory.put("b.safetensors", fuzz::safetensors_of({"three"}));
    return true;
  }();
  check(made, "the shards are there");
  directory.put(kIndexFileName, fuzz::text_of(data, size));
  const auto checkpoint = Checkpoint::open(directory.path());
  if (!checkpoint) {
    check(checkpoint.error().text.find(directory.path().string()) != std::string::npos, "an error names a file");
    return 0;
  }
  check(checkpoint->num_tensors() >= 1 && checkpoint->num_tensors() <= 3, "tensors are those of the shards");
  check(checkpoint->total_bytes() == 4 * checkpoint->num_tensors(), "bytes are those of the tensors");
  for (const std::string_view name : checkpoint->names()) check(checkpoint->tensor(name).ok(), "a name has a tensor");
  return 0;
}
