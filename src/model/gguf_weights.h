// The weights of a GGUF file of architecture deepseek2, bound to the slots of ModelWeights: which tensor of the file
// each tensor of the plan is, and how it is used or decoded. Rows of RoPE are in the order of Hugging Face's files
// (interleaved pairs), so nothing is permuted.
#pragma once

#include <string>
#include <string_view>

#include "base/result.h"
#include "base/threads.h"
#include "checkpoint/gguf_model.h"
#include "model/model.h"

namespace fathom {

/// The place of a tensor of the plan (TensorSpec::name) in a GGUF file.
struct GgufSource {
  std::string name;     // "blk.3.ffn_up_exps.weight"
  int64_t expert = -1;  // index into the outermost axis of a stack of experts; -1: the whole tensor
};
GgufSource gguf_source(std::string_view plan_name);

/// Binds a model of `config` to the file. F32, F16 and BF16 matrices are used in place, and so are Q8_0, Q4_0, IQ4_NL
/// and MXFP4 where products alone read them: they are integer groups, in blocks until prepare_weights packs them. Other
/// types are decoded to BF16 (rounded once more, to nearest even), rows spread over `pool`. kv_b is assembled where the
/// file has it split: attn_k_b [H, C, Dn] is transposed per head, attn_v_b [H, Dv, C] is not. Vectors become FP32.
/// Errors name the tensor: missing, of another shape, of a type without decoder.
Result<std::unique_ptr<Model>> load_gguf(const GgufModel& file, const ModelConfig& config, ThreadPool& pool);

/// What the file lacks, has too much, or has in a wrong shape or type. Names are the file's.
CheckpointDifference compare_with_plan(const ModelConfig& config, const GgufModel& file);

/// Bytes of a tensor of the plan in the file, and in memory once loaded (0 when it is used in place).
struct GgufBytes {
  int64_t stored = 0;
  int64_t decoded = 0;
};
GgufBytes gguf_bytes(const TensorSpec& spec, const ModelConfig& config, const GgufModel& file);

}  // namespace fathom
