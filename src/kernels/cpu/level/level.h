// The table of loops that one instruction-set level of the cpu back end offers, and the plain structs they take. The
// back end (cpu/*.cc) is compiled once for the baseline machine: it checks shapes, splits the work over threads and
// calls the loops through this table. The loops (cpu/level/*.cc) are compiled once per level.
//
// Why a table of plain functions: a level's files are compiled with, say, -mavx512f. Any inline function or template
// they shared with the rest of the program (std::vector, Tensor::contiguous) would be emitted there with AVX-512 code
// as a weak symbol, and the linker may keep that copy for everybody: the program would die on an older CPU. So a
// level's files include nothing but this header, <cstdint> and the intrinsics, and everything they define has internal
// linkage or lives in the level's own namespace.
#pragma once

#include <cstdint>

namespace fathom::cpu {

/// How a matrix element is stored.
enum class Stored : int32_t { kF32, kBF16, kF16, kE4M3 };

/// Rows of a stored matrix. E4M3 has one FP32 scale per 128x128 block, block_row = (first_row + n) / 128.
struct MatrixRef {
  const void* data = nullptr;  // row 0 of the stored matrix
  Stored stored = Stored::kF32;
  int64_t stride = 0;  // elements between rows
  const float* scales = nullptr;
  int64_t scale_stride = 0;
  int64_t first_row = 0;             // rows are counted from here
  bool power_of_two_scales = false;  // UE8M0
  bool panels = false;  // BF16 or E4M3 in panels of 16 rows (numerics/panels.h), `stride` is K padded to 32
};

/// The products whose peak can be asked for. kBytes: what bytes cost without a dot instruction; kVnni needs one.
enum class Peak : int32_t { kF32, kBF16, kBytes, kVnni };

enum class Arithmetic : int32_t { kF32, kBF16, kFp8 };

/// Rows of x as BF16 products read them, rounded once for all tiles: [block of k][row][kBf16Stride] in the level's own
/// elements (Level::bf16_element_bytes), zero up to the next multiple of 32 of k.
struct RoundedRows {
  const void* data = nullptr;
  int64_t block_bytes = 0;  // between blocks of kDepthBlockBf16
  int64_t row_bytes = 0;

  RoundedRows from(int64_t row) const {
    if (data == nullptr) return {};
    return {static_cast<const uint8_t*>(data) + row * row_bytes, block_bytes, row_bytes};
  }
};

/// A rectangle of y[r, c] (+)= sum_k x(r, k) w(c, k), with r in [row_begin, row_end), c in [column_begin, column_end).
/// A transposed operand holds element (r, k) at row k, column r.
struct GemmTile {
  const float* x = nullptr;
  int64_t x_stride = 0;
  bool x_transposed = false;
  RoundedRows rounded{};  // of BF16: the same rows, unless x is transposed
  MatrixRef w;
  bool w_transposed = false;
  int64_t depth = 0;
  float* y = nullptr;
  int64_t y_stride = 0;
  bool accumulate = false;
  Arithmetic arithmetic = Arithmetic::kF32;
  int64_t row_begin = 0, row_end = 0, column_begin = 0, column_end = 0;
};

/// The largest rectangle a thread's scratch is made for, and the blocks of k whose sums are added one after the other.
inline constexpr int64_t kTileRows = 192;  // a multiple of the register blocks, 12 and 32
inline constexpr int64_t kTileColumns = 128;
// Scratch holds 32 at a time, so a tile may be wider.
inline constexpr int64_t kTileColumnsBf16 = 512;
static_assert((kTileColumnsBf16 & (kTileColumnsBf16 - 1)) == 0, "a tile that is halved still begins at a panel");
inline constexpr int64_t kDepthBlockF32 = 512;
inline constexpr int64_t kDepthBlockBf16 = 1024;
/// Elements between rows of a block of x: off the period of the cache's sets.
inline constexpr int64_t kBf16Stride = kDepthBlockBf16 + 32;
/// Rows of memory beyond the last of RoundedRows, which tiles of 32 rows may read.
inline constexpr int64_t kRowsBeyond = 32;
/// Up to this many rows, weights are decoded in registers instead of into scratch.
inline constexpr int64_t kFewRows = 4;

/// Bytes of thread scratch that gemm_tile needs: both panels in FP32, or x and 32 columns of w in BF16.
inline constexpr int64_t kGemmScratchF32 = (kTileRows + kTileColumns) * (kDepthBlockF32 + 16) * 4;
inline constexpr int64_t kGemmScratchBf16 = kTileRows * kBf16Stride * 4 + 32 * kDepthBlockBf16 * 2;
inline constexpr int64_t kGemmScratchBytes =
    (kGemmScratchF32 > kGemmScratchBf16 ? kGemmScratchF32 : kGemmScratchBf16) + 1024;

/// Weights of integer groups in panels (numerics/panels.h).
enum class IntCodes : uint8_t { kBytes, kTable, kFourBits, kFiveBits, kSixBits };  // kTable: 4 bits too
/// The scales of a group: one, F16 or BF16; of a K format (numerics/intq.h) a scale and an offset, or one of each half.
enum class IntScales : uint8_t { kF16, kBF16, kWithOffset, kOfHalves };
struct IntPanels {
  const uint8_t* data = nullptr;
  int64_t panel_bytes = 0;
  int64_t groups = 0;
  IntCodes codes = IntCodes::kBytes;
  IntScales scales = IntScales::kF16;
  const uint8_t* table = nullptr;  // of the low 4 bits of codes: 16 values, + 128; but for kTable they are consecutive
};
/// Activations in INT8 groups of 32 along k.
/// Where sums of products begin (level/int_dot.h): those of a whole group, and of its first half.
struct IntStarts {
  int32_t whole = 0, first_half = 0;
};
struct IntRows {
  const int8_t* codes = nullptr;
  int64_t stride = 0;
  const float* scales = nullptr;      // [rows, groups]
  const float* minus_sums = nullptr;  // [rows, groups]: of the codes, times the scale, negated
  const IntStarts* starts = nullptr;  // [rows, groups]
  int64_t scale_stride = 0;

  IntRows from(int64_t row) const {
    const int64_t at = row * scale_stride;
    return {codes + row * stride, stride, scales + at, minus_sums + at, starts + at, scale_stride};
  }
};
/// What quantize_activations fills of one row.
struct IntRow {
  int8_t* codes = nullptr;
  float* scales = nullptr;
  float* minus_sums = nullptr;
  IntStarts* starts = nullptr;
};
/// A rectangle of y = x w^T; column_begin is a multiple of 16.
struct IntTile {
  IntPanels w;
  IntRows x;
  float* y = nullptr;
  int64_t y_stride = 0;
  int64_t row_begin = 0, row_end = 0, column_begin = 0, column_end = 0;
};
inline constexpr int64_t kIntScratchBytes = 2 * 16 * (2 * 16 * 4 + 512) + 1024;

/// Attention in the naive form; all strides in elements.
struct PrefillTask {
  const float* q = nullptr;
  int64_t q_token = 0, q_head = 0;
  const float* kv = nullptr;
  int64_t kv_token = 0, kv_head = 0;
  const float* k_rope = nullptr;
  int64_t k_rope_token = 0;
  int64_t nope = 0, rope = 0, value = 0;
  int64_t num_queries = 0, first_position = 0;
  float scale = 0;
  float* out = nullptr;
  int64_t out_token = 0, out_head = 0;
  float* lse = nullptr;
  int64_t lse_token = 0;
};

struct PrefillBackwardTask {
  PrefillTask forward;
  const float* dout = nullptr;
  int64_t dout_token = 0, dout_head = 0;
  float* dq = nullptr;
  int64_t dq_token = 0, dq_head = 0;
  float* dkv = nullptr;
  int64_t dkv_token = 0, dkv_head = 0;
  float* dk_rope_heads = nullptr;  // [H, S, R] contiguous
  int64_t num_keys = 0;
};

/// Some heads of one generated token over its latent pages: the keys begin .. position, begin a multiple of a page.
struct DecodeTask {
  const float* q_latent = nullptr;  // first head
  int64_t q_latent_head = 0;
  const float* q_rope = nullptr;
  int64_t q_rope_head = 0;
  int64_t num_heads = 0;
  void* const* pages = nullptr;
  Stored stored = Stored::kF32;                           // F32, BF16 or E4M3, laid out as kernels.h LatentPages says
  int64_t latent = 0, rope = 0, begin = 0, position = 0;  // begin is 0 in FP32
  float scale = 0;
  float* out = nullptr;
  int64_t out_head = 0;
  float* max = nullptr;  // with max and sum (BF16), one per head: out is not yet divided by the sum
  float* sum = nullptr;
};

/// Some columns of q_latent[t, :] = sum_d q[t, d] w[first_row + d, :] for all tokens of one head.
struct AbsorbTask {
  const float* q = nullptr;
  int64_t q_token = 0;
  int64_t num_tokens = 0, nope = 0;
  MatrixRef w;
  float* out = nullptr;
  int64_t out_token = 0;
  int64_t column_begin = 0, column_end = 0;
};

/// The parts of one head of one token: its maximum, sum and unnormalised output, each so many floats apart.
struct MergeTask {
  const float* max = nullptr;
  const float* sum = nullptr;
  int64_t step = 0;  // floats between the parts' max and sum
  const float* partial = nullptr;
  int64_t partial_step = 0;
  int64_t count = 0;
  float* out = nullptr;
  int64_t width = 0;
};

inline constexpr int64_t kKeyBlock = 64;    // keys (absolute positions) per step of the online softmax, = a page
inline constexpr int64_t kQueryBlock = 64;  // queries handled together
inline constexpr int64_t kQueryBlockBf16 = 256;
inline constexpr int64_t kDecodePart = 512;  // keys of a part of BF16 decoding, between absolute multiples of it

/// The numbers of one AdamW step, in the precision in which they are used.
struct AdamWNumbers {
  float beta1, beta2, correct1, correct2, rate, epsilon, decay, scale;
};

/// out (+)= the tree sum of weights[k] * rows[k]; merges holds num_merges pairs (into, from).
struct CombineTask {
  const float* const* rows = nullptr;
  const float* weights = nullptr;  // null: all one
  int64_t count = 0;
  const int8_t* merges = nullptr;
  int64_t num_merges = 0;
  float* out = nullptr;
  int64_t width = 0;
  bool accumulate = false;
};

struct Level {
  const char* name;

  void (*gemm_tile)(const GemmTile& tile, void* scratch);
  void (*int_tile)(const IntTile& tile, void* scratch);
  /// One row of RoundedRows; `out` is its place in the first block.
  void (*round_x)(const float* x, int64_t depth, void* out, int64_t block_bytes);
  int64_t bf16_element_bytes;

  void (*prefill_tile)(const PrefillTask& task, int64_t head, int64_t query_begin, int64_t query_end, float* scratch);
  int64_t (*prefill_scratch_floats)(int64_t nope, int64_t rope, int64_t value);
  void (*prefill_backward_head)(const PrefillBackwardTask& task, int64_t head, float* scratch);
  int64_t (*prefill_backward_scratch_floats)(int64_t nope, int64_t rope, int64_t value);
  void (*decode_heads)(const DecodeTask& task, float* scratch);
  int64_t (*decode_scratch_floats)(int64_t latent, int64_t rope, int64_t num_heads);
  void (*absorb)(const AbsorbTask& task);

  // The same in BF16 (attention_bf16.cc), with scratch in bytes.
  void (*prefill_tile_bf16)(const PrefillTask& task, int64_t head, int64_t query_begin, int64_t query_end,
                            void* scratch);
  int64_t (*prefill_bf16_scratch_bytes)(int64_t nope, int64_t rope, int64_t value);
  void (*decode_heads_bf16)(const DecodeTask& task, void* scratch);
  int64_t (*decode_bf16_scratch_bytes)(int64_t latent, int64_t rope, int64_t num_heads);
  void (*merge_parts)(const MergeTask& task);

  /// The n numbers of a latent in E4M3 with E8M0 scales, one per 128.
  void (*decode_latent)(const uint8_t* codes, const uint8_t* scales, int64_t n, float* out);
  /// Columns [begin, end) of stored row n.
  void (*decode_row)(const MatrixRef& w, int64_t n, int64_t begin, int64_t end, float* out);
  void (*copy_to_bf16)(const float* x, uint16_t* y, int64_t n);

  void (*rms_norm_row)(const float* x, const float* gain, double eps, float* y, int64_t n);
  /// Returns 1 / rms.
  float (*rms_norm_backward_row)(const float* x, const float* gain, double eps, const float* dy, float* dx,
                                 bool accumulate, int64_t n);
  /// dgain[d] += sum_t dy[t, d] x[t, d] r[t], d in [0, n).
  void (*rms_gain_backward)(const float* x, int64_t x_stride, const float* dy, int64_t dy_stride, const float* r,
                            int64_t tokens, float* dgain, int64_t n);
  void (*add_row)(const float* x, float* y, int64_t n);
  void (*round_row)(float* x, int64_t n);
  void (*rope_row)(float* x, const float* cosines, const float* sines, float sign, int64_t width);
  void (*swiglu_row)(const float* gate, const float* up, float* h, int64_t n);
  void (*swiglu_backward_row)(const float* gate, const float* up, const float* dh, float* dgate, float* dup, int64_t n);
  void (*sigmoid_row)(const float* z, float* s, int64_t n);
  void (*softmax_row)(const float* z, float* s, int64_t n);
  /// `groups` groups of 32 numbers; numerics/intq.h quantize_activations, bit for bit, with what else IntRows has.
  void (*quantize_activations)(const float* x, int64_t groups, const IntRow& out);
  void (*quantize_row)(const float* x, bool power_of_two, uint8_t* codes, float* scales, int64_t n);
  /// Returns the loss; target < 0: loss 0 and a zero gradient. dlogits may be null or logits itself.
  float (*cross_entropy_row)(const float* logits, int64_t n, int64_t target, double gradient_scale, float* dlogits);
  double (*sum_of_squares)(const float* x, int64_t n);
  void (*adamw)(const AdamWNumbers& numbers, const float* grad, float* master, uint16_t* first, uint16_t* second,
                int64_t n);
  void (*combine_row)(const CombineTask& task);
  /// Returns <dh, h>, then scales both by w.
  float (*weigh_row)(float* dh, float* h, float w, int64_t n);

  /// Multiply-adds in registers; returns how many operations they were (a multiply-add is two), 0 for what the level
  /// does not have.
  double (*run_peak)(Peak peak, int64_t iterations);
  /// The sum of p[0 .. n): a read of memory and nothing else.
  float (*read_all)(const float* p, int64_t n);
};

namespace generic {
const Level& level();
}
namespace neon {
const Level& level();
}
namespace avx2 {
const Level& level();
}
namespace avx512 {
const Level& level();
}
namespace avx512bf16 {
const Level& level();
}
namespace amx {
const Level& level();
}

}  // namespace fathom::cpu
