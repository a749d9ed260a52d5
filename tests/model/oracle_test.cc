// The oracle tiny-dsv3: logits, hidden states and routing recorded from DeepSeek's own inference code (see the README
// of the shared data). Bars: FP32 compute within 1e-4 relative L2, experts identical; FP8 activations as far as bits
// are equal at all (DESIGN.md: rounding cascades).
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <iostream>

#include "../effort.h"
#include "base/json.h"
#include "kernels/registry.h"
#include "model/model.h"
#include "model/transformer.h"
#include "numerics/compare.h"
#include "shared_data.h"

namespace fathom {
namespace {

using testing::shared_data;
using testing::TemporaryDirectory;

struct Forward {
  std::vector<float> last_logits;
  std::vector<std::vector<float>> hidden;        // per layer [T D]
  std::vector<std::vector<int32_t>> expert_ids;  // per layer, empty for dense
  std::vector<std::vector<float>> expert_weights;
};

class Oracle : public ::testing::TestWithParam<std::string> {
 protected:
  static Path dir() { return shared_data() / "oracle/tiny-dsv3"; }

  void SetUp() override {
    if (!std::filesystem::exists(dir())) GTEST_SKIP() << "needs " << dir();
    pool_ = std::make_unique<ThreadPool>(2);
    auto kernels = make_kernels(GetParam(), *pool_);
    ASSERT_TRUE(kernels) << kernels.error().text;
    kernels_ = std::move(*kernels);
    const auto json = Json::parse(*read_file(dir() / "tokens.json"), "tokens.json");
    for (const Json& id : json->find("tokens")->items()) tokens_.push_back(static_cast<int32_t>(id.as_int()));
    for (const Json& n : json->find("prefix_lengths")->items()) prefix_lengths_.push_back(n.as_int());
    auto golden = SafetensorsFile::open(dir() / "golden.safetensors");
    ASSERT_TRUE(golden) << golden.error().text;
    golden_ = std::make_unique<SafetensorsFile>(std::move(*golden));
  }

  std::unique_ptr<Model> load(const std::string& config, const std::string& weights) {
    const TemporaryDirectory link;
    std::filesystem::create_symlink(dir() / config, link.path() / "config.json");
    std::filesystem::create_symlink(dir() / weights, link.path() / "model.safetensors");
    auto model = load_model(link.path());
    EXPECT_TRUE(model) << model.error().text;
    return std::move(*model);
  }

  Forward forward(const Model& model, int64_t length, Precision precision) {
    Arena arena;
    const fathom::Run run{.k = *kernels_, .arena = arena, .precision = precision};
    const Transformer transformer(model.config, model.weights);
    const std::vector<int64_t> offsets{0, length};
    const DocumentLayout layout(offsets);
    TransformerSaved saved;
    std::vector<Tensor> layers;
    const Tensor hidden = transformer.forward(run,
                                              {.tokens = {tokens_.data(), static_cast<size_t>(length)},
                                               .positions = layout.positions,
                                               .segments = layout.segments},
                                              &saved, &layers);
    const Tensor logits = run.make({1, model.config.vocab_size});
    transformer.head().forward(run, hidden.rows(length - 1, 1), logits);
    Forward out;
    out.last_logits.assign(logits.ptr<float>(), logits.ptr<float>() + logits.numel());
    for (size_t l = 0; l < layers.size(); ++l) {
      out.hidden.emplace_back(layers[l].ptr<float>(), layers[l].ptr<float>() + layers[l].numel());
      const MoeSaved& moe = saved.blocks[l].moe;
      out.expert_ids.emplace_back();
      out.expert_weights.emplace_back();
      if (!moe.expert_ids) continue;
      out.expert_ids.back().assign(moe.expert_ids.ptr<int32_t>(),
                                   moe.expert_ids.ptr<int32_t>() + moe.expert_ids.numel());
      out.expert_weights.back().assign(moe.weights.ptr<float>(), moe.weights.ptr<float>() + moe.weights.numel());
    }
    return out;
  }

  std::span<const float> golden(const std::string& name) {
    const auto t = golden_->tensor(name);
    EXPECT_TRUE(t) << t.error().text;
    return {t->ptr<const float>(), static_cast<size_t>(t->numel())};
  }
  std::span<const float> golden_logits(const std::string& mode, size_t prefix) {
    const auto all = golden(mode + "/logits");
    const size_t width = all.size() / prefix_lengths_.size();
    return all.subspan(prefix * width, width);
  }

  void expect_fp32_mode(const Model& model, const std::string& mode) {
    for (size_t i = 0; i < prefix_lengths_.size(); ++i) {
      const Forward got = forward(model, prefix_lengths_[i], Precision::kF32);
      EXPECT_LT(relative_l2(got.last_logits, golden_logits(mode, i)), 1e-4) << "prefix " << prefix_lengths_[i];
      if (prefix_lengths_[i] != 17) continue;
      for (size_t l = 0; l < got.hidden.size(); ++l) {
        EXPECT_LT(relative_l2(got.hidden[l], golden(mode + "/hidden." + std::to_string(l))), 1e-4) << "layer " << l;
        if (!got.expert_ids[l].empty()) expect_routing(mode, got, l);
      }
    }
  }

  /// The oracle lists a token's experts in any order.
  void expect_routing(const std::string& mode, const Forward& got, size_t layer) {
    const auto ids = golden_->tensor(mode + "/route_i." + std::to_string(layer));
    ASSERT_TRUE(ids) << ids.error().text;
    const auto weights = golden(mode + "/route_w." + std::to_string(layer));
    const int64_t chosen = ids->extent(1);
    for (int64_t t = 0; t < ids->extent(0); ++t) {
      std::vector<std::pair<int32_t, float>> want;
      for (int64_t k = 0; k < chosen; ++k) {
        const auto at = static_cast<size_t>(t * chosen + k);
        want.emplace_back(ids->ptr<const int32_t>()[at], weights[at]);
      }
      std::sort(want.begin(), want.end());
      for (int64_t k = 0; k < chosen; ++k) {
        const auto at = static_cast<size_t>(t * chosen + k);
        EXPECT_EQ(got.expert_ids[layer][at], want[static_cast<size_t>(k)].first) << "token " << t;
        EXPECT_NEAR(got.expert_weights[layer][at], want[static_cast<size_t>(k)].second, 1e-5);
      }
    }
  }

  std::unique_ptr<ThreadPool> pool_;
  std::unique_ptr<Kernels> kernels_;
  std::vector<int32_t> tokens_;
  std::vector<int64_t> prefix_lengths_;
  std::unique_ptr<SafetensorsFile> golden_;
};

TEST_P(Oracle, Bf16WeightsInFp32ComputeAgree) {
  const auto model = load("config.json", "model-bf16.safetensors");
  expect_fp32_mode(*model, "bf16");
}

TEST_P(Oracle, Fp8WeightsDequantisedAgree) {
  const auto model = load("config-fp8.json", "model-fp8.safetensors");
  expect_fp32_mode(*model, "fp8-dequant");
}

TEST_P(Oracle, Fp8ActivationsAgreeWhileBitsCanBeEqual) {
  const auto model = load("config-fp8.json", "model-fp8.safetensors");
  const Forward first = forward(*model, 1, Precision::kFp8);
  EXPECT_LT(relative_l2(first.last_logits, golden_logits("fp8-w8a8", 0)), 1e-5);
  const Forward seventeen = forward(*model, 17, Precision::kFp8);
  EXPECT_LT(relative_l2(seventeen.hidden[0], golden("fp8-w8a8/hidden.0")), 1e-5);
  if (testing::effort() == testing::Effort::kLittle) return;
  // Longer prefixes: reported beside what a 1e-7 perturbation of our own embedding does; no bar (rounding cascades).
  auto perturbed = load("config-fp8.json", "model-fp8.safetensors");
  Storage moved;
  {
    const Tensor stored = perturbed->weights.embedding.value.codes;
    Tensor shifted;
    moved = Storage::for_tensor(DType::kF32, {stored.extent(0), stored.extent(1)}, &shifted);
    for (int64_t i = 0; i < stored.numel(); ++i) {
      shifted.ptr<float>()[i] = to_float(stored.ptr<const bf16>()[i]) * (1 + 1e-7f * static_cast<float>(i % 3 - 1));
    }
    perturbed->weights.embedding.value.codes = shifted;
  }
  for (size_t i = 1; i < prefix_lengths_.size(); ++i) {
    const Forward ours = forward(*model, prefix_lengths_[i], Precision::kFp8);
    const Forward other = forward(*perturbed, prefix_lengths_[i], Precision::kFp8);
    std::cout << GetParam() << " fp8-w8a8 prefix " << prefix_lengths_[i] << ": relative L2 to the oracle "
              << relative_l2(ours.last_logits, golden_logits("fp8-w8a8", i)) << ", to ourselves perturbed by 1e-7 "
              << relative_l2(ours.last_logits, other.last_logits) << "\n";
    EXPECT_TRUE(std::isfinite(relative_l2(ours.last_logits, golden_logits("fp8-w8a8", i))));
  }
}

INSTANTIATE_TEST_SUITE_P(Kernels, Oracle, ::testing::ValuesIn(available_kernels()),
                         [](const auto& instance) { return instance.param; });

}  // namespace
}  // namespace fathom
