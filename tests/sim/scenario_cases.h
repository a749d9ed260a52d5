// Scenarios that several tests simulate.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "sim/scenario.h"

namespace fathom {

inline Scenario all_to_all(int64_t gpus) {
  Scenario s;
  s.network.gpus = gpus;
  s.job.op = "all-to-all";
  s.job.bytes = 1e9;
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
  s = all_to_all(64);
  s.job.op = "dispatch";
  s.job.bytes = 7392;
  s.also.op = "all-to-all";
  s.also.bytes = 3e8;
  s.also.ranks = 32;
  s.job.weight = 3;
  all.emplace_back("overlapping", s);
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
