// Paper: every published figure within its tolerance, and every input moves what depends on it.
#include "plan/paper.h"

#include <gtest/gtest.h>

#include <functional>
#include <set>

#include "base/file.h"
#include "model/tensor_plan.h"

namespace fathom {
namespace {

using Figures = std::vector<PaperFigure>;

Figures figures(const PaperInput& in = paper_input()) {
  auto f = paper_figures(in);
  EXPECT_TRUE(f.ok()) << (f ? "" : f.error().text);
  return f ? *f : Figures{};
}

// The names of the figures that `change` moves.
std::set<std::string> moved(const std::function<void(PaperInput&)>& change) {
  PaperInput in = paper_input();
  const Figures before = figures(in);
  change(in);
  const Figures after = figures(in);
  EXPECT_EQ(before.size(), after.size());
  std::set<std::string> names;
  for (size_t i = 0; i < std::min(before.size(), after.size()); ++i) {
    if (before[i].ours.value != after[i].ours.value) names.insert(before[i].ours.name);
  }
  return names;
}

TEST(Paper, EveryFigureIsWithinItsTolerance) {
  const Figures all = figures();
  EXPECT_GE(all.size(), 94u);
  for (const PaperFigure& f : all) {
    EXPECT_TRUE(f.holds()) << f.where << ", " << f.ours.name << ": published " << f.published << ", ours "
                           << f.ours.value << ", " << 100 * f.difference() << " %";
    EXPECT_FALSE(f.ours.formula.empty()) << f.ours.name;
    EXPECT_FALSE(f.ours.source.empty()) << f.ours.name;
    // network-planning.md, 7: 5 to 6 % for what DeepEP measured, 2 % for times, 0.8 % for prices.
    EXPECT_LE(f.tolerance, f.where == "DeepEP" ? 0.06 : f.where == "figure 7" ? 0.05 : 0.02) << f.ours.name;
    if (f.ours.name.find(" cost") != std::string::npos) {
      EXPECT_LE(f.tolerance, 0.008) << f.ours.name;
    }
  }
}

TEST(Paper, AWrongFigureDoesNotHold) {
  for (PaperFigure f : figures()) {
    f.ours.value *= f.agreement == Agreement::kRetelling ? f.published / f.ours.value : 1.13;
    EXPECT_FALSE(f.holds()) << f.ours.name;
  }
}

TEST(Paper, InputsMoveWhatDependsOnThem) {
  using Names = std::set<std::string>;
  const Names latent = moved([](PaperInput& in) { in.v3.kv_lora_rank = 256; });
  for (const char* name : {"KV per token, DeepSeek-V3", "KV, Qwen-2.5 72B over V3", "KV, LLaMA-3.1 405B over V3",
                           "training FLOPs per token, DeepSeek-V3", "rate, causal attention", "MFU, causal attention",
                           "training state of V3", "weights per decode GPU"}) {
    EXPECT_TRUE(latent.contains(name)) << name;
  }
  EXPECT_FALSE(latent.contains("TPOT, 400G InfiniBand"));
  const Names layers = moved([](PaperInput& in) { in.v3.num_hidden_layers = 60; });
  for (const char* name : {"KV per token, DeepSeek-V3", "TPOT, 400G InfiniBand", "TPOT, GB200 NVL72",
                           "training FLOPs per token, DeepSeek-V3"}) {
    EXPECT_TRUE(layers.contains(name)) << name;
  }
  EXPECT_EQ(moved([](PaperInput& in) { in.nic_gbps = 100; }),
            (Names{"one micro-batch, 400G InfiniBand", "one layer, 400G InfiniBand", "TPOT, 400G InfiniBand",
                   "tokens per second, 400G InfiniBand", "dispatch alone of one micro-batch, 400G InfiniBand"}));
  EXPECT_EQ(moved([](PaperInput& in) { in.planes = 4; }),
            (Names{"MPFT endpoints", "MPFT switches", "MPFT links", "MPFT cost"}));  // not the cost per endpoint
  const Names radix = moved([](PaperInput& in) { in.radix = 128; });
  for (const char* name : {"FT2 endpoints", "MPFT switches", "FT3 links", "FT3 cost", "MPFT cost per endpoint"}) {
    EXPECT_TRUE(radix.contains(name)) << name;
  }
  EXPECT_FALSE(radix.contains("Dragonfly links"));
}

TEST(Paper, ItsModelsAreTheReleasedOnes) {
  for (const auto& [name, ours] : {std::pair{"deepseek-v3", paper_input().v3}, {"deepseek-v2", paper_input().v2}}) {
    const Path path = Path(FATHOM_SOURCE_DIR) / "tests/model/configs" / (std::string(name) + ".json");
    const auto text = read_file(path, 1 << 20);
    ASSERT_TRUE(text.ok());
    const auto c = ModelConfig::parse(*Json::parse(*text, name), name);
    ASSERT_TRUE(c.ok());
    EXPECT_EQ(kv_cache_bytes_per_token(*c), kv_cache_bytes_per_token(ours)) << name;
    EXPECT_EQ(training_flops(*c, 4096).full(), training_flops(ours, 4096).full()) << name;
    EXPECT_EQ(count_parameters(*c).total, count_parameters(ours).total) << name;
    EXPECT_EQ(count_parameters(*c).mtp, count_parameters(ours).mtp) << name;
    EXPECT_EQ(c->num_hidden_layers, ours.num_hidden_layers);
  }
}

}  // namespace
}  // namespace fathom
