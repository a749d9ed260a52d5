// The loops of one level, as level.h's table lists them.
#pragma once

#include "kernels/cpu/level/level.h"

namespace fathom::cpu::FATHOM_LEVEL {

void gemm_tile(const GemmTile& tile, void* scratch);
void gemm_tile_bf16(const GemmTile& tile, void* scratch);
void gemm_tile_fp8(const GemmTile& tile, void* scratch);
void int_tile(const IntTile& tile, void* scratch);
void round_x(const float* x, int64_t depth, void* out, int64_t block_bytes);

void prefill_tile(const PrefillTask& task, int64_t head, int64_t query_begin, int64_t query_end, float* scratch);
int64_t prefill_scratch_floats(int64_t nope, int64_t rope, int64_t value);
void prefill_backward_head(const PrefillBackwardTask& task, int64_t head, float* scratch);
int64_t prefill_backward_scratch_floats(int64_t nope, int64_t rope, int64_t value);
void decode_heads(const DecodeTask& task, float* scratch);
int64_t decode_scratch_floats(int64_t latent, int64_t rope, int64_t num_heads);
void absorb(const AbsorbTask& task);

void prefill_tile_bf16(const PrefillTask& task, int64_t head, int64_t query_begin, int64_t query_end, void* scratch);
int64_t prefill_bf16_scratch_bytes(int64_t nope, int64_t rope, int64_t value);
void decode_heads_bf16(const DecodeTask& task, void* scratch);
int64_t decode_bf16_scratch_bytes(int64_t latent, int64_t rope, int64_t num_heads);
void merge_parts(const MergeTask& task);

void decode_latent(const uint8_t* codes, const uint8_t* scales, int64_t n, float* out);
void decode_row(const MatrixRef& w, int64_t n, int64_t begin, int64_t end, float* out);
void copy_to_bf16(const float* x, uint16_t* y, int64_t n);

void rms_norm_row(const float* x, const float* gain, double eps, float* y, int64_t n);
float rms_norm_backward_row(const float* x, const float* gain, double eps, const float* dy, float* dx, bool accumulate,
                            int64_t n);
void rms_gain_backward(const float* x, int64_t x_stride, const float* dy, int64_t dy_stride, const float* r,
                       int64_t tokens, float* dgain, int64_t n);
void add_row(const float* x, float* y, int64_t n);
void round_row(float* x, int64_t n);
void rope_row(float* x, const float* cosines, const float* sines, float sign, int64_t width);
void swiglu_row(const float* gate, const float* up, float* h, int64_t n);
void swiglu_backward_row(const float* gate, const float* up, const float* dh, float* dgate, float* dup, int64_t n);
void sigmoid_row(const float* z, float* s, int64_t n);
void softmax_row(const float* z, float* s, int64_t n);
void quantize_activations(const float* x, int64_t groups, const IntRow& out_row);
void quantize_row(const float* x, bool power_of_two, uint8_t* codes, float* scales, int64_t n);
float cross_entropy_row(const float* logits, int64_t n, int64_t target, double gradient_scale, float* dlogits);
double sum_of_squares(const float* x, int64_t n);
void adamw(const AdamWNumbers& numbers, const float* grad, float* master, uint16_t* first, uint16_t* second, int64_t n);
void combine_row(const CombineTask& task);
float weigh_row(float* dh, float* h, float w, int64_t n);

double run_peak(Peak peak, int64_t iterations);
float read_all(const float* p, int64_t n);

}  // namespace fathom::cpu::FATHOM_LEVEL
