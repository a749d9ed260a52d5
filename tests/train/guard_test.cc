// The guard finds the first number that is not finite.
#include "train/guard.h"

#include <gtest/gtest.h>

#include <limits>

#include "tiny_run.h"

namespace fathom {
namespace {

class GuardOnTinyModel : public ::testing::Test {
 protected:
  GuardOnTinyModel()
      : pool_(1),
        kernels_(*make_kernels("ref", pool_)),
        parameters_(*testing::tiny_config("none").model_config(), ComputeType::kF32) {
    parameters_.initialize(5, pool_);
  }
  void poison(const std::string& name) {
    for (const Parameters::Entry& entry : parameters_.entries()) {
      if (entry.spec.name != name) continue;
      std::fill_n(entry.master.ptr<float>(), entry.master.numel(), std::numeric_limits<float>::quiet_NaN());
      return;
    }
    FAIL() << "no tensor " << name;
  }
  std::string place() {
    Arena arena;
    const fathom::Run run{.k = *kernels_, .arena = arena, .precision = Precision::kF32, .activation = DType::kF32};
    const Transformer model(parameters_.config(), parameters_.weights());
    const std::vector<int32_t> tokens = {1, 2, 3, 4}, targets = {2, 3, 4, -1};
    const std::vector<int64_t> offsets = {0, 4};
    return first_place_not_finite(
        run, model, {.tokens = tokens, .targets = targets, .next_tokens = targets, .document_offsets = offsets});
  }

  ThreadPool pool_;
  std::unique_ptr<Kernels> kernels_;
  Parameters parameters_;
};

TEST_F(GuardOnTinyModel, NamesTheFirstLayer) {
  EXPECT_EQ(place(), "the output head or an MTP module");
  poison("lm_head.weight");
  EXPECT_EQ(place(), "the output head or an MTP module");
  poison("model.layers.1.mlp.experts.0.up_proj.weight");
  poison("model.layers.1.mlp.shared_experts.up_proj.weight");
  EXPECT_EQ(place(), "layer 1");
  poison("model.layers.0.mlp.up_proj.weight");
  EXPECT_EQ(place(), "layer 0");
  poison("model.embed_tokens.weight");
  EXPECT_EQ(place(), "the embedding's output");
}

TEST_F(GuardOnTinyModel, NamesTheFirstMaster) {
  EXPECT_EQ(first_master_not_finite(*kernels_, parameters_), "");
  poison("model.layers.1.mlp.gate.e_score_correction_bias");
  EXPECT_EQ(first_master_not_finite(*kernels_, parameters_), "model.layers.1.mlp.gate.e_score_correction_bias");
}

}  // namespace
}  // namespace fathom
