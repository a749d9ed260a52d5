// The storage types of GGUF tensors: how many numbers and bytes a block has, and how its numbers are decoded. A block
// is a run of 1, 32 or 256 numbers along the innermost axis with its scales inside. Those that are integer groups,
// which products read, are in numerics/blocks.h. Written from the format's description (ggml's block layouts);
// decisions/0014 has the formulas' accuracy.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "tensor/dtype.h"
#include "tensor/tensor.h"

namespace fathom {

/// The types of tensor data by their number in GGUF files. Those marked (size only) are named and measured, so that a
/// file with such a tensor can be listed, but not decoded.
enum class GgmlType : uint32_t {
  kF32 = 0,
  kF16 = 1,
  kQ4_0 = 2,
  kQ4_1 = 3,
  kQ5_0 = 6,
  kQ5_1 = 7,
  kQ8_0 = 8,
  kQ8_1 = 9,  // size only
  kQ2_K = 10,
  kQ3_K = 11,
  kQ4_K = 12,
  kQ5_K = 13,
  kQ6_K = 14,
  kQ8_K = 15,     // size only
  kIQ2_XXS = 16,  // size only
  kIQ2_XS = 17,   // size only
  kIQ3_XXS = 18,  // size only
  kIQ1_S = 19,    // size only
  kIQ4_NL = 20,
  kIQ3_S = 21,  // size only
  kIQ2_S = 22,  // size only
  kIQ4_XS = 23,
  kI8 = 24,     // size only
  kI16 = 25,    // size only
  kI32 = 26,    // size only
  kI64 = 27,    // size only
  kF64 = 28,    // size only
  kIQ1_M = 29,  // size only
  kBF16 = 30,
  kTQ1_0 = 34,  // size only
  kTQ2_0 = 35,  // size only
  kMXFP4 = 39,
};

struct GgmlTypeInfo {
  GgmlType type = GgmlType::kF32;
  std::string_view name;     // as ggml writes it: "Q4_K"
  int64_t block_length = 1;  // numbers
  int64_t block_bytes = 4;
  bool decodable = false;
};

/// What is known of a type number of a file; nullptr for a number that fathom does not know.
const GgmlTypeInfo* find_ggml_type(uint32_t number);
const GgmlTypeInfo& info_of(GgmlType type);

/// The dtype of a type that needs no decoding: F32, F16, BF16.
std::optional<DType> plain_dtype(GgmlType type);

/// The integer groups that a type's blocks are; none for Q4_1, Q5_1, Q2_K and Q3_K, which no product reads.
GroupFormat group_format(GgmlType type);

/// The names of all types that decode_blocks has, for errors: "F32, F16, ...".
std::string decodable_ggml_types();

/// Decodes `num_blocks` consecutive blocks of a decodable `type` (check() otherwise) to FP32. The number is the exact
/// scale * code (its bits fit FP32's), or, for types with an offset (Q4_1, Q5_1, Q2_K, Q4_K, Q5_K), the exact product
/// plus the exact offset, rounded once to nearest even. `blocks` needs no alignment.
void decode_blocks(GgmlType type, const std::byte* blocks, int64_t num_blocks, float* out);

}  // namespace fathom
