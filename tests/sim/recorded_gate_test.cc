// RecordedGate: the form that the server writes, and what else is refused.
#include "sim/recorded_gate.h"

#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>

#include "scenario_cases.h"
#include "sim/simulate.h"

namespace fathom {
namespace {

struct File {
  explicit File(const std::string& text) { std::ofstream(path) << text; }
  ~File() { std::filesystem::remove(path); }
  const std::string path = testing::TempDir() + "/recorded_gate_test.json";
};

TEST(RecordedGate, ReadsALayer) {
  const File file(
      R"({"model": "x", "experts": [{"layer": 1, "tokens": [5, 5, 5, 5]}, {"layer": 2, "tokens": [1, 9, 0, 6]},
                      {"layer": 3, "tokens": [0, 0, 0, 0]}]})");
  EXPECT_EQ(read_gate(file.path, 1)->tokens, (std::vector<double>{5, 5, 5, 5}));
  EXPECT_EQ(read_gate(file.path, -1)->layer, 2);
  EXPECT_EQ(read_gate(file.path, 0).error().text, file.path + ": no layer 0; accepted: 1, 2, 3");
  EXPECT_EQ(read_gate(file.path, 3).error().text, file.path + ": no expert of layer 3 has a token: nothing was served");
}

TEST(RecordedGate, RefusesEverythingElse) {
  EXPECT_FALSE(read_gate(testing::TempDir() + "/absent.json", -1).ok());
  for (const auto& [text, needle] :
       {std::pair{"", "recorded_gate_test.json"},
        {"[]", "no \"experts\"; accepted: what GET /api/stats"},
        {R"({"experts": 3})", "no \"experts\""},
        {R"({"experts": []})", "\"experts\" is empty"},
        {R"({"experts": [7]})", "an entry of \"experts\" is not"},
        {R"({"experts": [{"layer": -1, "tokens": [1]}]})", "an entry of \"experts\" is not"},
        {R"({"experts": [{"layer": 1, "tokens": []}]})", "layer 1 has 0 experts"},
        {R"({"experts": [{"layer": 1, "tokens": [1, -1]}]})", "layer 1, expert 1: its tokens are -1"},
        {R"({"experts": [{"layer": 1, "tokens": [1, 1.5]}]})", "expert 1: its tokens are 1.5"},
        {R"({"experts": [{"layer": 1, "tokens": [1, "many"]}]})", "expert 1: its tokens are \"many\""},
        {R"({"experts": [{"layer": 1, "tokens": [9007199254740993]}]})", "whole numbers from 0 to 2^53"},
        {R"({"experts": [{"layer": 1, "tokens": [1]}, {"layer": 1, "tokens": [1]}]})", "layer 1 is there twice"}}) {
    const File file(text);
    const auto gate = read_gate(file.path, 1);
    ASSERT_FALSE(gate.ok()) << text;
    EXPECT_NE(gate.error().text.find(needle), std::string::npos) << gate.error().text;
    EXPECT_EQ(gate.error().text.find('\n'), std::string::npos);
  }
}

Scenario recorded(const std::string& path) {
  Scenario s;
  s.network.gpus = 32;
  s.job.op = "dispatch";
  s.job.bytes = 7392;
  s.job.experts = 32;
  s.job.top_k = 4;
  s.job.gate_file = path;
  return s;
}

double figure(const Simulation& s, const std::string& name) {
  for (const Figure& f : s.jobs[0].figures) {
    if (f.name == name) return f.value;
  }
  ADD_FAILURE() << "no figure " << name;
  return std::nan("");
}

TEST(RecordedGate, LoadsTheGpusAsRecorded) {
  std::string counts;
  for (int e = 0; e < 32; ++e) counts += (e == 0 ? "" : ", ") + std::to_string(e < 2 ? 900 : 100);
  const File file(R"({"experts": [{"layer": 4, "tokens": [)" + counts + "]}]}");
  Scenario s = recorded(file.path);
  s.job.direct = true;
  const auto answer = simulate(s, FlowEngine::kAuto);
  ASSERT_TRUE(answer.ok()) << answer.error().text;
  // 2 of 32 experts have 900 of 4,800 choices each, GPUs 0 and 1 of node 0: six times the mean.
  EXPECT_NEAR(figure(*answer, "busiest expert, recorded"), 6, 1e-9);
  EXPECT_NEAR(figure(*answer, "busiest expert, drawn"), 6, 0.2);
  EXPECT_EQ(answer->links[0].name, "NIC in of node 0, GPU 0");
  // 24 GPUs of other nodes send 4096 tokens * 0.75 copies.
  EXPECT_NEAR(answer->links[0].bytes / (24 * 4096 * 0.75 * 7392), 1, 0.03);
  // Engines agree on a recorded gate too.
  const double bound = simulate(s, FlowEngine::kBound)->jobs[0].seconds;
  EXPECT_NEAR(bound / answer->jobs[0].seconds, 1, 1e-4);
}

TEST(RecordedGate, SaysWhatDoesNotFit) {
  const auto error = [](const Scenario& s) {
    const auto answer = simulate(s, FlowEngine::kAuto);
    return answer ? "" : answer.error().text;
  };
  const File file(R"({"experts": [{"layer": 4, "tokens": [900, 1, 1, 1, 1, 1, 1, 1]}]})");
  Scenario s = recorded(file.path);
  EXPECT_EQ(error(s), "the recorded gate has 8 experts, and job.experts is 32; accepted: the same number");
  s.network.gpus = 8;
  s.job.experts = 8;
  s.job.top_k = 2;
  EXPECT_EQ(error(s).rfind("the recorded gate's expert 0 has 900 of 907 choices, more than every token's one of 2", 0),
            0u);
  s.job.skew = 1;
  EXPECT_EQ(error(s).rfind("job.gate_file and job.skew", 0), 0u);
  s.job.skew = 0;
  s.job.op = "all-to-all";
  EXPECT_EQ(error(s).rfind("job.gate_file is given for job.op = \"all-to-all\"", 0), 0u);
}

}  // namespace
}  // namespace fathom
