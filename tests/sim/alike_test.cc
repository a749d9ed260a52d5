// Alike: jobs of every sort together, as classes and flow by flow.
#include "sim/alike.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "../effort.h"
#include "scenario_cases.h"
#include "sim/run_jobs.h"
#include "sim/simulate.h"

namespace fathom {
namespace {

/// 16 nodes of 8 below leaves of 4, whose uplinks matter.
Scenario small() {
  Scenario s = all_to_all(128);
  s.network.radix = 8;
  s.network.port_gbps = 30;
  return s;
}

void add_ring(Scenario& s, size_t i, int64_t stride = 1, const char* op = "all-gather") {
  s.also[i].op = op;
  s.also[i].bytes = 7e8;
  s.also[i].ring_stride = stride;
  s.also[i].weight = 2;
}

std::vector<std::pair<std::string, Scenario>> mixes() {
  std::vector<std::pair<std::string, Scenario>> all;
  Scenario s = small();
  add_ring(s, 0);
  all.emplace_back("all-to-all and all-gather", s);
  add_ring(s, 1, 2, "all-reduce");
  all.emplace_back("and rings beside each other", s);
  s = small();
  add_ring(s, 0);
  s.also[0].ring_gpus = 2;
  s.network.pxn = false;
  all.emplace_back("rings of two GPUs, no PXN", s);
  s.network.gpus = 64;
  s.network.radix = 16;  // leaves of 4 nodes
  s.network.planes = 4;
  s.network.fabric = "mrft";
  all.emplace_back("rings of two GPUs on rails", s);
  s = small();
  s.job.op = "dispatch";
  s.job.bytes = 7392;
  s.job.ranks = 64;
  add_ring(s, 0, 4, "reduce-scatter");
  all.emplace_back("training and dispatch", s);
  s.job.ranks = 16;
  all.emplace_back("training and dispatch in halves of a leaf", s);
  s.job.ranks = 64;
  s.job.skew = 0.7;
  all.emplace_back("training and a skewed dispatch in groups", s);
  s.job.direct = true;
  s.job.op = "combine";
  all.emplace_back("training and a skewed combine", s);
  s = small();
  s.also[0].op = "send";
  s.also[0].bytes = 1e9;
  s.also[0].to = 40;
  all.emplace_back("a message beside", s);
  s = small();
  s.network.gpus = 14 * 8;
  add_ring(s, 0);
  all.emplace_back("a half-full leaf", s);
  s = small();
  add_ring(s, 0);
  s.fail.uplinks = 2;
  all.emplace_back("uplinks lost", s);
  s.fail.uplinks = 0;
  s.fail.nic = 1;
  all.emplace_back("a NIC lost", s);
  s.fail.nic = -1;
  s.fail.plane = 3;
  all.emplace_back("a plane lost", s);
  s = small();
  s.network.fabric = "ft3";
  s.network.gpus_per_node = 2;
  s.network.gpus = 64;  // four pods of four leaves
  add_ring(s, 0);
  all.emplace_back("three layers", s);
  s.also[0].ranks = 32;
  all.emplace_back("three layers, rings of two pods", s);
  return all;
}

TEST(Alike, MixedJobsEndWhenEachFlowByItselfDoes) {
  if (testing::effort() == testing::Effort::kLittle) GTEST_SKIP() << "every flow by itself; the usual round runs it";
  for (const auto& [name, s] : mixes()) {
    const auto cluster = cluster_of(s);
    ASSERT_TRUE(cluster.ok()) << name << ": " << cluster.error().text;
    const std::vector<Job> jobs = jobs_in(s);
    const auto few = make_traffic(*cluster, jobs, symmetry_of(*cluster, jobs));
    const auto each = make_traffic(*cluster, jobs, cluster->none_alike());
    ASSERT_TRUE(few.ok() && each.ok()) << name;
    EXPECT_NEAR(few->num_flows / each->num_flows, 1, 1e-12) << name;
    EXPECT_LE(few->network.num_classes(), each->network.num_classes()) << name;
    const auto a = run_flows(few->network), b = run_flows(each->network);
    ASSERT_TRUE(a.ok() && b.ok()) << name;
    for (size_t j = 0; j < jobs.size(); ++j) {
      const auto end_of = [&](const Traffic& t, const FlowRun& run) {
        double end = 0;
        for (size_t c = 0; c < t.job.size(); ++c) {
          if (t.job[c] == static_cast<int>(j)) end = std::max(end, run.ended[c]);
        }
        return end;
      };
      EXPECT_NEAR(end_of(*few, *a) / end_of(*each, *b), 1, 1e-8) << name << ", job " << j;
    }
    // The same bytes on every link.
    const auto run = run_jobs(*cluster, jobs, 0, FlowEngine::kMaxMin);
    ASSERT_TRUE(run.ok()) << name;
    const std::vector<double> loads = each->network.loads();
    for (size_t l = 0; l < loads.size(); ++l) {
      EXPECT_NEAR(run->load.busy_bytes(*cluster, each->links[l].first) / loads[l], 1, 1e-9)
          << name << " " << each->network.link_name(static_cast<int>(l));
    }
  }
}

int distinct(const std::vector<int32_t>& colours) {
  return static_cast<int>(std::set<int32_t>(colours.begin(), colours.end()).size());
}

TEST(Alike, ARingDividesALeafAndNoMore) {
  const auto cluster = Cluster::make({.gpus = 16384});
  const Job whole{.bytes = 1e9}, ring{.op = JobOp::kAllGather, .bytes = 1e9};
  EXPECT_EQ(distinct(symmetry_of(*cluster, std::vector{whole}).node), 1);
  const Symmetry s = symmetry_of(*cluster, std::vector{whole, ring});
  EXPECT_EQ(distinct(s.node), 32);  // by their place below a leaf
  EXPECT_EQ(distinct(s.unit), 1);
  EXPECT_EQ(distinct(s.gpu), 1);
  const Job skewed{.op = JobOp::kDispatch, .bytes = 7392, .ranks = 64, .skew = 1};
  EXPECT_EQ(distinct(symmetry_of(*cluster, std::vector{skewed}).node), 8);
  const Job message{.op = JobOp::kSend, .bytes = 1e9, .from = 0, .to = 8000};
  // Sender, receiver, the nodes below their leaves, all others.
  EXPECT_EQ(distinct(symmetry_of(*cluster, std::vector{whole, message}).node), 5);
  // A ring tells all nodes by how far they are from it.
  EXPECT_EQ(distinct(symmetry_of(*cluster, std::vector{ring, message}).node), 2048);
}

// Every NIC is full until the last byte, so the later job ends when a NIC has sent what both give it.
TEST(Alike, LargeMixesAreAnswered) {
  for (const int64_t gpus : {2048, 16384}) {
    Scenario s = all_to_all(gpus);
    s.also[0].op = "all-gather";
    s.also[0].bytes = 1e9;
    auto answer = simulate(s, FlowEngine::kAuto);
    ASSERT_TRUE(answer.ok()) << answer.error().text;
    const auto n = static_cast<double>(gpus);
    const double nic_bytes = 1e9 * (n - 8) / n + 1e9 * (n - 1) / n / 8;
    EXPECT_NEAR(std::max(answer->jobs[0].seconds, answer->jobs[1].seconds), nic_bytes / 40e9, 1e-9);
    s.job.op = "dispatch";
    s.job.bytes = 7392;
    s.job.ranks = 64;
    s.also[0].ring_stride = 8;
    s.also[1].op = "all-to-all";
    s.also[1].bytes = 1e8;
    answer = simulate(s, FlowEngine::kAuto);
    ASSERT_TRUE(answer.ok()) << answer.error().text;
  }
}

TEST(Alike, WhatStaysTooLargeSaysWhy) {
  if (testing::effort() == testing::Effort::kLittle)
    GTEST_SKIP() << "a million flows four times; the usual round runs it";
  const auto refused = [](const Scenario& s) {
    const auto answer = simulate(s, FlowEngine::kAuto);
    return answer ? std::string("answered") : answer.error().text;
  };
  const std::string start = "more than 1200000 flows that are not alike; accepted: fewer GPUs, or ";
  Scenario s = all_to_all(16384);
  add_ring(s, 0);
  s.fail.nic = 0;
  EXPECT_EQ(refused(s), start + "nothing broken beside rings, which tell every node by its distance to it");
  s.network.gpus = 768;
  EXPECT_NE(refused(s).find(" different flows; engine maxmin is given 300000 at most; accepted: fewer GPUs"),
            std::string::npos)
      << refused(s);
  s.fail.nic = -1;
  s.network.gpus = 16000;
  EXPECT_EQ(refused(s), start + "full leaves beside rings (network.gpus = 15872 or 16128)");
  s.network.gpus = 16384;
  s.also[1].op = "send";
  s.also[1].bytes = 1e9;
  s.also[1].to = 8000;
  EXPECT_EQ(refused(s), start + "no message beside rings, which tell every node by its distance to it");
}

}  // namespace
}  // namespace fathom
