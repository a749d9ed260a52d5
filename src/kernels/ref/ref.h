// RefKernels: the oracle. Scalar loops that read as the equations, double accumulators, FP32 or FP64 activations (FP64
// for finite differences), one thread. Every other back end answers to it.
#pragma once

#include "kernels/kernels.h"

namespace fathom {

class RefKernels final : public Kernels {
 public:
  std::string_view name() const override { return "ref"; }

  void embed(Tensor tokens, const Weight& table, Tensor out) override;
  void embed_backward(Tensor tokens, Tensor dout, Tensor dtable) override;
  void rms_norm(Tensor x, Tensor gain, double eps, Tensor y) override;
  void rms_norm_backward(Tensor x, Tensor gain, double eps, Tensor dy, Tensor dx, Into into, Tensor dgain) override;
  bool pack(const Weight& rows, const Weight& panels) override;
  void gemm(Tensor x, const Weight& w, Tensor y, Precision precision, Into into) override;
  void gemm_backward_input(Tensor dy, const Weight& w, Tensor dx, Precision precision, Into into) override;
  void gemm_backward_weight(Tensor dy, Tensor x, Tensor dw, Precision precision) override;
  void grouped_gemm(Tensor x, std::span<const int64_t> offsets, std::span<const Weight> w, Tensor y,
                    Precision precision) override;
  void grouped_gemm_backward_input(Tensor dy, std::span<const int64_t> offsets, std::span<const Weight> w, Tensor dx,
                                   Precision precision, Into into) override;
  void grouped_gemm_backward_weight(Tensor dy, Tensor x, std::span<const int64_t> offsets, std::span<const Tensor> dw,
                                    Precision precision) override;
  void rope(Tensor x, Tensor cos, Tensor sin, RopeDirection direction) override;
  void mla_prefill(const MlaPrefillArgs& args) override;
  void mla_prefill_backward(const MlaPrefillBackwardArgs& args) override;
  void mla_absorb_query(Tensor q_nope, const Weight& kv_b, Tensor q_latent, Precision precision) override;
  void mla_decode(const MlaDecodeArgs& args) override;
  void mla_expand_value(Tensor o_latent, const Weight& kv_b, Tensor o, Precision precision) override;
  void append_latents(Tensor latent, Tensor k_rope, std::span<const int64_t> positions,
                      const LatentPages& pages) override;
  void gather_latents(const LatentPages& pages, Tensor latent, Tensor k_rope) override;
  void router(const RouterArgs& args) override;
  void router_backward(const RouterBackwardArgs& args) override;
  double balance_loss(const BalanceLossArgs& args) override;
  void gather_rows(Tensor x, std::span<const int32_t> row_token, Tensor out) override;
  void combine_rows(Tensor rows, std::span<const int32_t> slot_row, Tensor expert_ids, Tensor weights, Tensor out,
                    Into into) override;
  void weigh_rows_backward(Tensor dh, Tensor h, Tensor row_weight, Tensor drow_weight) override;
  void swiglu(Tensor gate, Tensor up, Tensor h) override;
  void grouped_swiglu(const GroupedSwigluArgs& args) override;
  void swiglu_backward(Tensor gate, Tensor up, Tensor dh, Tensor dgate, Tensor dup) override;
  void add(Tensor x, Tensor y) override;
  void round_to_bf16(Tensor x) override;
  void quantize_tiles(Tensor x, ScaleFormat format, Tensor codes, Tensor scales) override;
  void cross_entropy(Tensor logits, std::span<const int32_t> targets, double gradient_scale, Tensor loss,
                     Tensor dlogits) override;
  double sum_of_squares(Tensor x) override;
  void adamw(const AdamWArgs& args) override;
};

}  // namespace fathom
