// The whole training pass against the independent NumPy reference (tools/reference): losses and every gradient.
#include "train/objective.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <map>

#include "../effort.h"
#include "../model/golden.h"
#include "../model/test_models.h"
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

/// Tokens of a slot with what the objective derives from a mask.
struct Sample {
  std::vector<int32_t> tokens, targets, next_tokens;
  std::vector<int64_t> offsets;
  SlotTokens slot() const {
    return {.tokens = tokens, .targets = targets, .next_tokens = next_tokens, .document_offsets = offsets};
  }
};

Sample sample_of(const Golden& golden) {
  const auto targets = golden.ids("targets");
  return {golden.ids("tokens"), targets, targets, golden.offsets()};
}

/// Two documents of random tokens; with `masked`, two targets in three are left out.
Sample random_sample(const ModelConfig& config, bool masked) {
  Sample sample{.tokens = testing::random_tokens(12, config.vocab_size, 3),
                .targets = {},
                .next_tokens = {},
                .offsets = {0, 7, 12}};
  sample.next_tokens = shift_left(sample.tokens, sample.offsets);
  sample.targets = sample.next_tokens;
  for (size_t t = 0; masked && t < sample.targets.size(); ++t) {
    if (t % 3 != 1) sample.targets[t] = -1;
  }
  return sample;
}

Pass run_pass(const Sample& sample, Model& model, Kernels& kernels, DType activation, double lambda, double alpha) {
  Arena arena;
  const Run run{.k = kernels, .arena = arena, .precision = Precision::kF32, .activation = activation};
  const SlotTokens slot = sample.slot();
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

/// Compares gradients of every tensor with finite differences in double: two entries that are not small in their
/// tensor, and one of any size. The relative error is at most 1e-6 of the gradient, which counts as at least the
/// tensor's root mean square (a sum of large terms may cancel) and 1e-3 (the loss of about 5 is rounded by 5e-16, which
/// the step of 1e-5 makes up to 1e-10).
void expect_finite_differences(const Sample& sample, Model& model) {
  ThreadPool pool(1);
  const auto kernels = make_kernels("ref", pool);
  const double lambda = 0.3, alpha = 0.3;  // a large alpha, so that the balance loss is seen
  const Pass pass = run_pass(sample, model, **kernels, DType::kF64, lambda, alpha);
  const auto loss_now = [&] { return run_pass(sample, model, **kernels, DType::kF64, lambda, alpha).loss.total; };
  const bool is_brief = testing::effort() == testing::Effort::kLittle;  // entries of some parameters, not of all
  const Rng rng(7, stream_of("finite differences"));
  size_t index = 0;
  uint64_t draw = 0;
  visit_weights(model.config, model.weights, [&](const TensorSpec& spec, Weight& value, Tensor* grad) {
    if (grad == nullptr) return;
    const auto& gradient = pass.gradients[index++].second;
    if (is_brief && index % 4 != 0) return;
    double squares = 0;
    for (double g : gradient) squares += g * g;
    const double rms = std::sqrt(squares / static_cast<double>(gradient.size()));
    std::vector<uint64_t> entries{rng.below(draw++, gradient.size())};
    for (int tries = 0; !is_brief && rms > 0 && entries.size() < 3 && tries < 1000; ++tries) {
      const uint64_t entry = rng.below(draw++, gradient.size());
      if (std::fabs(gradient[entry]) >= 0.5 * rms) entries.push_back(entry);
    }
    for (const uint64_t entry : entries) {
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
      const double scale = std::max({std::fabs(gradient[entry]), rms, 1e-3});
      EXPECT_NEAR(gradient[entry], derivative, 1e-6 * scale) << spec.name << "[" << entry << "]";
    }
  });
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
  const Pass pass = run_pass(sample_of(golden), *model, **kernels, DType::kF64, golden.scalar("mtp_lambda"),
                             golden.scalar("balance_alpha"));
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
    const Pass pass = run_pass(sample_of(golden), *model, **kernels, DType::kF32, golden.scalar("mtp_lambda"),
                               golden.scalar("balance_alpha"));
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
  expect_finite_differences(sample_of(golden), *model);
}

INSTANTIATE_TEST_SUITE_P(Models, GoldenTraining, ::testing::Values("v2lite", "v2", "v3", "v3-plain"));

/// Shapes that the golden models do not have, by name.
const std::map<std::string, void (*)(ModelConfig&)> kVariants{
    {"plain", [](ModelConfig&) {}},
    {"tied", [](ModelConfig& c) { c.tie_word_embeddings = true; }},
    {"twoMtpModules", [](ModelConfig& c) { c.num_nextn_predict_layers = 2; }},
    {"noSharedExpertEveryOtherLayer",
     [](ModelConfig& c) {
       c.n_shared_experts = 0;
       c.moe_layer_freq = 2;
     }},
    {"softmaxNormalised",
     [](ModelConfig& c) {
       c.model_type = "deepseek_v2";
       c.scoring_func = ScoringFunc::kSoftmax;
       c.topk_method = TopkMethod::kGreedy;
       c.n_group = c.topk_group = 1;
       c.routed_scaling_factor = 1;
     }},
    {"noQueryLatentNoYarn",
     [](ModelConfig& c) {
       c.q_lora_rank = 0;
       c.rope_scaling.reset();
     }},
    {"dense", [](ModelConfig& c) { c.n_routed_experts = 0; }},
};

class Variant : public ::testing::TestWithParam<std::string> {};

TEST_P(Variant, GradientsAgreeWithFiniteDifferences) {
  ModelConfig config = testing::awkward_config();
  config.vocab_size = 23;  // so that the tokens use most of the rows
  config.num_nextn_predict_layers = 1;
  kVariants.at(GetParam())(config);
  const auto model = make_model(config, DType::kF64, true);
  testing::randomize(*model, 11);
  expect_finite_differences(random_sample(config, true), *model);
}

INSTANTIATE_TEST_SUITE_P(Shapes, Variant, ::testing::ValuesIn([] {
                           std::vector<std::string> names;
                           for (const auto& [name, change] : kVariants) names.push_back(name);
                           return names;
                         }()),
                         [](const auto& variant) { return variant.param; });

TEST(RunSlot, AMaskLeavesOutTargetsAndNothingElse) {
  ModelConfig config = testing::awkward_config();
  config.num_nextn_predict_layers = 1;
  const auto model = make_model(config, DType::kF64, true);
  testing::randomize(*model, 5);
  ThreadPool pool(1);
  const auto kernels = make_kernels("ref", pool);
  const Sample all = random_sample(config, false), some = random_sample(config, true);
  Sample others = all;
  for (size_t t = 0; t < all.targets.size(); ++t) {
    if (some.targets[t] >= 0) others.targets[t] = -1;
  }
  // Means times counts are sums over targets; those of two complementary masks add up to the whole.
  struct Sums {
    double main, mtp;
  };
  const auto sums = [&](const Sample& sample) {
    BatchCounts counts;
    counts.add(sample.slot(), 1);
    const SlotLoss loss = run_pass(sample, *model, **kernels, DType::kF64, 1, 0).loss;
    return Sums{loss.main * static_cast<double>(counts.num_targets),
                loss.mtp * static_cast<double>(counts.num_mtp_targets[0])};
  };
  const Sums whole = sums(all), a = sums(some), b = sums(others);
  EXPECT_GT(a.mtp, 0);
  EXPECT_NEAR(whole.main, a.main + b.main, 1e-12 * whole.main);
  EXPECT_NEAR(whole.mtp, a.mtp + b.mtp, 1e-12 * whole.mtp);
}

}  // namespace
}  // namespace fathom
