// Kernels: the seam between the model and the machine. Every operation on tensors, forward and backward side by side,
// is here with its maths, shapes and tolerance; nothing above knows which back end runs. Back ends: ref (scalar, double
// accumulators; FP32 and FP64 activations: the oracle), cpu (SIMD, FP32 activations), later cuda and cost.
//
// Conventions. Letters: T tokens, D hidden, H heads, C latent, R rope, E experts, K chosen experts (or the contraction
// of a gemm), V vocabulary, M expert rows. Activations between operations are FP32 (FP64 with ref); a gemm rounds its
// operands to the precision asked for. Tensors that an operation writes must not overlap its inputs unless it says so.
// Shapes are the caller's promise (check()ed); kernels never fail, log or grow what they were given.
//
// Determinism. Every output element is computed by one thread in an order that depends on shapes of its own row alone:
// not on T, the number of threads, or the other rows of the batch. Tolerance: unless said otherwise a back end agrees
// with ref within numerics/compare's bound for the length of the contraction.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "tensor/tensor.h"

namespace fathom {

/// What a gemm does with its activations. Accumulation is FP32 or better in all of them.
enum class Precision {
  kF32,   // activations as they are; weights decoded exactly (FP8: code * scale, one rounding)
  kBF16,  // activations and weights rounded to BF16 (nearest even), products exact, sums FP32; of weights with scales
          // the codes (exact in BF16), and the sums of 128 k times the scale; their backward is that of kF32
  kFp8,   // FP8 weights: activations quantised to E4M3 per 1x128 tile; other weights: as kF32
};
// Weights in integer groups (numerics/intq.h) multiply activations in INT8 groups of 32 in every precision, are
// assigned (Into::kAssign) and have no backward; the cpu back end reads them in panels. Per group the products of codes
// are summed exactly, and acc = fma(sum, s_x s_w, acc) in FP32, groups ascending: the same bits on every back end.
// Weights in BF16 or E4M3 panels are for kBF16.

/// Gradients are summed into parameters and the residual stream (kAccumulate) and assigned elsewhere (kAssign).
enum class Into { kAssign, kAccumulate };

enum class RopeDirection { kForward, kInverse };

/// The gate of a layer (V2 report eq. 20-24, V3 report eq. 12-16); see model/router.h for the methods.
struct RouterSpec {
  bool sigmoid = false;           // else softmax
  bool biased_selection = false;  // noaux_tc: selection by score + bias, group score = sum of its two best
  int64_t n_group = 1;            // > 1: only the best topk_group groups may be chosen from
  int64_t topk_group = 1;
  int64_t num_experts_per_tok = 1;
  bool norm_topk_prob = false;
  double routed_scaling_factor = 1;
};

struct RouterArgs {
  Tensor logits;  // [T, E]
  Tensor bias;    // [E] FP32, empty unless biased_selection
  RouterSpec spec;
  Tensor scores;      // out [T, E]: sigmoid or softmax of the logits, unbiased
  Tensor expert_ids;  // out [T, K] I32, ascending in each row
  Tensor weights;     // out [T, K]
};

struct RouterBackwardArgs {
  Tensor scores;      // [T, E]
  Tensor expert_ids;  // [T, K]
  Tensor dweights;    // [T, K]
  Tensor dscores;     // [T, E] further gradient of the scores (balance loss); may be empty
  RouterSpec spec;
  Tensor dlogits;  // out [T, E]
};

struct GroupedSwigluArgs {
  Tensor x;                          // [M, K], sorted by expert
  std::span<const int64_t> offsets;  // experts + 1: the rows of each
  std::span<const Weight> w_gate;    // [I, K] of each expert
  std::span<const Weight> w_up;
  Tensor gate;  // out [M, I]
  Tensor up;    // out [M, I]
  Tensor h;     // out [M, I]
  Precision precision = Precision::kF32;
};

/// Sequence-wise balance loss (V3 report eq. 17-20), per document d of T_d tokens:
///   L_d = sum_e f_e P_e,  f_e = E / (K T_d) #{t: e in top-K of the unbiased scores},  P_e = mean_t s_te / sum_j s_tj
struct BalanceLossArgs {
  Tensor scores;                              // [T, E]
  std::span<const int64_t> document_offsets;  // num_documents + 1, from 0 to T
  int64_t num_experts_per_tok = 1;
  double coefficient = 0;  // times each L_d: alpha / (documents of the whole batch)
  Tensor dscores;          // out [T, E]
};

/// Causal attention of one sequence in the naive (expanded) form. Query i has absolute position first_position + i and
/// sees the keys 0 .. first_position + i. Keys are walked in blocks of 64 absolute positions with an online softmax.
///   score = (q_nope . k_nope + q_rope . k_rope) * softmax_scale
/// Precision of attention, here and in MlaDecodeArgs: kF32, or kBF16: q, k and v (in decoding the latents) rounded to
/// BF16 once, products exact, sums, softmax and lse in FP32, and each probability exp(score - running maximum) rounded
/// to BF16 for the product with v. `ref` rounds the same operands but no probability, so that it is the exact result:
/// the others are within 2^-8 sum_s p_s |v_s| of it. A key or value that is not finite reaches no query that does not
/// see it.
struct MlaPrefillArgs {
  Tensor q;       // [T, H, Dn + R], rope already applied to the tail
  Tensor kv;      // [S, H, Dn + Dv], S >= first_position + T
  Tensor k_rope;  // [S, R], shared by the heads
  int64_t qk_nope_head_dim = 0;
  int64_t first_position = 0;
  double softmax_scale = 0;
  Tensor out;                             // out [T, H, Dv]
  Tensor lse;                             // out [T, H]: log-sum-exp of the scaled scores; may be empty
  Precision precision = Precision::kF32;  // or kBF16
};

/// In FP32 whatever the forward's precision: after a forward in BF16, q, kv and k_rope are to be numbers that BF16
/// holds, so that exp(score - lse) are the forward's probabilities.
struct MlaPrefillBackwardArgs {
  MlaPrefillArgs forward;  // out and lse as forward left them; first_position 0
  Tensor dout;             // [T, H, Dv]
  Tensor dq;               // out [T, H, Dn + R]
  Tensor dkv;              // out [S, H, Dn + Dv]
  Tensor dk_rope;          // out [S, R], summed over heads
};

/// The latents of one sequence in the cache, in pages of kPageTokens tokens. What a token stores depends on it alone.
///   F64, F32, BF16: rows of [C latent, R rope key]
///   E4M3: three parts, each of all the page's tokens: codes of the latents [64, C]; rope keys [64, R] in BF16; scales
///         [64, ceil(C / 128)] in E8M0, one per 128 numbers of a latent
/// A scale is a power of two, so BF16 holds every number that an E4M3 page stores: reading a page into BF16 or FP32
/// rounds nothing.
struct LatentPages {
  static constexpr int64_t kPageTokens = 64;
  std::span<void* const> pages;
  DType dtype = DType::kF32;
  int64_t kv_lora_rank = 0;
  int64_t qk_rope_head_dim = 0;

  int64_t width() const { return kv_lora_rank + qk_rope_head_dim; }

  static constexpr int64_t num_scales(int64_t kv_lora_rank) { return (kv_lora_rank + kScaleBlock - 1) / kScaleBlock; }
  /// What a token takes in a page, of which it is the kPageTokens-th part.
  static constexpr int64_t token_bytes(DType dtype, int64_t kv_lora_rank, int64_t qk_rope_head_dim) {
    if (dtype != DType::kE4M3) return (kv_lora_rank + qk_rope_head_dim) * size_of(dtype);
    return kv_lora_rank + qk_rope_head_dim * size_of(DType::kBF16) + num_scales(kv_lora_rank);
  }
};

/// What one token has in an E4M3 page.
struct E4M3Latent {
  e4m3* codes;   // [C]
  bf16* rope;    // [R]
  e8m0* scales;  // [ceil(C / 128)]

  static E4M3Latent of(const LatentPages& pages, int64_t position) {
    const int64_t C = pages.kv_lora_rank, R = pages.qk_rope_head_dim, row = position % LatentPages::kPageTokens;
    auto* const page = static_cast<uint8_t*>(pages.pages[static_cast<size_t>(position / LatentPages::kPageTokens)]);
    uint8_t* const rope = page + LatentPages::kPageTokens * C;
    uint8_t* const scales = rope + LatentPages::kPageTokens * R * size_of(DType::kBF16);
    return {reinterpret_cast<e4m3*>(page) + row * C, reinterpret_cast<bf16*>(rope) + row * R,
            reinterpret_cast<e8m0*>(scales) + row * LatentPages::num_scales(C)};
  }
};

/// One generated token in the absorbed form: keys and values are the cached latents themselves, all heads share them.
/// In BF16 the keys are taken in parts between absolute multiples of 1024 positions, and the parts' results are merged
/// in order: which threads computed them cannot be seen.
struct MlaDecodeArgs {
  Tensor q_latent;                         // [T, H, C]
  Tensor q_rope;                           // [T, H, R]
  std::span<const LatentPages> sequences;  // T entries: the cache that each row reads
  std::span<const int64_t> positions;      // T entries: row t sees the keys 0 .. positions[t]
  double softmax_scale = 0;
  Tensor out;                             // out [T, H, C]
  Precision precision = Precision::kF32;  // or kBF16
};

struct AdamWArgs {
  Tensor master;         // FP32, updated in place
  Tensor grad;           // FP32
  Tensor first_moment;   // BF16
  Tensor second_moment;  // BF16
  double learning_rate = 0;
  double beta1 = 0.9, beta2 = 0.95, epsilon = 1e-8, weight_decay = 0;
  double gradient_scale = 1;  // clipping: every gradient is multiplied by it first
  int64_t step = 1;           // counted from 1, for the bias correction
};

class Kernels {
 public:
  virtual ~Kernels() = default;

  /// "ref" or the instruction set of the cpu back end ("generic", "neon", "avx2", "avx512", "avx512bf16", "amx").
  virtual std::string_view name() const = 0;

  // Embedding.  tokens [T] I32, table [V, D], out [T, D]. A negative id is a zero row without a gradient.
  // The table is in rows, or integer groups in the blocks of a GGUF file.
  virtual void embed(Tensor tokens, const Weight& table, Tensor out) = 0;
  /// dtable [V, D] += rows of dout, in token order.
  virtual void embed_backward(Tensor tokens, Tensor dout, Tensor dtable) = 0;

  /// y = gain * x / sqrt(mean(x^2) + eps), row by row.  x, y [T, D] (y may be x), gain [D] FP32.
  /// Roundings are part of the contract, because FP8 codes hang on them: the sum of squares in double, the mean rounded
  /// to FP32, + eps in FP32, r = its inverse root rounded once, then (x * r) * gain.
  virtual void rms_norm(Tensor x, Tensor gain, double eps, Tensor y) = 0;
  /// dx (+)= of the above; dgain [D] +=.
  virtual void rms_norm_backward(Tensor x, Tensor gain, double eps, Tensor dy, Tensor dx, Into into, Tensor dgain) = 0;

  /// Fills `panels` (numerics/panels.h; its memory is there) from a matrix in rows. False: a number that the format
  /// cannot hold.
  virtual bool pack(const Weight& rows, const Weight& panels) = 0;

  /// y[t, n] (+)= sum_k x[t, k] w[n, k].  x [T, K], w [N, K], y [T, N].
  virtual void gemm(Tensor x, const Weight& w, Tensor y, Precision precision, Into into = Into::kAssign) = 0;
  /// dx[t, k] (+)= sum_n dy[t, n] w[n, k].
  virtual void gemm_backward_input(Tensor dy, const Weight& w, Tensor dx, Precision precision, Into into) = 0;
  /// dw[n, k] += sum_t dy[t, n] x[t, k].
  virtual void gemm_backward_weight(Tensor dy, Tensor x, Tensor dw, Precision precision) = 0;

  // The same three for expert rows sorted by expert: rows offsets[e] .. offsets[e + 1] of x use w[e].
  virtual void grouped_gemm(Tensor x, std::span<const int64_t> offsets, std::span<const Weight> w, Tensor y,
                            Precision precision) = 0;
  virtual void grouped_gemm_backward_input(Tensor dy, std::span<const int64_t> offsets, std::span<const Weight> w,
                                           Tensor dx, Precision precision, Into into) = 0;
  virtual void grouped_gemm_backward_weight(Tensor dy, Tensor x, std::span<const int64_t> offsets,
                                            std::span<const Tensor> dw, Precision precision) = 0;

  /// Rotates the pairs (2j, 2j + 1) of x [T, H, R] in place by the angles whose cos and sin [T, R/2] are given.
  virtual void rope(Tensor x, Tensor cos, Tensor sin, RopeDirection direction) = 0;

  // Attention: the naive form for prompts and training, the absorbed form for generated tokens.
  virtual void mla_prefill(const MlaPrefillArgs& args) = 0;
  virtual void mla_prefill_backward(const MlaPrefillBackwardArgs& args) = 0;
  /// q_latent[t, h, c] = sum_d q_nope[t, h, d] W_UK[h, d, c]; kv_b [H (Dn + Dv), C] holds W_UK and W_UV per head.
  /// kBF16 as in a gemm; with scales (the contraction runs over rows, as in a gemm's backward) as kF32.
  virtual void mla_absorb_query(Tensor q_nope, const Weight& kv_b, Tensor q_latent, Precision precision) = 0;
  virtual void mla_decode(const MlaDecodeArgs& args) = 0;
  /// o[t, h, v] = sum_c o_latent[t, h, c] W_UV[h, v, c].
  virtual void mla_expand_value(Tensor o_latent, const Weight& kv_b, Tensor o, Precision precision) = 0;
  /// Writes rows [T, C] and [T, R] at `positions` of the sequence, rounded to the pages' dtype. E4M3: codes and scales
  /// of quantize_tiles with kUe8m0, bit-equal on every back end; a latent's 128 numbers with an infinity become NaN.
  virtual void append_latents(Tensor latent, Tensor k_rope, std::span<const int64_t> positions,
                              const LatentPages& pages) = 0;
  /// Reads positions 0 .. S-1 into latent [S, C] and k_rope [S, R].
  virtual void gather_latents(const LatentPages& pages, Tensor latent, Tensor k_rope) = 0;

  // Router: scores, choice and weights of the gate; ties go to the lower id. Sums over chosen experts ascend by id.
  virtual void router(const RouterArgs& args) = 0;
  virtual void router_backward(const RouterBackwardArgs& args) = 0;
  /// Returns sum_d coefficient * L_d and writes its gradient.
  virtual double balance_loss(const BalanceLossArgs& args) = 0;

  // Expert rows.
  /// out[m] = x[row_token[m]].
  virtual void gather_rows(Tensor x, std::span<const int32_t> row_token, Tensor out) = 0;
  /// out[t] = the sum over k of weights[t, k] * rows[slot_row[t, k]], along a binary tree over expert ids (absent
  /// leaves are skipped), so that ranks owning aligned id ranges can add their partial sums in any layout. weights may
  /// be empty (all one: the backward of gather_rows).  slot_row [T * K], expert_ids [T, K] ascending.
  virtual void combine_rows(Tensor rows, std::span<const int32_t> slot_row, Tensor expert_ids, Tensor weights,
                            Tensor out, Into into) = 0;
  /// Backward of weighting inside the combine, for y = w * (h W_down): given dh_u = dy W_down (unweighted) and h, both
  /// [M, I], and w [M]: dw[m] = <dh_u, h>, then dh_u *= w and h *= w in place.
  virtual void weigh_rows_backward(Tensor dh, Tensor h, Tensor row_weight, Tensor drow_weight) = 0;

  /// h = silu(gate) * up.  All [M, I].
  virtual void swiglu(Tensor gate, Tensor up, Tensor h) = 0;
  /// The first half of SwiGLU experts in one pass over x: gate and up as grouped_gemm of w_gate and w_up, h =
  /// silu(gate)
  /// * up as swiglu, bit for bit.
  virtual void grouped_swiglu(const GroupedSwigluArgs& args) = 0;
  virtual void swiglu_backward(Tensor gate, Tensor up, Tensor dh, Tensor dgate, Tensor dup) = 0;

  /// y += x, same shape.
  virtual void add(Tensor x, Tensor y) = 0;
  /// Rounds to BF16 in place (FP32 activations; the storage format of the latent cache).
  virtual void round_to_bf16(Tensor x) = 0;

  /// E4M3 codes and scales of activations per 1x128 tile: scale = max(amax, 1e-4) / 448, with kUe8m0 rounded up to a
  /// power of two; code = rne(x / scale), saturating. x [T, K], codes [T, K] E4M3, scales [T, ceil(K / 128)].
  /// Bit-equal on every back end.
  virtual void quantize_tiles(Tensor x, ScaleFormat format, Tensor codes, Tensor scales) = 0;

  /// loss[t] = lse(logits[t]) - logits[t, target]; targets < 0 are skipped (loss 0). If dlogits is given (may be logits
  /// itself) it becomes gradient_scale * (softmax - onehot), zero rows where skipped.  logits [T, V], loss [T].
  virtual void cross_entropy(Tensor logits, std::span<const int32_t> targets, double gradient_scale, Tensor loss,
                             Tensor dlogits) = 0;

  /// Sum of squares in double, in an order fixed by the size alone.
  virtual double sum_of_squares(Tensor x) = 0;
  /// Decoupled weight decay (Loshchilov & Hutter): arithmetic in FP32, moments stored in BF16, nearest even.
  virtual void adamw(const AdamWArgs& args) = 0;
};

}  // namespace fathom
