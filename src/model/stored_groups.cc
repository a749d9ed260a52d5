#include "model/stored_groups.h"

#include <cmath>

namespace fathom {

std::string group_scale_name(const std::string& weight_name) { return weight_name + "_scale"; }

std::array<TensorDecl, 2> declare_groups(const TensorSpec& spec, GroupFormat format) {
  const int64_t n = spec.shape[0], groups = num_groups(spec.shape[1]), length = groups * kGroupSize;
  const bool is_int8 = format == GroupFormat::kInt8;
  return {
      TensorDecl{spec.name, is_int8 ? DType::kI8 : DType::kU8, {n, is_int8 ? length : length / 2}},
      TensorDecl{group_scale_name(spec.name), format == GroupFormat::kMxfp4 ? DType::kE8M0 : DType::kF16, {n, groups}}};
}

Status check_groups(const Checkpoint& checkpoint, const TensorSpec& spec, GroupFormat format) {
  for (const TensorDecl& wanted : declare_groups(spec, format)) {
    const StoredTensor* stored = checkpoint.find(wanted.name);
    if (stored == nullptr) return corrupt(wanted.name + " is missing");
    if (stored->shape != wanted.shape) {
      return corrupt(wanted.name + " has shape " + shape_text(stored->shape) + ", config.json asks for " +
                     shape_text(wanted.shape));
    }
    if (stored->dtype != wanted.dtype) {
      return unsupported(wanted.name + " has dtype " + std::string(name_of(stored->dtype)) +
                         "; its format in config.json has " + std::string(name_of(wanted.dtype)));
    }
  }
  return {};
}

Result<Weight> bind_groups(const Checkpoint& checkpoint, const TensorSpec& spec, GroupFormat format) {
  if (auto s = check_groups(checkpoint, spec, format); !s) return s.error();
  const auto codes = checkpoint.tensor(spec.name);
  if (!codes) return codes.error();
  const auto scales = checkpoint.tensor(group_scale_name(spec.name));
  if (!scales) return scales.error();
  Weight weight = group_rows(format, spec.shape[0], spec.shape[1]);
  weight.codes.data = codes->data;
  weight.scales.data = scales->data;
  for (int64_t n = 0; n < weight.out_features(); ++n) {
    for (int64_t g = 0; g < weight.scales.extent(1); ++g) {
      if (std::isfinite(group_scale(weight, n, g))) continue;
      return corrupt(group_scale_name(spec.name) + " holds a scale that is not finite (row " + std::to_string(n) +
                     ", group " + std::to_string(g) + ")");
    }
  }
  return weight;
}

}  // namespace fathom
