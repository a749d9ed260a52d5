// ModelWeights: a model's parameters as nested structs of views, named as the field names them. Storage, checkpoints
// and optimizers own the bytes; the names of a checkpoint and these slots meet in bind() alone.
#pragma once

#include <functional>
#include <vector>

#include "model/config.h"
#include "model/tensor_plan.h"
#include "tensor/tensor.h"

namespace fathom {

/// MLA (paper-facts: V3 report eq. 1-11). Without query compression q_a is the whole q_proj and q_a_norm, q_b are
/// empty.
struct AttentionWeights {
  Param q_a;        // [Cq, D], or q_proj [H (Dn + R), D]
  Param q_a_norm;   // [Cq]
  Param q_b;        // [H (Dn + R), Cq]
  Param kv_a;       // [C + R, D]
  Param kv_a_norm;  // [C]
  Param kv_b;       // [H (Dn + Dv), C]
  Param o;          // [D, H Dv]
};

/// SwiGLU: down(silu(gate x) * up x).
struct FfnWeights {
  Param gate, up;  // [I, D]
  Param down;      // [D, I]
};

/// The same matrix of every expert, and its gradients: what a grouped gemm takes.
struct ExpertMatrices {
  std::vector<Weight> value;
  std::vector<Tensor> grad;
};

class ExpertStore;

struct MoeWeights {
  Param router;  // [E, D]
  Tensor bias;   // [E] FP32, e_score_correction_bias; empty unless noaux_tc. No gradient: see model/router.h.
  ExpertMatrices gate, up, down;
  FfnWeights shared;
  // If the experts are read from a file (model/stream_experts): gate, up, down have form but no memory.
  ExpertStore* store = nullptr;
  int64_t store_layer = 0;
};

struct BlockWeights {
  Param input_norm;  // [D]
  AttentionWeights attention;
  Param post_attention_norm;  // [D]
  FfnWeights dense;           // in dense layers
  MoeWeights moe;             // in MoE layers
  bool is_moe = false;
};

/// One MTP module; embedding and head are the main model's.
struct MtpWeights {
  Param embedding_norm;  // enorm [D]
  Param hidden_norm;     // hnorm [D]
  Param projection;      // eh_proj [D, 2 D]
  BlockWeights block;
  Param head_norm;  // shared_head.norm [D]
};

struct ModelWeights {
  Param embedding;  // [V, D]
  std::vector<BlockWeights> blocks;
  Param norm;  // [D]
  Param head;  // [V, D]; when tied the embedding's value and gradient, or a quantised copy
  std::vector<MtpWeights> mtp;
};

/// Calls `bind(spec, value, grad)` for every tensor of the plan with the slot it belongs to, in plan order. `grad` is
/// nullptr for the router bias. Optional copies inside MTP modules (embedding, head) have no slot and are not visited.
void visit_weights(const ModelConfig& config, ModelWeights& weights,
                   const std::function<void(const TensorSpec& spec, Weight& value, Tensor* grad)>& bind);

/// Empty weights with the right numbers of blocks, experts and MTP modules.
ModelWeights empty_weights(const ModelConfig& config);

}  // namespace fathom
