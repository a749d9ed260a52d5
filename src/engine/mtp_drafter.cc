#include "engine/mtp_drafter.h"

#include <algorithm>

#include "base/check.h"

namespace fathom {
namespace {

/// The layers' pages of a sequence from the module's origin on: to the module its rows begin there.
std::vector<LatentPages> pages_from_origin(const Sequence& sequence) {
  const std::span<const LatentPages> layers = sequence.cache.layers();
  std::vector<LatentPages> out(layers.begin(), layers.end());
  for (LatentPages& layer : out) {
    layer.pages = layer.pages.subspan(static_cast<size_t>(sequence.speculation.mtp.origin / LatentPages::kPageTokens));
  }
  return out;
}

/// Packed rows of several sequences: tokens that follow, positions, segments; and where each row's hidden state is.
struct Rows {
  std::vector<int32_t> next_tokens;
  std::vector<int64_t> positions;
  std::vector<Segment> segments;

  int64_t size() const { return static_cast<int64_t>(positions.size()); }
  PackedTokens packed() const { return {.tokens = next_tokens, .positions = positions, .segments = segments}; }
};

}  // namespace

void MtpDrafter::restart(Sequence& sequence, int64_t num_tokens) {
  const int64_t origin = pages_for(num_tokens) * LatentPages::kPageTokens;
  sequence.speculation.mtp = {.origin = origin, .num_computed = origin, .hidden = {}};
}

void MtpDrafter::keep(Sequence& sequence, int64_t position, Tensor hidden) {
  const int64_t D = hidden.extent(1);
  MtpProgress& mtp = sequence.speculation.mtp;
  if (position > mtp.num_computed + num_kept(sequence, D)) restart(sequence, position);
  for (int64_t t = std::max<int64_t>(0, mtp.num_computed + num_kept(sequence, D) - position); t < hidden.extent(0);
       ++t) {
    const float* row = hidden.ptr<const float>() + t * hidden.stride(0);
    mtp.hidden.insert(mtp.hidden.end(), row, row + D);
  }
  if (num_kept(sequence, D) < kMaxKept) return;
  // Few are enough to begin with: each hidden state has seen the whole sequence.
  constexpr int64_t kLeast = kMaxKept - LatentPages::kPageTokens;
  const int64_t end = mtp.num_computed + num_kept(sequence, D);
  const int64_t origin = (end - kLeast) / LatentPages::kPageTokens * LatentPages::kPageTokens;
  mtp.hidden.erase(mtp.hidden.begin(), mtp.hidden.begin() + (origin - mtp.num_computed) * D);
  mtp.origin = mtp.num_computed = origin;
}

void MtpDrafter::truncate(Sequence& sequence, int64_t num_tokens, int64_t hidden_size) {
  MtpProgress& mtp = sequence.speculation.mtp;
  if (num_tokens < mtp.origin) return restart(sequence, num_tokens);
  // The row before the cut had another token behind it, perhaps: a worse guess at most.
  mtp.num_computed = std::min(mtp.num_computed, num_tokens);
  const int64_t kept = std::min(num_kept(sequence, hidden_size), num_tokens - mtp.num_computed);
  mtp.hidden.resize(static_cast<size_t>(kept * hidden_size));
}

void MtpDrafter::draft(std::span<DraftRequest> requests, const Choose& choose) {
  for (DraftRequest& request : requests) request.sequence->speculation.draft.clear();
  arena_.reset();
  const Run run{.k = kernels_, .arena = arena_, .precision = precision_};
  const Mtp module(model_, 0);
  const int64_t D = model_.config().hidden_size;

  std::vector<std::vector<LatentPages>> pages;
  for (const DraftRequest& request : requests) pages.push_back(pages_from_origin(*request.sequence));

  // Follow: rows in the form of their tokens, absorbed ones first.
  Rows rows;
  std::vector<const float*> sources;
  std::vector<int64_t> last_row(requests.size(), -1);
  for (const MlaForm form : {MlaForm::kAbsorbed, MlaForm::kNaive}) {
    for (size_t r = 0; r < requests.size(); ++r) {
      const Sequence& s = *requests[r].sequence;
      const int64_t begin = s.speculation.mtp.num_computed, end = begin + num_kept(s, D);
      check(end < static_cast<int64_t>(s.tokens.size()), "a followed position has a next token");
      const int64_t split = generation_ == GenerationForm::kAbsorbed ? std::clamp(s.prompt_length, begin, end) : end;
      const int64_t from = form == MlaForm::kAbsorbed ? split : begin, to = form == MlaForm::kAbsorbed ? end : split;
      if (from == to) continue;
      rows.segments.push_back({.row = rows.size(),
                               .count = to - from,
                               .first_position = from - s.speculation.mtp.origin,
                               .form = form,
                               .pages = pages[r]});
      for (int64_t i = from; i < to; ++i) {
        if (i + 1 == end) last_row[r] = rows.size();
        rows.positions.push_back(i);
        rows.next_tokens.push_back(s.tokens[static_cast<size_t>(i + 1)]);
        sources.push_back(s.speculation.mtp.hidden.data() + (i - begin) * D);
      }
    }
  }
  if (rows.size() == 0) return;
  const Tensor hidden = run.make({rows.size(), D});
  for (int64_t t = 0; t < rows.size(); ++t) {
    std::copy_n(sources[static_cast<size_t>(t)], D, hidden.ptr<float>() + t * D);
  }
  const Tensor followed = module.forward(run, hidden, rows.packed());
  for (DraftRequest& request : requests) {
    MtpProgress& mtp = request.sequence->speculation.mtp;
    mtp.num_computed += num_kept(*request.sequence, D);
    mtp.hidden.clear();
  }

  // Guess: each round one row per sequence that wants another token.
  struct Chain {
    size_t request;
    int32_t row;  // of the round's hidden states
    std::vector<int32_t> context;
  };
  std::vector<Chain> chains;
  for (size_t r = 0; r < requests.size(); ++r) {
    if (requests[r].num_draft == 0) continue;
    check(last_row[r] >= 0, "a draft begins from a kept hidden state");
    chains.push_back({r, static_cast<int32_t>(last_row[r]), requests[r].sequence->tokens});
  }
  Tensor state = followed;
  while (!chains.empty()) {
    const auto count = static_cast<int64_t>(chains.size());
    std::vector<int32_t> gathered;
    for (const Chain& c : chains) gathered.push_back(c.row);
    const Tensor last = run.make({count, D}), logits = run.make({count, model_.config().vocab_size});
    run.k.gather_rows(state, gathered, last);
    model_.head().forward(run, last, logits);

    Rows next;
    std::vector<int32_t> going_on;
    std::vector<Chain> more;
    for (int64_t i = 0; i < count; ++i) {
      Chain& c = chains[static_cast<size_t>(i)];
      DraftRequest& request = requests[c.request];
      const std::span<const float> row(logits.ptr<const float>() + i * logits.stride(0),
                                       static_cast<size_t>(logits.extent(1)));
      const int32_t token = choose(*request.sequence, row, c.context);
      std::vector<int32_t>& draft = request.sequence->speculation.draft;
      draft.push_back(token);
      if (static_cast<int64_t>(draft.size()) == request.num_draft) continue;
      const auto position = static_cast<int64_t>(c.context.size()) - 1;  // of the token before the guess
      c.context.push_back(token);
      going_on.push_back(static_cast<int32_t>(i));
      c.row = static_cast<int32_t>(next.size());
      next.segments.push_back({.row = next.size(),
                               .count = 1,
                               .first_position = position - request.sequence->speculation.mtp.origin,
                               .form = generation_ == GenerationForm::kAbsorbed ? MlaForm::kAbsorbed : MlaForm::kNaive,
                               .pages = pages[c.request]});
      next.positions.push_back(position);
      next.next_tokens.push_back(token);
      more.push_back(std::move(c));
    }
    chains = std::move(more);
    if (chains.empty()) break;
    const Tensor recycled = run.make({next.size(), D});
    run.k.gather_rows(last, going_on, recycled);
    state = module.forward(run, recycled, next.packed());
  }
}

}  // namespace fathom
