// Simulate: a scenario's answer: how long its jobs take, at what bandwidth, and which links limit them.
#pragma once

#include <string>
#include <vector>

#include "base/figure.h"
#include "base/json.h"
#include "sim/link_loads.h"
#include "sim/scenario.h"

namespace fathom {

enum class FlowEngine {
  kAuto,    // max-min, or the bound where one job has more than kMostAutoClasses different flows
  kBound,   // the most loaded link alone: no schedule is faster; one job
  kMaxMin,  // run_flows
  kSimGrid  // run_simgrid
};
inline constexpr int kMostAutoClasses = 20'000;
/// Different flows that max-min is given at most: every end of a flow is a solve over all of them.
inline constexpr int kMostMaxMinClasses = 300'000;

/// Error: not "auto", "bound", "maxmin" or "simgrid".
Result<FlowEngine> parse_engine(const std::string& name);
std::string engine_name(FlowEngine engine);

struct JobAnswer {
  std::string op;
  std::vector<Figure> figures;  // time, its parts, bandwidths
  double seconds = 0;
};

/// The most loaded link of its kind.
struct LinkAnswer {
  std::string name;    // of one
  double alike = 1;    // links that are as loaded by symmetry
  double bytes = 0;    // over one
  double gbps = 0;     // of one
  double seconds = 0;  // bytes / rate
  std::string kind;    // link_kind_name
};

struct Simulation {
  std::string cluster;  // in words
  FlowEngine engine = FlowEngine::kMaxMin;
  std::vector<JobAnswer> jobs;
  std::vector<LinkAnswer> links;  // of each kind that carries something, the most loaded first
  std::vector<Figure> work;       // flows, classes, solves
  LinkLoads loads;                // of every link
};
/// Everything but `loads`, which has a picture (load_maps).
Json to_json(const Simulation& simulation);

/// Errors: what the scenario's parts are refused for; one engine that cannot answer it (see FlowEngine, run_simgrid).
Result<Simulation> simulate(const Scenario& scenario, FlowEngine engine);

}  // namespace fathom
