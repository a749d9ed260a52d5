// Scenario: every example is read and answered, and what a file may not say.
#include "sim/scenario.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <regex>
#include <sstream>

#include "../effort.h"
#include "sim/simulate.h"

namespace fathom {
namespace {

std::vector<Path> examples() {
  std::vector<Path> files;
  for (const auto& file : std::filesystem::directory_iterator(FATHOM_SOURCE_DIR "/examples/scenarios")) {
    files.push_back(file.path());
  }
  std::sort(files.begin(), files.end());
  return files;
}

// Where everything is slow, what takes seconds elsewhere: 15 million rates.
bool is_left_out(const Path& example) {
  return testing::effort() == testing::Effort::kLittle && example.filename() == "window-ecmp.toml";
}

// The definition of a limit. Of several windows there is no one link.
TEST(Scenario, FasterIsTheNamedLinkAndNoOther) {
  if (testing::effort() == testing::Effort::kLittle)
    GTEST_SKIP() << "every example four times; the usual round runs it";
  int num_links = 0;
  for (const Path& file : examples()) {
    if (is_left_out(file)) continue;
    const auto scenario = load_config<Scenario>({.file = file});
    ASSERT_TRUE(scenario.ok()) << scenario.error().text;
    const auto answer = simulate(*scenario, FlowEngine::kAuto);
    ASSERT_TRUE(answer.ok()) << file << ": " << answer.error().text;
    for (double Scenario::NetworkSettings::*rate :
         {&Scenario::NetworkSettings::nic_gbps, &Scenario::NetworkSettings::nvlink_gbps,
          &Scenario::NetworkSettings::port_gbps}) {
      const char* kind = rate == &Scenario::NetworkSettings::nic_gbps      ? "NIC "
                         : rate == &Scenario::NetworkSettings::nvlink_gbps ? "NVLink "
                                                                           : "";
      Scenario doubled = *scenario;
      doubled.network.*rate *= 2;
      const auto faster = simulate(doubled, FlowEngine::kAuto);
      ASSERT_TRUE(faster.ok()) << file << ": " << faster.error().text;
      for (size_t j = 0; j < answer->jobs.size(); ++j) {
        const std::string& limit = answer->jobs[j].limit.resource;
        if (limit == "window" || limit == "latency" || limit == "software") continue;
        const bool is_other = limit.rfind("NIC ", 0) != 0 && limit.rfind("NVLink ", 0) != 0;
        const bool is_named = *kind == 0 ? is_other : limit.rfind(kind, 0) == 0;
        const double ratio = faster->jobs[j].link_seconds / answer->jobs[j].link_seconds;
        if (is_named) {
          EXPECT_LT(ratio, 0.99) << file << " " << answer->jobs[j].name << ": " << limit;
          ++num_links;
        } else {
          EXPECT_NEAR(ratio, 1, 1e-6) << file << " " << answer->jobs[j].name << ": " << limit << ", doubled "
                                      << (*kind == 0 ? "ports" : kind);
        }
      }
    }
  }
  EXPECT_GE(num_links, 15);
}

// A line of a file's head: what figure of the first job, or of failures, has what value, if need be with other
// settings.
struct KnownAnswer {
  std::string figure, unit;
  double value = 0, tolerance = 0;
  std::vector<std::string> overrides;
};
std::vector<KnownAnswer> known_answers(const std::string& text) {
  static const std::regex form(
      R"(# Known answer: ([a-z ]+) = (-?[0-9.]+)(?: ([^ ]+))? \(tolerance ([0-9.]+) %\)(?: with((?: --set [^ ]+)+))?)");
  static const std::regex set("--set ([^ ]+)");
  std::vector<KnownAnswer> all;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    if (line.find("nown answer") == std::string::npos) continue;
    std::smatch m;
    if (!std::regex_match(line, m, form)) {
      ADD_FAILURE() << "not the form of a known answer: " << line;
      continue;
    }
    KnownAnswer known{m[1], m[3], std::stod(m[2]), std::stod(m[4]) / 100, {}};
    const std::string sets = m[5];
    for (std::sregex_iterator at(sets.begin(), sets.end(), set), end; at != end; ++at)
      known.overrides.push_back((*at)[1]);
    all.push_back(std::move(known));
  }
  return all;
}

TEST(Scenario, EveryExampleHasItsKnownAnswer) {
  int num_examples = 0;
  for (const Path& file : examples()) {
    if (is_left_out(file)) continue;
    const auto text = read_file(file, 1 << 20);
    ASSERT_TRUE(text.ok()) << file;
    const auto all = known_answers(*text);
    EXPECT_FALSE(all.empty()) << file;
    for (const KnownAnswer& known : all) {
      EXPECT_LE(known.tolerance, 0.06) << file;
      const auto scenario = load_config<Scenario>({.file = file, .overrides = known.overrides});
      ASSERT_TRUE(scenario.ok()) << scenario.error().text;
      const auto answer = simulate(*scenario, FlowEngine::kAuto);
      ASSERT_TRUE(answer.ok()) << file << ": " << answer.error().text;
      std::vector<Figure> figures = answer->jobs[0].figures;
      figures.insert(figures.end(), answer->failures.begin(), answer->failures.end());
      const auto at =
          std::find_if(figures.begin(), figures.end(), [&](const Figure& f) { return f.name == known.figure; });
      ASSERT_NE(at, figures.end()) << file << ": " << known.figure;
      EXPECT_EQ(at->unit, known.unit) << file << ": " << known.figure;
      EXPECT_NEAR(at->value, known.value, std::abs(known.value) * known.tolerance)
          << file << ": " << known.figure << (known.overrides.empty() ? "" : " with " + known.overrides[0]);
    }
    ++num_examples;
  }
  EXPECT_GE(num_examples, 20);
}

// What a setting says of itself is what the guide says, with its default.
TEST(Scenario, TheGuideListsEverySetting) {
  const auto guide = read_file(FATHOM_SOURCE_DIR "/docs/guide-simulate.md", 1 << 20);
  ASSERT_TRUE(guide.ok());
  int num_keys = 0;
  for (const ConfigKey& key : list_config_keys<Scenario>()) {
    if (key.key.starts_with("also")) continue;  // as job
    std::string value = key.default_value;
    if (value.ends_with(".0")) value.resize(value.size() - 2);
    const std::string row =
        "| `" + key.key + "` | " + (value == "\"\"" ? "" : "`" + value + "`") + " | " + key.help + " |\n";
    EXPECT_NE(guide->find(row), std::string::npos) << row;
    ++num_keys;
  }
  EXPECT_GE(num_keys, 40);
}

TEST(Scenario, WhatIsPrintedReadsBackAndHasTheJobsThatThereAre) {
  const auto scenario = load_config<Scenario>(
      {.overrides = {"network.gpus=64", "job.op=send", "job.bytes=5", "also2.op=send", "also2.bytes=7"}});
  ASSERT_TRUE(scenario.ok());
  const std::string text = scenario_toml(*scenario);
  EXPECT_NE(text.find("[also2]\nop = \"send\"\nbytes = 7.0\n"), std::string::npos) << text;
  EXPECT_EQ(text.find("[also]"), std::string::npos);
  EXPECT_EQ(text.find("[also3]"), std::string::npos);
  const Path path = ::testing::TempDir() + "scenario_printed.toml";
  ASSERT_TRUE(write_file(path, text).ok());
  const auto again = load_config<Scenario>({.file = path});
  ASSERT_TRUE(again.ok()) << again.error().text;
  EXPECT_EQ(to_toml(*again), to_toml(*scenario));
  std::filesystem::remove(path);
}

// What an answer would not depend on is a mistake of whoever set it.
TEST(Scenario, RefusesSettingsThatChangeNothing) {
  const auto answer = [](const Path& file, std::vector<std::string> overrides) {
    const auto scenario = load_config<Scenario>(
        {.file = FATHOM_SOURCE_DIR "/examples/scenarios" / file, .overrides = std::move(overrides)});
    return scenario ? simulate(*scenario, FlowEngine::kAuto) : Result<Simulation>(scenario.error());
  };
  const auto error = [&](const Path& file, const std::string& setting) {
    const auto refused = answer(file, {setting});
    return refused ? "" : refused.error().text;
  };
  const Path all = "all-to-all-128.toml";
  EXPECT_EQ(error(all, "job.skew=0.7"),
            "job.skew is given for job.op = \"all-to-all\"; accepted: with dispatch and combine");
  for (const char* setting : {"job.top_k=4", "job.experts=64", "job.max_nodes=2", "job.tokens=128", "job.seed=2",
                              "job.direct=true", "job.ring_gpus=4", "job.ring_stride=2", "job.from=1", "job.to=2"}) {
    const std::string key = std::string(setting).substr(0, std::string(setting).find('='));
    EXPECT_EQ(error(all, setting).rfind(key + " is given for job.op = \"all-to-all\"; accepted: with ", 0), 0u)
        << setting;
  }
  EXPECT_EQ(error("small-message.toml", "job.ranks=64"),
            "job.ranks is given for job.op = \"send\"; accepted: with all but send");
  EXPECT_EQ(error("dispatch-64.toml", "job.gate_layer=3"),
            "job.gate_layer is given for job.op = \"dispatch\"; accepted: with a gate_file");
  EXPECT_EQ(error(all, "network.slim_fly_q=5"),
            "network.slim_fly_q is given for network.fabric = \"mpft\"; accepted: with slimfly");
  EXPECT_EQ(error("slim-fly-27.toml", "network.dragonfly_groups=3"),
            "network.dragonfly_groups is given for network.fabric = \"slimfly\"; accepted: with dragonfly");
  EXPECT_EQ(error(all, "network.gpus_per_switch=4"),
            "network.gpus_per_switch is given for network.fabric = \"mpft\"; accepted: with slimfly and dragonfly");
  // One that a sweep over failures has at its healthy point is noted.
  const auto noted = answer(all, {"fail.spread=false"}), broken = answer(all, {"fail.spread=false", "fail.nic=0"});
  ASSERT_TRUE(noted.ok() && broken.ok());
  ASSERT_EQ(noted->notes.size(), 1u);
  EXPECT_EQ(noted->notes[0].rfind("fail.spread = false changes nothing", 0), 0u);
  EXPECT_TRUE(broken->notes.empty());
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
