// Quantisation policy: which format the matrices of each class of a model are kept in, as `--quant` says it.
#pragma once

#include <compare>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"
#include "tensor/tensor.h"

namespace fathom {

enum class TensorClass;  // model/tensor_plan.h, which knows configs, which hold a policy
struct TensorSpec;
struct ModelConfig;

/// kStored: as the checkpoint has it.
enum class WeightFormat { kStored, kBF16, kFp8, kInt8, kInt4, kIq4Nl, kMxfp4 };

std::string_view name_of(WeightFormat format);
GroupFormat groups_of(WeightFormat format);
/// The name of a class that may be quantised ("experts"), empty for the others.
std::string_view quant_class_name(TensorClass tensor_class);
/// A matrix [N, K] in rows of a format (not kStored), without memory.
Weight rows_of(WeightFormat format, int64_t n, int64_t k);

/// Whether a tensor of the plan is of a class that may be quantised. Embedding, router, norms and biases stay as
/// stored: a token reads one row of the first, the second decides by small differences, the rest is small. So does
/// kv_b_proj, which the two forms of attention read in two directions.
bool may_be_quantised(const TensorSpec& spec);

/// What of a class a policy takes apart: a layer; a matrix of every layer, named "q", "q_a", "q_b", "kv_a", "o",
/// "gate", "up", "down", of MTP modules "eh", "head", "embed_tokens"; or a matrix of one layer.
struct QuantPart {
  TensorClass tensor_class;
  int64_t layer = -1;       // -1: every layer
  std::string matrix = {};  // empty: every matrix

  auto operator<=>(const QuantPart&) const = default;
  /// As a policy writes it: "experts.3.down".
  std::string text() const;
};

/// The smallest part that holds a tensor that may be quantised: its matrix in its layer; for the head the whole class.
QuantPart quant_part_of(const TensorSpec& spec);

/// A format for each class that may be quantised.
struct QuantPolicy {
  WeightFormat attention = WeightFormat::kStored;
  WeightFormat dense = WeightFormat::kStored;
  WeightFormat shared = WeightFormat::kStored;
  WeightFormat experts = WeightFormat::kStored;
  WeightFormat head = WeightFormat::kStored;
  WeightFormat mtp = WeightFormat::kStored;
  /// Parts of a class that differ from it.
  std::map<QuantPart, WeightFormat> parts = {};

  /// The format of one tensor of the plan: of the parts that hold it that of the matrix in its layer, else of the
  /// layer, else of the matrix in all layers; without one its class's.
  WeightFormat format_of(const TensorSpec& spec) const;
  /// What the policy says, class by class and then part by part: {"experts", int4}, {"experts.3", int8}. Classes as
  /// stored are left out. Joined as NAME=FORMAT by commas it is what parse_quant_policy reads.
  std::vector<std::pair<std::string, WeightFormat>> entries() const;
  std::string text() const;

  bool operator==(const QuantPolicy&) const = default;
};

/// Parses "int8", "experts=int4", "int8,experts=int4,head=bf16": first the format of all classes, if there is one, then
/// those of single classes, and of parts of a class: of a layer ("experts.3=int8"; MTP module k is layer
/// num_hidden_layers + k), of a matrix in every layer ("experts.down=int8") or in one ("experts.3.down=int8"). With a
/// 4-bit format for all, the head is INT8 unless it is named: it decides between many near tokens. Errors name the part
/// that is not understood and what is accepted. Empty and "none": as stored.
Result<QuantPolicy> parse_quant_policy(std::string_view text);

/// Whether the model has the parts that the policy names. The error names one that it has not.
Status check_parts(const QuantPolicy& policy, const ModelConfig& config);

}  // namespace fathom
