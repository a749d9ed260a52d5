#include "model/quant_policy.h"

#include <algorithm>
#include <array>
#include <charconv>

#include "base/check.h"
#include "model/tensor_plan.h"
#include "numerics/fp8.h"
#include "numerics/intq.h"

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
  TensorClass tensor_class;
  WeightFormat QuantPolicy::*format;
};
constexpr std::array<NamedClass, 6> kClasses{{{"attention", TensorClass::kAttention, &QuantPolicy::attention},
                                              {"dense", TensorClass::kDenseFfn, &QuantPolicy::dense},
                                              {"shared", TensorClass::kSharedExpert, &QuantPolicy::shared},
                                              {"experts", TensorClass::kRoutedExpert, &QuantPolicy::experts},
                                              {"head", TensorClass::kHead, &QuantPolicy::head},
                                              {"mtp", TensorClass::kMtp, &QuantPolicy::mtp}}};
constexpr int64_t kMaxLayer = 1 << 16;  // above any layer of a config

const NamedClass* class_of(TensorClass tensor_class) {
  const auto found = std::find_if(kClasses.begin(), kClasses.end(),
                                  [&](const NamedClass& known) { return known.tensor_class == tensor_class; });
  return found == kClasses.end() ? nullptr : found;
}

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

/// `named`: the classes that earlier parts gave a format; a second one would silently win over the first.
Status apply(std::string_view part, bool is_first, QuantPolicy& policy, std::vector<TensorClass>& named) {
  const size_t equals = part.find('=');
  if (equals == std::string_view::npos) {
    const auto format = parse_format(part);
    if (!format) return format.error();
    if (!is_first) return invalid("quantisation \"" + std::string(part) + "\": the format of all classes comes first");
    for (const NamedClass& known : kClasses) policy.*known.format = *format;
    if (bits_of(groups_of(*format)) == 4) policy.head = WeightFormat::kInt8;
    return {};
  }
  const std::string_view name = part.substr(0, equals);
  const auto format = parse_format(part.substr(equals + 1));
  if (!format) return format.error();
  const size_t dot = std::min(name.find('.'), name.size());
  for (const NamedClass& known : kClasses) {
    if (known.name != name.substr(0, dot)) continue;
    const auto twice = [&] {
      return invalid("quantisation names \"" + std::string(name) + "\" twice; give it one format");
    };
    if (dot == name.size()) {
      if (std::find(named.begin(), named.end(), known.tensor_class) != named.end()) return twice();
      named.push_back(known.tensor_class);
      policy.*known.format = *format;
      return {};
    }
    const std::string_view digits = name.substr(dot + 1);
    int64_t layer = -1;
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), layer);
    if (error != std::errc{} || end != digits.data() + digits.size() || layer < 0 || layer > kMaxLayer) {
      return invalid("\"" + std::string(name) + "\" does not name a layer; accepted: CLASS.NUMBER, as in experts.3");
    }
    if (!policy.layers.insert({{known.tensor_class, layer}, *format}).second) return twice();
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

std::string_view quant_class_name(TensorClass tensor_class) {
  const NamedClass* known = class_of(tensor_class);
  return known == nullptr ? std::string_view() : known->name;
}

Weight rows_of(WeightFormat format, int64_t n, int64_t k) {
  check(format != WeightFormat::kStored, "a format");
  if (const GroupFormat groups = groups_of(format); groups != GroupFormat::kNone) return group_rows(groups, n, k);
  Weight w;
  w.codes = Tensor::contiguous(nullptr, format == WeightFormat::kFp8 ? DType::kE4M3 : DType::kBF16, {n, k});
  if (format == WeightFormat::kFp8) {
    w.scales = Tensor::contiguous(nullptr, DType::kF32, {num_scale_blocks(n), num_scale_blocks(k)});
  }
  return w;
}

bool may_be_quantised(const TensorSpec& spec) {
  return spec.shape.size() == 2 && class_of(spec.tensor_class) != nullptr && !spec.name.ends_with("kv_b_proj.weight");
}

WeightFormat QuantPolicy::format_of(const TensorSpec& spec) const {
  if (!may_be_quantised(spec)) return WeightFormat::kStored;
  const NamedClass* known = class_of(spec.tensor_class);
  const auto own = layers.find({spec.tensor_class, spec.layer});
  return own != layers.end() ? own->second : this->*known->format;
}

std::vector<std::pair<std::string, WeightFormat>> QuantPolicy::entries() const {
  std::vector<std::pair<std::string, WeightFormat>> out;
  for (const NamedClass& known : kClasses) {
    if (this->*known.format != WeightFormat::kStored) out.emplace_back(known.name, this->*known.format);
  }
  for (const auto& [place, format] : layers) {
    out.emplace_back(std::string(quant_class_name(place.first)) + "." + std::to_string(place.second), format);
  }
  return out;
}

std::string QuantPolicy::text() const {
  std::string out;
  for (const auto& [name, format] : entries()) {
    out += (out.empty() ? "" : ",") + name + "=" + std::string(name_of(format));
  }
  return out.empty() ? "none" : out;
}

Result<QuantPolicy> parse_quant_policy(std::string_view text) {
  QuantPolicy policy;
  bool is_first = true;
  std::vector<TensorClass> named;
  while (!text.empty()) {
    const size_t comma = std::min(text.find(','), text.size());
    if (auto s = apply(text.substr(0, comma), is_first, policy, named); !s) return s.error();
    is_first = false;
    text.remove_prefix(std::min(comma + 1, text.size()));
  }
  return policy;
}

Status check_layers(const QuantPolicy& policy, const ModelConfig& config) {
  const int64_t layers = config.num_hidden_layers + config.num_nextn_predict_layers;
  for (const auto& [place, format] : policy.layers) {
    if (place.second < layers) continue;
    return invalid("quantisation of layer " + std::to_string(place.second) + " (" +
                   std::string(quant_class_name(place.first)) + "): the model has layers 0 to " +
                   std::to_string(layers - 1));
  }
  return {};
}

}  // namespace fathom
