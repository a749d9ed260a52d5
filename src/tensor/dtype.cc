#include "tensor/dtype.h"

#include <array>
#include <utility>

namespace fathom {
namespace {

constexpr std::array<std::pair<DType, std::string_view>, 10> kNames{{{DType::kF64, "F64"},
                                                                     {DType::kF32, "F32"},
                                                                     {DType::kF16, "F16"},
                                                                     {DType::kBF16, "BF16"},
                                                                     {DType::kE4M3, "F8_E4M3"},
                                                                     {DType::kE8M0, "F8_E8M0"},
                                                                     {DType::kI64, "I64"},
                                                                     {DType::kI32, "I32"},
                                                                     {DType::kI8, "I8"},
                                                                     {DType::kU8, "U8"}}};

}  // namespace

std::string_view name_of(DType dtype) {
  for (const auto& [type, name] : kNames) {
    if (type == dtype) return name;
  }
  return dtype == DType::kU4 ? "U4" : "?";  // no file has a tensor of U4
}

std::optional<DType> dtype_from_name(std::string_view name) {
  for (const auto& [type, known] : kNames) {
    if (known == name) return type;
  }
  return std::nullopt;
}

}  // namespace fathom
