// Multi-Token Prediction module k (V3 report section 2.2, eq. 21-25): from the hidden state that predicts t_{i+k+1} and
// the embedding of that token, one more block predicts t_{i+k+2}. The input is [enorm(embedding); hnorm(hidden after
// the final norm)], the order of the released weights; embedding and head are the main model's.
#pragma once

#include "model/block.h"
#include "model/transformer.h"

namespace fathom {

struct MtpSaved {
  Tensor tokens;    // [T] I32: the next tokens that were embedded
  Tensor embedded;  // [T, D]
  Tensor hidden;    // [T, D] the input hidden
  Tensor joined;    // [T, 2 D]: normed embedding, normed hidden
  BlockSaved block;
  Tensor h_out;  // [T, D] the block's output, before shared_head.norm
  Tensor du;     // [T, D]; written by backward_input
};

class Mtp {
 public:
  Mtp(const Transformer& model, int64_t module)
      : config_(model.config()),
        shared_(model.weights()),
        rotary_(model.rotary()),
        w_(model.weights().mtp[static_cast<size_t>(module)]),
        layer_(model.config().num_hidden_layers + module) {}

  /// Hidden states after shared_head.norm [T, D], ready for the head. next_tokens[t] is the token that follows row t.
  /// context.layer is num_hidden_layers + module.
  Tensor forward(const Run& run, Tensor hidden, std::span<const int32_t> next_tokens, const AttentionContext& context,
                 MtpSaved* saved) const;
  /// Inference over packed rows with cache pages, as Transformer::forward takes them: hidden [T, D] are the main
  /// model's states after its final norm at rows.positions (or, to draft further, this module's own result for the
  /// position before), rows.tokens the tokens that follow them. The latents go to page layer num_hidden_layers +
  /// module.
  Tensor forward(const Run& run, Tensor hidden, const PackedTokens& rows) const;
  /// Adds the gradient of the input hidden to dhidden [T, D] and the embedding's gradient to its parameter.
  void backward_input(const Run& run, const AttentionContext& context, Tensor dout, MtpSaved& saved,
                      Tensor dhidden) const;
  void backward_weight(const Run& run, const MtpSaved& saved) const;

 private:
  const ModelConfig& config_;
  const ModelWeights& shared_;
  const Rotary& rotary_;
  const MtpWeights& w_;
  int64_t layer_;
};

}  // namespace fathom
