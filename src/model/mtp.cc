#include "model/mtp.h"

#include <algorithm>
#include <optional>

namespace fathom {

Tensor Mtp::forward(const Run& run, Tensor hidden, std::span<const int32_t> next_tokens,
                    const AttentionContext& context, MtpSaved* saved) const {
  const int64_t T = hidden.extent(0), D = hidden.extent(1);
  const Tensor out = run.make({T, D});
  std::optional<ArenaScope> scope;
  if (saved == nullptr) scope.emplace(run.arena);
  const Tensor tokens = Tensor::allocate(run.arena, DType::kI32, {T});
  std::copy(next_tokens.begin(), next_tokens.end(), tokens.ptr<int32_t>());
  const Tensor embedded = run.make({T, D}), joined = run.make({T, 2 * D}), u = run.make({T, D});
  run.k.embed(tokens, shared_.embedding.value, embedded);
  run.k.rms_norm(embedded, w_.embedding_norm.value.codes, config_.rms_norm_eps, joined.slice(1, 0, D));
  run.k.rms_norm(hidden, w_.hidden_norm.value.codes, config_.rms_norm_eps, joined.slice(1, D, D));
  run.product(joined, w_.projection.value, u, run.unquantized());  // eq. 21
  const Tensor h = Block(config_, w_.block).forward(run, u, context, saved != nullptr ? &saved->block : nullptr);
  run.k.rms_norm(h, w_.head_norm.value.codes, config_.rms_norm_eps, out);
  if (saved != nullptr) {
    saved->tokens = tokens;
    saved->embedded = embedded;
    saved->hidden = hidden;
    saved->joined = joined;
    saved->h_out = h;
  }
  return out;
}

Tensor Mtp::forward(const Run& run, Tensor hidden, const PackedTokens& rows) const {
  const RotaryTable rotary = rotary_.table(run, rows.positions);
  return forward(run, hidden, rows.tokens, {.segments = rows.segments, .rotary = rotary, .layer = layer_}, nullptr);
}

void Mtp::backward_input(const Run& run, const AttentionContext& context, Tensor dout, MtpSaved& s,
                         Tensor dhidden) const {
  const int64_t T = dout.extent(0), D = dout.extent(1);
  s.du = run.make({T, D});
  run.k.rms_norm_backward(s.h_out, w_.head_norm.value.codes, config_.rms_norm_eps, dout, s.du, Into::kAssign,
                          w_.head_norm.grad);
  Block(config_, w_.block).backward_input(run, context, s.du, s.block);
  const Tensor djoined = run.make({T, 2 * D}), dembedded = run.make({T, D});
  run.k.gemm_backward_input(s.du, w_.projection.value, djoined, run.unquantized(), Into::kAssign);
  run.k.rms_norm_backward(s.embedded, w_.embedding_norm.value.codes, config_.rms_norm_eps, djoined.slice(1, 0, D),
                          dembedded, Into::kAssign, w_.embedding_norm.grad);
  run.k.rms_norm_backward(s.hidden, w_.hidden_norm.value.codes, config_.rms_norm_eps, djoined.slice(1, D, D), dhidden,
                          Into::kAccumulate, w_.hidden_norm.grad);
  run.k.embed_backward(s.tokens, dembedded, shared_.embedding.grad);
}

void Mtp::backward_weight(const Run& run, const MtpSaved& s) const {
  run.k.gemm_backward_weight(s.du, s.joined, w_.projection.grad, run.unquantized());
  Block(config_, w_.block).backward_weight(run, s.block);
}

}  // namespace fathom
