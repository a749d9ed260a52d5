// Multi-head Latent Attention (V3 report section 2.1.1, eq. 1-11): the naive form for prompts and training, the
// absorbed form for generated tokens, from the same weights, side by side. What is cached per token is the normed
// latent and the rotated shared key: C + R numbers.
#pragma once

#include <span>
#include <vector>

#include "model/config.h"
#include "model/rotary.h"
#include "model/run.h"
#include "model/weights.h"

namespace fathom {

/// The form belongs to the token, not to the batch: prompt tokens are naive, generated tokens absorbed.
enum class MlaForm { kNaive, kAbsorbed };

/// Consecutive rows of one sequence in a packed step.
struct Segment {
  int64_t row = 0;             // first packed row
  int64_t count = 0;           // rows
  int64_t first_position = 0;  // position of the first row in its pages
  MlaForm form = MlaForm::kNaive;
  /// The sequence's cache pages, one entry per layer (MTP layers follow); empty in training, where a segment is a whole
  /// document and its keys are its own rows.
  std::span<const LatentPages> pages;
};

/// What attention needs besides its input. Rows of absorbed segments come first and are contiguous.
struct AttentionContext {
  std::span<const Segment> segments;
  RotaryTable rotary;
  int64_t layer = 0;  // index into Segment::pages
};

/// What forward keeps for backward; up-projections (kv) are recomputed.
struct MlaSaved {
  Tensor x;       // [T, D] normed input
  Tensor q_raw;   // [T, Cq] before its norm
  Tensor c_q;     // [T, Cq]
  Tensor q;       // [T, H, Dn + R] rotated
  Tensor kv_raw;  // [T, C + R]: latent before its norm; rotated key
  Tensor latent;  // [T, C]
  Tensor o;       // [T, H, Dv]
  Tensor lse;     // [T, H]
  // Written by backward_input for backward_weight.
  Tensor dout;     // [T, D]
  Tensor dq;       // [T, H, Dn + R], rotation undone
  Tensor dq_raw;   // [T, Cq]
  Tensor dkv;      // [T, H, Dn + Dv]
  Tensor dkv_raw;  // [T, C + R]
};

/// Consecutive rows of a segment that ask: `count` from its row `first` on; the first of them is row `row` of q.
struct Queries {
  const Segment* segment = nullptr;
  int64_t first = 0;
  int64_t count = 0;
  int64_t row = 0;

  int64_t first_position() const { return segment->first_position + first; }
};

class Mla {
 public:
  Mla(const ModelConfig& config, const AttentionWeights& weights) : config_(config), w_(weights) {}

  /// out [T, D] = attention of the normed hidden x [T, D]. With `saved`, keeps what backward needs (training: every
  /// segment naive and without pages). With `rows` (ascending; nothing can be saved) only these ask, and out has a row
  /// for each; all rows of x are keys.
  void forward(const Run& run, Tensor x, const AttentionContext& context, Tensor out, MlaSaved* saved,
               const std::vector<int32_t>* rows = nullptr) const;
  /// dx [T, D] =, from dout [T, D].
  void backward_input(const Run& run, const AttentionContext& context, Tensor dout, MlaSaved& saved, Tensor dx) const;
  /// Gradients of the five projections; after backward_input.
  void backward_weight(const Run& run, const MlaSaved& saved) const;

 private:
  void attend_naive(const Run& run, const Queries& queries, int64_t layer, Tensor q, Tensor latent, Tensor k_rope,
                    Tensor o, Tensor lse) const;
  void attend_absorbed(const Run& run, std::span<const Queries> queries, int64_t layer, Tensor q, Tensor o) const;

  const ModelConfig& config_;
  const AttentionWeights& w_;
};

}  // namespace fathom
