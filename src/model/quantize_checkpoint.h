// Quantising a checkpoint: a model directory written anew with its matrices in the formats of a policy, tensor by
// tensor, so that a model larger than memory can be quantised. What it writes loads to the weights that `--quant` of
// the same policy makes at load.
#pragma once

#include "base/file.h"
#include "base/progress.h"
#include "base/threads.h"
#include "model/model.h"
#include "model/quant_policy.h"

namespace fathom {

struct QuantizeOptions {
  QuantPolicy policy;
  int64_t max_shard_bytes = 5'000'000'000;  // what an interrupted run loses at most
};

struct QuantizeReport {
  int64_t source_bytes = 0;  // of all tensors
  int64_t written_bytes = 0;
  int64_t num_tensors = 0;
  int64_t num_resumed = 0;  // of them from an interrupted run
};

/// Whether `out` can be made from `source`: it is a directory of its own that does not exist, and no GGUF file.
Status check_quantize_places(const Path& source, const Path& out);
/// Whether the model can be quantised: it is not yet.
Status check_quantizable(const Model& model, const Path& source);

/// Writes the directory `out` from the Hugging Face directory `source`: config.json with a quantization_config that
/// names the formats, the tokenizer's files, and every tensor: integer matrices as model/stored_groups says, FP8 as
/// E4M3 with _scale_inv, BF16 rounded; what the policy leaves alone, and tensors that fathom does not use, byte by
/// byte. A tied head that the policy quantises becomes lm_head.weight beside the embedding. Rows are spread over
/// `pool`; of a matrix a chunk of rows (16 MB as FP32) and its scales are in memory. An interrupted run continues
/// behind its last complete shard (checkpoint_writer). Errors: a policy that changes nothing; a GGUF file; a source
/// that is quantised already, or does not load; `out` exists or lies inside `source`; a number that a format cannot
/// hold, by tensor; no space; kCancelled.
Result<QuantizeReport> quantize_checkpoint(const Path& source, const Path& out, const QuantizeOptions& options,
                                           ThreadPool& pool, Progress& progress);

}  // namespace fathom
