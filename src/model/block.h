// One transformer layer: h += attention(norm(h)); h += ffn(norm(h)), dense or MoE.
#pragma once

#include "model/dense_ffn.h"
#include "model/mla.h"
#include "model/moe.h"

namespace fathom {

struct BlockSaved {
  Tensor h_in;   // [T, D] residual stream before attention
  Tensor h_mid;  // [T, D] before the feed-forward
  MlaSaved attention;
  FfnSaved dense;
  MoeSaved moe;
};

class Block {
 public:
  /// `next` is the layer after this one, whose experts may have to be read from a file ahead of time.
  Block(const ModelConfig& config, const BlockWeights& weights, const BlockWeights* next = nullptr)
      : config_(config), w_(weights), next_(next) {}

  /// Returns the residual stream [T, D] after the layer, or of `rows` alone, one after the other. Without `saved`,
  /// everything else it allocated is given back. With `rows` nothing can be saved.
  Tensor forward(const Run& run, Tensor h, const AttentionContext& context, BlockSaved* saved,
                 const std::vector<int32_t>* rows = nullptr) const;
  /// dh [T, D], the gradient of the residual stream after the layer, becomes the one before it.
  void backward_input(const Run& run, const AttentionContext& context, Tensor dh, BlockSaved& saved) const;
  void backward_weight(const Run& run, const BlockSaved& saved) const;

 private:
  const ModelConfig& config_;
  const BlockWeights& w_;
  const BlockWeights* next_;
};

}  // namespace fathom
