// WhatIf: each named change moves the figures that depend on it and no others.
#include "plan/what_if.h"

#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <string_view>

#include "../effort.h"
#include "plan/decode.h"
#include "plan/paper.h"

namespace fathom {
namespace {

PlanCase v3_case() {
  PlanCase c;
  c.model = paper_input().v3;
  c.hardware = *find_hardware("h800");
  c.settings.serving.gpus = 144;
  c.settings.serving.redundant_experts = 32;
  c.settings.serving.batch = 64;
  c.settings.fabric.kind = "mpft";
  c.settings.fabric.endpoints = 2048;
  return c;
}

// Each is asked for once: several tests look at the same one.
const std::map<std::string, ChangedFigure>& moved(std::string_view name) {
  static std::map<std::string_view, std::map<std::string, ChangedFigure>> all;
  const auto [at, is_new] = all.try_emplace(name);
  if (!is_new) return at->second;
  const PlanCase before = v3_case();
  static const auto figures_before = answer(before);
  const auto after = changed(name, before);
  EXPECT_TRUE(after.ok()) << name;
  for (const ChangedFigure& f : compare(*figures_before, *answer(*after))) {
    at->second[(f.after ? *f.after : *f.before).name] = f;
  }
  return at->second;
}

TEST(WhatIf, EveryNameMovesSomething) {
  if (testing::effort() == testing::Effort::kLittle) GTEST_SKIP() << "a plan for each name; the usual round runs it";
  ASSERT_GE(what_ifs().size(), 13u);
  for (const WhatIf& w : what_ifs()) {
    EXPECT_FALSE(moved(w.name).empty()) << w.name;
    EXPECT_NE(std::string(w.source), "") << w.name;
  }
}

TEST(WhatIf, LinksMoveTheNetworkAlone) {
  auto nic = moved("nic-800g");
  EXPECT_NEAR(*nic.at("step bound by network").ratio(), 0.5, 1e-12);
  EXPECT_FALSE(nic.contains("step bound by memory"));
  EXPECT_FALSE(nic.contains("KV cache per token"));
  auto nvl = moved("nvl72");
  // 720 instead of 40 GB/s; 4 instead of 2 experts a GPU.
  EXPECT_NEAR(*nvl.at("step bound by network").ratio(), 40.0 / 720 * (71 / 72.0) / (17 / 18.0), 1e-12);
  EXPECT_GT(*nvl.at("weights per GPU").ratio(), 1);
  // What it changes besides the links is said.
  PlanCase many = v3_case();
  many.settings.serving.redundant_experts = 176;
  const auto after = changed("nvl72", many);
  ASSERT_TRUE(after);
  EXPECT_EQ(after->settings.serving.redundant_experts, 32);
  for (const WhatIf& w : what_ifs()) {
    if (std::string_view(w.name) != "nvl72") continue;
    EXPECT_NE(std::string_view(w.change).find("serving.gpus"), std::string_view::npos);
    EXPECT_NE(std::string_view(w.change).find("serving.redundant_experts"), std::string_view::npos);
  }
}

TEST(WhatIf, FormatsMoveWhatTheyStore) {
  EXPECT_NEAR(*moved("fp8-kv").at("KV cache per token as served").ratio(), 656.0 / 1152, 1e-12);
  EXPECT_FALSE(moved("fp8-kv").contains("step bound by network"));
  EXPECT_LT(*moved("fp4-weights").at("weights per GPU").ratio(), 0.7);
  // The same format; a GPU that encodes takes half as long again for the transfer, a NIC nothing.
  EXPECT_NEAR(*moved("logfmt-combine").at("step bound by network").ratio(),
              (1 + 1 / 32.0 + 1.5 * 9184.0 / 7168) / (3 + 1 / 32.0), 1e-12);
  EXPECT_NEAR(*moved("logfmt-nic").at("step bound by network").ratio(), (1 + 1 / 32.0 + 9184.0 / 7168) / (3 + 1 / 32.0),
              1e-12);
  EXPECT_LT(moved("logfmt-nic").at("TPOT at least").after->value,
            moved("logfmt-combine").at("TPOT at least").after->value);
  // At 100 %, the other end of what was measured, it does not pay: why the service keeps BF16 (section 3.2).
  PlanCase slow = v3_case();
  slow.settings.serving.combine = "logfmt10";
  slow.settings.serving.codec_overhead = 1;
  EXPECT_GT(decode_step(CountedModel(*slow.model), slow.hardware, slow.settings.serving)->network_ms,
            decode_step(CountedModel(*slow.model), slow.hardware, v3_case().settings.serving)->network_ms);
  // What is received bounds: experts that share a GPU are all that multicast saves.
  EXPECT_GT(*moved("in-network").at("step bound by network").ratio(), 0.85);
  // Formats move the estimate with latencies as well, whatever the NIC.
  for (const char* name : {"logfmt-combine", "in-network", "mtp", "nic-800g"}) {
    EXPECT_TRUE(moved(name).contains("the same with DeepEP's latencies")) << name;
    EXPECT_TRUE(moved(name).at("the same with DeepEP's latencies").after) << name;
  }
  EXPECT_NEAR(*moved("linear-hybrid").at("KV cache per token as served").ratio(), 16.0 / 61, 1e-12);
  // A draft doubles the positions of a step: with the network as the limit it does not pay.
  EXPECT_GT(*moved("mtp").at("TPOT at least").ratio(), 1);
}

TEST(WhatIf, FabricsOfOtherSwitchesAndPlanes) {
  EXPECT_EQ(moved("roce-128").at("endpoints at most").after->value, 8 * 128 * 128 / 2);
  EXPECT_EQ(moved("planes-4").at("endpoints at most").after->value, 8192);
  EXPECT_FALSE(moved("roce-128").contains("TPOT at least"));
}

TEST(WhatIf, APoolInTheHostAddsAFigure) {
  const ChangedFigure pool = moved("host-kv").at("a sequence back from the host's pool");
  EXPECT_FALSE(pool.before);
  EXPECT_FALSE(pool.ratio());
  EXPECT_NEAR(pool.after->value, 4096 * 70272 / 63e6, 1e-9);
}

// The pool holds more sequences; those that HBM has no room for are read over the link in every step, and a prompt that
// it has is read instead of computed.
TEST(WhatIf, APoolInTheHostMovesWhatDependsOnIt) {
  for (const auto& [name, gbps, gb] : {std::tuple{"host-kv", 63.0, 256.0}, {"cpu-nvlink", 450.0, 480.0}}) {
    const auto by = moved(name);
    const double sequence = 4096.0 * 70272, in_pool = std::floor(gb * 1e9 / sequence);
    const ChangedFigure& fit = by.at("sequences that fit");
    // Buffers of more sequences take room from those in HBM.
    EXPECT_GT(fit.after->value, fit.before->value + in_pool - 60) << name;
    EXPECT_LT(fit.after->value, fit.before->value + in_pool) << name;
    EXPECT_GE(by.at("of them in the host's pool").after->value, in_pool - 1) << name;
    EXPECT_NEAR(by.at("a sequence back from the host's pool").after->value, sequence / gbps / 1e6, 1e-9) << name;
    EXPECT_GT(by.at("first token sooner by").after->value, 10) << name;
    // All of them at once: the link is the limit, and takes at least the time of its bytes.
    const ChangedFigure& tpot = by.at("TPOT of so many at least");
    EXPECT_GE(tpot.after->value, (in_pool - 1) * sequence / gbps / 1e6) << name;
    EXPECT_NE(tpot.after->formula.find("host link"), std::string::npos) << name;
    EXPECT_LT(*by.at("tokens per second and GPU of so many").ratio(), 1) << name;
    EXPECT_FALSE(by.contains("TPOT at least")) << name << ": 64 sequences fit into HBM";
  }
  PlanCase priced = v3_case();
  priced.settings.serving.gpu_hour_dollars = 2;
  bool has_price = false;
  for (const ChangedFigure& f : compare(*answer(priced), *answer(*changed("cpu-nvlink", priced)))) {
    has_price |= f.before && f.after && f.after->name == "price per million tokens of so many";
  }
  EXPECT_TRUE(has_price);
  // Over PCIe the NIC's bytes cross the same link, over NVLink-C2C they do not.
  EXPECT_TRUE(moved("host-kv").contains("step bound by the host's link"));
  EXPECT_FALSE(moved("cpu-nvlink").contains("step bound by the host's link"));
  // With more sequences than HBM holds the step itself waits for the link.
  PlanCase many = v3_case();
  many.settings.serving.batch = 300;
  EXPECT_FALSE(answer(many).ok());
  const auto pooled = changed("cpu-nvlink", many);
  const auto step = decode_step(CountedModel(*many.model), many.hardware, pooled->settings.serving);
  ASSERT_TRUE(step.ok());
  EXPECT_TRUE(step->holds(300));
  EXPECT_EQ(step->host_sequences, 300 - step->resident());
  EXPECT_NEAR(step->host_ms, step->host_sequences * step->sequence_bytes / 450e6, 1e-9);
  EXPECT_NEAR(step->memory_ms, (step->read_bytes + step->resident() * step->sequence_bytes) / 3350e6, 1e-9);
}

TEST(WhatIf, UnknownAndImpossibleChanges) {
  const auto unknown = changed("nic", v3_case());
  EXPECT_EQ(unknown.error().text.rfind("--what-if \"nic\" is unknown; known: nic-800g, nvl72, ", 0), 0u);
  PlanCase fast = v3_case();
  ASSERT_TRUE(fast.hardware.set("nic_gbps", 100).ok());
  EXPECT_EQ(changed("nic-800g", fast).error().text, "--what-if nic-800g: the NIC has 100 GB/s already");
  PlanCase nothing;
  EXPECT_EQ(answer(nothing).error().text.rfind("nothing to plan", 0), 0u);
  nothing.settings.search.kind = "training";
  EXPECT_EQ(answer(nothing).error().text.rfind("MODEL is missing", 0), 0u);
}

// What a config or a fabric says moves every figure that follows from it: the widths of the cache, layers, planes,
// radix, the NIC.
TEST(WhatIf, InputsMoveEveryDependentFigure) {
  const auto names = [](const PlanCase& after) {
    std::map<std::string, double> out;
    for (const ChangedFigure& f : compare(*answer(v3_case()), *answer(after))) {
      out[(f.after ? *f.after : *f.before).name] = f.ratio().value_or(0);
    }
    return out;
  };
  PlanCase latent = v3_case();
  latent.model->kv_lora_rank = 256;
  const auto by_latent = names(latent);
  EXPECT_NEAR(by_latent.at("KV cache per token"), 320.0 / 576, 1e-12);
  for (const char* name : {"parameters", "FLOPs per generated token", "weights per GPU", "sequences that fit",
                           "step bound by memory", "step bound by compute"}) {
    EXPECT_TRUE(by_latent.contains(name)) << name;
  }
  EXPECT_FALSE(by_latent.contains("step bound by network"));
  PlanCase layers = v3_case();
  layers.model->num_hidden_layers = 32;
  const auto by_layers = names(layers);
  EXPECT_NEAR(by_layers.at("KV cache per token"), 32.0 / 61, 1e-12);
  EXPECT_NEAR(by_layers.at("step bound by network"), 29.0 / 58, 1e-12);
  EXPECT_TRUE(by_layers.contains("training FLOPs per token, causal"));
  PlanCase radix = v3_case();
  radix.settings.fabric.radix = 32;
  const auto by_radix = names(radix);
  EXPECT_EQ(by_radix.at("endpoints at most"), 0.25);
  EXPECT_EQ(by_radix.at("switches"), 2);
  EXPECT_TRUE(by_radix.contains("price"));
  EXPECT_FALSE(by_radix.contains("TPOT at least"));
}

}  // namespace
}  // namespace fathom
