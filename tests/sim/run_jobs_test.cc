// RunJobs: windows, one after the other, and what jobs put on links.
#include "sim/run_jobs.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "../effort.h"
#include "scenario_cases.h"

namespace fathom {
namespace {

JobsRun run(const ClusterSpec& spec, const std::vector<Job>& jobs, int64_t window = 0,
            FlowEngine engine = FlowEngine::kMaxMin) {
  const auto cluster = Cluster::make(spec);
  EXPECT_TRUE(cluster.ok()) << (cluster ? "" : cluster.error().text);
  auto out = run_jobs(*cluster, jobs, window, engine);
  EXPECT_TRUE(out.ok()) << (out ? "" : out.error().text);
  return out ? *std::move(out) : JobsRun{};
}

// What a window moves is counted once, whatever the window; as many parts as peers / window.
TEST(RunJobs, WindowsMoveEverythingOnce) {
  const ClusterSpec spec{.gpus = 128, .radix = 16};
  const std::vector<Job> jobs = {{.bytes = 1e9}};
  const JobsRun whole = run(spec, jobs);
  EXPECT_EQ(whole.num_parts, 1);
  for (int64_t window : {1, 4, 15, 16, 1000}) {
    const JobsRun parts = run(spec, jobs, window);
    EXPECT_EQ(parts.num_parts, std::max<double>(1, std::ceil(15.0 / static_cast<double>(window)))) << window;
    EXPECT_EQ(parts.num_flows, whole.num_flows) << window;
    ASSERT_EQ(parts.load.by_group.size(), whole.load.by_group.size());
    for (const auto& [key, load] : whole.load.by_group) {
      EXPECT_NEAR(parts.load.by_group.at(key).bytes, load.bytes, 1e-6 * load.bytes);
    }
    EXPECT_GE(parts.seconds[0], whole.seconds[0] * (1 - 1e-9)) << window;
  }
}

TEST(RunJobs, LinksKnowTheirJobsAndTheirEfficiency) {
  const ClusterSpec spec{.gpus = 128};
  const Job all{.bytes = 1e9};
  Job half = all;
  half.efficiency = 0.5;
  const JobsRun one = run(spec, {all}), slow = run(spec, {half}), both = run(spec, {all, half});
  EXPECT_NEAR(slow.seconds[0] / one.seconds[0], 2, 1e-9);
  const ClusterLink nic{LinkKind::kNicOut, 0, 0, -1};
  const auto at = [&](const JobsRun& r) { return r.load.by_group.at(nic); };
  EXPECT_NEAR(at(slow).bytes / at(one).bytes, 1, 1e-12);
  EXPECT_NEAR(at(slow).busy_bytes / at(one).busy_bytes, 2, 1e-12);
  EXPECT_NEAR(at(both).bytes / at(one).bytes, 2, 1e-12);
  EXPECT_NEAR(at(both).seconds(), both.load.seconds, 1e-9 * both.load.seconds);  // full from first to last
  EXPECT_EQ(at(one).jobs, 1u);
  EXPECT_EQ(at(both).jobs, 3u);
  // A message in a node does not cross the NICs of a job beside it.
  const JobsRun inside = run(spec, {all, {.op = JobOp::kSend, .bytes = 1e6, .from = 8, .to = 9}});
  for (const auto& [key, load] : inside.load.by_group) {
    if (key.kind != LinkKind::kNicOut) continue;
    EXPECT_EQ(load.jobs, 1u);
  }
}

// A pair of nodes costs its time however few flows are alike.
// What is too much for max-min is the bound's, without being asked.
TEST(RunJobs, AutoIsTheBoundWhereFlowsAreTooMany) {
  if (testing::effort() == testing::Effort::kLittle) GTEST_SKIP() << "2,048 GPUs three times; the usual round runs it";
  ClusterSpec spec{.gpus = 2048, .routing = Routing::kEcmp};
  const std::vector<Job> all = {{.bytes = 1e9}};
  const JobsRun found = run(spec, all, 0, FlowEngine::kAuto), bound = run(spec, all, 0, FlowEngine::kBound);
  EXPECT_EQ(found.engine, FlowEngine::kBound);
  EXPECT_EQ(found.seconds, bound.seconds);
  const auto cluster = Cluster::make(spec);
  EXPECT_FALSE(run_jobs(*cluster, all, 0, FlowEngine::kMaxMin).ok());
  const auto several = run_jobs(*cluster, std::vector<Job>{all[0], all[0]}, 0, FlowEngine::kAuto);
  ASSERT_FALSE(several.ok());
  EXPECT_NE(several.error().text.find("flows"), std::string::npos) << several.error().text;
}

TEST(RunJobs, RefusesMoreWindowsThanItCanSee) {
  const auto cluster = Cluster::make({.gpus = 1 << 20, .radix = 1024});
  ASSERT_TRUE(cluster.ok());
  const std::vector<Job> jobs = {{.bytes = 1e9}};
  const auto refused = run_jobs(*cluster, jobs, 8, FlowEngine::kMaxMin);
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(
      refused.error().text,
      "a window on 131072 nodes with 131071 peers each; accepted: 268435456 pairs of nodes, fewer GPUs or smaller "
      "groups (ranks), or all peers at once (window = 0)");
  const auto whole = run_jobs(*cluster, jobs, 0, FlowEngine::kMaxMin);  // seen by their kinds: at once
  ASSERT_TRUE(whole.ok());
  EXPECT_EQ(whole->num_flows, 1048576.0 * 1048575);
}

}  // namespace
}  // namespace fathom
