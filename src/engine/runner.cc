#include "engine/runner.h"

#include <algorithm>

#include "engine/mtp_drafter.h"

namespace fathom {

Batch::Batch(std::span<const StepItem> items, std::span<const std::unique_ptr<Sequence>> sequences) {
  for (const StepItem& item : items) {
    const Sequence& sequence = *sequences[item.sequence];
    segments.push_back({.row = static_cast<int64_t>(tokens.size()),
                        .count = item.count + item.num_draft,
                        .first_position = item.first_position,
                        .form = item.form,
                        .pages = sequence.cache.layers()});
    const std::span<const int32_t> known(sequence.tokens), draft(sequence.speculation.draft);
    for (const auto part : {known.subspan(static_cast<size_t>(item.first_position), static_cast<size_t>(item.count)),
                            draft.first(static_cast<size_t>(item.num_draft))}) {
      for (int32_t token : part) {
        positions.push_back(item.first_position + static_cast<int64_t>(tokens.size()) - segments.back().row);
        tokens.push_back(token);
      }
    }
    const auto end = static_cast<int64_t>(tokens.size());
    const int64_t sampled = item.samples ? 1 + item.num_draft : 0;
    for (int64_t row = end - sampled; row < end; ++row) sampled_rows.push_back(row);
    int64_t first_read = end - sampled;
    if (sequence.prompt_logprobs_wanted()) {
      first_read = segments.back().row;
    } else if (sequence.speculation.params.kind == SpeculationKind::kMtp) {
      const int64_t skipped = MtpDrafter::first_read(sequence) - item.first_position;
      first_read = std::min(first_read, segments.back().row + std::max<int64_t>(0, skipped));
    }
    for (int64_t row = first_read; row < end; ++row) {
      read_rows.push_back(static_cast<int32_t>(row));
    }
  }
}

Runner::Runner(const Transformer& model, Kernels& kernels, Precision precision)
    : model_(model), kernels_(kernels), precision_(precision) {
  const auto num_experts = static_cast<size_t>(model.config().n_routed_experts);
  for (const BlockWeights& block : model.weights().blocks) expert_load_.emplace_back(block.is_moe ? num_experts : 0);
}

Tensor Runner::step(const Batch& batch) {
  arena_.reset();
  const Run run{.k = kernels_, .arena = arena_, .precision = precision_, .expert_load = &expert_load_};
  const auto num_sampled = static_cast<int64_t>(batch.sampled_rows.size());
  const Tensor logits = run.make({num_sampled, model_.config().vocab_size});
  hidden_ = model_.forward(run, batch.packed());
  if (num_sampled > 0) {
    const std::vector<int32_t> rows(batch.sampled_rows.begin(), batch.sampled_rows.end());
    const Tensor last = run.make({num_sampled, hidden_.extent(1)});
    run.k.gather_rows(hidden_, rows, last);
    model_.head().forward(run, last, logits);
  }
  after_step_ = arena_.mark();
  return logits;
}

Tensor Runner::score(int64_t first_row, int64_t count) {
  arena_.rewind(after_step_);
  const Run run{.k = kernels_, .arena = arena_, .precision = precision_};
  const Tensor logits = run.make({count, model_.config().vocab_size});
  model_.head().forward(run, hidden_.rows(first_row, count), logits);
  return logits;
}

}  // namespace fathom
