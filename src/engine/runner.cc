#include "engine/runner.h"

namespace fathom {

Batch::Batch(std::span<const StepItem> items, std::span<const std::unique_ptr<Sequence>> sequences) {
  for (const StepItem& item : items) {
    const Sequence& sequence = *sequences[item.sequence];
    segments.push_back({.row = static_cast<int64_t>(tokens.size()),
                        .count = item.count,
                        .first_position = item.first_position,
                        .form = item.form,
                        .pages = sequence.cache.layers()});
    for (int64_t i = 0; i < item.count; ++i) {
      tokens.push_back(sequence.tokens[static_cast<size_t>(item.first_position + i)]);
      positions.push_back(item.first_position + i);
    }
    if (item.samples) sampled_rows.push_back(static_cast<int64_t>(tokens.size()) - 1);
  }
}

Tensor Runner::step(const Batch& batch) {
  arena_.reset();
  const Run run{.k = kernels_, .arena = arena_, .precision = precision_};
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
