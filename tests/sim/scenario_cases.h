// Scenarios that several tests simulate.
#pragma once

#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

#include "sim/scenario.h"
#include "sim/simulate.h"
#include "sim/traffic.h"

namespace fathom {

inline Scenario all_to_all(int64_t gpus) {
  Scenario s;
  s.network.gpus = gpus;
  s.job.op = "all-to-all";
  s.job.bytes = 1e9;
  return s;
}

/// Simulated; a scenario that is refused fails the test.
inline Simulation run(const Scenario& s, FlowEngine engine = FlowEngine::kAuto) {
  auto answer = simulate(s, engine);
  EXPECT_TRUE(answer.ok()) << (answer ? "" : answer.error().text);
  return answer ? *std::move(answer) : Simulation{};
}

inline std::vector<Job> jobs_in(const Scenario& s) {
  const auto named = jobs_of(s);
  std::vector<Job> jobs;
  for (size_t i = 0; named && i < named->size(); ++i) jobs.push_back((*named)[i].job);
  return jobs;
}

/// Three jobs on 64 hosts with a GPU each below leaves of 8, in lanes of different weights: experts of different
/// popularity, rings over all leaves, and an all-to-all in groups.
inline Scenario three_jobs() {
  Scenario s;
  s.network.fabric = "ft2";
  s.network.gpus = 64;
  s.network.gpus_per_node = 1;
  s.network.radix = 16;
  s.network.port_gbps = 30;
  s.job.op = "dispatch";
  s.job.direct = true;
  s.job.bytes = 7392;
  s.job.tokens = 512;
  s.job.experts = 64;
  s.job.max_nodes = 64;
  s.job.skew = 0.7;
  s.job.weight = 4;
  s.also[0].op = "all-gather";
  s.also[0].bytes = 1e8;
  s.also[0].ring_stride = 8;
  s.also[0].weight = 2;
  s.also[1].op = "all-to-all";
  s.also[1].ranks = 32;
  s.also[1].bytes = 2e7;
  return s;
}

/// The scenarios that engines and classes must agree on.
inline std::vector<std::pair<std::string, Scenario>> scenario_cases() {
  std::vector<std::pair<std::string, Scenario>> all;
  all.emplace_back("uniform", all_to_all(256));
  all.emplace_back("partly filled", all_to_all(40 * 8));
  Scenario s = all_to_all(64);
  s.network.radix = 8;  // leaves of 4 nodes: uplinks matter
  s.network.port_gbps = 30;
  all.emplace_back("small leaves", s);
  s.fail.uplinks = 3;
  all.emplace_back("uplinks lost", s);
  s = all_to_all(128);
  s.fail.plane = 2;
  all.emplace_back("plane lost", s);
  s.fail.plane = -1;
  s.fail.nic = 5;
  s.network.fabric = "mrft";
  all.emplace_back("NIC lost on rails", s);
  s.fail.spread = false;
  s.network.fabric = "mpft";
  all.emplace_back("NIC lost, all on the next", s);
  s = all_to_all(128);
  s.network.radix = 8;  // leaves of 4 nodes
  s.network.planes = 8;
  s.fail.leaf = 2;
  all.emplace_back("leaf lost", s);
  s.network.port_gbps = 30;
  s.fail.nic = 2;
  s.fail.uplinks = 2;
  all.emplace_back("leaf, NIC and uplinks lost", s);
  s = all_to_all(64);
  s.network.fabric = "mrft";
  s.network.radix = 16;
  s.network.planes = 4;
  s.fail.leaf = 1;
  all.emplace_back("leaf lost on rails", s);
  s = all_to_all(64);
  s.job.op = "dispatch";
  s.job.bytes = 7392;
  s.also[0].op = "all-to-all";
  s.also[0].bytes = 3e8;
  s.also[0].ranks = 32;
  s.job.weight = 3;
  all.emplace_back("overlapping", s);
  s.also[1].op = "all-to-all";
  s.also[1].bytes = 1e8;
  s.also[1].efficiency = 0.5;
  all.emplace_back("three overlapping", s);
  s = all_to_all(200);
  s.network.fabric = "slimfly";
  s.network.gpus_per_node = 2;
  all.emplace_back("Slim Fly", s);
  s.network.port_gbps = 15;
  all.emplace_back("Slim Fly with slow links", s);
  s.job.op = "dispatch";
  s.job.experts = 200;
  all.emplace_back("experts on a Slim Fly", s);
  s = all_to_all(72);
  s.network.fabric = "dragonfly";
  s.network.gpus_per_switch = s.network.gpus_per_node = 2;
  all.emplace_back("Dragonfly", s);
  s.network.port_gbps = 20;
  all.emplace_back("Dragonfly with slow links", s);
  s.network.gpus = 40;
  s.network.dragonfly_groups = 5;
  all.emplace_back("Dragonfly with few groups", s);
  return all;
}

}  // namespace fathom
