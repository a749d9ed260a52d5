// The table that this level hands to the back end.
#include "kernels/cpu/level/level.h"

#include "kernels/cpu/level/ops.h"

namespace fathom::cpu::FATHOM_LEVEL {
namespace {

#if FATHOM_SIMD_BITS == 512
constexpr const char* kName = FATHOM_BF16 == 0 ? "avx512" : FATHOM_BF16 == 1 ? "avx512bf16" : "amx";
#elif FATHOM_SIMD_BITS == 256
constexpr const char* kName = "avx2";
#elif FATHOM_SIMD_BITS == 128
constexpr const char* kName = "neon";
#else
constexpr const char* kName = "generic";
#endif

constexpr Level kLevel = {
    .name = kName,
    .gemm_tile = gemm_tile,
    .int_tile = int_tile,
    .round_x = round_x,
    .bf16_element_bytes = FATHOM_BF16 == 0 ? 4 : 2,
    .prefill_tile = prefill_tile,
    .prefill_scratch_floats = prefill_scratch_floats,
    .prefill_backward_head = prefill_backward_head,
    .prefill_backward_scratch_floats = prefill_backward_scratch_floats,
    .decode_heads = decode_heads,
    .decode_scratch_floats = decode_scratch_floats,
    .absorb = absorb,
    .prefill_tile_bf16 = prefill_tile_bf16,
    .prefill_bf16_scratch_bytes = prefill_bf16_scratch_bytes,
    .decode_heads_bf16 = decode_heads_bf16,
    .decode_bf16_scratch_bytes = decode_bf16_scratch_bytes,
    .merge_parts = merge_parts,
    .decode_latent = decode_latent,
    .decode_row = decode_row,
    .copy_to_bf16 = copy_to_bf16,
    .rms_norm_row = rms_norm_row,
    .rms_norm_backward_row = rms_norm_backward_row,
    .rms_gain_backward = rms_gain_backward,
    .add_row = add_row,
    .round_row = round_row,
    .rope_row = rope_row,
    .swiglu_row = swiglu_row,
    .swiglu_backward_row = swiglu_backward_row,
    .sigmoid_row = sigmoid_row,
    .softmax_row = softmax_row,
    .quantize_activations = quantize_activations,
    .quantize_row = quantize_row,
    .cross_entropy_row = cross_entropy_row,
    .sum_of_squares = sum_of_squares,
    .adamw = adamw,
    .combine_row = combine_row,
    .weigh_row = weigh_row,
    .run_peak = run_peak,
    .read_all = read_all,
};

}  // namespace

const Level& level() { return kLevel; }

}  // namespace fathom::cpu::FATHOM_LEVEL
