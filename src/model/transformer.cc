#include "model/transformer.h"

#include <algorithm>
#include <cstring>
#include <optional>

namespace fathom {

DocumentLayout::DocumentLayout(std::span<const int64_t> document_offsets) {
  for (size_t d = 0; d + 1 < document_offsets.size(); ++d) {
    const int64_t begin = document_offsets[d], count = document_offsets[d + 1] - begin;
    segments.push_back({.row = begin, .count = count, .first_position = 0, .form = MlaForm::kNaive, .pages = {}});
    for (int64_t i = 0; i < count; ++i) positions.push_back(i);
  }
}

Tensor Transformer::forward(const Run& run, const PackedTokens& batch, TransformerSaved* saved,
                            std::vector<Tensor>* layer_hidden) const {
  const auto T = static_cast<int64_t>(batch.tokens.size());
  const int64_t D = config_.hidden_size;
  const Tensor tokens = Tensor::allocate(run.arena, DType::kI32, {T});
  std::copy(batch.tokens.begin(), batch.tokens.end(), tokens.ptr<int32_t>());
  const RotaryTable rotary = rotary_.table(run, batch.positions);
  const bool keep = saved != nullptr || layer_hidden != nullptr;
  // A step that generates reads every row: nothing to gather.
  const bool reads_all = keep || batch.read_rows == nullptr || std::ssize(*batch.read_rows) == T;
  const std::vector<int32_t>* read_rows = reads_all ? nullptr : batch.read_rows;
  const Tensor out = run.make({T, D});

  std::optional<ArenaScope> scope;
  if (!keep) scope.emplace(run.arena);
  Tensor h = run.make({T, D});
  run.k.embed(tokens, w_.embedding.value, h);
  if (saved != nullptr) saved->blocks.resize(w_.blocks.size());
  for (size_t layer = 0; layer < w_.blocks.size(); ++layer) {
    const AttentionContext context{.segments = batch.segments, .rotary = rotary, .layer = static_cast<int64_t>(layer)};
    const BlockWeights* next = layer + 1 < w_.blocks.size() ? &w_.blocks[layer + 1] : nullptr;
    h = Block(config_, w_.blocks[layer], next)
            .forward(run, h, context, saved != nullptr ? &saved->blocks[layer] : nullptr,
                     next == nullptr ? read_rows : nullptr);
    if (layer_hidden != nullptr) layer_hidden->push_back(h);
  }
  if (read_rows == nullptr) {
    run.k.rms_norm(h, w_.norm.value.codes, config_.rms_norm_eps, out);
  } else {
    const Tensor read = run.make({h.extent(0), D});
    run.k.rms_norm(h, w_.norm.value.codes, config_.rms_norm_eps, read);
    std::memset(out.data, 0, static_cast<size_t>(out.num_bytes()));
    for (size_t i = 0; i < read_rows->size(); ++i) {
      const Tensor from = read.rows(static_cast<int64_t>(i), 1), to = out.rows((*read_rows)[i], 1);
      std::memcpy(to.data, from.data, static_cast<size_t>(from.num_bytes()));
    }
  }
  if (saved != nullptr) {
    saved->rotary = rotary;
    saved->tokens = tokens;
    saved->h_out = h;
  }
  return out;
}

void Transformer::backward_input(const Run& run, const PackedTokens& batch, Tensor dhidden, TransformerSaved& s) const {
  const Tensor dh = run.make({dhidden.extent(0), dhidden.extent(1)});
  run.k.rms_norm_backward(s.h_out, w_.norm.value.codes, config_.rms_norm_eps, dhidden, dh, Into::kAssign, w_.norm.grad);
  for (size_t layer = w_.blocks.size(); layer-- > 0;) {
    const AttentionContext context{
        .segments = batch.segments, .rotary = s.rotary, .layer = static_cast<int64_t>(layer)};
    Block(config_, w_.blocks[layer]).backward_input(run, context, dh, s.blocks[layer]);
  }
  run.k.embed_backward(s.tokens, dh, w_.embedding.grad);
}

void Transformer::backward_weight(const Run& run, const TransformerSaved& s) const {
  for (size_t layer = w_.blocks.size(); layer-- > 0;) {
    Block(config_, w_.blocks[layer]).backward_weight(run, s.blocks[layer]);
  }
}

}  // namespace fathom
