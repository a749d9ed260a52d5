#include "model/prepare_weights.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "base/check.h"
#include "base/file.h"
#include "base/machine.h"
#include "model/tensor_plan.h"
#include "numerics/convert.h"
#include "numerics/fp8.h"
#include "numerics/panels.h"

namespace fathom {
namespace {

/// A matrix in rows as E4M3 codes and scales.
Weight to_fp8(const Weight& from, Storage& codes, Storage& scales) {
  Weight to = rows_of(WeightFormat::kFp8, from.out_features(), from.in_features());
  codes = Storage::uninitialized(to.codes.num_bytes());
  scales = Storage::uninitialized(to.scales.num_bytes());
  to.codes.data = codes.data();
  to.scales.data = scales.data();
  convert_rows(from, 0, to);
  return to;
}

/// Whether preparing gives the weight new memory: what becomes panels, and whatever else a BF16 step reads whole (from
/// the small pages of a file, absorbing kv_b_proj takes a third longer).
bool moves(const Weight& target, const TensorSpec& spec, Precision precision) {
  if (target.layout == WeightLayout::kPanels) return true;
  return precision == Precision::kBF16 && target.groups == GroupFormat::kNone &&
         spec.tensor_class != TensorClass::kEmbedding;
}

/// One piece of memory for all: huge pages, and no remainder of a page between two matrices.
class PreparedMemory {
 public:
  explicit PreparedMemory(int64_t num_bytes) : memory_(Storage::uninitialized(std::max<int64_t>(num_bytes, 1))) {}
  std::byte* take(int64_t num_bytes) {
    std::byte* at = static_cast<std::byte*>(memory_.data()) + used_;
    used_ += aligned(num_bytes);
    check(used_ <= memory_.num_bytes(), "the memory was made for these matrices");
    return at;
  }
  Storage release() { return std::move(memory_); }
  static int64_t aligned(int64_t num_bytes) { return (num_bytes + 63) / 64 * 64; }

 private:
  Storage memory_;
  int64_t used_ = 0;
};

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

Weight prepared_form(const Weight& from, const TensorSpec& spec, const QuantPolicy& policy, Precision precision) {
  if (!may_be_quantised(spec)) return from;
  const WeightFormat format = policy.format_of(spec);
  const int64_t n = from.out_features(), k = from.in_features();
  if (groups_of(format) != GroupFormat::kNone) return panels_of(groups_of(format), n, k);
  if (format == WeightFormat::kStored && from.groups != GroupFormat::kNone) return panels_of(from.groups, n, k);
  if (precision != Precision::kBF16) return from;
  const bool is_fp8 =
      format == WeightFormat::kFp8 || (format == WeightFormat::kStored && from.codes.dtype == DType::kE4M3);
  Weight target = panels_of(is_fp8 ? DType::kE4M3 : DType::kBF16, n, k);
  if (!is_fp8) return target;
  target.scales = Tensor::contiguous(nullptr, DType::kF32, {num_scale_blocks(n), num_scale_blocks(k)});
  if (from.codes.dtype == DType::kE4M3) target.scale_format = from.scale_format;
  return target;
}

Status pack_weight(const Weight& from, const TensorSpec& spec, const QuantPolicy& policy, Kernels& kernels,
                   Weight& target, Storage& scales) {
  Storage codes;  // of an FP8 copy in rows, until it is in panels
  Weight source = from;
  if (target.codes.dtype == DType::kE4M3) {
    if (from.codes.dtype != DType::kE4M3) source = to_fp8(from, codes, scales);
    target.scales = source.scales;
  }
  if (kernels.pack(source, target)) return {};
  return corrupt("tensor " + spec.name + " holds a number that " + std::string(name_of(policy.format_of(spec))) +
                 " cannot hold (NaN, infinity or beyond F16)");
}

PreparedBytes prepared_bytes(const Model& model, const QuantPolicy& policy, Precision precision) {
  PreparedBytes bytes;
  // Visiting does not change the weights; the signature serves loading too.
  visit_matrices(const_cast<Model&>(model), [&](const TensorSpec& spec, Weight& value) {
    if (!value) return;
    const bool is_embedding = spec.tensor_class == TensorClass::kHead && is_same_matrix(model.weights.embedding, value);
    const Weight target = prepared_form(value, spec, policy, precision);
    bytes.stored += is_embedding ? 0 : weight_bytes(value);
    bytes.prepared += is_embedding && target.layout == WeightLayout::kRows ? 0 : weight_bytes(target);
    if (spec.tensor_class == TensorClass::kRoutedExpert) bytes.prepared_experts += weight_bytes(target);
  });
  return bytes;
}

int64_t num_quantized_twice(const Model& model, const QuantPolicy& policy) {
  int64_t count = 0;
  visit_matrices(const_cast<Model&>(model), [&](const TensorSpec& spec, Weight& value) {
    if (!value || value.groups == GroupFormat::kNone) return;
    const Weight target = prepared_form(value, spec, policy, Precision::kBF16);
    count +=
        target.groups != value.groups && (target.groups != GroupFormat::kNone || target.codes.dtype == DType::kE4M3);
  });
  return count;
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
  return weight_bytes(prepared_form(from, spec, policy, precision));
}

Status prepare_weights(Model& model, const QuantPolicy& policy, Precision precision, Kernels& kernels,
                       Progress& progress) {
  if (auto s = check_layers(policy, model.config); !s) return s;
  const PreparedBytes bytes = prepared_bytes(model, policy, precision);
  const Machine machine = inspect_machine();
  if (machine.memory_available_bytes && bytes.prepared > *machine.memory_available_bytes) {
    return Error{ErrorCode::kOutOfMemory, "the weights need " + bytes_text(bytes.prepared) + " of memory and " +
                                              bytes_text(*machine.memory_available_bytes) +
                                              " are available; a smaller --quant needs less"};
  }
  int64_t prepared_memory = 0;
  visit_matrices(model, [&](const TensorSpec& spec, Weight& value) {
    if (!value) return;
    const Weight target = prepared_form(value, spec, policy, precision);
    if (moves(target, spec, precision)) prepared_memory += PreparedMemory::aligned(code_bytes(target));
  });
  PreparedMemory memory(prepared_memory);
  Status status;
  int64_t done = 0;
  visit_matrices(model, [&](const TensorSpec& spec, Weight& value) {
    if (!status || !value) return;
    if (progress.stop_requested()) {
      status = Error{ErrorCode::kCancelled, "stopped while preparing the weights"};
      return;
    }
    Weight target = prepared_form(value, spec, policy, precision);
    if (target.layout == WeightLayout::kPanels) {
      Storage scales;
      target.codes.data = memory.take(code_bytes(target));
      status = pack_weight(value, spec, policy, kernels, target, scales);
      if (!status) return;
      if (scales.num_bytes() > 0) model.storage.push_back(std::move(scales));
      if (spec.tensor_class != TensorClass::kHead || !is_same_matrix(model.weights.embedding, value)) {
        release_pages(value.codes.data, code_bytes(value));
      }
      value = target;
    } else if (moves(target, spec, precision)) {
      target.codes.data = memory.take(code_bytes(value));
      std::memcpy(target.codes.data, value.codes.data, static_cast<size_t>(code_bytes(value)));
      release_pages(value.codes.data, code_bytes(value));
      value = target;
    }
    done += weight_bytes(value);
    progress.update("preparing weights", done / 1000000, bytes.prepared / 1000000, "MB");
  });
  model.storage.push_back(memory.release());
  return status;
}

}  // namespace fathom
