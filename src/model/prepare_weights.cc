#include "model/prepare_weights.h"

#include <vector>

#include "base/file.h"
#include "base/machine.h"
#include "model/tensor_plan.h"
#include "numerics/convert.h"
#include "numerics/fp8.h"
#include "numerics/panels.h"

namespace fathom {
namespace {

/// The weight, without memory, that `from` becomes; the same layout as `from` if it stays.
Weight target_of(const Weight& from, const TensorSpec& spec, const QuantPolicy& policy, Precision precision) {
  Weight stays = from;
  if (spec.shape.size() != 2 || spec.name.ends_with("kv_b_proj.weight")) return stays;
  switch (spec.tensor_class) {
    case TensorClass::kEmbedding:
    case TensorClass::kRouter:
    case TensorClass::kNorm: return stays;
    default: break;
  }
  const WeightFormat format = policy.format_of(spec);
  const int64_t n = from.out_features(), k = from.in_features();
  if (groups_of(format) != GroupFormat::kNone) return panels_of(groups_of(format), n, k);
  if (format == WeightFormat::kStored && from.groups != GroupFormat::kNone) return panels_of(from.groups, n, k);
  if (precision != Precision::kBF16) return stays;
  const bool is_fp8 =
      format == WeightFormat::kFp8 || (format == WeightFormat::kStored && from.codes.dtype == DType::kE4M3);
  Weight target = panels_of(is_fp8 ? DType::kE4M3 : DType::kBF16, n, k);
  if (is_fp8) target.scales = Tensor::contiguous(nullptr, DType::kF32, {num_scale_blocks(n), num_scale_blocks(k)});
  return target;
}

/// A matrix in rows as E4M3 codes and scales.
Weight to_fp8(const Weight& from, std::vector<Storage>& storage, Storage& codes) {
  Weight to;
  const int64_t n = from.out_features(), k = from.in_features();
  codes = Storage::for_tensor(DType::kE4M3, {n, k}, &to.codes);
  storage.push_back(Storage::for_tensor(DType::kF32, {num_scale_blocks(n), num_scale_blocks(k)}, &to.scales));
  convert_rows(from, 0, to);
  return to;
}

std::string gigabytes(int64_t bytes) {
  return std::to_string(bytes / 1000000000) + "." + std::to_string(bytes / 100000000 % 10) + " GB";
}

/// A tied head that has no quantised copy of its own.
bool is_same_matrix(const Param& embedding, const Weight& head) {
  return embedding.value.codes.data == head.codes.data;
}

/// Visits every matrix with its spec; a tied head, which is the embedding's matrix, comes last under the head's spec.
void visit_matrices(Model& model, const std::function<void(const TensorSpec&, Weight&)>& visit) {
  visit_weights(model.config, model.weights,
                [&](const TensorSpec& spec, Weight& value, Tensor*) { visit(spec, value); });
  if (model.config.tie_word_embeddings) visit(tied_head(model.config), model.weights.head.value);
}

}  // namespace

PreparedBytes prepared_bytes(const Model& model, const QuantPolicy& policy, Precision precision) {
  PreparedBytes bytes;
  // Visiting does not change the weights; the signature serves loading too.
  visit_matrices(const_cast<Model&>(model), [&](const TensorSpec& spec, Weight& value) {
    if (!value) return;
    const bool is_embedding = spec.tensor_class == TensorClass::kHead && is_same_matrix(model.weights.embedding, value);
    const Weight target = target_of(value, spec, policy, precision);
    bytes.stored += is_embedding ? 0 : weight_bytes(value);
    bytes.prepared += is_embedding && target.layout == WeightLayout::kRows ? 0 : weight_bytes(target);
  });
  return bytes;
}

int64_t prepared_bytes(const TensorSpec& spec, DType stored, GroupFormat groups, const QuantPolicy& policy,
                       Precision precision) {
  if (spec.shape.size() == 1) return 4 * spec.shape[0];
  const int64_t n = spec.shape[0], k = spec.shape[1];
  Weight from;
  if (groups != GroupFormat::kNone) {
    from = group_rows(groups, n, k);
  } else {
    from.codes = Tensor::contiguous(nullptr, stored, {n, k});
    if (stored == DType::kE4M3) {
      from.scales = Tensor::contiguous(nullptr, DType::kF32, {num_scale_blocks(n), num_scale_blocks(k)});
    }
  }
  return weight_bytes(target_of(from, spec, policy, precision));
}

Status prepare_weights(Model& model, const QuantPolicy& policy, Precision precision, Kernels& kernels,
                       Progress& progress) {
  if (auto s = check_layers(policy, model.config); !s) return s;
  const PreparedBytes bytes = prepared_bytes(model, policy, precision);
  const Machine machine = inspect_machine();
  if (machine.memory_available_bytes && bytes.prepared > *machine.memory_available_bytes) {
    return Error{ErrorCode::kOutOfMemory, "the weights need " + gigabytes(bytes.prepared) + " of memory and " +
                                              gigabytes(*machine.memory_available_bytes) +
                                              " are available; a smaller --quant needs less"};
  }
  Status status;
  int64_t done = 0;
  visit_matrices(model, [&](const TensorSpec& spec, Weight& value) {
    if (!status || !value) return;
    if (progress.stop_requested()) {
      status = Error{ErrorCode::kCancelled, "stopped while preparing the weights"};
      return;
    }
    Weight target = target_of(value, spec, policy, precision);
    if (target.layout == WeightLayout::kPanels) {
      Storage codes;  // of an FP8 copy in rows, until it is in panels
      Weight source = value;
      if (target.codes.dtype == DType::kE4M3) {
        if (value.codes.dtype != DType::kE4M3) source = to_fp8(value, model.storage, codes);
        target.scales = source.scales;
        target.scale_format = source.scale_format;
      }
      Storage memory = Storage::uninitialized(num_panels(target.out_features()) * panel_bytes(target));
      target.codes.data = memory.data();
      if (!kernels.pack(source, target)) {
        status = corrupt("tensor " + spec.name + " holds a number that " +
                         std::string(name_of(policy.format_of(spec))) + " cannot hold (NaN, infinity or beyond F16)");
        return;
      }
      model.storage.push_back(std::move(memory));
      if (spec.tensor_class != TensorClass::kHead || !is_same_matrix(model.weights.embedding, value)) {
        release_pages(value.codes.data, value.codes.num_bytes());
      }
      value = target;
    }
    done += weight_bytes(value);
    progress.update("preparing weights", done / 1000000, bytes.prepared / 1000000, "MB");
  });
  return status;
}

}  // namespace fathom
