#include "model/prepare_weights.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdio>
#include <limits>

#include "kernels/registry.h"
#include "model/transformer.h"
#include "numerics/compare.h"
#include "numerics/panels.h"
#include "test_models.h"

namespace fathom {
namespace {

QuantPolicy policy_of(std::string_view text) {
  const auto policy = parse_quant_policy(text);
  EXPECT_TRUE(policy);
  return *policy;
}

/// Logits of 40 random tokens with a model's weights prepared by `quant`, or as they are with "rows".
std::vector<float> logits_of(const std::string& quant, Precision precision, const std::string& level = "cpu",
                             int threads = 2, const ModelConfig& config = testing::awkward_config()) {
  const auto model = testing::random_model(config, 5, DType::kBF16);
  ThreadPool pool(threads);
  const auto kernels = make_kernels(level, pool);
  EXPECT_TRUE(kernels);
  SilentProgress silent;
  if (quant != "rows") {
    const Status s = prepare_weights(*model, policy_of(quant), precision, **kernels, silent);
    EXPECT_TRUE(s) << s.error().text;
  }
  const auto tokens = testing::random_tokens(40, model->config.vocab_size, 1);
  const std::vector<int64_t> offsets{0, 40};
  const DocumentLayout layout(offsets);
  Arena arena;
  const Run run{.k = **kernels, .arena = arena, .precision = precision};
  const Transformer transformer(model->config, model->weights);
  const Tensor hidden =
      transformer.forward(run, {.tokens = tokens, .positions = layout.positions, .segments = layout.segments});
  const Tensor logits = run.make({40, model->config.vocab_size});
  transformer.head().forward(run, hidden, logits);
  return {logits.ptr<float>(), logits.ptr<float>() + logits.numel()};
}

double relative_l2(const std::vector<float>& got, const std::vector<float>& wanted) {
  double error = 0, norm = 0;
  for (size_t i = 0; i < got.size(); ++i) {
    error += std::pow(double{got[i]} - double{wanted[i]}, 2);
    norm += double{wanted[i]} * double{wanted[i]};
  }
  return std::sqrt(error / norm);
}

TEST(PrepareWeights, OfStoredFormatsDoesNotChangeABit) {
  for (const std::string& level : available_kernels()) {
    EXPECT_TRUE(bit_equal(std::span<const float>(logits_of("none", Precision::kBF16, level)),
                          std::span<const float>(logits_of("rows", Precision::kBF16, level))))
        << level;
  }
}

TEST(PrepareWeights, CountsWhatWouldBeRoundedTwice) {
  const auto model = testing::random_model(testing::awkward_config(), 5, DType::kBF16);
  EXPECT_EQ(num_quantized_twice(*model, policy_of("int4")), 0);
  ThreadPool pool(1);
  const auto kernels = make_kernels("cpu", pool);
  SilentProgress silent;
  ASSERT_TRUE(prepare_weights(*model, policy_of("experts=int8"), Precision::kBF16, **kernels, silent));
  const int64_t twice = num_quantized_twice(*model, policy_of("int4"));
  EXPECT_GT(twice, 0);
  EXPECT_EQ(num_quantized_twice(*model, policy_of("experts=fp8")), twice);
  for (const char* once : {"none", "int8", "bf16", "experts=int8,attention=int4"}) {
    EXPECT_EQ(num_quantized_twice(*model, policy_of(once)), 0) << once;
  }
}

// A model of this depth passes on errors of its products at about their own size: INT8's two operands err by 0.5 %
// each, INT4's weights by 8 %, MXFP4's by 11 %, E4M3's by 2.5 %. Between a tenth of that, or nothing was quantised, and
// four times. Without experts: one that is chosen instead of another changes more than any rounding.
TEST(PrepareWeights, ErrsAsTheFormatsDo) {
  ModelConfig config = testing::awkward_config();
  config.first_k_dense_replace = config.num_hidden_layers;
  const auto exact = logits_of("rows", Precision::kBF16, "cpu", 2, config);
  for (const auto& [quant, error] :
       {std::pair{"int8", 0.007}, {"int4", 0.08}, {"iq4_nl", 0.07}, {"mxfp4", 0.11}, {"fp8", 0.025}}) {
    const double measured = relative_l2(logits_of(quant, Precision::kBF16, "cpu", 2, config), exact);
    EXPECT_LT(measured, 4 * error) << quant;
    EXPECT_GT(measured, error / 10) << quant;
    std::printf("%s: relative error of the logits %.4f\n", quant, measured);
  }
}

TEST(PrepareWeights, GivesTheSameBitsForAnyNumberOfThreads) {
  for (const char* quant : {"int8", "int4", "mxfp4", "fp8"}) {
    const auto one = logits_of(quant, Precision::kBF16, "cpu", 1);
    for (int threads : {2, 3, 8}) {
      EXPECT_TRUE(bit_equal(std::span<const float>(one),
                            std::span<const float>(logits_of(quant, Precision::kBF16, "cpu", threads))))
          << quant << " " << threads;
    }
  }
}

TEST(PrepareWeights, KeepsRowsWhereProductsAreNotBf16) {
  const auto model = testing::random_model(testing::awkward_config(), 5, DType::kBF16);
  ThreadPool pool(1);
  const auto kernels = make_kernels("cpu", pool);
  SilentProgress silent;
  ASSERT_TRUE(prepare_weights(*model, policy_of("head=int8"), Precision::kF32, **kernels, silent));
  EXPECT_EQ(model->weights.blocks[0].attention.o.value.layout, WeightLayout::kRows);
  EXPECT_EQ(model->weights.head.value.groups, GroupFormat::kInt8);
}

TEST(PrepareWeights, LeavesEmbeddingRouterNormsAndKvB) {
  const auto model = testing::random_model(testing::awkward_config(), 5, DType::kBF16);
  ThreadPool pool(1);
  const auto kernels = make_kernels("cpu", pool);
  SilentProgress silent;
  ASSERT_TRUE(prepare_weights(*model, policy_of("int4"), Precision::kBF16, **kernels, silent));
  const BlockWeights& block = model->weights.blocks[1];
  for (const Weight* w : std::initializer_list<const Weight*>{&model->weights.embedding.value, &block.moe.router.value,
                                                              &block.attention.kv_b.value, &block.input_norm.value}) {
    EXPECT_EQ(w->layout, WeightLayout::kRows);
  }
  EXPECT_EQ(block.moe.gate.value[0].groups, GroupFormat::kInt4);
  EXPECT_EQ(block.moe.gate.value[0].layout, WeightLayout::kPanels);
}

TEST(PrepareWeights, CountsTheSameBytesFromThePlanAlone) {
  for (const DType dtype : {DType::kBF16, DType::kF32}) {
    const auto model = testing::random_model(testing::awkward_config(), 5, dtype);
    for (const char* quant : {"none", "int8", "int4,experts=mxfp4", "fp8", "bf16", "experts=iq4_nl,experts.2=none"}) {
      for (Precision precision : {Precision::kF32, Precision::kBF16}) {
        int64_t planned = 0;
        for (const TensorSpec& spec : expected_tensors(model->config)) {
          planned += prepared_bytes(spec, dtype, GroupFormat::kNone, policy_of(quant), precision);
        }
        EXPECT_EQ(planned, prepared_bytes(*model, policy_of(quant), precision).prepared)
            << quant << " " << name_of(dtype) << " " << static_cast<int>(precision);
      }
    }
  }
}

TEST(PrepareWeights, CountsBytesBeforeAndAfter) {
  const auto model = testing::random_model(testing::awkward_config(), 5, DType::kBF16);
  const PreparedBytes before = prepared_bytes(*model, policy_of("int8"), Precision::kBF16);
  EXPECT_EQ(before.stored, prepared_bytes(*model, policy_of("none"), Precision::kF32).prepared);
  ThreadPool pool(1);
  const auto kernels = make_kernels("cpu", pool);
  SilentProgress silent;
  ASSERT_TRUE(prepare_weights(*model, policy_of("int8"), Precision::kBF16, **kernels, silent));
  EXPECT_EQ(before.prepared, prepared_bytes(*model, policy_of("none"), Precision::kF32).stored);
}

TEST(PrepareWeights, NamesATensorThatCannotBeHeld) {
  const auto model = testing::random_model(testing::awkward_config(), 5, DType::kF32);
  model->weights.blocks[1].moe.up.value[3].codes.ptr<float>()[5] = std::numeric_limits<float>::quiet_NaN();
  ThreadPool pool(2);
  const auto kernels = make_kernels("cpu", pool);
  SilentProgress silent;
  const Status s = prepare_weights(*model, policy_of("experts=int8"), Precision::kBF16, **kernels, silent);
  ASSERT_FALSE(s);
  EXPECT_NE(s.error().text.find("model.layers.1.mlp.experts.3.up_proj.weight"), std::string::npos) << s.error().text;
  EXPECT_NE(s.error().text.find("int8"), std::string::npos);
}

}  // namespace
}  // namespace fathom
