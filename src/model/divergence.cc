#include "model/divergence.h"

#include <algorithm>
#include <cmath>

#include "base/check.h"

namespace fathom {
namespace {

constexpr int64_t kChunkTokens = 256;  // whose logits of both models are in memory at a time

/// log sum exp(row), and where its largest number is.
struct Softmax {
  double log_sum = 0;
  int64_t top = 0;
};
Softmax softmax_of(std::span<const float> row) {
  const auto top = std::max_element(row.begin(), row.end()) - row.begin();
  const double largest = row[static_cast<size_t>(top)];
  double sum = 0;
  for (float v : row) sum += std::exp(double{v} - largest);
  return {largest + std::log(sum), top};
}

Divergence compare_row(std::span<const float> reference, std::span<const float> logits, int32_t target) {
  const Softmax p = softmax_of(reference), q = softmax_of(logits);
  Divergence out{.num_tokens = 1};
  for (size_t v = 0; v < logits.size(); ++v) {
    const double a = reference[v], b = logits[v], log_p = a - p.log_sum;
    out.kl += std::exp(log_p) * (log_p - (b - q.log_sum));
    out.error_squares += (b - a) * (b - a);
    out.reference_squares += a * a;
  }
  out.same_top = p.top == q.top;
  out.nats = q.log_sum - logits[static_cast<size_t>(target)];
  out.reference_nats = p.log_sum - reference[static_cast<size_t>(target)];
  return out;
}

}  // namespace

double Divergence::relative_l2() const {
  if (error_squares == 0) return 0;
  return std::sqrt(error_squares / reference_squares);
}

void compare_logits(Tensor reference, Tensor logits, std::span<const int32_t> targets, ThreadPool& pool,
                    Divergence& sum) {
  const int64_t T = logits.extent(0);
  check(reference.extent(0) == T && reference.extent(1) == logits.extent(1), "logits of one shape are compared");
  check(static_cast<int64_t>(targets.size()) == T, "a target for every row");
  std::vector<Divergence> rows(static_cast<size_t>(T));
  const auto row_of = [](const Tensor& x, int64_t t) {
    return std::span<const float>(x.ptr<const float>() + t * x.stride(0), static_cast<size_t>(x.extent(1)));
  };
  pool.parallel_for(T, 1, [&](int64_t begin, int64_t end, int) {
    for (int64_t t = begin; t < end; ++t) {
      const auto at = static_cast<size_t>(t);
      if (targets[at] >= 0) rows[at] = compare_row(row_of(reference, t), row_of(logits, t), targets[at]);
    }
  });
  for (const Divergence& row : rows) {
    sum.num_tokens += row.num_tokens;
    sum.kl += row.kl;
    sum.same_top += row.same_top;
    sum.error_squares += row.error_squares;
    sum.reference_squares += row.reference_squares;
    sum.nats += row.nats;
    sum.reference_nats += row.reference_nats;
  }
}

std::vector<ScoredWindow> score_windows(int64_t length, int64_t window) {
  check(window >= 2, "a window has at least two tokens");
  std::vector<ScoredWindow> out;
  int64_t scored = 1, begin = 0;
  while (scored < length) {
    const int64_t end = std::min(length, begin + window);
    out.push_back({begin, end, scored});
    scored = end;
    begin = end - window / 2;
  }
  return out;
}

std::vector<ScoredWindow> chunk_windows(int64_t length, int64_t chunk, int64_t most) {
  check(chunk >= 3, "the second half of a chunk has a token to predict");
  std::vector<ScoredWindow> out;
  for (int64_t begin = 0; begin + chunk <= length && static_cast<int64_t>(out.size()) < most; begin += chunk) {
    out.push_back({begin, begin + chunk, begin + chunk / 2 + 1});
  }
  return out;
}

std::vector<int32_t> targets_of(const ScoredWindow& window, std::span<const int32_t> ids) {
  std::vector<int32_t> targets(static_cast<size_t>(window.end - window.begin), -1);
  for (int64_t i = window.first_scored; i < window.end; ++i) {
    targets[static_cast<size_t>(i - 1 - window.begin)] = ids[static_cast<size_t>(i)];
  }
  return targets;
}

Tensor ScoredModel::forward(std::span<const int32_t> tokens) const {
  const std::vector<int64_t> offsets{0, static_cast<int64_t>(tokens.size())};
  DocumentLayout layout(offsets);
  layout.segments.front().pages = pages;
  return model.forward(run, {.tokens = tokens, .positions = layout.positions, .segments = layout.segments});
}

bool measure_divergence(const ScoredModel& reference, const ScoredModel& model, std::span<const int32_t> ids,
                        std::span<const ScoredWindow> windows, ThreadPool& pool, Divergence& sum,
                        const std::function<bool(double)>& report) {
  const int64_t vocab = model.model.config().vocab_size;
  check(reference.model.config().vocab_size == vocab, "models of one vocabulary are compared");
  for (const ScoredWindow& w : windows) {
    if (!report(static_cast<double>(w.begin) / static_cast<double>(ids.size()))) return false;
    const ArenaScope scope(model.run.arena), reference_scope(reference.run.arena);
    const int64_t count = w.end - w.begin;
    const auto tokens = ids.subspan(static_cast<size_t>(w.begin), static_cast<size_t>(count));
    const std::vector<int32_t> targets = targets_of(w, ids);
    const Tensor wanted = reference.forward(tokens), got = model.forward(tokens);
    // Only the rows that are scored need logits.
    for (int64_t t = w.first_scored - 1 - w.begin; t < count; t += kChunkTokens) {
      const ArenaScope chunk(model.run.arena), reference_chunk(reference.run.arena);
      const int64_t rows = std::min(kChunkTokens, count - t);
      const Tensor a = reference.run.make({rows, vocab}), b = model.run.make({rows, vocab});
      reference.model.head().forward(reference.run, wanted.rows(t, rows), a);
      model.model.head().forward(model.run, got.rows(t, rows), b);
      compare_logits(a, b, std::span(targets).subspan(static_cast<size_t>(t), static_cast<size_t>(rows)), pool, sum);
    }
  }
  return true;
}

}  // namespace fathom
