// AdamW against the golden steps; the slot tree; clipping.
#include "train/optimizer.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>

#include "checkpoint/safetensors.h"
#include "tiny_run.h"

namespace fathom {
namespace {

/// Distance in units of the last place of FP32 numbers of one sign.
int64_t ulps(float a, float b) {
  return std::llabs(int64_t{std::bit_cast<int32_t>(a)} - int64_t{std::bit_cast<int32_t>(b)});
}

TEST(AdamW, AgreesWithTheGoldenSteps) {
  const auto golden = SafetensorsFile::open(Path(FATHOM_SOURCE_DIR) / "tests/golden/adamw.safetensors");
  ASSERT_TRUE(golden) << golden.error().text;
  const auto tensor = [&](const std::string& name) {
    const auto t = golden->tensor(name);
    EXPECT_TRUE(t) << name;
    return *t;
  };
  const int64_t n = tensor("param.0").numel();
  for (const std::string& name : available_kernels()) {
    ThreadPool pool(2);
    const auto kernels = make_kernels(name, pool);
    ASSERT_TRUE(kernels);
    Tensor master, first, second;
    const Storage a = Storage::for_tensor(DType::kF32, {n}, &master);
    const Storage b = Storage::for_tensor(DType::kBF16, {n}, &first);
    const Storage c = Storage::for_tensor(DType::kBF16, {n}, &second);
    std::memcpy(master.data, tensor("param.0").data, static_cast<size_t>(master.num_bytes()));
    for (int64_t step = 1; step <= 3; ++step) {
      const std::string t = std::to_string(step);
      (*kernels)->adamw({.master = master,
                         .grad = tensor("grad." + t),
                         .first_moment = first,
                         .second_moment = second,
                         .learning_rate = tensor("lr").ptr<const float>()[step - 1],
                         .beta1 = tensor("beta1").ptr<const double>()[0],
                         .beta2 = tensor("beta2").ptr<const double>()[0],
                         .epsilon = tensor("eps").ptr<const double>()[0],
                         .weight_decay = tensor("weight_decay").ptr<const double>()[0],
                         .gradient_scale = 1,
                         .step = step});
      const auto same = [](const Tensor& x, const Tensor& y) {
        return std::memcmp(x.data, y.data, static_cast<size_t>(x.num_bytes())) == 0;
      };
      EXPECT_TRUE(same(first, tensor("exp_avg." + t))) << name << " step " << t;
      EXPECT_TRUE(same(second, tensor("exp_avg_sq." + t))) << name << " step " << t;
      // The golden steps divide by the bias corrections, kernels multiply by their inverses: an update then differs by
      // one or two roundings, and an element that starts at 0 shows all of them.
      for (int64_t i = 0; i < n; ++i) {
        EXPECT_LE(ulps(master.ptr<float>()[i], tensor("param." + t).ptr<const float>()[i]), 4)
            << name << " step " << t << " element " << i;
      }
    }
  }
}

TEST(ClipFactor, BringsTheNormDownToTheLimit) {
  EXPECT_EQ(clip_factor(4, 1), 0.25);
  EXPECT_EQ(clip_factor(0.5, 1), 1);
  EXPECT_EQ(clip_factor(4, 0), 1);
}

class OptimizerOnTinyModel : public ::testing::Test {
 protected:
  OptimizerOnTinyModel() : pool_(1), kernels_(*make_kernels("ref", pool_)) {
    config_ = *testing::tiny_config("none").model_config();
    parameters_ = std::make_unique<Parameters>(config_, ComputeType::kF32);
    parameters_->initialize(5, pool_);
  }
  /// The gradients of one slot: numbers with full mantissas, so that the order of a sum shows in its bits.
  void add_slot(int64_t slot) {
    const Rng rng(static_cast<uint64_t>(slot), stream_of("slot"));
    float* g = parameters_->gradients().ptr<float>();
    for (int64_t i = 0; i < parameters_->gradients().numel(); ++i) {
      g[i] += static_cast<float>(rng.normal(static_cast<uint64_t>(i)));
    }
  }
  std::vector<float> gradients() const {
    const Tensor g = parameters_->gradients();
    return {g.ptr<const float>(), g.ptr<const float>() + g.numel()};
  }
  /// Sum of the slots [first, first + count) by a tree of their own: what a rank that owns them computes.
  std::vector<float> tree_sum(int64_t first, int64_t count) {
    parameters_->zero_gradients();
    GradientTree tree(parameters_->gradients(), count);
    for (int64_t s = 0; s < count; ++s) {
      add_slot(first + s);
      tree.finish_slot(*kernels_, s);
    }
    return gradients();
  }

  ThreadPool pool_;
  std::unique_ptr<Kernels> kernels_;
  ModelConfig config_;
  std::unique_ptr<Parameters> parameters_;
};

std::vector<float> sum(std::vector<float> a, const std::vector<float>& b) {
  for (size_t i = 0; i < a.size(); ++i) a[i] += b[i];
  return a;
}

TEST_F(OptimizerOnTinyModel, SlotTreeEqualsAnyLayoutOfAlignedRanges) {
  const std::vector<float> one_rank = tree_sum(0, 8);
  EXPECT_EQ(one_rank, sum(tree_sum(0, 4), tree_sum(4, 4)));
  EXPECT_EQ(one_rank, sum(sum(tree_sum(0, 2), tree_sum(2, 2)), sum(tree_sum(4, 2), tree_sum(6, 2))));
  // A running sum has other bits: the order is what is tested.
  std::vector<float> running = tree_sum(0, 1);
  for (int64_t s = 1; s < 8; ++s) running = sum(running, tree_sum(s, 1));
  EXPECT_NE(one_rank, running);
}

TEST_F(OptimizerOnTinyModel, SlotTreeOfAnyCountSkipsAbsentLeaves) {
  EXPECT_EQ(tree_sum(0, 1), tree_sum(0, 1));
  EXPECT_EQ(tree_sum(0, 3), sum(tree_sum(0, 2), tree_sum(2, 1)));
  EXPECT_EQ(tree_sum(0, 5), sum(tree_sum(0, 4), tree_sum(4, 1)));
  EXPECT_EQ(tree_sum(0, 6), sum(tree_sum(0, 4), tree_sum(4, 2)));
  EXPECT_EQ(tree_sum(0, 7), sum(tree_sum(0, 4), sum(tree_sum(4, 2), tree_sum(6, 1))));
}

TEST_F(OptimizerOnTinyModel, NormIsThatOfAllGradientsAndNamesTheFirstBadTensor) {
  add_slot(3);
  double squares = 0;
  for (const Parameters::Entry& entry : parameters_->entries()) {
    for (int64_t i = 0; !entry.is_router_bias() && i < entry.grad.numel(); ++i) {
      squares += double{entry.grad.ptr<float>()[i]} * double{entry.grad.ptr<float>()[i]};
    }
  }
  const GradientNorm good = gradient_norm(*kernels_, *parameters_);
  EXPECT_NEAR(good.norm, std::sqrt(squares), 1e-12 * std::sqrt(squares));
  EXPECT_EQ(good.not_finite, "");
  const Parameters::Entry& bad = parameters_->entries()[4];
  bad.grad.ptr<float>()[1] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_EQ(gradient_norm(*kernels_, *parameters_).not_finite, bad.spec.name);
}

/// The parameter: Muon for the hidden matrices, or AdamW for all.
class EitherOptimizer : public OptimizerOnTinyModel, public ::testing::WithParamInterface<bool> {};
INSTANTIATE_TEST_SUITE_P(Optimizers, EitherOptimizer, ::testing::Bool());

TEST_P(EitherOptimizer, DecaysMatricesOnly) {
  std::vector<float> before;
  for (const Parameters::Entry& entry : parameters_->entries()) before.push_back(entry.master.ptr<float>()[0]);
  // Without gradients only the decay moves a weight: w - lr * wd * w.
  ThreadPool pool(1);
  Arena arena;
  optimizer_step(*kernels_, pool, arena, *parameters_,
                 {.adamw = {.weight_decay = 0.5}, .muon = {.weight_decay = 0.5}, .use_muon = GetParam()}, 0.5, 1, 1);
  size_t i = 0;
  for (const Parameters::Entry& entry : parameters_->entries()) {
    const float expected = entry.is_matrix() ? 0.75f * before[i] : before[i];
    EXPECT_FLOAT_EQ(entry.master.ptr<float>()[0], expected) << entry.spec.name;
    ++i;
  }
}

}  // namespace
}  // namespace fathom
