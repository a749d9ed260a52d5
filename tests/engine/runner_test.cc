// Batch: what the model sees of a plan. Runner: logits for the rows that sample, in plan order.
#include "engine/runner.h"

#include <gtest/gtest.h>

#include "../model/test_models.h"
#include "kernels/registry.h"
#include "numerics/compare.h"

namespace fathom {
namespace {

class RunnerTest : public ::testing::Test {
 protected:
  RunnerTest()
      : model_(testing::random_model(testing::awkward_config(), 2)),
        cache_(model_->config, DType::kF32, 1024),
        transformer_(model_->config, model_->weights),
        pool_(1),
        kernels_(std::move(*make_kernels("cpu", pool_))) {}

  void add(std::vector<int32_t> tokens, int64_t prompt_length, int64_t reserved) {
    sequences_.push_back(std::make_unique<Sequence>(static_cast<int64_t>(sequences_.size()), cache_));
    sequences_.back()->tokens = std::move(tokens);
    sequences_.back()->prompt_length = prompt_length;
    EXPECT_TRUE(sequences_.back()->cache.reserve(reserved));
  }
  static std::vector<float> row(const Tensor& logits, int64_t r) {
    const float* begin = logits.ptr<float>() + r * logits.stride(0);
    return {begin, begin + logits.extent(1)};
  }

  std::unique_ptr<Model> model_;
  LatentCache cache_;
  Transformer transformer_;
  ThreadPool pool_;
  std::unique_ptr<Kernels> kernels_;
  std::vector<std::unique_ptr<Sequence>> sequences_;
};

TEST_F(RunnerTest, ABatchPacksThePlansRows) {
  add({10, 11, 12, 13, 14}, 3, 5);
  add({20, 21, 22}, 3, 130);
  const std::vector<StepItem> plan{
      {.sequence = 0, .first_position = 4, .count = 1, .form = MlaForm::kAbsorbed, .samples = true},
      {.sequence = 1, .first_position = 0, .count = 2},
      {.sequence = 0, .first_position = 1, .count = 3, .samples = true}};
  const Batch batch(plan, sequences_);
  EXPECT_EQ(batch.tokens, (std::vector<int32_t>{14, 20, 21, 11, 12, 13}));
  EXPECT_EQ(batch.positions, (std::vector<int64_t>{4, 0, 1, 1, 2, 3}));
  EXPECT_EQ(batch.sampled_rows, (std::vector<int64_t>{0, 5}));
  EXPECT_EQ(batch.read_rows, (std::vector<int32_t>{0, 5}));
  sequences_[0]->speculation.params.kind = SpeculationKind::kMtp;
  EXPECT_EQ(Batch(plan, sequences_).read_rows, (std::vector<int32_t>{0, 3, 4, 5}))
      << "an MTP module follows the last of a prompt";
  sequences_[1]->wants_prompt_logprobs = true;
  EXPECT_EQ(Batch(plan, sequences_).read_rows, (std::vector<int32_t>{0, 1, 2, 3, 4, 5}));
  ASSERT_EQ(batch.segments.size(), 3u);
  const int64_t rows[] = {0, 1, 3}, counts[] = {1, 2, 3}, firsts[] = {4, 0, 1};
  for (size_t i = 0; i < 3; ++i) {
    EXPECT_EQ(batch.segments[i].row, rows[i]);
    EXPECT_EQ(batch.segments[i].count, counts[i]);
    EXPECT_EQ(batch.segments[i].first_position, firsts[i]);
    EXPECT_EQ(batch.segments[i].pages.size(), 3u) << "a view per layer";
    EXPECT_EQ(batch.segments[i].pages.data(), sequences_[plan[i].sequence]->cache.layers().data());
  }
  EXPECT_EQ(batch.segments[0].form, MlaForm::kAbsorbed);
  EXPECT_EQ(batch.segments[1].form, MlaForm::kNaive);
  const PackedTokens packed = batch.packed();
  EXPECT_EQ(packed.tokens.data(), batch.tokens.data());
  EXPECT_EQ(packed.positions.size(), 6u);
}

TEST_F(RunnerTest, GuessesFollowTheLastKnownTokenAndSampleToo) {
  add({10, 11, 12, 13, 14}, 3, 8);
  add({20, 21, 22}, 3, 3);
  sequences_[0]->speculation.draft = {30, 31, 32};
  const std::vector<StepItem> plan{
      {.sequence = 0, .first_position = 4, .count = 1, .form = MlaForm::kAbsorbed, .samples = true, .num_draft = 2},
      {.sequence = 1, .first_position = 1, .count = 2, .samples = true}};
  const Batch batch(plan, sequences_);
  EXPECT_EQ(batch.tokens, (std::vector<int32_t>{14, 30, 31, 21, 22}));
  EXPECT_EQ(batch.positions, (std::vector<int64_t>{4, 5, 6, 1, 2}));
  EXPECT_EQ(batch.sampled_rows, (std::vector<int64_t>{0, 1, 2, 4}));
  EXPECT_EQ(batch.segments[0].count, 3);
  EXPECT_EQ(batch.segments[1].row, 3);
}

TEST_F(RunnerTest, LogitsAreTheHeadOfTheSampledRowsInPlanOrder) {
  add({10, 11, 12, 13, 14}, 5, 5);
  add({20, 21, 22}, 3, 3);
  Runner runner(transformer_, *kernels_, Precision::kF32);
  const std::vector<StepItem> both{{.sequence = 1, .first_position = 0, .count = 3, .samples = true},
                                   {.sequence = 0, .first_position = 0, .count = 5, .samples = true}};
  const Tensor logits = runner.step(Batch(both, sequences_));
  ASSERT_EQ(logits.extent(0), 2);
  ASSERT_EQ(logits.extent(1), model_->config.vocab_size);
  const auto second = row(logits, 0), first = row(logits, 1);
  for (size_t s = 0; s < 2; ++s) {
    const auto& tokens = sequences_[s]->tokens;
    const std::vector<int64_t> offsets{0, static_cast<int64_t>(tokens.size())};
    const DocumentLayout layout(offsets);
    Arena arena;
    const fathom::Run run{.k = *kernels_, .arena = arena};
    const Tensor hidden =
        transformer_.forward(run, {.tokens = tokens, .positions = layout.positions, .segments = layout.segments});
    const Tensor all = run.make({offsets[1], model_->config.vocab_size});
    transformer_.head().forward(run, hidden, all);
    EXPECT_TRUE(bit_equal(row(all, offsets[1] - 1), s == 0 ? first : second)) << "sequence " << s;
  }
}

TEST_F(RunnerTest, ScoresAnyRowsOfTheLastStep) {
  add({10, 11, 12, 13, 14}, 5, 5);
  add({20, 21, 22}, 3, 3);
  for (const auto& sequence : sequences_) sequence->wants_prompt_logprobs = true;
  Runner runner(transformer_, *kernels_, Precision::kF32);
  const std::vector<StepItem> both{{.sequence = 1, .first_position = 0, .count = 3, .samples = true},
                                   {.sequence = 0, .first_position = 0, .count = 5, .samples = true}};
  const Tensor logits = runner.step(Batch(both, sequences_));
  const auto first = row(logits, 0), second = row(logits, 1);
  const Tensor tail = runner.score(2, 4);  // the last row of sequence 1 and three of sequence 0
  ASSERT_EQ(tail.extent(0), 4);
  EXPECT_TRUE(bit_equal(row(tail, 0), first));
  const auto third = row(tail, 3);
  EXPECT_TRUE(bit_equal(row(runner.score(7, 1), 0), second));
  EXPECT_TRUE(bit_equal(row(runner.score(5, 1), 0), third)) << "how many rows at a time does not matter";
}

TEST_F(RunnerTest, AStepThatSamplesNothingFillsTheCacheAllTheSame) {
  add({10, 11, 12, 13, 14}, 5, 5);
  add({10, 11, 12, 13, 14}, 5, 5);
  Runner runner(transformer_, *kernels_, Precision::kF32);
  const std::vector<StepItem> head{{.sequence = 0, .first_position = 0, .count = 4}};
  EXPECT_EQ(runner.step(Batch(head, sequences_)).extent(0), 0);
  const std::vector<StepItem> last{{.sequence = 0, .first_position = 4, .count = 1, .samples = true}};
  const auto in_two_steps = row(runner.step(Batch(last, sequences_)), 0);
  const std::vector<StepItem> whole{{.sequence = 1, .first_position = 0, .count = 5, .samples = true}};
  EXPECT_TRUE(bit_equal(row(runner.step(Batch(whole, sequences_)), 0), in_two_steps));
}

}  // namespace
}  // namespace fathom
