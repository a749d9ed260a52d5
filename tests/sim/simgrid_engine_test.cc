// SimGridEngine: a simulator of others says the same.
#include "sim/simgrid_engine.h"

#include <gtest/gtest.h>

#include <cstdlib>

#include "scenario_cases.h"
#include "sim/simulate.h"

namespace fathom {
namespace {

/// CI has installed it: there a library that cannot be loaded is a failure.
bool may_be_absent() { return std::getenv("FATHOM_CI") == nullptr; }

TEST(SimGridEngine, AgreesWithSimGrid) {
  auto all = scenario_cases();
  Scenario s = all_to_all(64);
  s.job.op = "dispatch";
  s.job.bytes = 7392;
  s.job.skew = 0.7;
  all.emplace_back("skewed", s);
  s.job.direct = true;
  all.emplace_back("skewed, direct", s);
  s = all_to_all(64);
  s.network.routing = "ecmp";
  s.network.radix = 8;
  all.emplace_back("ECMP", s);
  s.network.fabric = "ft3";
  s.network.gpus = 32;
  s.network.gpus_per_node = 1;
  all.emplace_back("three layers, ECMP", s);
  s = all_to_all(96);
  s.network.fabric = "slimfly";  // q = 4
  s.network.gpus_per_node = 3;
  s.network.port_gbps = 15;
  s.fail.uplinks = 2;
  all.emplace_back("links lost on a Slim Fly", s);
  s = all_to_all(40);
  s.network.fabric = "dragonfly";
  s.network.gpus_per_switch = s.network.gpus_per_node = 2;
  s.network.port_gbps = 20;
  s.fail.uplinks = 1;
  all.emplace_back("links lost on a Dragonfly", s);
  s.fail.uplinks = 0;
  s.job.op = "dispatch";
  s.job.bytes = 7392;
  s.job.experts = 40;
  s.job.skew = 0.7;
  all.emplace_back("skewed on a Dragonfly", s);
  bool is_absent = false;
  for (const auto& [name, scenario] : all) {
    const auto ours = simulate(scenario, FlowEngine::kMaxMin), theirs = simulate(scenario, FlowEngine::kSimGrid);
    ASSERT_TRUE(ours.ok()) << name << ": " << ours.error().text;
    if (!theirs && theirs.error().code == ErrorCode::kNotFound) {
      is_absent = true;
      break;
    }
    ASSERT_TRUE(theirs.ok()) << name << ": " << theirs.error().text;
    for (size_t j = 0; j < ours->jobs.size(); ++j) {
      EXPECT_NEAR(theirs->jobs[j].seconds / ours->jobs[j].seconds, 1, 1e-4) << name << " job " << j;
    }
    if (ours->jobs.size() == 1) {
      const double bound = simulate(scenario, FlowEngine::kBound)->jobs[0].seconds;
      EXPECT_LE(bound, ours->jobs[0].seconds * (1 + 1e-9)) << name;
      const bool is_hashed = scenario.network.routing == "ecmp";  // its links are not full all the time
      EXPECT_GE(bound, ours->jobs[0].seconds * (is_hashed ? 0.5 : 1 - 1e-4)) << name;
    }
  }
  if (is_absent) {
    ASSERT_TRUE(may_be_absent());
    GTEST_SKIP() << "SimGrid (libsimgrid3.32) is not installed";
  }
}

// Many flows by themselves, where weights and links differ: what SimGrid is asked for is what it answers.
TEST(SimGridEngine, SimGridTakesEachFlowByItself) {
  const auto cluster = cluster_of(all_to_all(64));
  const std::vector<Job> jobs = {*job_of(all_to_all(64).job, "job")};
  const auto each = make_traffic(*cluster, jobs, cluster->none_alike());
  const auto theirs = run_simgrid(each->network);
  if (!theirs && theirs.error().code == ErrorCode::kNotFound) {
    ASSERT_TRUE(may_be_absent()) << theirs.error().text;
    GTEST_SKIP() << theirs.error().text;
  }
  ASSERT_TRUE(theirs.ok()) << theirs.error().text;
  EXPECT_EQ(theirs->ended.size(), 64u * 63);
  EXPECT_NEAR(theirs->seconds / run_flows(each->network)->seconds, 1, 1e-4);
}

TEST(SimGridEngine, RefusesWhatItWouldRoundAway) {
  FlowNetwork n;
  n.add_class(10, 1, std::vector{n.add_link("l", 1)});
  const auto run = run_simgrid(n);
  ASSERT_FALSE(run.ok());
  EXPECT_EQ(run.error().text,
            "traffic class 0 has 10.000000 bytes; SimGrid counts whole ones: accepted are 1e4 to 9e18");
}

}  // namespace
}  // namespace fathom
