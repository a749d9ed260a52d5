// ModelConfig from the metadata of a GGUF file of architecture deepseek2 (DeepSeek V2, V3, R1, Kimi-K2, GLM-4.7-Flash).
#pragma once

#include "base/result.h"
#include "checkpoint/gguf_model.h"
#include "model/config.h"

namespace fathom {

/// The config that config.json would hold, through ModelConfig::parse and its bounds. Sources: the keys deepseek2.* and
/// tokenizer.ggml.*, and the shapes and names of tensors where the keys are silent:
///   - topk_method: noaux_tc when the router has exp_probs_b, else greedy or (with groups) group_limited_greedy; a file
///     without expert_group_count has no groups. scoring_func: softmax unless expert_gating_func says sigmoid.
///   - YaRN: rope.scaling.yarn_log_multiplier is 0.1 * mscale_all_dim; GGUF has no key for mscale, which its readers
///   take
///     to be equal (the amplitude of RoPE is 1).
///   - num_hidden_layers is block_count without the MTP blocks that it may count.
///   - bos_token_id only where add_bos_token is true; eos_token_id is EOS and, if another, EOT.
/// Errors: kUnsupported for another architecture, a key deepseek2.* that is not known (it may change the numbers), or a
/// method that fathom does not have; those of ModelConfig::parse, with names as in config.json.
Result<ModelConfig> config_from_gguf(const GgufModel& model);

}  // namespace fathom
