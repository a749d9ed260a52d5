#include "model/divergence.h"

#include <gtest/gtest.h>

#include <array>
#include <cmath>

#include "kernels/registry.h"
#include "test_models.h"

namespace fathom {
namespace {

Divergence divergence_of(std::vector<float> reference, std::vector<float> logits, int64_t vocab,
                         const std::vector<int32_t>& targets, int threads = 1) {
  ThreadPool pool(threads);
  const auto rows = static_cast<int64_t>(targets.size());
  Divergence sum;
  compare_logits(Tensor::contiguous(reference.data(), DType::kF32, {rows, vocab}),
                 Tensor::contiguous(logits.data(), DType::kF32, {rows, vocab}), targets, pool, sum);
  return sum;
}

TEST(Divergence, IsThatOfTheDistributions) {
  // p = (1/2, 1/4, 1/4), q = (1/4, 1/4, 1/2): KL = 1/2 log 2 - 1/4 log 2.
  const float log2 = std::log(2.0f);
  const Divergence d = divergence_of({log2, 0, 0}, {5, 5, 5 + log2}, 3, {1});
  EXPECT_EQ(d.num_tokens, 1);
  EXPECT_NEAR(d.kl, 0.25 * std::log(2.0), 1e-7);  // log2 is rounded to FP32
  EXPECT_EQ(d.same_top, 0);
  EXPECT_NEAR(d.nats, std::log(4.0), 1e-6);
  EXPECT_NEAR(d.reference_nats, std::log(4.0), 1e-6);
  EXPECT_NEAR(d.error_squares, std::pow(5 - log2, 2) + 25 + std::pow(5 + log2, 2), 1e-5);
  EXPECT_NEAR(d.relative_l2(), std::sqrt(d.error_squares) / log2, 1e-5);
}

TEST(Divergence, OfEqualLogitsIsNothing) {
  const Divergence d = divergence_of({1, 2, 3, 4}, {1, 2, 3, 4}, 2, {0, 1});
  EXPECT_EQ(d.num_tokens, 2);
  EXPECT_EQ(d.kl, 0);
  EXPECT_EQ(d.same_top, 2);
  EXPECT_EQ(d.relative_l2(), 0);
  EXPECT_EQ(d.top_agreement(), 1);
}

TEST(Divergence, SkipsRowsWithoutATarget) {
  const Divergence d = divergence_of({1, 2, 9, -9}, {1, 2, 3, 4}, 2, {0, -1});
  EXPECT_EQ(d.num_tokens, 1);
  EXPECT_EQ(d.error_squares, 0);
}

TEST(Divergence, OfHugeLogitsIsFinite) {
  const Divergence d = divergence_of({1e30f, 0}, {0, 1e30f}, 2, {0});
  EXPECT_TRUE(std::isfinite(d.kl));
  EXPECT_GT(d.kl, 1e29);
}

TEST(ScoreWindows, ScoreEveryTokenOnceWithHalfAWindowBefore) {
  for (int64_t length : {1, 2, 5, 8, 9, 20, 64}) {
    for (int64_t window : {2, 3, 8, 100}) {
      int64_t next = 1;
      for (const ScoredWindow& w : score_windows(length, window)) {
        EXPECT_EQ(w.first_scored, next);
        EXPECT_GT(w.end, w.first_scored);
        EXPECT_LE(w.end - w.begin, window);
        EXPECT_GE(w.begin, 0);
        EXPECT_GE(w.first_scored - w.begin, w.begin > 0 ? window / 2 : 0);
        next = w.end;
      }
      EXPECT_EQ(next, length);
    }
  }
  const std::vector<int32_t> ids{10, 11, 12, 13, 14};
  EXPECT_EQ(targets_of({.begin = 1, .end = 5, .first_scored = 3}, ids), (std::vector<int32_t>{-1, 13, 14, -1}));
}

TEST(ChunkWindows, AreWholeAndPredictTheirSecondHalves) {
  // As llama-perplexity counts: of a chunk of n tokens the logits n / 2 to n - 2 are read, n - n / 2 - 1 of them.
  const auto is = [](const std::vector<ScoredWindow>& found, const std::vector<std::array<int64_t, 3>>& wanted) {
    ASSERT_EQ(found.size(), wanted.size());
    for (size_t i = 0; i < wanted.size(); ++i) {
      EXPECT_EQ((std::array{found[i].begin, found[i].end, found[i].first_scored}), wanted[i]);
    }
  };
  is(chunk_windows(1023, 512, 100), {{0, 512, 257}});
  is(chunk_windows(1024, 512, 100), {{0, 512, 257}, {512, 1024, 769}});
  is(chunk_windows(20, 5, 2), {{0, 5, 3}, {5, 10, 8}});
  is(chunk_windows(3, 3, 1), {{0, 3, 2}});
  is(chunk_windows(2, 3, 1), {});
}

TEST(MeasureDivergence, OfAModelAndItselfIsNothingAndOfAnotherTheSameForAnyThreads) {
  const ModelConfig config = testing::awkward_config();
  const auto one = testing::random_model(config, 5), other = testing::random_model(config, 6);
  const auto ids = testing::random_tokens(90, config.vocab_size, 1);
  const auto measure = [&](const Model& reference, int threads, int64_t window) {
    ThreadPool pool(threads);
    const auto kernels = make_kernels("cpu", pool);
    Arena arena;
    const fathom::Run run{.k = **kernels, .arena = arena};
    const Transformer a(reference.config, reference.weights), b(one->config, one->weights);
    Divergence sum;
    const auto windows = score_windows(static_cast<int64_t>(ids.size()), window);
    EXPECT_TRUE(measure_divergence({run, a}, {run, b}, ids, windows, pool, sum, [](double) { return true; }));
    return sum;
  };
  const Divergence same = measure(*one, 2, 32);
  EXPECT_EQ(same.num_tokens, 89);
  EXPECT_EQ(same.kl, 0);
  EXPECT_EQ(same.same_top, 89);
  const Divergence d = measure(*other, 1, 32);
  EXPECT_GT(d.kl_per_token(), 0.1);
  EXPECT_EQ(d.kl, measure(*other, 3, 32).kl);
  EXPECT_NE(d.kl, measure(*other, 3, 90).kl) << "the window matters";
  // The loss of the head is the same measure of the tokens that came.
  ThreadPool pool(1);
  const auto kernels = make_kernels("cpu", pool);
  Arena arena;
  const fathom::Run run{.k = **kernels, .arena = arena};
  const Transformer b(one->config, one->weights);
  const std::vector<int32_t> targets = targets_of({.begin = 0, .end = 90, .first_scored = 1}, ids);
  const double loss = b.head().loss(run, ScoredModel{run, b}.forward(ids), targets, 1.0, Tensor{});
  EXPECT_NEAR(measure(*other, 1, 90).nats, loss, 1e-5 * loss);
}

}  // namespace
}  // namespace fathom
