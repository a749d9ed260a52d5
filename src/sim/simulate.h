// Simulate: a scenario's answer: how long its jobs take, at what bandwidth, and which links limit them.
#pragma once

#include <string>
#include <vector>

#include "base/figure.h"
#include "base/json.h"
#include "sim/run_jobs.h"
#include "sim/scenario.h"

namespace fathom {

/// What a job's time is up to: more of it would make the job end sooner.
struct JobLimit {
  /// A kind of link (link_kind_name); "window": no link is needed all the time, more peers in flight would keep one
  /// full; "latency"; "software".
  std::string resource;
  std::string text;  // the same with its figures, one line
};

struct JobAnswer {
  std::string name;  // "job", "also", "also2"
  std::string op;
  std::vector<Figure> figures;  // time, its parts, bandwidths
  double seconds = 0;
  double link_seconds = 0;  // of it, from the first byte to the last
  JobLimit limit;
  std::vector<std::string> notes;  // what the figures leave out, a line each
};

/// The most loaded link of its kind.
struct LinkAnswer {
  std::string name;    // of one
  double alike = 1;    // links that are as loaded by symmetry
  double bytes = 0;    // over one
  double gbps = 0;     // of one
  double seconds = 0;  // bytes / efficiency / rate
  std::string kind;    // link_kind_name
};

struct Simulation {
  std::string cluster;             // in words
  std::vector<std::string> notes;  // on it, a line each
  std::vector<Figure> fabric;      // fabric_figures
  FlowEngine engine = FlowEngine::kMaxMin;
  std::vector<JobAnswer> jobs;
  std::vector<LinkAnswer> links;  // of each kind that carries something, the most loaded first
  std::vector<Figure> failures;   // stop_figures, where the scenario has rates
  std::vector<Figure> work;       // flows, classes, solves
  LinkLoads loads;                // of every link
  int64_t num_rates = 0;          // JobsRun::num_rates, and those of the run with nothing broken
};
/// Everything but `loads`, which has a picture (load_maps).
Json to_json(const Simulation& simulation);

/// Errors: what the scenario's parts are refused for; one engine that cannot answer it (see FlowEngine, run_simgrid);
/// kCancelled when max-min has used up its budget.
Result<Simulation> simulate(const Scenario& scenario, FlowEngine engine, const RateBudget& budget = {});

}  // namespace fathom
