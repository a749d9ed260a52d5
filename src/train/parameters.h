// Parameters: everything that training keeps per number of the model: FP32 master, FP32 gradient, two BF16 moments, and
// what the forward pass computes with. In FP32 that is the master itself. In BF16 it is what a BF16 checkpoint would
// hold: matrices in BF16, norm gains rounded to BF16 and widened again, router biases as they are; so an exported
// checkpoint computes the same bits as the training forward.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/threads.h"
#include "model/model.h"
#include "tensor/storage.h"

namespace fathom {

enum class ComputeType { kF32, kBF16 };

class Parameters {
 public:
  /// One tensor of the plan. A router bias has a master only: it is learned from counts, not from gradients.
  struct Entry {
    TensorSpec spec;
    Tensor master;         // FP32
    Tensor grad;           // FP32; empty for a router bias
    Tensor first_moment;   // BF16; empty for a router bias
    Tensor second_moment;  // BF16; empty for a router bias
    Tensor compute;        // BF16 matrix or FP32; the master itself where they agree

    bool is_router_bias() const { return !grad; }
    bool is_matrix() const { return spec.shape.size() == 2; }
  };

  Parameters(const ModelConfig& config, ComputeType compute);
  Parameters(const Parameters&) = delete;
  Parameters& operator=(const Parameters&) = delete;

  /// Memory that the constructor takes for a model of this config.
  static int64_t num_bytes(const ModelConfig& config, ComputeType compute);

  const ModelConfig& config() const { return config_; }
  /// What the model computes with, gradients attached. Valid as long as this object.
  const ModelWeights& weights() const { return weights_; }
  /// All tensors in plan order (model/tensor_plan).
  std::span<const Entry> entries() const { return entries_; }
  /// The selection biases of the MoE layers in model order, MTP modules last; empty without noaux_tc.
  std::vector<Tensor> router_biases() const;
  /// All gradients as one matrix [rows, 1024], padding included (zero).
  Tensor gradients() const { return gradients_; }

  /// New weights: matrices normal(0, config.initializer_range), keyed by (seed, name, element); norm gains 1; biases 0.
  /// Moments become 0. Then as refresh().
  void initialize(uint64_t seed, ThreadPool& pool);
  /// The values of a loaded model of the same plan, decoded to FP32. Moments become 0. Then as refresh().
  void copy_from(const Model& model, ThreadPool& pool);
  /// Makes the compute weights follow the masters; after every change of these.
  void refresh(ThreadPool& pool);
  void zero_gradients();

 private:
  ModelConfig config_;
  std::vector<Entry> entries_;
  std::vector<Storage> storage_;
  Tensor gradients_;
  ModelWeights weights_;
};

}  // namespace fathom
