// Tensor plan: every tensor that a checkpoint of a config holds, under its Hugging Face name, and the parameter counts
// that follow. Loading checks against it, writing declares from it, `inspect` prints it. No weights are touched.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "model/config.h"
#include "tensor/dtype.h"

namespace fathom {

enum class TensorClass {
  kEmbedding,
  kAttention,
  kDenseFfn,
  kRoutedExpert,
  kSharedExpert,
  kRouter,
  kNorm,
  kHead,
  kMtp  // what only an MTP module has: enorm, hnorm, eh_proj, shared_head.norm and its copies of embedding and head
};

struct TensorSpec {
  std::string name;
  std::vector<int64_t> shape;  // matrices: [out, in]
  TensorClass tensor_class = TensorClass::kNorm;
  int64_t layer = -1;               // -1: outside the layers; num_hidden_layers + k: MTP module k
  bool fp8_when_quantized = false;  // then NAME_scale_inv goes with it, shape scale_shape()
  bool is_optional = false;         // an MTP module's copy of the embedding or the head

  int64_t num_elements() const;
};

/// The tensors of a checkpoint of `config` in the order of the layers. MTP modules are layers num_hidden_layers + k.
/// FP8 scales are not listed: a tensor that is stored as E4M3 has one (scale_name, scale_shape).
std::vector<TensorSpec> expected_tensors(const ModelConfig& config);

/// The head of a model whose head is the embedding's matrix, as a tensor of its own: what a quantised copy is called.
TensorSpec tied_head(const ModelConfig& config);

/// The name of the FP32 scales of an E4M3 weight: NAME_scale_inv (they multiply, despite the name).
std::string scale_name(const std::string& weight_name);
/// One scale per 128x128 block: [ceil(out / 128), ceil(in / 128)] for a matrix shape [out, in].
std::vector<int64_t> scale_shape(const std::vector<int64_t>& weight_shape);

/// Numbers of parameters. "Active" counts the matrix elements that one token multiplies with (two FLOPs each), so
/// neither the routed experts that it is not sent to nor vectors (norms, router bias). MTP modules are counted apart.
struct ParameterCount {
  int64_t total = 0;                           // every number of the checkpoint without MTP
  int64_t active = 0;                          // without embedding and head
  int64_t active_with_head = 0;                // the figure of the DeepSeek-V3 README
  int64_t active_with_head_and_embedding = 0;  // tied: the shared matrix counts once
  int64_t mtp = 0;                             // of all MTP modules, without their copies of embedding and head
};
ParameterCount count_parameters(const ModelConfig& config);

/// Bytes of latent KV cache per token over all layers (without MTP), stored as kernels/kernels.h LatentPages says.
int64_t kv_cache_bytes_per_token(const ModelConfig& config, DType cache_dtype = DType::kBF16);

}  // namespace fathom
