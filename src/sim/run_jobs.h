// RunJobs: the jobs of a scenario on the links of a cluster, by an engine: when each ends, and what every link carried.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "sim/link_loads.h"

namespace fathom {

enum class FlowEngine {
  kAuto,    // max-min, or the bound where that is too much for one job: kMostAutoClasses, kMostAutoRates,
            // kMostFlowClasses
  kBound,   // the most loaded link alone: no schedule is faster; one job
  kMaxMin,  // run_flows
  kSimGrid  // run_simgrid
};
inline constexpr int kMostAutoClasses = 20'000;
inline constexpr int64_t kMostAutoRates = 100'000'000;
/// Different flows that max-min is given at most: every end of a flow is a solve over all of them.
inline constexpr int kMostMaxMinClasses = 300'000;
/// Pairs of nodes that the windows of a job may have in all.
inline constexpr int64_t kMostWindowPairs = int64_t{1} << 28;

/// Error: not "auto", "bound", "maxmin" or "simgrid".
Result<FlowEngine> parse_engine(const std::string& name);
std::string engine_name(FlowEngine engine);

struct JobsRun {
  FlowEngine engine = FlowEngine::kAuto;  // that ran: not kAuto
  std::vector<double> seconds;            // [job] from the first byte to the last
  /// [job] the full link that its last flows wait for, as LinkGroup::group: faster, it would end the job sooner. Of
  /// several windows the most loaded link, each window having its own.
  std::vector<ClusterLink> limit;
  LinkLoads load;
  double num_flows = 0, num_classes = 0, num_solves = 0;
  int64_t num_rates = 0;  // FlowRun::num_rates of all parts
  double num_parts = 0;   // windows, one after the other
};

/// Runs them from the same moment. `window`: peer nodes that the first has in flight; 0: all at once. Errors: what
/// make_traffic and the engine refuse; more than kMostWindowPairs; kCancelled when max-min has used up its budget; of
/// kAuto without a budget, several jobs that take more than kMostAutoRates.
Result<JobsRun> run_jobs(const Cluster& cluster, std::span<const Job> jobs, int64_t window, FlowEngine engine,
                         const RateBudget& budget = {});

}  // namespace fathom
