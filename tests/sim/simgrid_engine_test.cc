// SimGridEngine: a simulator of others says the same.
#include "sim/simgrid_engine.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <string>

#include "../effort.h"
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
  s = all_to_all(72);
  s.network.fabric = "dragonfly";
  s.network.gpus_per_switch = s.network.gpus_per_node = 2;
  s.network.port_gbps = 30;
  s.network.routing = "valiant";
  all.emplace_back("Valiant on a Dragonfly", s);
  s = all_to_all(54);
  s.network.fabric = "slimfly";  // q = 3
  s.network.gpus_per_node = 3;
  s.network.port_gbps = 20;
  s.network.routing = "valiant";
  s.job.op = "dispatch";
  s.job.bytes = 7392;
  s.job.experts = 54;
  s.job.skew = 0.7;
  all.emplace_back("Valiant, skewed, on a Slim Fly", s);
  bool is_absent = false;
  const size_t step = testing::effort() == testing::Effort::kLittle ? 4 : 1;
  for (size_t i = 0; i < all.size(); i += step) {
    const auto& [name, scenario] = all[i];
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

// No two flows merged, 256 GPUs, and three jobs on 64: each flow ends when SimGrid says, and classes and the bound
// agree with them.
TEST(SimGridEngine, EveryFlowByItselfAgrees) {
  struct Case {
    std::string name;
    testing::Effort from;  // the least at which it runs
    Scenario scenario;
  };
  using enum testing::Effort;
  Scenario s = all_to_all(256);
  std::vector<Case> cases = {{"uniform", kUsual, s}};
  s.fail.nic = 5;
  cases.push_back({"NIC lost", kGreat, s});
  s = all_to_all(256);
  s.network.radix = 8;
  s.network.port_gbps = 30;
  s.fail.uplinks = 3;
  cases.push_back({"uplinks lost", kUsual, s});
  s = all_to_all(256);
  s.job.op = "dispatch";
  s.job.bytes = 7392;
  s.job.skew = 0.7;
  cases.push_back({"skewed", kLittle, s});
  s.job.direct = true;
  cases.push_back({"skewed, direct", kGreat, s});
  s.job.direct = false;
  s.job.skew = 0;
  s.also[0].op = "all-gather";
  s.also[0].bytes = 1e9;
  s.job.weight = 3;
  cases.push_back({"overlapping", kLittle, s});
  s.job.skew = 0.7;
  s.also[0].ranks = 64;
  cases.push_back({"overlapping, skewed", kLittle, s});
  cases.push_back({"three jobs", kLittle, three_jobs()});
  for (const auto& [name, from, scenario] : cases) {
    if (testing::effort() < from) continue;
    const std::vector<Job> jobs = jobs_in(scenario);
    const auto cluster = cluster_of(scenario);
    const auto each = make_traffic(*cluster, jobs, cluster->none_alike());
    ASSERT_TRUE(each.ok()) << name;
    const auto theirs = run_simgrid(each->network);
    if (!theirs && theirs.error().code == ErrorCode::kNotFound) {
      ASSERT_TRUE(may_be_absent()) << theirs.error().text;
      GTEST_SKIP() << theirs.error().text;
    }
    ASSERT_TRUE(theirs.ok()) << name << ": " << theirs.error().text;
    const auto ours = run_flows(each->network);
    ASSERT_TRUE(ours.ok()) << name;
    std::vector<double> last(jobs.size(), 0);
    for (size_t f = 0; f < ours->ended.size(); ++f) {
      ASSERT_NEAR(theirs->ended[f] / ours->ended[f], 1, 1e-4) << name << " flow " << f;
      double& end = last[static_cast<size_t>(each->job[f])];
      end = std::max(end, ours->ended[f]);
    }
    const auto classes = simulate(scenario, FlowEngine::kMaxMin);
    ASSERT_TRUE(classes.ok()) << name;
    for (size_t j = 0; j < jobs.size(); ++j) {
      EXPECT_NEAR(classes->jobs[j].seconds / last[j], 1, 1e-6) << name << " job " << j;
    }
    const double bound = flow_bound(each->network)->seconds;
    EXPECT_LE(bound, ours->seconds * (1 + 1e-9)) << name;
    if (jobs.size() > 1) continue;  // jobs that end at different times may leave the fullest link idle
    EXPECT_NEAR(bound / ours->seconds, 1, 1e-4) << name;
    EXPECT_NEAR(simulate(scenario, FlowEngine::kBound)->jobs[0].seconds / bound, 1, 1e-9) << name;
  }
}

// Bytes are whole there: a message of 64 of them and one of 1e15 are multiplied, not rounded.
TEST(SimGridEngine, SmallMessagesAreNotRounded) {
  FlowNetwork n;
  const int link = n.add_link("l", 50), other = n.add_link("m", 1e5);
  n.add_class(64.25, 1, std::vector{link});
  n.add_class(1e-3, 3, std::vector{other});
  n.add_class(1e9, 2, std::vector{link});
  const auto ours = run_flows(n), theirs = run_simgrid(n);
  if (!theirs && theirs.error().code == ErrorCode::kNotFound) {
    ASSERT_TRUE(may_be_absent()) << theirs.error().text;
    GTEST_SKIP() << theirs.error().text;
  }
  ASSERT_TRUE(theirs.ok()) << theirs.error().text;
  for (size_t c = 0; c < 3; ++c) EXPECT_NEAR(theirs->ended[c] / ours->ended[c], 1, 1e-4) << c;
}

TEST(SimGridEngine, RefusesWhatItWouldRoundAway) {
  FlowNetwork n;
  const int link = n.add_link("l", 1);
  n.add_class(1e-3, 1, std::vector{link});
  n.add_class(1e15, 1, std::vector{link});
  const auto run = run_simgrid(n);
  ASSERT_FALSE(run.ok());
  EXPECT_EQ(run.error().text,
            "classes of flows from 0.001 to 1e+15 bytes; SimGrid counts whole ones: accepted are sizes within a factor "
            "of 46,116,860,184,274");
}

}  // namespace
}  // namespace fathom
