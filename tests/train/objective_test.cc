// The whole training pass against the independent NumPy reference (tools/reference): losses and every gradient.
#include "train/objective.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "../model/golden.h"
#include "base/rng.h"
#include "kernels/registry.h"
#include "numerics/compare.h"

namespace fathom {
namespace {

using testing::Golden;
using testing::to_doubles;

struct Pass {
  SlotLoss loss;
  std::vector<std::pair<std::string, std::vector<double>>> gradients;
};

Pass run_pass(const Golden& golden, Model& model, Kernels& kernels, DType activation, double lambda, double alpha) {
  Arena arena;
  const Run run{.k = kernels, .arena = arena, .precision = Precision::kF32, .activation = activation};
  const auto tokens = golden.ids("tokens"), targets = golden.ids("targets");
  const auto offsets = golden.offsets();
  const SlotTokens slot{.tokens = tokens, .targets = targets, .document_offsets = offsets};
  BatchCounts counts;
  counts.add(slot, model.config.num_nextn_predict_layers);
  const Transformer transformer(model.config, model.weights);
  visit_weights(model.config, model.weights, [](const TensorSpec&, Weight&, Tensor* grad) {
    if (grad != nullptr) std::memset(grad->data, 0, static_cast<size_t>(grad->num_bytes()));
  });
  Pass pass;
  pass.loss = run_slot(run, transformer, slot, counts, {.mtp_lambda = lambda, .balance_alpha = alpha}, nullptr);
  visit_weights(model.config, model.weights, [&](const TensorSpec& spec, Weight&, Tensor* grad) {
    if (grad != nullptr) pass.gradients.emplace_back(spec.name, to_doubles(*grad));
  });
  return pass;
}

double relative_difference(const std::vector<double>& got, const std::vector<double>& want) {
  return relative_max(std::span<const double>(got), std::span<const double>(want));
}

class GoldenTraining : public ::testing::TestWithParam<const char*> {};

TEST_P(GoldenTraining, LossesAndEveryGradientAgreeInDouble) {
  const Golden golden(GetParam());
  const auto stored = load_model(golden.dir());
  ASSERT_TRUE(stored) << stored.error().text;
  const auto model = make_model((*stored)->config, DType::kF64, true);
  copy_weights(**stored, *model);
  ThreadPool pool(1);
  const auto kernels = make_kernels("ref", pool);
  ASSERT_TRUE(kernels);
  const Pass pass =
      run_pass(golden, *model, **kernels, DType::kF64, golden.scalar("mtp_lambda"), golden.scalar("balance_alpha"));
  EXPECT_NEAR(pass.loss.main, golden.scalar("loss.main"), 1e-12);
  if (golden.has("loss.mtp")) {
    EXPECT_NEAR(pass.loss.mtp, golden.scalar("loss.mtp"), 1e-12);
  }
  EXPECT_NEAR(pass.loss.balance, golden.scalar("loss.balance"), 1e-12);
  EXPECT_NEAR(pass.loss.total, golden.scalar("loss.total"), 1e-12);
  for (const auto& [name, gradient] : pass.gradients) {
    // The golden gradients are stored in FP32: half an ulp of it is 6e-8.
    EXPECT_LT(relative_difference(gradient, golden.values("grad." + name)), 1e-7) << name;
  }
}

TEST_P(GoldenTraining, Fp32KernelsAgreeWithinRounding) {
  const Golden golden(GetParam());
  const auto stored = load_model(golden.dir());
  ASSERT_TRUE(stored) << stored.error().text;
  const auto model = make_model((*stored)->config, DType::kF32, true);
  copy_weights(**stored, *model);
  for (const std::string& name : available_kernels()) {
    ThreadPool pool(2);
    const auto kernels = make_kernels(name, pool);
    ASSERT_TRUE(kernels);
    const Pass pass =
        run_pass(golden, *model, **kernels, DType::kF32, golden.scalar("mtp_lambda"), golden.scalar("balance_alpha"));
    EXPECT_NEAR(pass.loss.total, golden.scalar("loss.total"), 2e-6 * golden.scalar("loss.total")) << name;
    for (const auto& [tensor, gradient] : pass.gradients) {
      // About 100 FP32 roundings lie between a weight and the loss in these models; 2^-24 each, times 30 of headroom.
      EXPECT_LT(relative_difference(gradient, golden.values("grad." + tensor)), 2e-4) << name << " " << tensor;
    }
  }
}

TEST_P(GoldenTraining, GradientsAgreeWithFiniteDifferences) {
  const Golden golden(GetParam());
  const auto stored = load_model(golden.dir());
  ASSERT_TRUE(stored) << stored.error().text;
  const auto model = make_model((*stored)->config, DType::kF64, true);
  copy_weights(**stored, *model);
  ThreadPool pool(1);
  const auto kernels = make_kernels("ref", pool);
  const double lambda = 0.3, alpha = 0.3;  // a large alpha, so that the balance loss is seen
  const Pass pass = run_pass(golden, *model, **kernels, DType::kF64, lambda, alpha);
  const auto loss_now = [&] { return run_pass(golden, *model, **kernels, DType::kF64, lambda, alpha).loss.total; };
  const Rng rng(7, stream_of("finite differences"));
  size_t index = 0;
  visit_weights(model->config, model->weights, [&](const TensorSpec& spec, Weight& value, Tensor* grad) {
    if (grad == nullptr) return;
    const auto& gradient = pass.gradients[index].second;
    double largest = 0;
    for (double g : gradient) largest = std::max(largest, std::fabs(g));
    const uint64_t entry = rng.below(index++, gradient.size());
    double& parameter = value.codes.ptr<double>()[entry];
    const double kept = parameter, h = 1e-5;
    // Fourth-order central difference: truncation below 1e-15, rounding about 1e-16 / 1e-5.
    const double steps[] = {2, 1, -1, -2}, factors[] = {-1, 8, -8, 1};
    double derivative = 0;
    for (int i = 0; i < 4; ++i) {
      parameter = kept + steps[i] * h;
      derivative += factors[i] * loss_now() / (12 * h);
    }
    parameter = kept;
    EXPECT_NEAR(gradient[entry], derivative, 1e-6 * std::max(largest, 1e-3)) << spec.name << "[" << entry << "]";
  });
}

INSTANTIATE_TEST_SUITE_P(Models, GoldenTraining, ::testing::Values("v2lite", "v2", "v3", "v3-plain"));

}  // namespace
}  // namespace fathom
