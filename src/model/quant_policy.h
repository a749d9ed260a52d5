// Quantisation policy: which format the matrices of each class of a model are kept in, as `--quant` says it.
#pragma once

#include <array>
#include <string>
#include <string_view>

#include "base/result.h"
#include "model/tensor_plan.h"
#include "numerics/intq.h"

namespace fathom {

/// kStored: as the checkpoint has it.
enum class WeightFormat { kStored, kBF16, kFp8, kInt8, kInt4, kIq4Nl, kMxfp4 };

std::string_view name_of(WeightFormat format);
GroupFormat groups_of(WeightFormat format);

/// The classes that may be quantised. Embedding, router, norms and biases stay as stored: a token reads one row of the
/// first, the second decides by small differences, the rest is small. So does kv_b_proj, which the two forms of
/// attention read in two directions.
struct QuantPolicy {
  WeightFormat attention = WeightFormat::kStored;
  WeightFormat dense = WeightFormat::kStored;
  WeightFormat shared = WeightFormat::kStored;
  WeightFormat experts = WeightFormat::kStored;
  WeightFormat head = WeightFormat::kStored;
  WeightFormat mtp = WeightFormat::kStored;

  /// The format of one tensor of the plan.
  WeightFormat format_of(const TensorSpec& spec) const;
};

/// Parses "int8", "experts=int4", "int8,experts=int4,head=bf16": first the format of all classes, if there is one, then
/// those of single classes. With a 4-bit format for all, the head is INT8 unless it is named: it decides between many
/// near tokens. Errors name the part that is not understood and what is accepted. Empty and "none": as stored.
Result<QuantPolicy> parse_quant_policy(std::string_view text);

}  // namespace fathom
