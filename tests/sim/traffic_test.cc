// Traffic: classes by symmetry are their flows one by one, and what each job puts on a link.
#include "sim/traffic.h"

#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <string_view>

#include "../effort.h"
#include "scenario_cases.h"
#include "sim/quotient.h"

namespace fathom {
namespace {

// Classes by symmetry, each flow by itself, and each flow merged by colour refinement.
TEST(Traffic, ClassesAgreeWithEachFlowByItself) {
  for (const auto& [name, s] : scenario_cases()) {
    const auto cluster = cluster_of(s);
    ASSERT_TRUE(cluster.ok()) << name;
    const std::vector<Job> jobs = jobs_in(s);
    for (const Job& job : jobs) EXPECT_TRUE(is_uniform(*cluster, job)) << name;
    const auto few = make_traffic(*cluster, jobs, cluster->symmetry());
    const auto each = make_traffic(*cluster, jobs, cluster->none_alike());
    ASSERT_TRUE(few.ok() && each.ok()) << name;
    EXPECT_NEAR(few->num_flows / each->num_flows, 1, 1e-12) << name;
    EXPECT_LT(few->network.num_classes() * 4, each->network.num_classes()) << name;
    const Quotient merged = merge_alike(each->network);
    const auto a = run_flows(few->network), c = run_flows(merged.network);
    ASSERT_TRUE(a.ok() && c.ok()) << name;
    EXPECT_NEAR(a->seconds / c->seconds, 1, 1e-8) << name;
    EXPECT_NEAR(flow_bound(few->network)->seconds / flow_bound(each->network)->seconds, 1, 1e-9) << name;
    if (each->network.num_classes() < 20'000) {
      const auto b = run_flows(each->network);
      ASSERT_TRUE(b.ok()) << name;
      EXPECT_NEAR(a->seconds / b->seconds, 1, 1e-8) << name;
    }
  }
}

// In a window nodes of one colour have peers at different distances from the end of their leaf. With uplinks or NICs as
// the limit, the last flow ends when it does with every place by itself.
TEST(Traffic, WindowsBySymmetryEndWhenEachFlowByItselfDoes) {
  for (const double port_gbps : {50.0, 20.0, 10.0}) {
    for (const Distances& part : {Distances{0, 2}, {0, 4}, {3, 5}, {1, 7}}) {
      Scenario s = all_to_all(96);
      s.network.radix = 8;  // leaves of 4 nodes
      s.network.port_gbps = port_gbps;
      const auto cluster = cluster_of(s);
      const std::vector<Job> jobs = jobs_in(s);
      const auto few = make_traffic(*cluster, jobs, cluster->symmetry(), part);
      const auto each = make_traffic(*cluster, jobs, cluster->none_alike(), part);
      ASSERT_TRUE(few.ok() && each.ok());
      EXPECT_NEAR(few->num_flows, each->num_flows, 1e-6);
      EXPECT_LT(few->network.num_classes() * 4, each->network.num_classes());
      EXPECT_NEAR(run_flows(few->network)->seconds / run_flows(each->network)->seconds, 1, 1e-8)
          << port_gbps << " " << part.from << " " << part.to;
    }
  }
}

double load_of(const Traffic& t, const ClusterLink& link) {
  const auto loads = t.network.loads();
  for (size_t l = 0; l < t.links.size(); ++l) {
    if (t.links[l].first == link) return loads[l];
  }
  return 0;
}

TEST(Traffic, ASkewedGateLoadsTheNicsOfPopularExperts) {
  const auto cluster = Cluster::make({.gpus = 64});
  Job job{.op = JobOp::kDispatch, .bytes = 7392, .skew = 1};
  EXPECT_FALSE(is_uniform(*cluster, job));
  const auto traffic = make_traffic(*cluster, std::vector{job}, cluster->none_alike());
  const auto hits = draw_gate(gate_of(*cluster, job));
  ASSERT_TRUE(traffic.ok() && hits.ok());
  for (int32_t node = 0; node < 8; ++node) {
    // From seven other nodes' GPU 3, to this one's.
    EXPECT_NEAR(load_of(*traffic, {LinkKind::kNicIn, node, 3, -1}),
                7 * 4096 * 7392.0 * hits->node[static_cast<size_t>(node)], 1)
        << node;
  }
  job.op = JobOp::kCombine;
  const auto back = make_traffic(*cluster, std::vector{job}, cluster->none_alike());
  EXPECT_NEAR(load_of(*back, {LinkKind::kNicOut, 5, 3, -1}), load_of(*traffic, {LinkKind::kNicIn, 5, 3, -1}), 1);
}

TEST(Traffic, QueuePairsShareAMessage) {
  const auto cluster = Cluster::make({.gpus = 512, .routing = Routing::kEcmp});
  const Job one{.op = JobOp::kSend, .bytes = 8e6, .to = 264};
  Job eight = one;
  eight.queue_pairs = 8;
  const auto a = make_traffic(*cluster, std::vector{one}, cluster->none_alike());
  const auto b = make_traffic(*cluster, std::vector{eight}, cluster->none_alike());
  EXPECT_EQ(a->network.num_classes(), 1);
  EXPECT_EQ(b->network.num_classes(), 8);
  EXPECT_NEAR(load_of(*b, {LinkKind::kNicOut, 0, 0, -1}), 8e6, 1e-3);
  EXPECT_GT(b->network.num_links(), a->network.num_links());
}

// What is summed is what the classes put on each link.
TEST(Traffic, LoadsAreThoseOfTheClasses) {
  auto cases = scenario_cases();
  for (const char* fabric : {"mpft", "mrft", "ft2"}) {
    for (const char* routing : {"ecmp", "static"}) {
      for (bool pxn : {true, false}) {
        if (testing::effort() == testing::Effort::kLittle && pxn == (routing == std::string_view("ecmp"))) continue;
        Scenario s = all_to_all(256);
        s.network.radix = 32;
        s.network.fabric = fabric;
        s.network.routing = routing;
        s.network.pxn = pxn;
        s.job.queue_pairs = 3;
        s.job.efficiency = 0.5;
        cases.emplace_back(std::string(fabric) + " " + routing + (pxn ? " PXN" : ""), s);
      }
    }
  }
  Scenario valiant = all_to_all(72);
  valiant.network.fabric = "dragonfly";
  valiant.network.gpus_per_switch = valiant.network.gpus_per_node = 2;
  valiant.network.routing = "valiant";
  cases.emplace_back("Valiant", valiant);
  for (const char* op : {"dispatch", "combine"}) {
    for (const bool is_direct : {true, false}) {
      Scenario s = all_to_all(256);
      s.network.radix = 32;
      s.network.routing = "ecmp";
      s.job.op = op;
      s.job.bytes = 7392;
      s.job.ranks = 128;
      s.job.direct = is_direct;
      s.job.skew = 0.7;
      cases.emplace_back(std::string(op) + (is_direct ? " of copies" : ""), s);
      s.network.pxn = false;
      s.network.fabric = "mrft";
      cases.emplace_back(std::string(op) + " on rails" + (is_direct ? " of copies" : ""), s);
    }
  }
  for (const auto& [name, scenario] : cases) {
    const auto cluster = cluster_of(scenario);
    ASSERT_TRUE(cluster.ok()) << name << ": " << cluster.error().text;
    const auto jobs = jobs_in(scenario);
    if (jobs.size() > 1) continue;
    for (const Distances& part : {Distances{}, Distances{2, 3}}) {
      if (part.to > 0 && is_expert(jobs[0].op)) continue;
      const auto each = make_traffic(*cluster, jobs, cluster->none_alike(), part);
      const auto sums = make_traffic(*cluster, jobs, cluster->none_alike(), part, Keep::kLoads);
      ASSERT_TRUE(each.ok() && sums.ok()) << name;
      EXPECT_EQ(sums->network.num_classes(), 0);
      EXPECT_EQ(sums->num_classes, each->num_classes) << name;
      EXPECT_NEAR(sums->num_flows / each->num_flows, 1, 1e-12) << name;
      ASSERT_EQ(sums->links.size(), each->links.size()) << name;
      const std::vector<double> loads = each->network.loads();
      std::map<ClusterLink, double> by_link;
      for (size_t l = 0; l < loads.size(); ++l) by_link[each->links[l].group] = loads[l];
      for (size_t l = 0; l < sums->links.size(); ++l) {
        const double load = by_link.at(sums->links[l].group);
        EXPECT_NEAR(sums->loads[l], load, 1e-9 * load) << name << ": " << cluster->name(sums->links[l].first);
      }
    }
  }
}

}  // namespace
}  // namespace fathom
