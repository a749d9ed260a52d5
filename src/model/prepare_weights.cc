#include "model/prepare_weights.h"

#include <algorithm>
#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include "base/check.h"
#include "base/file.h"
#include "base/machine.h"
#include "model/prepared_file.h"
#include "model/tensor_plan.h"
#include "numerics/convert.h"
#include "numerics/fp8.h"
#include "numerics/panels.h"

namespace fathom {
namespace {

/// A matrix in rows as E4M3 codes and scales, these in memory that is there.
Weight to_fp8(const Weight& from, Storage& codes, void* scales) {
  Weight to = rows_of(WeightFormat::kFp8, from.out_features(), from.in_features());
  codes = Storage::uninitialized(to.codes.num_bytes());
  to.codes.data = codes.data();
  to.scales.data = scales;
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

constexpr int64_t kLine = 64;
int64_t in_lines(int64_t num_bytes) { return (num_bytes + kLine - 1) / kLine * kLine; }

/// Bytes of the scales that lie in panels' memory: those of E4M3.
int64_t panel_scale_bytes(const Weight& target) {
  return target.layout == WeightLayout::kPanels && target.scales.rank > 0 ? target.scales.num_bytes() : 0;
}

int64_t moved_bytes(const Weight& target) { return in_lines(code_bytes(target)) + in_lines(panel_scale_bytes(target)); }

/// A tied head that has no quantised copy of its own.
bool is_same_matrix(const Param& embedding, const Weight& head) {
  return embedding.value.codes.data == head.codes.data;
}

/// A tensor of the plan without memory: as a file has it, or a vector, which becomes FP32.
Weight stored_form(const TensorSpec& spec, DType stored, GroupFormat groups) {
  Weight form;
  if (spec.shape.size() == 1) {
    form.codes = Tensor::contiguous(nullptr, DType::kF32, {spec.shape[0]});
    return form;
  }
  const int64_t n = spec.shape[0], k = spec.shape[1];
  if (groups != GroupFormat::kNone) return group_rows(groups, n, k);
  form.codes = Tensor::contiguous(nullptr, stored, {n, k});
  if (stored == DType::kE4M3) {
    form.scales = Tensor::contiguous(nullptr, DType::kF32, {num_scale_blocks(n), num_scale_blocks(k)});
  }
  return form;
}

/// Visits every matrix with its spec; a tied head, which is the embedding's matrix, comes last under the head's spec.
void visit_matrices(Model& model, const std::function<void(const TensorSpec&, Weight&)>& visit) {
  visit_weights(model.config, model.weights,
                [&](const TensorSpec& spec, Weight& value, Tensor*) { visit(spec, value); });
  if (model.config.tie_word_embeddings) visit(tied_head(model.config), model.weights.head.value);
}

/// All matrices that move lie in one piece of memory (huge pages, and no remainder of a page between two): where each
/// begins, its codes before its scales.
struct PreparedLayout {
  std::vector<int64_t> offsets;  // in the order of the visit
  int64_t num_bytes = 0;
  std::string text;  // every matrix and what becomes of it: as long as this stays, so do the bytes
};

PreparedLayout layout_of(Model& model, const QuantPolicy& policy, Precision precision) {
  PreparedLayout layout;
  visit_matrices(model, [&](const TensorSpec& spec, Weight& value) {
    if (!value) return;
    const Weight target = prepared_form(value, spec, policy, precision);
    if (!moves(target, spec, precision)) return;
    layout.offsets.push_back(layout.num_bytes);
    layout.num_bytes += moved_bytes(target);
    layout.text += spec.name + " " + form_text(value, target) + "\n";
  });
  return layout;
}

/// Makes every matrix that moves one over `memory`, after `fill` had a look at it: at what it was, and at what it is to
/// be, with its memory.
using Fill = std::function<Status(const TensorSpec& spec, const Weight& from, const Weight& target)>;
Status move_matrices(Model& model, const QuantPolicy& policy, Precision precision, const PreparedLayout& layout,
                     std::byte* memory, const Fill& fill) {
  Status status;
  auto offset = layout.offsets.begin();
  visit_matrices(model, [&](const TensorSpec& spec, Weight& value) {
    if (!status || !value) return;
    Weight target = prepared_form(value, spec, policy, precision);
    if (!moves(target, spec, precision)) return;
    check(offset != layout.offsets.end(), "the layout is of this model");
    target.codes.data = memory + *offset++;
    if (panel_scale_bytes(target) > 0) {
      target.scales.data = static_cast<std::byte*>(target.codes.data) + in_lines(code_bytes(target));
    }
    status = fill(spec, value, target);
    if (!status) return;
    if (spec.tensor_class != TensorClass::kHead || !is_same_matrix(model.weights.embedding, value)) {
      release_pages(value.codes.data, code_bytes(value));
    }
    value = target;
  });
  return status;
}

/// Error: less memory is available than the weights need.
Status check_memory(const Model& model, const QuantPolicy& policy, Precision precision) {
  const PreparedBytes bytes = prepared_bytes(model, policy, precision);
  const Machine machine = inspect_machine();
  if (machine.memory_available_bytes && bytes.prepared > *machine.memory_available_bytes) {
    return Error{ErrorCode::kOutOfMemory, "the weights need " + bytes_text(bytes.prepared) + " of memory and " +
                                              bytes_text(*machine.memory_available_bytes) +
                                              " are available; a smaller --quant needs less"};
  }
  return {};
}

/// Fills new memory, which the model owns from then on; returns where it is.
Result<std::byte*> fill_memory(Model& model, const QuantPolicy& policy, Precision precision,
                               const PreparedLayout& layout, Kernels& kernels, Progress& progress) {
  if (auto s = check_memory(model, policy, precision); !s) return s.error();
  Storage memory = Storage::uninitialized(std::max<int64_t>(layout.num_bytes, 1));
  auto* const bytes = static_cast<std::byte*>(memory.data());
  int64_t done = 0;
  const auto fill = [&](const TensorSpec& spec, const Weight& from, const Weight& target) -> Status {
    if (progress.stop_requested()) return cancelled("stopped while preparing the weights");
    auto* const codes = static_cast<std::byte*>(target.codes.data);
    if (target.layout == WeightLayout::kPanels) {
      if (auto s = pack_weight(from, spec, policy, kernels, target); !s) return s;
    } else {
      std::memcpy(codes, from.codes.data, static_cast<size_t>(code_bytes(from)));
    }
    // Between matrices are zeros: the same weights give the same file.
    const int64_t code_end = code_bytes(target), scale_end = in_lines(code_end) + panel_scale_bytes(target);
    std::memset(codes + code_end, 0, static_cast<size_t>(in_lines(code_end) - code_end));
    std::memset(codes + scale_end, 0, static_cast<size_t>(moved_bytes(target) - scale_end));
    done += moved_bytes(target);
    progress.update("preparing weights", done / 1000000, layout.num_bytes / 1000000, "MB");
    return {};
  };
  if (auto s = move_matrices(model, policy, precision, layout, bytes, fill); !s) return s.error();
  model.storage.push_back(std::move(memory));
  return bytes;
}

/// Error: the file could not be written, or cancelled.
Status write_weights(const PreparedFile& file, const std::byte* memory, int64_t num_bytes, Progress& progress) {
  constexpr int64_t kPiece = int64_t{64} << 20;
  auto out = file.create();
  if (!out) return out.error();
  for (int64_t at = 0; at < num_bytes; at += kPiece) {
    progress.update("writing prepared weights", at / 1000000, num_bytes / 1000000, "MB");
    if (progress.stop_requested()) return cancelled("stopped while writing the prepared weights");
    if (auto s = out->write(memory + at, static_cast<size_t>(std::min(kPiece, num_bytes - at))); !s) return s;
  }
  return out->commit();
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

void copy_scales(const Weight& from, const Weight& to) {
  if (to.scales.rank == 0) return;
  check(from.scales.is_contiguous() && from.scales.num_bytes() == to.scales.num_bytes(), "scales of one shape");
  std::memcpy(to.scales.data, from.scales.data, static_cast<size_t>(to.scales.num_bytes()));
}

Status pack_weight(const Weight& from, const TensorSpec& spec, const QuantPolicy& policy, Kernels& kernels,
                   const Weight& target) {
  Storage codes;  // of an FP8 copy in rows, until it is in panels
  Weight source = from;
  if (target.codes.dtype == DType::kE4M3 && from.codes.dtype != DType::kE4M3) {
    source = to_fp8(from, codes, target.scales.data);
  } else {
    copy_scales(from, target);
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
  return weight_bytes(prepared_form(stored_form(spec, stored, groups), spec, policy, precision));
}

int64_t kept_bytes(const TensorSpec& spec, DType stored, GroupFormat groups, const QuantPolicy& policy,
                   Precision precision) {
  const Weight target = prepared_form(stored_form(spec, stored, groups), spec, policy, precision);
  return moves(target, spec, precision) ? moved_bytes(target) : 0;
}

Status prepare_weights(Model& model, const QuantPolicy& policy, Precision precision, Kernels& kernels,
                       Progress& progress) {
  if (auto s = check_parts(policy, model.config); !s) return s;
  const PreparedLayout layout = layout_of(model, policy, precision);
  const auto filled = fill_memory(model, policy, precision, layout, kernels, progress);
  return filled ? Status{} : Status{filled.error()};
}

Result<KeptWeights> prepare_weights_once(Model& model, const QuantPolicy& policy, Precision precision, Kernels& kernels,
                                         const Path& directory, Progress& progress) {
  if (auto s = check_parts(policy, model.config); !s) return s.error();
  const PreparedLayout layout = layout_of(model, policy, precision);
  if (layout.num_bytes == 0) return KeptWeights{};
  const auto file = PreparedFile::of(kPreparedWeights, model, layout.text, layout.num_bytes, directory);
  if (!file) return file.error();
  KeptWeights out{.path = file->path(), .num_bytes = file->num_bytes()};
  const auto claim = file->claim(progress);
  if (!claim) {
    if (claim.error().code == ErrorCode::kCancelled) return claim.error();
    out.kept = claim.error();
  } else if (!*claim) {
    auto map = file->map();
    if (map) {
      const auto view = [](const TensorSpec&, const Weight&, const Weight&) { return Status{}; };
      if (auto s = move_matrices(model, policy, precision, layout, file->content(*map), view); !s) return s.error();
      model.prepared = std::move(*map);
      out.is_mapped = true;
      return out;
    }
    out.kept = map.error();
  }
  const auto memory = fill_memory(model, policy, precision, layout, kernels, progress);
  if (!memory) return memory.error();
  if (out.kept) out.kept = write_weights(*file, *memory, layout.num_bytes, progress);
  if (!out.kept && out.kept.error().code == ErrorCode::kCancelled) return out.kept.error();
  return out;
}

}  // namespace fathom
