#include "model/quant_policy.h"

#include <algorithm>

namespace fathom {
namespace {

struct NamedFormat {
  std::string_view name;
  WeightFormat format;
};
constexpr std::array<NamedFormat, 7> kFormats{{{"none", WeightFormat::kStored},
                                               {"bf16", WeightFormat::kBF16},
                                               {"fp8", WeightFormat::kFp8},
                                               {"int8", WeightFormat::kInt8},
                                               {"int4", WeightFormat::kInt4},
                                               {"iq4_nl", WeightFormat::kIq4Nl},
                                               {"mxfp4", WeightFormat::kMxfp4}}};

struct NamedClass {
  std::string_view name;
  WeightFormat QuantPolicy::*format;
};
constexpr std::array<NamedClass, 6> kClasses{{{"attention", &QuantPolicy::attention},
                                              {"dense", &QuantPolicy::dense},
                                              {"shared", &QuantPolicy::shared},
                                              {"experts", &QuantPolicy::experts},
                                              {"head", &QuantPolicy::head},
                                              {"mtp", &QuantPolicy::mtp}}};

template <class Named>
std::string names_in(const Named& table) {
  std::string out;
  for (const auto& entry : table) out += (out.empty() ? "" : ", ") + std::string(entry.name);
  return out;
}

Result<WeightFormat> parse_format(std::string_view name) {
  for (const NamedFormat& known : kFormats) {
    if (known.name == name) return known.format;
  }
  return invalid("quantisation format \"" + std::string(name) + "\" is unknown; accepted: " + names_in(kFormats));
}

Status apply(std::string_view part, bool is_first, QuantPolicy& policy) {
  const size_t equals = part.find('=');
  if (equals == std::string_view::npos) {
    const auto format = parse_format(part);
    if (!format) return format.error();
    if (!is_first) return invalid("quantisation \"" + std::string(part) + "\": the format of all classes comes first");
    for (const NamedClass& known : kClasses) policy.*known.format = *format;
    if (is_four_bit(groups_of(*format))) policy.head = WeightFormat::kInt8;
    return {};
  }
  const std::string_view name = part.substr(0, equals);
  const auto format = parse_format(part.substr(equals + 1));
  if (!format) return format.error();
  for (const NamedClass& known : kClasses) {
    if (known.name != name) continue;
    policy.*known.format = *format;
    return {};
  }
  return invalid("class \"" + std::string(name) + "\" is unknown; accepted: " + names_in(kClasses));
}

}  // namespace

std::string_view name_of(WeightFormat format) {
  return std::find_if(kFormats.begin(), kFormats.end(), [&](const NamedFormat& f) { return f.format == format; })->name;
}

GroupFormat groups_of(WeightFormat format) {
  switch (format) {
    case WeightFormat::kInt8: return GroupFormat::kInt8;
    case WeightFormat::kInt4: return GroupFormat::kInt4;
    case WeightFormat::kIq4Nl: return GroupFormat::kIq4Nl;
    case WeightFormat::kMxfp4: return GroupFormat::kMxfp4;
    default: return GroupFormat::kNone;
  }
}

WeightFormat QuantPolicy::format_of(const TensorSpec& spec) const {
  if (spec.shape.size() != 2 || spec.name.ends_with("kv_b_proj.weight")) return WeightFormat::kStored;
  switch (spec.tensor_class) {
    case TensorClass::kAttention: return attention;
    case TensorClass::kDenseFfn: return dense;
    case TensorClass::kSharedExpert: return shared;
    case TensorClass::kRoutedExpert: return experts;
    case TensorClass::kHead: return head;
    case TensorClass::kMtp: return mtp;
    case TensorClass::kEmbedding:
    case TensorClass::kRouter:
    case TensorClass::kNorm: return WeightFormat::kStored;
  }
  return WeightFormat::kStored;
}

Result<QuantPolicy> parse_quant_policy(std::string_view text) {
  QuantPolicy policy;
  bool is_first = true;
  while (!text.empty()) {
    const size_t comma = std::min(text.find(','), text.size());
    if (auto s = apply(text.substr(0, comma), is_first, policy); !s) return s.error();
    is_first = false;
    text.remove_prefix(std::min(comma + 1, text.size()));
  }
  return policy;
}

}  // namespace fathom
