// Snapshot: the state of a training run on disk, written whole or not at all. A directory holds one folder per
// snapshot:
//   step-00000500/state.safetensors   named tensors
//   step-00000500/manifest.json       step, free state, size and XXH3-64 of every file
// A folder appears under its name by one rename after everything in it is on the disk. What the tensors mean is the
// caller's business.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/file.h"
#include "base/json.h"
#include "base/result.h"
#include "checkpoint/safetensors.h"
#include "tensor/tensor.h"

namespace fathom {

struct SnapshotTensor {
  std::string name;
  Tensor tensor;  // contiguous
};

/// Writes DIRECTORY/step-STEP (directories are created) and then deletes all but the newest `keep` >= 1 snapshots, and
/// those of later steps (a future that this run left). A snapshot of that step that is there already is replaced.
/// Errors leave the older snapshots as they were: full disk, no permission, bad tensor names.
Status save_snapshot(const Path& directory, int64_t step, const Json& state, std::span<const SnapshotTensor> tensors,
                     int64_t keep);

/// A verified snapshot.
struct Snapshot {
  int64_t step = 0;
  Path path;
  Json state;
  SafetensorsFile tensors;
  std::vector<std::string> notes;  // one line for each newer snapshot that was not good, and why
};

/// The newest good snapshot of `directory`; nothing when there is none at all (or no directory). Every hash is checked.
/// Error (kCorrupt): there are snapshots and none is good.
Result<std::optional<Snapshot>> load_snapshot(const Path& directory);

}  // namespace fathom
