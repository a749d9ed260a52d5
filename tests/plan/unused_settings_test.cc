// UnusedSettings: every section that is not asked for is refused with what asks for it.
#include "plan/unused_settings.h"

#include <gtest/gtest.h>

namespace fathom {
namespace {

std::string refusal(std::vector<std::string> given, bool has_model = true, bool is_this_machine = false) {
  const auto settings = load_config<PlanSettings>({.overrides = given});
  EXPECT_TRUE(settings.ok()) << settings.error().text;
  const auto used = check_used(*settings, given, has_model, is_this_machine);
  return used ? "" : used.error().text;
}

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
  EXPECT_EQ(refusal({"hardware.nic_gbps=100"}, false), "hardware.nic_gbps" + nothing + "a MODEL");
}

TEST(UnusedSettings, WhatAnAnswerReadsIsAccepted) {
  for (const auto& given : std::vector<std::vector<std::string>>{{"serving.batch=64", "serving.gpus=8"},
                                                                 {"serving.kv=fp8", "search.kind=serving"},
                                                                 {"training.mfu=0.4", "training.pipeline=2"},
                                                                 {"training.tokens=1e12", "search.kind=training"},
                                                                 {"energy.pue=1.3", "search.kind=serving"},
                                                                 {"fabric.planes=4", "fabric.kind=mpft"},
                                                                 {"failures.gpus=8", "failures.gpu_mtbf_h=1e5"},
                                                                 {"serving.context=8192"},
                                                                 {"training.sequence_tokens=8192"},
                                                                 {"hardware.nic_gbps=100"}}) {
    EXPECT_EQ(refusal(given), "") << given[0];
  }
  EXPECT_NE(refusal({"serving.context=8192"}, false), "");
}

TEST(UnusedSettings, ThisMachineHasASectionOfItsOwn) {
  EXPECT_EQ(refusal({"machine.quant=int4"}, true, true), "");
  EXPECT_EQ(refusal({"machine.quant=int4"}).rfind("the settings of machine are about the machine at hand", 0), 0u);
  EXPECT_EQ(refusal({"serving.batch=2", "serving.gpus=8"}, true, true).rfind("serving.batch: --hardware this", 0), 0u);
  // From a file too.
  PlanSettings file;
  file.machine.context = 4096;
  EXPECT_FALSE(check_used(file, {}, true, false).ok());
  EXPECT_TRUE(check_used(file, {}, true, true).ok());
}

}  // namespace
}  // namespace fathom
