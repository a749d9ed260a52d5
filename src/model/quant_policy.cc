#include "model/quant_policy.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <set>

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

std::string joined(const std::vector<std::string_view>& names) {
  std::string out;
  for (const std::string_view name : names) out += (out.empty() ? "" : ", ") + std::string(name);
  return out;
}

/// The matrices that a policy can name.
const std::vector<std::string_view>& matrices_of(TensorClass tensor_class) {
  static const std::vector<std::string_view> attention = {"q", "q_a", "q_b", "kv_a", "o"}, ffn = {"gate", "up", "down"},
                                             mtp = {"eh", "head", "embed_tokens"}, none;
  switch (tensor_class) {
    case TensorClass::kAttention: return attention;
    case TensorClass::kDenseFfn:
    case TensorClass::kSharedExpert:
    case TensorClass::kRoutedExpert: return ffn;
    case TensorClass::kMtp: return mtp;
    default: return none;
  }
}

/// The parts that hold the smallest part `own`, the most particular first.
std::array<QuantPart, 3> parts_with(const QuantPart& own) {
  return {own, QuantPart{own.tensor_class, own.layer}, QuantPart{own.tensor_class, -1, own.matrix}};
}

/// Reads what follows a class: "3", "down", "3.down".
Result<QuantPart> parse_part(std::string_view name, TensorClass tensor_class, std::string_view rest) {
  QuantPart part{.tensor_class = tensor_class};
  const std::vector<std::string_view>& matrices = matrices_of(tensor_class);
  const std::string class_name(quant_class_name(tensor_class));
  if (matrices.empty()) {
    return invalid("\"" + std::string(name) + "\" does not name a part of a class; accepted: " + class_name +
                   " by itself, which is one matrix");
  }
  const auto [end, error] = std::from_chars(rest.data(), rest.data() + rest.size(), part.layer);
  if (error == std::errc{} && part.layer >= 0 && part.layer <= kMaxLayer) {
    rest.remove_prefix(static_cast<size_t>(end - rest.data()));
    if (rest.empty()) return part;
    if (rest.front() == '.') part.matrix = rest.substr(1);
  } else {
    part.layer = -1;
    part.matrix = rest;
  }
  if (std::find(matrices.begin(), matrices.end(), part.matrix) != matrices.end()) return part;
  const std::string accepted = class_name + ".LAYER, as in " + class_name + ".3, " + class_name + ".MATRIX and " +
                               class_name + ".LAYER.MATRIX, where MATRIX is one of " + joined(matrices);
  return invalid("\"" + std::string(name) + "\" does not name a part of a class; accepted: " + accepted);
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
    const auto own = parse_part(name, known.tensor_class, name.substr(dot + 1));
    if (!own) return own.error();
    if (!policy.parts.insert({*own, *format}).second) return twice();
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

QuantPart quant_part_of(const TensorSpec& spec) {
  std::string_view name = spec.name;
  for (const std::string_view end : {".weight", "_with_mqa", "_proj"}) {
    if (name.ends_with(end)) name.remove_suffix(end.size());
  }
  name = name.substr(name.rfind('.') + 1);  // npos + 1 is 0
  const bool is_only = matrices_of(spec.tensor_class).empty();
  return {.tensor_class = spec.tensor_class, .layer = spec.layer, .matrix = std::string(is_only ? "" : name)};
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
  for (const QuantPart& part : parts_with(quant_part_of(spec))) {
    if (const auto found = parts.find(part); found != parts.end()) return found->second;
  }
  return this->*known->format;
}

std::string QuantPart::text() const {
  std::string out(quant_class_name(tensor_class));
  if (layer >= 0) out += "." + std::to_string(layer);
  if (!matrix.empty()) out += "." + matrix;
  return out;
}

std::vector<std::pair<std::string, WeightFormat>> QuantPolicy::entries() const {
  std::vector<std::pair<std::string, WeightFormat>> out;
  for (const NamedClass& known : kClasses) {
    if (this->*known.format != WeightFormat::kStored) out.emplace_back(known.name, this->*known.format);
  }
  for (const auto& [part, format] : parts) out.emplace_back(part.text(), format);
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

Status check_parts(const QuantPolicy& policy, const ModelConfig& config) {
  if (policy.parts.empty()) return {};
  const int64_t layers = config.num_hidden_layers + config.num_nextn_predict_layers;
  std::set<QuantPart> present;
  for (const TensorSpec& spec : expected_tensors(config)) {
    if (!may_be_quantised(spec)) continue;
    for (QuantPart& part : parts_with(quant_part_of(spec))) present.insert(std::move(part));
  }
  for (const auto& [part, format] : policy.parts) {
    if (present.contains(part)) continue;
    return invalid("quantisation of " + part.text() + ": " +
                   (part.layer >= layers
                        ? "the model has layers 0 to " + std::to_string(layers - 1)
                        : "the model has no such matrix" + std::string(part.layer >= 0 ? " in that layer" : "")));
  }
  return {};
}

}  // namespace fathom
