// Preparing weights: from matrices as a checkpoint stores them to the panels that the products of inference read, in
// the formats of a policy. Training keeps rows.
#pragma once

#include "base/file.h"
#include "base/progress.h"
#include "kernels/kernels.h"
#include "model/model.h"
#include "model/quant_policy.h"

namespace fathom {

/// Bytes of the model's weights now, and as prepare_weights would leave them; what is packed has its source's pages
/// given back one matrix after the other.
struct PreparedBytes {
  int64_t stored = 0;
  int64_t prepared = 0;
  int64_t prepared_experts = 0;  // of that, routed experts
};
PreparedBytes prepared_bytes(const Model& model, const QuantPolicy& policy, Precision precision);

/// The same of one tensor of the plan, before anything is loaded: of a matrix that a file has as `stored` (integer
/// groups, E4M3 with scales, or a plain dtype), or of a vector, which becomes FP32.
int64_t prepared_bytes(const TensorSpec& spec, DType stored, GroupFormat groups, const QuantPolicy& policy,
                       Precision precision);

/// How many matrices are integer groups and would become groups of another format, or E4M3: rounded a second time, to
/// numbers that the original model would not have given.
int64_t num_quantized_twice(const Model& model, const QuantPolicy& policy);

/// The weight, without memory, that `from` becomes; `from` itself if it stays.
Weight prepared_form(const Weight& from, const TensorSpec& spec, const QuantPolicy& policy, Precision precision);

/// Bytes that a tensor of the plan takes in a file of prepared weights; arguments as above.
int64_t kept_bytes(const TensorSpec& spec, DType stored, GroupFormat groups, const QuantPolicy& policy,
                   Precision precision);

/// Fills the panels `target` (of prepared_form, with memory) from `from`; scales of E4M3 are those of `from` or made
/// here with the codes. Errors: a number that the format cannot hold.
Status pack_weight(const Weight& from, const TensorSpec& spec, const QuantPolicy& policy, Kernels& kernels,
                   const Weight& target);

/// Block scales of E4M3, if there are any, from one weight's memory to another's.
void copy_scales(const Weight& from, const Weight& to);

/// Puts the matrices of `model` into panels: those that the policy names in its formats, with Precision::kBF16 also the
/// others, as they are (F32 and F16 rounded to BF16, as their product would). Experts that are read from a file
/// (model/stream_experts) are left alone. One matrix at a time is in memory twice.
/// Errors: a number that a format cannot hold, by tensor; FP8 of a K that E4M3 blocks do not know; not enough memory,
/// before anything is done; cancelled.
Status prepare_weights(Model& model, const QuantPolicy& policy, Precision precision, Kernels& kernels,
                       Progress& progress);

/// Prepared weights in a file, and what came of it.
struct KeptWeights {
  Path path;               // empty: this model has nothing to prepare
  int64_t num_bytes = 0;   // of the file
  bool is_mapped = false;  // it was there: nothing was prepared
  Status kept{};           // why there is no file; the weights are in memory all the same
};

/// prepare_weights, or less: if `directory` has a file with what it would make, the matrices are views of that file
/// (model.prepared), to the same bits; else the file is written (aside, then renamed) from the memory that was filled,
/// and processes that want the same one wait for it. A file that cannot be written is no error. Errors: those of
/// prepare_weights; a model that was not read from files; cancelled.
Result<KeptWeights> prepare_weights_once(Model& model, const QuantPolicy& policy, Precision precision, Kernels& kernels,
                                         const Path& directory, Progress& progress);

}  // namespace fathom
