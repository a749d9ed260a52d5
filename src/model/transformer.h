// Transformer: embedding, blocks and final norm over a packed step of tokens. In inference the segments carry cache
// pages; in training each document is a segment and forward keeps what backward needs.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "model/block.h"
#include "model/config.h"
#include "model/head.h"
#include "model/rotary.h"
#include "model/weights.h"

namespace fathom {

/// Tokens packed along one axis: no batch axis, no padding.
struct PackedTokens {
  std::span<const int32_t> tokens;     // [T]
  std::span<const int64_t> positions;  // [T] position of each token in its own sequence
  std::span<const Segment> segments;   // cover [0, T) in order
  /// Rows whose hidden states are read, ascending; null: all. The last layer gives the others to its cache alone.
  const std::vector<int32_t>* read_rows = nullptr;
};

/// The packed documents of a training micro-batch as positions and segments without cache pages.
struct DocumentLayout {
  explicit DocumentLayout(std::span<const int64_t> document_offsets);
  std::vector<int64_t> positions;
  std::vector<Segment> segments;
};

struct TransformerSaved {
  std::vector<BlockSaved> blocks;
  RotaryTable rotary;
  Tensor tokens;  // [T] I32
  Tensor h_out;   // [T, D] before the final norm
};

class Transformer {
 public:
  Transformer(const ModelConfig& config, const ModelWeights& weights) : config_(config), w_(weights), rotary_(config) {}

  const ModelConfig& config() const { return config_; }
  const ModelWeights& weights() const { return w_; }
  const Rotary& rotary() const { return rotary_; }
  Head head() const { return Head(w_.head); }

  /// The hidden states after the final norm [T, D]. If `layer_hidden` is given, it receives the residual stream after
  /// every layer (kept in the arena; for tests and diagnosis).
  Tensor forward(const Run& run, const PackedTokens& batch, TransformerSaved* saved = nullptr,
                 std::vector<Tensor>* layer_hidden = nullptr) const;
  /// From the gradient of forward's result. Adds the embedding's and norms' gradients.
  void backward_input(const Run& run, const PackedTokens& batch, Tensor dhidden, TransformerSaved& saved) const;
  void backward_weight(const Run& run, const TransformerSaved& saved) const;

 private:
  const ModelConfig& config_;
  const ModelWeights& w_;
  Rotary rotary_;
};

}  // namespace fathom
