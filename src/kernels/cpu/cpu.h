// CpuKernels: the SIMD back end. It checks shapes, splits outputs (never reductions) over the threads of a pool and
// calls the loops of one instruction-set level (level/level.h). FP32 activations; weights in F32, BF16, F16 or E4M3.
// FP32 results (Precision::kF32 and everything that is neither a gemm nor attention) are the same bits on every level,
// for any number of threads and any company in the batch; kFp8 gives the bits of ref; kBF16 gives the same bits on
// generic, neon, avx2 and avx512, while avx512bf16 and amx add the products of pairs in their instructions' own ways.
#pragma once

#include <memory>
#include <vector>

#include "base/threads.h"
#include "kernels/cpu/level/level.h"
#include "kernels/kernels.h"
#include "tensor/storage.h"

namespace fathom {

namespace cpu {
/// The level of that name, or the best one of this machine ("ref", "cpu", and names it cannot run). In registry.cc.
const Level& level_for(std::string_view name);
}  // namespace cpu

class CpuKernels final : public Kernels {
 public:
  /// `pool` outlives this; one thread at a time may call the operations.
  CpuKernels(const cpu::Level& level, ThreadPool& pool) : level_(level), pool_(pool) {}

  std::string_view name() const override { return level_.name; }

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

 private:
  /// One matrix product among those of an operation; its tiles are numbered from first_tile. The weight is of numbers
  /// or, if `groups` has its data, of integer groups: then y and the ranges of `groups` are those of `whole`.
  struct Product {
    cpu::GemmTile whole;
    cpu::IntTile groups;
    float* h = nullptr;  // of grouped_swiglu, whose gate this is
    int64_t h_stride = 0;
    int64_t first_tile = 0;
    int64_t column_tiles = 0;
  };

  /// Items per chunk so that a chunk is worth waking a thread: `cost` is about the vector lanes an item keeps busy.
  int64_t grain(int64_t count, int64_t cost) const;

  /// body(i, thread_id) for every i in [0, count), in parallel when that pays.
  template <class Body>
  void each(int64_t count, int64_t cost, Body&& body) {
    pool_.parallel_for(count, grain(count, cost), [&](int64_t begin, int64_t end, int thread_id) {
      for (int64_t i = begin; i < end; ++i) body(i, thread_id);
    });
  }

  /// At least `bytes` for every thread, kept until the end; thread i's part starts at i * scratch_stride_.
  void reserve_scratch(int64_t bytes);
  void* scratch(int thread_id) const {
    return static_cast<std::byte*>(thread_scratch_.data()) + thread_id * scratch_stride_;
  }
  /// At least `bytes`, zeroed where it grows. What was there is given back first: both at once would be a peak of
  /// memory that nothing needs.
  static void grow(Storage& storage, int64_t bytes) {
    if (bytes <= storage.num_bytes()) return;
    storage = Storage();
    storage = Storage(bytes);
  }
  /// Memory that all threads see within one operation, kept until the end.
  template <class T>
  T* shared(int64_t count) {
    const int64_t bytes = count * static_cast<int64_t>(sizeof(T));
    grow(shared_scratch_, bytes);
    return static_cast<T*>(shared_scratch_.data());
  }

  void multiply(const cpu::GemmTile& whole) {
    products_.assign(1, {.whole = whole, .groups = {}});
    run_products();
  }
  void run_products();
  /// A product's rows as its loops read them, made once for all products of an operation and all their tiles.
  struct Prepared {
    cpu::IntRows quantized;    // INT8 groups, for weights in integer groups
    cpu::RoundedRows rounded;  // BF16, for the others in that precision

    Prepared from(int64_t row) const { return {quantized.from(row), rounded.from(row)}; }
  };
  Product product_of(const Tensor& x, const Weight& w, const Tensor& y, Precision precision, Into into,
                     const Prepared& prepared);
  /// Makes of x what the products with w need and `prepared` does not have yet.
  void prepare(const Tensor& x, std::span<const Weight> w, Precision precision, Prepared& prepared);
  cpu::IntRows quantize_rows(const Tensor& x);
  cpu::RoundedRows round_rows(const Tensor& x);
  void decode_bf16(const MlaDecodeArgs& args);
  /// x [T, H, N] rounded to BF16, contiguous, in rounded_.
  const float* rounded_rows(const Tensor& x);

  const cpu::Level& level_;
  ThreadPool& pool_;
  Storage thread_scratch_;
  int64_t scratch_stride_ = 0;
  Storage shared_scratch_;
  Storage rounded_;
  Storage rounded_x_;  // of prepare
  std::vector<Product> products_;
  std::vector<Product> ups_;       // of grouped_swiglu: the product beside each gate of products_; else empty
  std::vector<int64_t> part_row_;  // of decode_bf16: the row that each part belongs to
};

}  // namespace fathom
