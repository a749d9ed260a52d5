// Streaming experts: routed experts go from the checkpoint into a file of prepared records, once, and from there into
// the slots of an ExpertStore, so that a model may be larger than memory. A record is one expert as products read it:
// gate, up and down as prepare_weights would leave them, then their scales (E4M3).
#pragma once

#include <cstdint>
#include <string>

#include "base/file.h"
#include "base/progress.h"
#include "kernels/kernels.h"
#include "model/model.h"
#include "model/quant_policy.h"

namespace fathom {

/// The file of a model's experts in the formats of a policy.
struct ExpertFile {
  Path path;
  int64_t num_bytes = 0;
  int64_t record_bytes = 0;  // of the longest record
  int64_t num_records = 0;
  bool is_there = false;
};

/// Where in `directory` the experts of `model` belong. The name is a hash of what the records are made of: the
/// checkpoint's files (path, size, time of change), the formats and the layout; the file repeats it in full. Errors: a
/// model without routed experts; a GGUF file, whose experts are decoded in memory; a model that no files belong to.
Result<ExpertFile> expert_file(const Model& model, const QuantPolicy& policy, Precision precision,
                               const Path& directory);

/// Makes the file unless it is there (written aside, renamed when complete; another process that makes it is waited
/// for), and turns the routed experts of `model` into those of model.experts, which has no memory yet
/// (ExpertStore::allocate). Before prepare_weights. Errors: no room for the file; a number that a format cannot hold,
/// by tensor; cancelled.
Status stream_experts(Model& model, const QuantPolicy& policy, Precision precision, Kernels& kernels,
                      const Path& directory, Progress& progress);

/// The three matrices of one expert over its record in memory.
struct ExpertWeights {
  Weight gate, up, down;
};
ExpertWeights expert_weights(const MoeWeights& moe, int64_t expert, std::byte* record);

}  // namespace fathom
