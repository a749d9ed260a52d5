// MtpDrafter against the MTP module's training pass: the logits it guesses from are those, bit for bit, however a
// sequence is followed and whatever else is in the batch; rejected guesses leave no trace.
#include "engine/mtp_drafter.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "../model/test_models.h"
#include "kernels/registry.h"
#include "numerics/compare.h"

namespace fathom {
namespace {

using Logits = std::vector<std::vector<float>>;

int32_t best_of(std::span<const float> logits) {
  return static_cast<int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
}

class MtpDrafterTest : public ::testing::Test {
 protected:
  MtpDrafterTest()
      : model_(testing::random_model(config(), 5)),
        cache_(model_->config, DType::kF32, 8192, 1),
        transformer_(model_->config, model_->weights),
        pool_(2),
        kernels_(std::move(*make_kernels("cpu", pool_))) {}

  static ModelConfig config() {
    ModelConfig config = testing::awkward_config();
    config.num_nextn_predict_layers = 1;
    return config;
  }

  /// The main model's hidden states [T, D] of a document, in the arena.
  Tensor hidden_of(std::span<const int32_t> tokens) {
    const std::vector<int64_t> offsets{0, static_cast<int64_t>(tokens.size())};
    const DocumentLayout layout(offsets);
    return transformer_.forward(run(), {.tokens = tokens, .positions = layout.positions, .segments = layout.segments});
  }
  fathom::Run run() { return {.k = *kernels_, .arena = arena_}; }

  std::unique_ptr<Sequence> sequence(std::vector<int32_t> tokens, int64_t prompt_length) {
    auto s = std::make_unique<Sequence>(0, cache_);
    s->tokens = std::move(tokens);
    s->prompt_length = prompt_length;
    EXPECT_TRUE(s->cache.reserve(static_cast<int64_t>(s->tokens.size()) + 8));
    return s;
  }
  /// A sequence all of whose tokens but the last are computed and not yet followed; its tokens are prompt tokens.
  std::unique_ptr<Sequence> computed(const std::vector<int32_t>& tokens) {
    auto s = sequence(tokens, static_cast<int64_t>(tokens.size()));
    MtpDrafter::keep(*s, 0, hidden_of(std::span(tokens).first(tokens.size() - 1)));
    return s;
  }
  /// The module's logits after each row of a document whose hidden states and next tokens are given (training pass).
  Logits trained(Tensor hidden, std::span<const int32_t> next_tokens) {
    const std::vector<int64_t> offsets{0, static_cast<int64_t>(next_tokens.size())};
    const DocumentLayout layout(offsets);
    const RotaryTable rotary = transformer_.rotary().table(run(), layout.positions);
    MtpSaved saved;
    const Tensor out =
        Mtp(transformer_, 0)
            .forward(run(), hidden, next_tokens, {.segments = layout.segments, .rotary = rotary, .layer = 3}, &saved);
    const Tensor logits = run().make({out.extent(0), model_->config.vocab_size});
    transformer_.head().forward(run(), out, logits);
    module_out_ = out;
    Logits rows;
    for (int64_t t = 0; t < logits.extent(0); ++t) {
      const float* begin = logits.ptr<float>() + t * logits.stride(0);
      rows.emplace_back(begin, begin + logits.extent(1));
    }
    return rows;
  }
  /// Drafts for all; returns the logits of every guess in the order they were made.
  Logits draft(std::vector<DraftRequest>& requests, GenerationForm generation = GenerationForm::kAbsorbed) {
    Logits seen;
    MtpDrafter drafter(transformer_, *kernels_, Precision::kF32, generation);
    drafter.draft(requests, [&](const Sequence& s, std::span<const float> logits, std::span<const int32_t> context) {
      EXPECT_TRUE(std::equal(s.tokens.begin(), s.tokens.end(), context.begin()));
      seen.emplace_back(logits.begin(), logits.end());
      return best_of(logits);
    });
    return seen;
  }
  Logits draft_one(Sequence& s, int64_t num_draft, std::vector<int32_t>* guesses = nullptr,
                   GenerationForm generation = GenerationForm::kAbsorbed) {
    std::vector<DraftRequest> requests(1);
    requests[0].sequence = &s;
    requests[0].num_draft = num_draft;
    const Logits seen = draft(requests, generation);
    EXPECT_EQ(seen.size(), static_cast<size_t>(num_draft));
    if (guesses != nullptr) *guesses = s.speculation.draft;
    return seen;
  }
  std::vector<int32_t> random(int64_t count, uint64_t seed) const {
    return testing::random_tokens(count, model_->config.vocab_size, seed);
  }

  std::unique_ptr<Model> model_;
  LatentCache cache_;
  Transformer transformer_;
  ThreadPool pool_;
  std::unique_ptr<Kernels> kernels_;
  Arena arena_;
  Tensor module_out_;
};

TEST_F(MtpDrafterTest, GuessesFromTheLogitsOfTheTrainingPass) {
  const auto tokens = random(80, 1);
  const Logits wanted = trained(hidden_of(std::span(tokens).first(79)), std::span(tokens).subspan(1));
  for (int64_t chunk : {1, 7, 64, 79}) {
    auto s = sequence(tokens, 80);
    const Tensor hidden = hidden_of(std::span(tokens).first(79));
    for (int64_t begin = 0; begin + chunk < 79; begin += chunk) {  // followed as the prompt is computed
      MtpDrafter::keep(*s, begin, hidden.rows(begin, chunk));
      draft_one(*s, 0);
      EXPECT_EQ(s->speculation.mtp.num_computed, begin + chunk);
      EXPECT_TRUE(s->speculation.mtp.hidden.empty());
    }
    MtpDrafter::keep(*s, s->speculation.mtp.num_computed,
                     hidden.rows(s->speculation.mtp.num_computed, 79 - s->speculation.mtp.num_computed));
    std::vector<int32_t> guesses;
    const Logits seen = draft_one(*s, 1, &guesses);
    EXPECT_TRUE(bit_equal(seen[0], wanted.back())) << "chunks of " << chunk;
    EXPECT_EQ(guesses, std::vector<int32_t>{best_of(wanted.back())});
    EXPECT_EQ(s->speculation.mtp.num_computed, 79);
  }
}

// Of a long sequence the module sees the end alone: as if the document began with the page of its origin, but for the
// absolute positions of the rotation, which only differ in rounding.
TEST_F(MtpDrafterTest, BeginsWithAPageNearTheEnd) {
  const auto tokens = random(300, 7);
  const Tensor hidden = hidden_of(std::span(tokens).first(299));
  for (const bool skips : {false, true}) {  // a prompt's first positions are not read
    auto s = sequence(tokens, 300);
    const int64_t first = skips ? MtpDrafter::first_read(*s) : 0;
    EXPECT_EQ(first, skips ? 300 - MtpDrafter::kMaxKept : 0);
    MtpDrafter::keep(*s, first, hidden.rows(first, 250 - first));
    MtpDrafter::keep(*s, 250, hidden.rows(250, 49));
    EXPECT_EQ(s->speculation.mtp.origin, 256);
    EXPECT_EQ(s->speculation.mtp.num_computed, 256);
    EXPECT_EQ(MtpDrafter::num_kept(*s, model_->config.hidden_size), 299 - 256);
    const Logits wanted = trained(hidden.rows(256, 299 - 256), std::span(tokens).subspan(257));
    const Logits seen = draft_one(*s, 1);
    EXPECT_LT(relative_l2(seen[0], wanted.back()), 1e-5);
    EXPECT_EQ(s->speculation.mtp.num_computed, 299);
    // It goes on from there, and begins anew when it rested for long.
    s->tokens = random(500, 7);
    ASSERT_TRUE(s->cache.reserve(508));
    const Tensor longer = hidden_of(std::span(s->tokens).first(499));
    MtpDrafter::keep(*s, 299, longer.rows(299, 1));
    draft_one(*s, 0);
    EXPECT_EQ(s->speculation.mtp.origin, 256);
    MtpDrafter::keep(*s, 300, longer.rows(300, 199));
    EXPECT_EQ(s->speculation.mtp.origin, 448);
  }
}

// The module's rows of shared pages are not asked for: it begins with the page behind them.
TEST_F(MtpDrafterTest, BeginsBehindWhatWasFoundInTheCache) {
  const auto tokens = random(142, 8);
  const Tensor hidden = hidden_of(std::span(tokens).first(141));
  for (const auto& [found, origin] : {std::pair<int64_t, int64_t>{64, 64}, {70, 128}, {128, 128}}) {
    auto s = sequence(tokens, 142);
    MtpDrafter::restart(*s, found);
    MtpDrafter::keep(*s, found, hidden.rows(found, 141 - found));
    EXPECT_EQ(s->speculation.mtp.origin, origin);
    EXPECT_EQ(MtpDrafter::num_kept(*s, model_->config.hidden_size), 141 - origin);
    const Logits wanted =
        trained(hidden.rows(origin, 141 - origin), std::span(tokens).subspan(static_cast<size_t>(origin) + 1));
    EXPECT_LT(relative_l2(draft_one(*s, 1)[0], wanted.back()), 1e-5);
  }
}

TEST_F(MtpDrafterTest, GuessesFurtherFromItsOwnGuessAndResult) {
  const auto tokens = random(70, 2);
  auto s = computed(tokens);
  std::vector<int32_t> guesses;
  const Logits seen = draft_one(*s, 3, &guesses, GenerationForm::kNaive);
  ASSERT_EQ(guesses.size(), 3u);
  // By hand: the document grows by a row whose hidden state is the module's last result.
  const int64_t D = model_->config.hidden_size;
  std::vector<int32_t> next(tokens.begin() + 1, tokens.end());
  Tensor hidden = hidden_of(std::span(tokens).first(69));
  for (size_t j = 0; j < 3; ++j) {
    const Logits wanted = trained(hidden, next);
    EXPECT_TRUE(bit_equal(seen[j], wanted.back())) << "guess " << j;
    EXPECT_EQ(guesses[j], best_of(wanted.back()));
    const int64_t rows = hidden.extent(0);
    const Tensor longer = run().make({rows + 1, D});
    std::copy_n(hidden.ptr<float>(), rows * D, longer.ptr<float>());
    std::copy_n(module_out_.ptr<float>() + (rows - 1) * D, D, longer.ptr<float>() + rows * D);
    hidden = longer;
    next.push_back(guesses[j]);
  }
}

TEST_F(MtpDrafterTest, AbsorbedAndNaiveFollowingAgree) {
  const auto tokens = random(70, 3);
  const Tensor hidden = hidden_of(std::span(tokens).first(69));
  auto naive = sequence(tokens, 40), absorbed = sequence(tokens, 40);
  MtpDrafter::keep(*naive, 0, hidden);
  MtpDrafter::keep(*absorbed, 0, hidden);
  const Logits a = draft_one(*naive, 2, nullptr, GenerationForm::kNaive), b = draft_one(*absorbed, 2);
  for (size_t j = 0; j < 2; ++j) EXPECT_LT(relative_l2(b[j], a[j]), 1e-5) << "guess " << j;
}

TEST_F(MtpDrafterTest, TheRestOfTheBatchDoesNotMatter) {
  const int64_t lengths[] = {2, 65, 3, 130, 64}, drafts[] = {1, 3, 0, 2, 3};
  std::vector<std::vector<int32_t>> alone;
  std::vector<std::unique_ptr<Sequence>> sequences;
  std::vector<DraftRequest> together;
  for (size_t i = 0; i < std::size(lengths); ++i) {
    const auto tokens = random(lengths[i], 10 + i);
    auto s = computed(tokens);
    s->prompt_length = lengths[i] / 2;  // the second half is generated: absorbed rows
    alone.emplace_back();
    draft_one(*s, drafts[i], &alone.back());
    sequences.push_back(computed(tokens));
    sequences.back()->prompt_length = lengths[i] / 2;
    together.push_back({.sequence = sequences.back().get(), .num_draft = drafts[i]});
  }
  draft(together);
  for (size_t i = 0; i < std::size(lengths); ++i)
    EXPECT_EQ(sequences[i]->speculation.draft, alone[i]) << "sequence " << i;
}

TEST_F(MtpDrafterTest, RejectedGuessesLeaveNoTrace) {
  const auto tokens = random(68, 4);
  const Tensor hidden = hidden_of(std::span(tokens).first(67));
  for (int64_t known : {60, 63, 64}) {  // guesses on both sides of a page's end
    const auto begin = tokens.begin();
    auto drafted = sequence({begin, begin + known}, known), fresh = sequence({begin, begin + known}, known);
    MtpDrafter::keep(*drafted, 0, hidden.rows(0, known - 1));
    draft_one(*drafted, 4);
    // Other tokens than the guesses were drawn, computed and kept.
    drafted->tokens.assign(begin, begin + known + 3);
    fresh->tokens = drafted->tokens;
    MtpDrafter::keep(*drafted, known - 1, hidden.rows(known - 1, 3));
    MtpDrafter::keep(*fresh, 0, hidden.rows(0, known + 2));
    const Logits a = draft_one(*drafted, 2), b = draft_one(*fresh, 2);
    for (size_t j = 0; j < 2; ++j) EXPECT_TRUE(bit_equal(a[j], b[j])) << known << " known, guess " << j;
  }
}

TEST_F(MtpDrafterTest, ACutSequenceKeepsWhatIsBeforeTheCut) {
  const auto tokens = random(30, 6);
  const int64_t D = model_->config.hidden_size;
  const Tensor hidden = hidden_of(std::span(tokens).first(29));
  auto s = sequence(tokens, 30);
  MtpDrafter::keep(*s, 0, hidden.rows(0, 10));
  draft_one(*s, 0);
  MtpDrafter::keep(*s, 10, hidden.rows(10, 19));
  EXPECT_EQ(MtpDrafter::num_kept(*s, D), 19);
  MtpDrafter::truncate(*s, 15, D);
  EXPECT_EQ(s->speculation.mtp.num_computed, 10);
  EXPECT_EQ(MtpDrafter::num_kept(*s, D), 5);
  EXPECT_TRUE(bit_equal(s->speculation.mtp.hidden, {hidden.rows(10, 5).ptr<float>(), static_cast<size_t>(5 * D)}));
  MtpDrafter::truncate(*s, 4, D);
  EXPECT_EQ(s->speculation.mtp.num_computed, 4);
  EXPECT_EQ(MtpDrafter::num_kept(*s, D), 0);
  // From there on it goes as if it had never been further.
  MtpDrafter::keep(*s, 4, hidden.rows(4, 25));
  auto fresh = sequence(tokens, 30);
  MtpDrafter::keep(*fresh, 0, hidden);
  EXPECT_TRUE(bit_equal(draft_one(*s, 1)[0], draft_one(*fresh, 1)[0]));
}

// A cut before the origin begins anew with the next page: a conversation that starts over is followed again.
TEST_F(MtpDrafterTest, ACutBeforeTheOriginBeginsAnew) {
  const auto tokens = random(300, 9);
  const int64_t D = model_->config.hidden_size;
  const Tensor hidden = hidden_of(std::span(tokens).first(299));
  auto s = sequence(tokens, 300);
  MtpDrafter::keep(*s, 0, hidden);
  EXPECT_EQ(s->speculation.mtp.origin, 256);
  MtpDrafter::truncate(*s, 70, D);
  EXPECT_EQ(s->speculation.mtp.origin, 128);
  MtpDrafter::keep(*s, 70, hidden.rows(70, 70));
  EXPECT_EQ(MtpDrafter::num_kept(*s, D), 12);
  MtpDrafter::truncate(*s, 1, D);
  EXPECT_EQ(s->speculation.mtp.origin, 64);
  EXPECT_EQ(MtpDrafter::num_kept(*s, D), 0);
}

}  // namespace
}  // namespace fathom
