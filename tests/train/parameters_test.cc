// Parameters: initial values, what the model computes with, and loading from a model.
#include "train/parameters.h"

#include <gtest/gtest.h>

#include <cmath>

#include "tiny_run.h"

namespace fathom {
namespace {

ModelConfig tiny_model() { return *testing::tiny_config("none").model_config(); }

TEST(Parameters, InitialValuesDependOnSeedNameAndElementAlone) {
  ThreadPool one(1), three(3);
  const ModelConfig config = tiny_model();
  Parameters a(config, ComputeType::kF32), b(config, ComputeType::kF32), c(config, ComputeType::kF32);
  a.initialize(5, one);
  b.initialize(5, three);
  c.initialize(6, one);
  EXPECT_EQ(testing::state_bytes(a), testing::state_bytes(b));
  EXPECT_NE(testing::state_bytes(a), testing::state_bytes(c));
  for (const Parameters::Entry& entry : a.entries()) {
    const Rng rng(5, stream_of(entry.spec.name));
    for (int64_t i = 0; i < entry.master.numel(); ++i) {
      const float expected = entry.is_matrix() ? static_cast<float>(0.2 * rng.normal(static_cast<uint64_t>(i)))
                                               : (entry.is_router_bias() ? 0.0f : 1.0f);
      ASSERT_EQ(entry.master.ptr<float>()[i], expected) << entry.spec.name << "[" << i << "]";
    }
  }
}

TEST(Parameters, Fp32ComputesWithTheMastersThemselves) {
  const Parameters parameters(tiny_model(), ComputeType::kF32);
  for (const Parameters::Entry& entry : parameters.entries()) EXPECT_EQ(entry.compute.data, entry.master.data);
  EXPECT_EQ(parameters.weights().embedding.value.codes.data, parameters.entries()[0].master.data);
}

TEST(Parameters, Bf16ComputesWithWhatABf16CheckpointHolds) {
  ThreadPool pool(2);
  Parameters parameters(tiny_model(), ComputeType::kBF16);
  parameters.initialize(5, pool);
  for (const Parameters::Entry& entry : parameters.entries()) {
    for (int64_t i = 0; i < entry.master.numel(); ++i) entry.master.ptr<float>()[i] += 0.001f;
  }
  parameters.refresh(pool);
  for (const Parameters::Entry& entry : parameters.entries()) {
    const float* master = entry.master.ptr<float>();
    EXPECT_EQ(entry.compute.dtype, entry.is_matrix() ? DType::kBF16 : DType::kF32) << entry.spec.name;
    for (int64_t i = 0; i < entry.master.numel(); ++i) {
      if (entry.is_matrix()) {
        ASSERT_EQ(entry.compute.ptr<bf16>()[i].bits, to_bf16(master[i]).bits) << entry.spec.name;
      } else {
        ASSERT_EQ(entry.compute.ptr<float>()[i], entry.is_router_bias() ? master[i] : to_float(to_bf16(master[i])));
      }
    }
  }
}

TEST(Parameters, GradientsOfTheModelAreTheGradientsOfTheEntries) {
  Parameters parameters(tiny_model(), ComputeType::kBF16);
  const ModelWeights& w = parameters.weights();
  w.embedding.grad.ptr<float>()[3] = 7;
  EXPECT_EQ(parameters.entries()[0].grad.ptr<float>()[3], 7);
  EXPECT_EQ(parameters.gradients().ptr<float>()[3], 7);
  EXPECT_TRUE(w.blocks[1].moe.down.grad[3]);
  EXPECT_TRUE(w.mtp[0].projection.grad);
  parameters.zero_gradients();
  EXPECT_EQ(w.embedding.grad.ptr<float>()[3], 0);
}

TEST(Parameters, HaveOneRouterBiasPerMoeLayerInModelOrder) {
  const Parameters parameters(tiny_model(), ComputeType::kF32);
  const std::vector<Tensor> biases = parameters.router_biases();
  ASSERT_EQ(biases.size(), 2u);
  EXPECT_EQ(biases[0].data, parameters.weights().blocks[1].moe.bias.data);
  EXPECT_EQ(biases[1].data, parameters.weights().mtp[0].block.moe.bias.data);
}

TEST(Parameters, CopyFromDecodesAStoredModel) {
  const auto model = load_model(Path(FATHOM_SOURCE_DIR) / "tests/golden/v3");
  ASSERT_TRUE(model) << model.error().text;
  ThreadPool pool(1);
  Parameters parameters((*model)->config, ComputeType::kF32);
  parameters.copy_from(**model, pool);
  size_t i = 0;
  bool has_bias = false;
  visit_weights((*model)->config, (*model)->weights, [&](const TensorSpec&, Weight& value, Tensor*) {
    const Parameters::Entry& entry = parameters.entries()[i++];
    EXPECT_EQ(std::memcmp(entry.master.data, value.codes.data, static_cast<size_t>(entry.master.num_bytes())), 0)
        << entry.spec.name;
    has_bias = has_bias || (entry.is_router_bias() && entry.master.ptr<float>()[0] != 0);
  });
  EXPECT_TRUE(has_bias);
}

TEST(Parameters, TiedHeadIsTheEmbedding) {
  ModelConfig config = tiny_model();
  config.tie_word_embeddings = true;
  const Parameters parameters(config, ComputeType::kBF16);
  EXPECT_EQ(parameters.weights().head.value.codes.data, parameters.weights().embedding.value.codes.data);
  EXPECT_EQ(parameters.weights().head.grad.data, parameters.weights().embedding.grad.data);
}

}  // namespace
}  // namespace fathom
