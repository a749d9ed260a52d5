// Model: a config with its weights and whoever owns their bytes: the mapped checkpoint (matrices are used in place) and
// converted copies (norms and router biases become FP32; GGUF blocks are decoded, see model/gguf_weights).
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "checkpoint/gguf_model.h"
#include "checkpoint/hf_index.h"
#include "model/config.h"
#include "model/expert_store.h"
#include "model/weights.h"
#include "tensor/storage.h"

namespace fathom {

struct Model {
  ModelConfig config;
  ModelWeights weights;

  std::vector<Storage> storage;
  std::vector<Checkpoint> checkpoints;
  std::vector<GgufModel> ggufs;
  std::optional<MappedFile> prepared;    // if prepared weights are mapped from a file (model/prepare_weights)
  std::unique_ptr<ExpertStore> experts;  // if they are read from a file (model/stream_experts)
};

/// How a checkpoint differs from what its config asks for; empty lists for a whole one.
struct CheckpointDifference {
  std::vector<std::string> missing;
  std::vector<std::string> unexpected;
  std::vector<std::string> wrong;    // shape or dtype: name, what is there, what is accepted
  std::vector<std::string> skipped;  // of the indexer of deepseek_v32, which dense attention does not read
};
CheckpointDifference compare_with_plan(const ModelConfig& config, const Checkpoint& checkpoint);

/// The config of a model directory, or of a GGUF file (a *.gguf path, or a directory that holds one and no
/// config.json).
Result<ModelConfig> load_model_config(const Path& model);

/// Loads a model directory or a GGUF file (as load_model_config; model/gguf_weights has its errors and what is
/// decoded). Errors of a directory name the tensor: missing, wrong shape, a dtype that is not F32, BF16, F16 or E4M3
/// (with its _scale_inv), a scale of the wrong shape or dtype. MTP modules are optional: a checkpoint without any of
/// their tensors loads with num_nextn_predict_layers = 0.
Result<std::unique_ptr<Model>> load_model(const Path& model);

/// A model of `config` whose every parameter is zeroed memory of `dtype` (F32, F64), norms and biases included; with
/// gradients of the same dtype if asked. For training and for tests.
std::unique_ptr<Model> make_model(const ModelConfig& config, DType dtype, bool with_gradients);

/// Copies values between models of one config, widening or rounding each element to the target's dtype.
void copy_weights(const Model& from, Model& to);

}  // namespace fathom
