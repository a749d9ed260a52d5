// Paper: every published figure within its tolerance, and every input moves what depends on it.
#include "plan/paper.h"

#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <map>
#include <set>
#include <string_view>

#include "../effort.h"
#include "base/file.h"
#include "model/tensor_plan.h"

namespace fathom {
namespace {

using Figures = std::vector<PaperFigure>;

Figures figures(const PaperInput& in) {
  auto f = paper_figures(in);
  EXPECT_TRUE(f.ok()) << (f ? "" : f.error().text);
  return f ? *f : Figures{};
}

// Those of the paper's own inputs, computed once.
const Figures& figures() {
  static const Figures all = figures(paper_input());
  return all;
}

// The names of the figures that `change` moves.
std::set<std::string> moved(const std::function<void(PaperInput&)>& change) {
  PaperInput in = paper_input();
  const Figures& before = figures();
  change(in);
  const Figures after = figures(in);
  EXPECT_EQ(before.size(), after.size());
  std::set<std::string> names;
  for (size_t i = 0; i < std::min(before.size(), after.size()); ++i) {
    const double old = before[i].ours.value;  // more than rounding
    if (std::abs(after[i].ours.value - old) > 1e-9 * std::abs(old)) names.insert(before[i].ours.name);
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
    // Estimates claim no more than their size, and say what they leave out.
    const double most = f.agreement == Agreement::kEstimate ? 0.25
                        : f.where == "DeepEP"               ? 0.06
                        : f.where == "figure 7"             ? 0.05
                                                            : 0.02;
    EXPECT_LE(f.tolerance, most) << f.ours.name;
    const bool is_loose = f.agreement != Agreement::kExact && f.agreement != Agreement::kWithin;
    EXPECT_FALSE(is_loose && f.note.empty()) << f.ours.name;
    if (f.ours.name.find(" cost") != std::string::npos) {
      EXPECT_LE(f.tolerance, 0.008) << f.ours.name;
    }
  }
}

// Rows that are different quantities have different formulas: a pointer that rests on one sees its own.
TEST(Paper, EachRowOfTheNetworkBoundHasItsOwnFormula) {
  std::set<std::string> formulas;
  size_t rows = 0;
  for (const PaperFigure& f : figures()) {
    if (f.where != "section 2.3.2") continue;
    ++rows;
    EXPECT_TRUE(formulas.insert(f.ours.formula).second) << f.ours.name << ": " << f.ours.formula;
  }
  EXPECT_EQ(rows, 7u);
}

TEST(Paper, AWrongFigureDoesNotHold) {
  for (PaperFigure f : figures()) {
    switch (f.agreement) {
      case Agreement::kExact:
      case Agreement::kWithin: f.ours.value *= 1.13; break;
      case Agreement::kEstimate: f.ours.value *= 1.5; break;
      case Agreement::kAtLeast: f.ours.value = 0.999 * f.published; break;
      case Agreement::kAtMost: f.ours.value = 1.001 * f.published; break;
      case Agreement::kOrder: f.ours.value = 1 / f.published; break;
      case Agreement::kRetelling: f.ours.value = f.published; break;
    }
    EXPECT_FALSE(f.holds()) << f.ours.name;
  }
}

TEST(Paper, InputsMoveWhatDependsOnThem) {
  if (testing::effort() == testing::Effort::kLittle) GTEST_SKIP() << "all rows a dozen times; the usual round runs it";
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
  Names nic = {"one micro-batch, 400G InfiniBand", "one layer, 400G InfiniBand", "TPOT, 400G InfiniBand",
               "tokens per second, 400G InfiniBand", "dispatch alone of one micro-batch, 400G InfiniBand"};
  for (const char* ep : {"EP16", "EP32", "EP64", "EP128", "EP256"}) {
    for (const char* kernel : {"low-latency dispatch, ", "low-latency combine, "}) nic.insert(kernel + std::string(ep));
    if (ep == std::string_view("EP16") || ep == std::string_view("EP256")) continue;  // NVLink's; not published
    for (const char* kernel : {"DeepEP dispatch, ", "DeepEP combine, "}) nic.insert(kernel + std::string(ep));
  }
  for (const char* name : {"experts per node that NVLink forwards", "experts of a token in the same time",
                           "adaptive routing, TP8", "adaptive routing, TP4", "adaptive routing, TP2", "dispatch, EP16",
                           "combine, EP16", "dispatch, EP32", "combine, EP32"}) {
    nic.insert(name);
  }
  EXPECT_EQ(moved([](PaperInput& in) { in.nic_gbps = 51; }), nic);
  EXPECT_EQ(moved([](PaperInput& in) { in.nic_effective_gbps = 50; }),
            (Names{"NVLink over NIC", "64 B, RoCE, same leaf", "64 B, RoCE, cross leaf", "64 B, InfiniBand, same leaf",
                   "64 B, InfiniBand, cross leaf", "all-to-all, 128 GPUs, busbw", "1F, exchange exposed",
                   "1B, exchange exposed", "time per step, from FLOPs", "decode tokens per second and node at most",
                   "tokens per second and user at most", "tokens/s and user, nothing overlapped"}));
  EXPECT_EQ(moved([](PaperInput& in) { in.planes = 4; }),
            (Names{"MPFT endpoints", "MPFT switches", "MPFT links", "MPFT cost"}));  // not the cost per endpoint
  const Names radix = moved([](PaperInput& in) { in.radix = 128; });
  for (const char* fabric : {"FT2", "MPFT", "FT3", "Slim Fly", "Dragonfly"}) {
    for (const char* what : {" endpoints", " switches", " links", " cost", " cost per endpoint"}) {
      EXPECT_TRUE(radix.contains(fabric + std::string(what))) << fabric << what;
    }
  }
  EXPECT_TRUE(radix.contains("MPFT saves per endpoint against FT3"));
  // The share of switches saved is 1 - 3 / 5 at any radix; 2,048 GPUs stay on other leaves than each other.
  for (const char* name : {"switches of 2,048 GPUs, MPFT", "switches of 2,048 GPUs, MRFT", "ECMP over adaptive, TP8",
                           "ECMP over adaptive, TP4", "ECMP over adaptive, TP2"}) {
    EXPECT_TRUE(radix.contains(name)) << name;
  }
  const Names gpus = moved([](PaperInput& in) { in.num_gpus = 1024; });
  for (const char* name : {"MFU, causal attention", "1F1B, from FLOPs", "time per step, from FLOPs"}) {
    EXPECT_TRUE(gpus.contains(name)) << name;
  }
  const Names hidden = moved([](PaperInput& in) { in.v3.hidden_size = 6144; });
  for (const char* name : {"parameters of V3", "TPOT, GB200 NVL72", "low-latency dispatch, EP8", "price of the run"}) {
    EXPECT_EQ(hidden.contains(name), name != std::string_view("price of the run")) << name;  // a step is measured
  }
  const Names gate = moved([](PaperInput& in) { in.v3.topk_group = 2; });
  EXPECT_TRUE(gate.contains("DeepEP dispatch, EP64"));
  EXPECT_FALSE(gate.contains("DeepEP dispatch, EP16"));  // two nodes anyway
}

// Every part of the publications that a formula of ours gives has rows: table 5 whole, both columns of table 4, figures
// 5, 6 and 8, the limit of 4 nodes.
TEST(Paper, EveryPartHasItsRows) {
  std::map<std::string, int> rows;
  std::map<std::string, double> published, ours;
  for (const PaperFigure& f : figures()) {
    ++rows[f.where];
    EXPECT_TRUE(published.emplace(f.where + ": " + f.ours.name, f.published).second) << f.ours.name;
    ours[f.where + ": " + f.ours.name] = f.ours.value;
  }
  EXPECT_EQ(rows["table 5"], 5);
  EXPECT_EQ(rows["figure 5"], 4);
  EXPECT_EQ(rows["figure 6"], 2);
  EXPECT_EQ(rows["figure 8"], 9);
  EXPECT_EQ(rows["README of DualPipe"], 8);
  EXPECT_EQ(published.at("table 4: time per step, MRFT"), 19.946);
  EXPECT_EQ(published.at("table 4: bubble, MRFT"), 2.03);
  EXPECT_EQ(published.at("table 4: 1F, exchange exposed"), 1.13);
  // 8 of 256 experts, none twice, on 8 nodes: 5.295; 8 (1 - (7/8)^8) = 5.251 if a token could draw one twice. 3.63:
  // network-planning.md, 5.3.
  EXPECT_NEAR(ours.at("section 4.3: NIC copies expected, any 8 experts"), 5.2947, 0.0001);
  EXPECT_NEAR(ours.at("section 4.3: NIC copies expected, at most 4 nodes"), 3.63, 0.01);
}

// A model of other sizes has rows too, whatever the published layout divides.
TEST(Paper, OtherModelsHaveTheirStep) {
  for (const char* setting : {"model.n_routed_experts=160", "model.num_hidden_layers=9"}) {
    const auto in = paper_input({.overrides = {setting}});
    ASSERT_TRUE(in.ok()) << setting;
    EXPECT_TRUE(paper_figures(*in).ok()) << setting << ": " << paper_figures(*in).error().text;
  }
}

TEST(Paper, ARowOfOtherInputsIsNotCompared) {
  if (testing::effort() == testing::Effort::kLittle) GTEST_SKIP() << "all rows four times; the usual round runs it";
  for (const PaperFigure& f : figures()) EXPECT_TRUE(f.is_comparable) << f.ours.name;
  PaperInput in = paper_input();
  in.v3.kv_lora_rank = 256;
  size_t num_moved = 0;
  for (const PaperFigure& f : figures(in)) {
    num_moved += !f.is_comparable;
    if (f.ours.name != "KV per token, DeepSeek-V3") continue;
    EXPECT_EQ(f.ours.value, (256 + 64) * 61 * 2);
    EXPECT_EQ(f.with_published_inputs, 70272);
  }
  EXPECT_EQ(num_moved, moved([](PaperInput& i) { i.v3.kv_lora_rank = 256; }).size());
}

TEST(Paper, SwitchesOfAnyRadixAreFilledAsTheTableFillsThem) {
  if (testing::effort() == testing::Effort::kLittle) GTEST_SKIP() << "all rows many times; the usual round runs it";
  const auto value = [](int64_t radix, const char* name) {
    PaperInput in = paper_input();
    in.radix = radix;
    for (const PaperFigure& f : figures(in)) {
      if (f.ours.name == name) return f.ours.value;
    }
    return -1.0;
  };
  // Degree (3 q - d) / 2 and half as many endpoints: q = 57 needs 85 + 43 = 128 ports; 31 endpoints, 2 groups fewer.
  EXPECT_EQ(value(128, "Slim Fly switches"), 2 * 57 * 57);
  EXPECT_EQ(value(128, "Slim Fly endpoints"), 2 * 57 * 57 * 43);
  EXPECT_EQ(value(128, "Dragonfly endpoints"), (2 * 32 * 32 + 1 - 2) * 64 * 32);
  for (int64_t radix : {16, 17, 36, 1024}) {  // 36: a leaf of 18 ports has two nodes
    PaperInput in = paper_input();
    in.radix = radix;
    EXPECT_EQ(paper_figures(in).ok(), radix != 17) << radix;  // a tree has as many ports up as down
  }
  EXPECT_FALSE(paper_input({.overrides = {"fabric.radix=14"}}).ok()) << "no leaf has room for the 8 NICs of a node";
}

// The rows of the built cluster and of the testbed are those of switches of the given radix.
TEST(Paper, TheBuiltClusterFollowsItsSwitches) {
  if (testing::effort() == testing::Effort::kLittle) GTEST_SKIP() << "all rows many times; the usual round runs it";
  const auto value = [](const std::vector<std::string>& settings, const std::string& name) {
    const auto in = paper_input({.overrides = settings});
    EXPECT_TRUE(in.ok());
    for (const PaperFigure& f : figures(*in)) {
      if (f.ours.name == name) return f.ours.value;
    }
    ADD_FAILURE() << name;
    return -1.0;
  };
  // 8 planes of 256: 4 leaves of 64 endpoints and 2 spines at 128 ports, 16 and 8 at 32.
  EXPECT_EQ(value({"fabric.radix=128"}, "switches of 2,048 GPUs, MPFT"), 8 * (4 + 2));
  EXPECT_EQ(value({"fabric.radix=32"}, "switches of 2,048 GPUs, MPFT"), 8 * (16 + 8));
  EXPECT_EQ(value({"fabric.radix=128"}, "switches of 2,048 GPUs, MRFT"), 32 + 16);
  // Two layers of 32-port switches hold 512 on rails.
  EXPECT_EQ(value({"fabric.radix=32"}, "switches of 512 GPUs, MRFT"), 32 + 16);
  EXPECT_NEAR(value({"fabric.radix=32"}, "ECMP over adaptive, TP8"), 0.25, 1e-3);
  EXPECT_NEAR(value({"fabric.radix=128"}, "ECMP over adaptive, TP8"), 1.0 / 3, 1e-3);
  // A leaf of 512 endpoints holds a plane of 256 alone: one switch on the way.
  EXPECT_NEAR(value({"fabric.radix=1024"}, "64 B, InfiniBand, cross leaf"), 2.8016, 1e-9);
  // Half of the GPUs have twice the micro-batches: twice the pairs, and a step of nearly twice.
  EXPECT_NEAR(value({"training.gpus=1024"}, "time per step, from FLOPs") / value({}, "time per step, from FLOPs"), 1.9,
              0.1);
  // As few replicas as make experts spread evenly, one more a GPU in prefill; as the weights have it.
  EXPECT_EQ(value({"model.n_routed_experts=128"}, "routed experts per GPU, decode EP144"), 1);
  EXPECT_EQ(value({"model.n_routed_experts=128"}, "routed experts per GPU, prefill EP32"), 5);
  const auto odd = paper_input({.overrides = {"training.gpus=1000"}});
  ASSERT_TRUE(odd.ok());
  const auto refused = paper_figures(*odd);
  ASSERT_FALSE(refused.ok());
  EXPECT_NE(refused.error().text.find("training.gpus is 1000"), std::string::npos) << refused.error().text;
  EXPECT_NE(refused.error().text.find("works: 1024"), std::string::npos) << refused.error().text;
}

TEST(Paper, SettingsReplaceWhatWasPublished) {
  const auto in = paper_input({.overrides = {"model.kv_lora_rank=256", "fabric.planes=4", "hardware.nic_gbps=100"}});
  ASSERT_TRUE(in.ok()) << in.error().text;
  EXPECT_EQ(in->v3.kv_lora_rank, 256);
  EXPECT_EQ(in->planes, 4);
  EXPECT_EQ(in->nic_gbps, 100);
  EXPECT_EQ(in->v2.kv_lora_rank, 512);
  for (const auto& [setting, needle] : {std::pair{"model.kv_lora_rank=0", "kv_lora_rank"},
                                        {"model.n_routed_experts=250", "n_routed_experts must be a multiple"},
                                        {"model.layers=60", "model.num_hidden_layers"},
                                        {"fabric.planes=nan", "fabric.planes"},
                                        {"fabric.planes=3", "1, 2, 4 or 8"},
                                        {"fabric.planes=9", "fabric.planes"}}) {
    const auto refused = paper_input({.overrides = {setting}});
    ASSERT_FALSE(refused.ok()) << setting;
    EXPECT_NE(refused.error().text.find(needle), std::string::npos) << refused.error().text;
  }
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
