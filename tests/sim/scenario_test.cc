// Scenario: every example is read and answered, and what a file may not say.
#include "sim/scenario.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "sim/simulate.h"

namespace fathom {
namespace {

TEST(Scenario, EveryExampleIsAnswered) {
  int num_examples = 0;
  for (const auto& file : std::filesystem::directory_iterator(FATHOM_SOURCE_DIR "/examples/scenarios")) {
    const auto scenario = load_config<Scenario>({.file = file.path()});
    ASSERT_TRUE(scenario.ok()) << scenario.error().text;
    const auto answer = simulate(*scenario, FlowEngine::kAuto);
    ASSERT_TRUE(answer.ok()) << file.path() << ": " << answer.error().text;
    EXPECT_GT(answer->jobs[0].seconds, 0) << file.path();
    ++num_examples;
  }
  EXPECT_GE(num_examples, 10);
}

TEST(Scenario, RefusesUnknownKeysAndNumbersThatAreNone) {
  const auto error = [](std::vector<std::string> overrides) {
    const auto scenario = load_config<Scenario>({.overrides = std::move(overrides)});
    return scenario ? "" : scenario.error().text;
  };
  EXPECT_NE(error({"network.gpu=8"}).find("network.gpus"), std::string::npos);
  EXPECT_NE(error({"job.bytes=-1"}).find("job.bytes"), std::string::npos);
  EXPECT_NE(error({"network.nic_gbps=nan"}).find("network.nic_gbps"), std::string::npos);
  EXPECT_NE(error({"network.gpus=99999999"}).find("network.gpus"), std::string::npos);
  EXPECT_NE(error({"network.fabric=hypercube"}).find("\"mrft\""), std::string::npos);
  EXPECT_NE(error({"fail.plane=8"}).find("fail.plane"), std::string::npos);
}

}  // namespace
}  // namespace fathom
