// UnusedSettings: every section that is not asked for is refused with what asks for it.
#include "plan/unused_settings.h"

#include <gtest/gtest.h>

namespace fathom {
namespace {

std::string refusal(std::vector<std::string> given, const Asked& asked = {.has_model = true}) {
  const auto settings = load_config<PlanSettings>({.overrides = given});
  EXPECT_TRUE(settings.ok()) << settings.error().text;
  const auto used = check_used(*settings, given, asked);
  return used ? "" : used.error().text;
}

constexpr Asked kNoModel{}, kThisMachine{.has_model = true, .is_this_machine = true};

TEST(UnusedSettings, ASectionThatIsNotAskedForIsRefused) {
  const std::string nothing = " changes nothing that was asked: it needs ";
  EXPECT_EQ(refusal({"serving.batch=64"}), "serving.batch" + nothing + "serving.gpus or --search serving");
  EXPECT_EQ(refusal({"serving.batch=64", "search.kind=training"}),
            "serving.batch" + nothing + "serving.gpus or --search serving");
  EXPECT_EQ(refusal({"training.mfu=0.4"}), "training.mfu" + nothing + "training.pipeline or --search training");
  EXPECT_EQ(refusal({"search.batch=8"}), "search.batch" + nothing + "--search training or --search serving");
  EXPECT_EQ(refusal({"fabric.planes=4"}), "fabric.planes" + nothing + "fabric.kind, as mpft");
  EXPECT_EQ(refusal({"failures.gpus=8"}), "failures.gpus" + nothing + "failures.gpu_mtbf_h");
  EXPECT_EQ(refusal({"energy.pue=1.3", "serving.gpus=8"}),
            "energy.pue" + nothing + "training.pipeline, --search training or --search serving");
  EXPECT_EQ(refusal({"hardware.nic_gbps=100"}, kNoModel), "hardware.nic_gbps" + nothing + "a MODEL");
}

TEST(UnusedSettings, WhatAnAnswerReadsIsAccepted) {
  for (const auto& given :
       std::vector<std::vector<std::string>>{{"serving.batch=64", "serving.gpus=8"},
                                             {"serving.kv=fp8", "search.kind=serving"},
                                             {"training.mfu=0.4", "training.pipeline=2"},
                                             {"training.tokens=1e12", "search.kind=training", "energy.pue=1.3"},
                                             {"energy.pue=1.3", "search.kind=serving", "search.qps=9"},
                                             {"fabric.planes=4", "fabric.kind=mpft"},
                                             {"failures.gpus=8", "failures.gpu_mtbf_h=1e5"},
                                             {"serving.context=8192"},
                                             {"training.sequence_tokens=8192"},
                                             {"hardware.nic_gbps=100"}}) {
    EXPECT_EQ(refusal(given), "") << given[0];
  }
  EXPECT_NE(refusal({"serving.context=8192"}, kNoModel), "");
}

TEST(UnusedSettings, ANetworkHasNoUseForAnothersSettings) {
  const std::string nothing = " changes nothing that was asked: it needs fabric.kind ";
  for (const char* kind : {"ft2", "ft3", "mpft", "mrft", "dragonfly", "slimfly"}) {
    const std::string set = "fabric.kind=" + std::string(kind), is = "; it is " + std::string(kind);
    const bool has_planes = std::string_view(kind) == "mpft" || std::string_view(kind) == "mrft";
    EXPECT_EQ(refusal({set, "fabric.planes=4"}), has_planes ? "" : "fabric.planes" + nothing + "mpft or mrft" + is);
    EXPECT_EQ(refusal({set, "fabric.planes=4"}, {.has_report = true}), "") << "a report draws them all";
    EXPECT_EQ(refusal({set, "fabric.q=27"}),
              kind == std::string_view("slimfly") ? "" : "fabric.q" + nothing + "slimfly" + is);
    EXPECT_EQ(refusal({set, "fabric.groups=9"}),
              kind == std::string_view("dragonfly") ? "" : "fabric.groups" + nothing + "dragonfly" + is);
  }
  // As it is from a file, where defaults may be written down.
  PlanSettings file;
  file.fabric.kind = "mpft";
  EXPECT_TRUE(check_used(file, {}, {}).ok());
  file.fabric.q = 27;
  EXPECT_EQ(check_used(file, {}, {}).error().text, "fabric.q" + nothing + "slimfly; it is mpft");
}

TEST(UnusedSettings, WhatAFigureNeedsBesideIsNamed) {
  const std::string nothing = " changes nothing that was asked: it needs ";
  const std::string layout = "training.pipeline=16";
  EXPECT_EQ(refusal({"training.tokens=1e12", layout}), "training.tokens" + nothing + "training.mfu");
  EXPECT_EQ(refusal({"training.gpu_hour_dollars=2", layout}),
            "training.gpu_hour_dollars" + nothing + "training.mfu and training.tokens");
  EXPECT_EQ(refusal({"training.gpu_hour_dollars=2", layout, "training.mfu=0.4"}),
            "training.gpu_hour_dollars" + nothing + "training.tokens");
  EXPECT_EQ(refusal({"training.gpu_hour_dollars=2", layout, "training.mfu=0.4", "training.tokens=1e12"}), "");
  EXPECT_EQ(refusal({"training.mfu=0.4", layout}, kNoModel),
            "training.mfu" + nothing + "a MODEL: of a pipeline alone its schedule is timed");
  EXPECT_EQ(refusal({"training.hop=0.1", layout}, kNoModel), "");
  EXPECT_EQ(refusal({"energy.pue=1.3", layout, "training.mfu=0.4"}), "energy.pue" + nothing + "training.tokens");
  EXPECT_EQ(refusal({"energy.kg_per_kwh=0.4", layout, "training.mfu=0.4", "training.tokens=1"}),
            "energy.kg_per_kwh" + nothing + "energy.pue");
  EXPECT_EQ(refusal({"energy.pue=1.3", "search.kind=serving"}), "energy.pue" + nothing + "search.qps");
  EXPECT_EQ(refusal({"training.tokens=1e12", "search.kind=training"}),
            "training.tokens" + nothing + "energy.pue, for the energy of the run");
  EXPECT_EQ(refusal({"search.max_ttft_ms=900", "search.kind=serving", "search.isl=4000"}),
            "search.max_ttft_ms" + nothing + "search.utilisation");
}

// A search tries layouts itself: one that was given would be ignored. A what-if answers both.
TEST(UnusedSettings, ASearchHasNoUseForALayout) {
  for (const char* key : {"training.pipeline=16", "training.data=128", "training.schedule=dualpipe",
                          "training.stage_scale=1,2", "training.mfu=0.4"}) {
    EXPECT_NE(refusal({key, "search.kind=training"}).find("needs no --search training"), std::string::npos) << key;
  }
  for (const char* key : {"serving.gpus=144", "serving.batch=64", "serving.redundant_experts=32"}) {
    EXPECT_NE(refusal({key, "search.kind=serving"}).find("needs no --search serving"), std::string::npos) << key;
  }
  EXPECT_EQ(refusal({"serving.gpus=144", "search.kind=serving"}, {.has_model = true, .has_what_if = true}), "");
  EXPECT_NE(refusal({"serving.context=9", "search.kind=serving", "search.isl=4000"}), "");
  EXPECT_EQ(refusal({"serving.context=9", "search.kind=serving"}), "");
  EXPECT_NE(refusal({"search.batch=64", "search.kind=serving"}).find("--search training"), std::string::npos);
  EXPECT_NE(refusal({"search.qps=64", "search.kind=training"}).find("--search serving"), std::string::npos);
}

TEST(UnusedSettings, ThisMachineHasASectionOfItsOwn) {
  EXPECT_EQ(refusal({"machine.quant=int4"}, kThisMachine), "");
  EXPECT_EQ(refusal({"machine.quant=int4"}).rfind("the settings of machine are about the machine at hand", 0), 0u);
  EXPECT_EQ(refusal({"serving.batch=2", "serving.gpus=8"}, kThisMachine).rfind("serving.batch: --hardware this", 0),
            0u);
  // From a file too.
  PlanSettings file;
  file.machine.context = 4096;
  EXPECT_FALSE(check_used(file, {}, {.has_model = true}).ok());
  EXPECT_TRUE(check_used(file, {}, kThisMachine).ok());
}

}  // namespace
}  // namespace fathom
