// Integer weights in a checkpoint: how a matrix in groups of 32 lies in safetensors files. The codes keep the tensor's
// name, the scales are NAME_scale; both lie as a Weight in rows has them in memory, so that loading changes no value
// and copies nothing. With G = ceil(K / 32), for a matrix [N, K]:
//   INT8                   codes I8 [N, 32 G]; scales F16 [N, G]
//   INT4, IQ4_NL, MXFP4    codes U8 [N, 16 G], two in a byte, the even k in the low half; scales F16, MXFP4's F8_E8M0
// Codes beyond K (where K is no multiple of 32) are those of zeros and mean nothing. config.json says which format it
// is.
#pragma once

#include <array>
#include <string>

#include "checkpoint/hf_index.h"
#include "model/tensor_plan.h"
#include "numerics/intq.h"

namespace fathom {

/// The name of the scales of an integer weight: NAME_scale.
std::string group_scale_name(const std::string& weight_name);

/// Codes and scales of the tensor as a checkpoint declares them.
std::array<TensorDecl, 2> declare_groups(const TensorSpec& spec, GroupFormat format);

/// Whether codes and scales are there as declared. Errors begin with the tensor's name.
Status check_groups(const Checkpoint& checkpoint, const TensorSpec& spec, GroupFormat format);

/// The matrix in rows, over the checkpoint's bytes. Errors: check_groups; a scale that is not finite.
Result<Weight> bind_groups(const Checkpoint& checkpoint, const TensorSpec& spec, GroupFormat format);

}  // namespace fathom
