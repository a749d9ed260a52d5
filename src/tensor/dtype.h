// Element types: size, name, exact widening and round-to-nearest-even narrowing. FP8 lives in numerics/fp8.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <optional>
#include <string_view>

namespace fathom {

/// kU4: two in a byte, the even index in the low half; only whole rows of them are addressed.
enum class DType : uint8_t { kF64, kF32, kF16, kBF16, kE4M3, kE8M0, kI64, kI32, kI8, kU8, kU4 };

constexpr int64_t size_of(DType dtype) {
  switch (dtype) {
    case DType::kF64:
    case DType::kI64: return 8;
    case DType::kF32:
    case DType::kI32: return 4;
    case DType::kF16:
    case DType::kBF16: return 2;
    case DType::kE4M3:
    case DType::kE8M0:
    case DType::kI8:
    case DType::kU8: return 1;
    case DType::kU4: return 0;
  }
  return 0;
}
/// Bytes of `count` elements in a row.
constexpr int64_t bytes_of(DType dtype, int64_t count) {
  return dtype == DType::kU4 ? (count + 1) / 2 : count * size_of(dtype);
}

/// The safetensors name ("F32", "BF16", "F8_E4M3", ...).
std::string_view name_of(DType dtype);
/// The dtype of a safetensors name, if fathom knows it.
std::optional<DType> dtype_from_name(std::string_view name);

/// bfloat16: the upper half of an IEEE single.
struct bf16 {
  uint16_t bits = 0;
};
/// IEEE half.
struct f16 {
  uint16_t bits = 0;
};
/// E4M3 "fn": no infinities, maximum 448, NaN is S.1111.111.
struct e4m3 {
  uint8_t bits = 0;
};

/// E8M0: a power of two, 2^(bits - 127); 255 is NaN. OCP's scale type ("UE8M0").
struct e8m0 {
  uint8_t bits = 0;
};

inline float to_float(e8m0 v) {
  if (v.bits == 0xFF) return std::bit_cast<float>(0x7FC00000u);
  return std::bit_cast<float>(v.bits == 0 ? 0x00400000u : static_cast<uint32_t>(v.bits) << 23);  // 2^-127 is subnormal
}

inline float to_float(bf16 v) { return std::bit_cast<float>(static_cast<uint32_t>(v.bits) << 16); }

/// Round to nearest even; NaN stays NaN.
inline bf16 to_bf16(float v) {
  const uint32_t u = std::bit_cast<uint32_t>(v);
  if (std::isnan(v)) return {static_cast<uint16_t>((u >> 16) | 0x40)};
  return {static_cast<uint16_t>((u + 0x7FFF + ((u >> 16) & 1)) >> 16)};
}

#if defined(__aarch64__)
using NativeHalf = __fp16;  // g++ 12 knows _Float16 on x86 alone
#else
using NativeHalf = _Float16;
#endif
inline float to_float(f16 v) { return static_cast<float>(std::bit_cast<NativeHalf>(v.bits)); }
inline f16 to_f16(float v) { return {std::bit_cast<uint16_t>(static_cast<NativeHalf>(v))}; }

template <class T>
struct DTypeOf;
template <>
struct DTypeOf<double> {
  static constexpr DType value = DType::kF64;
};
template <>
struct DTypeOf<float> {
  static constexpr DType value = DType::kF32;
};
template <>
struct DTypeOf<f16> {
  static constexpr DType value = DType::kF16;
};
template <>
struct DTypeOf<bf16> {
  static constexpr DType value = DType::kBF16;
};
template <>
struct DTypeOf<e4m3> {
  static constexpr DType value = DType::kE4M3;
};
template <>
struct DTypeOf<e8m0> {
  static constexpr DType value = DType::kE8M0;
};
template <>
struct DTypeOf<int64_t> {
  static constexpr DType value = DType::kI64;
};
template <>
struct DTypeOf<int32_t> {
  static constexpr DType value = DType::kI32;
};
template <>
struct DTypeOf<int8_t> {
  static constexpr DType value = DType::kI8;
};
template <>
struct DTypeOf<uint8_t> {
  static constexpr DType value = DType::kU8;
};

}  // namespace fathom
