#include "sim/run_jobs.h"

#include <algorithm>
#include <array>

#include "sim/alike.h"
#include "sim/quotient.h"
#include "sim/simgrid_engine.h"

namespace fathom {
namespace {

constexpr std::array<std::pair<const char*, FlowEngine>, 4> kEngines{{{"auto", FlowEngine::kAuto},
                                                                      {"bound", FlowEngine::kBound},
                                                                      {"maxmin", FlowEngine::kMaxMin},
                                                                      {"simgrid", FlowEngine::kSimGrid}}};

void add_loads(const Traffic& traffic, std::span<const Job> jobs, LinkLoads& loads) {
  std::vector<LinkLoad*> of_link;
  for (const LinkGroup& group : traffic.links) {
    of_link.push_back(&loads.by_group.try_emplace(group.group, LinkLoad{.group = group}).first->second);
  }
  for (size_t l = 0; l < traffic.loads.size(); ++l) {  // of one job
    const double busy = traffic.loads[l] / traffic.links[l].count;
    of_link[l]->busy_bytes += busy;
    of_link[l]->bytes += busy * jobs[0].efficiency;
    of_link[l]->jobs |= 1u;
  }
  for (int c = 0; c < traffic.network.num_classes(); ++c) {
    const auto job = static_cast<size_t>(traffic.job[static_cast<size_t>(c)]);
    for (int l : traffic.network.links(c)) {
      LinkLoad& load = *of_link[static_cast<size_t>(l)];
      const double busy = traffic.network.bytes(c) / traffic.links[static_cast<size_t>(l)].count;
      load.busy_bytes += busy;
      load.bytes += busy * jobs[job].efficiency;
      load.jobs |= 1u << job;
    }
  }
}

/// The most loaded link alone.
void add_bound(const Traffic& traffic, JobsRun& out) {
  const std::vector<double> loads = traffic.loads.empty() ? traffic.network.loads() : traffic.loads;
  double most = 0;
  for (size_t l = 0; l < loads.size(); ++l) {
    const double seconds = loads[l] / (traffic.links[l].gbps * traffic.links[l].count * 1e9);
    if (seconds <= most) continue;
    most = seconds;
    out.limit[0] = traffic.links[l].group;
  }
  out.seconds[0] += most;
}

/// `ended` [class of network], `job_ended` [job]. Merged classes may be of several jobs, so the link is one that a
/// class of the job itself crosses.
void set_limits(const Traffic& traffic, const Quotient* quotient, const FlowNetwork& network,
                std::span<const double> ended, std::span<const double> job_ended, JobsRun& out) {
  for (size_t j = 0; j < job_ended.size(); ++j) {
    const std::vector<int> held_by = bottlenecks(network, ended, job_ended[j]);
    for (size_t c = 0; c < traffic.job.size(); ++c) {
      const size_t merged = quotient ? static_cast<size_t>(quotient->class_of[c]) : c;
      if (static_cast<size_t>(traffic.job[c]) != j || ended[merged] < job_ended[j]) continue;
      for (int link : traffic.network.links(static_cast<int>(c))) {
        const auto l = static_cast<size_t>(link);
        if ((quotient ? quotient->link_of[l] : link) == held_by[merged]) out.limit[j] = traffic.links[l].group;
      }
      break;
    }
  }
}

RateBudget left_of(const RateBudget& budget, int64_t used) {
  return budget ? RateBudget(std::max<int64_t>(*budget - used, 0)) : budget;
}

Status run_part(const Traffic& traffic, bool has_alike, std::span<const Job> jobs, FlowEngine engine,
                const RateBudget& budget, JobsRun& out) {
  add_loads(traffic, jobs, out.load);
  out.num_flows += traffic.num_flows;
  ++out.num_parts;
  if (engine == FlowEngine::kBound) {
    out.engine = engine;
    out.num_classes += traffic.num_classes;
    add_bound(traffic, out);
    return {};
  }
  // Under a symmetry the classes mostly are few already.
  constexpr int kFew = 1000;
  const bool is_merged = !has_alike || traffic.network.num_classes() > kFew;
  Quotient quotient;
  if (is_merged) quotient = merge_alike(traffic.network);
  const FlowNetwork& network = is_merged ? quotient.network : traffic.network;
  if (engine == FlowEngine::kAuto) {
    engine = jobs.size() == 1 && network.num_classes() > kMostAutoClasses ? FlowEngine::kBound : FlowEngine::kMaxMin;
  }
  out.engine = engine;
  out.num_classes += network.num_classes();
  if (engine == FlowEngine::kBound) {
    add_bound(traffic, out);
    return {};
  }
  if (engine == FlowEngine::kMaxMin && network.num_classes() > kMostMaxMinClasses) {
    return invalid(std::to_string(network.num_classes()) + " different flows; engine maxmin is given " +
                   std::to_string(kMostMaxMinClasses) +
                   " at most; accepted: " + (jobs.size() == 1 ? "engine bound, or " : "") + "fewer GPUs");
  }
  const auto run =
      engine == FlowEngine::kSimGrid ? run_simgrid(network) : run_flows(network, left_of(budget, out.num_rates));
  if (!run) return run.error();
  out.num_rates += run->num_rates;
  out.num_solves += static_cast<double>(run->num_solves);
  std::vector<double> ended(jobs.size(), 0);
  for (size_t c = 0; c < traffic.job.size(); ++c) {
    const size_t merged = is_merged ? static_cast<size_t>(quotient.class_of[c]) : c;
    double& end = ended[static_cast<size_t>(traffic.job[c])];
    end = std::max(end, run->ended[merged]);
  }
  for (size_t j = 0; j < jobs.size(); ++j) out.seconds[j] += ended[j];
  set_limits(traffic, is_merged ? &quotient : nullptr, network, run->ended, ended, out);
  return {};
}

}  // namespace

Result<FlowEngine> parse_engine(const std::string& name) {
  for (const auto& [known, engine] : kEngines) {
    if (name == known) return engine;
  }
  return invalid("unknown engine \"" + name.substr(0, 100) + "\"; accepted: auto, bound, maxmin, simgrid");
}

std::string engine_name(FlowEngine engine) {
  for (const auto& [known, value] : kEngines) {
    if (engine == value) return known;
  }
  return "?";
}

namespace {

Result<JobsRun> run_by(FlowEngine engine, const Cluster& cluster, std::span<const Job> jobs, int64_t window,
                       const RateBudget& budget) {
  JobsRun out;
  out.seconds.assign(jobs.size(), 0);
  out.limit.resize(jobs.size());
  const int64_t distances = ranks_of(cluster, jobs[0]) / cluster.spec().gpus_per_node - 1;
  const bool is_whole = window == 0 || window >= distances;
  // A window is of one uniform job; which nodes are near by number is not what a graph's symmetry keeps.
  const bool is_even_window = !cluster.graph() && is_uniform(cluster, jobs[0]);
  const Symmetry symmetry = window == 0      ? symmetry_of(cluster, jobs)
                            : is_even_window ? cluster.symmetry()
                                             : cluster.none_alike();
  const bool has_alike = symmetry.node != cluster.none_alike().node;
  out.load.symmetry = symmetry;
  if (!is_whole && distances > kMostWindowPairs / cluster.num_nodes()) {
    return invalid("a window on " + std::to_string(cluster.num_nodes()) + " nodes with " + std::to_string(distances) +
                   " peers each; accepted: " + std::to_string(kMostWindowPairs) +
                   " pairs of nodes, fewer GPUs or smaller groups (ranks), or all peers at once (window = 0)");
  }
  // The peers in flight, one window after the other; what stays in the node goes beside the first.
  for (int64_t from = 1; from == 1 || from <= distances; from += window) {
    const Distances part =
        is_whole ? Distances{} : Distances{from == 1 ? 0 : from, std::min(from + window - 1, distances)};
    const auto traffic =
        make_traffic(cluster, jobs, symmetry, part, engine == FlowEngine::kBound ? Keep::kLoads : Keep::kClasses);
    if (!traffic) return traffic.error();
    if (auto s = run_part(*traffic, has_alike, jobs, engine, budget, out); !s) return s.error();
    if (is_whole) break;
  }
  if (out.num_parts > 1) {
    const auto most =
        std::max_element(out.load.by_group.begin(), out.load.by_group.end(),
                         [](const auto& a, const auto& b) { return a.second.seconds() < b.second.seconds(); });
    out.limit[0] = most->first;
  }
  out.load.seconds = *std::max_element(out.seconds.begin(), out.seconds.end());
  return out;
}

}  // namespace

Result<JobsRun> run_jobs(const Cluster& cluster, std::span<const Job> jobs, int64_t window, FlowEngine engine,
                         const RateBudget& budget) {
  if (engine != FlowEngine::kAuto) return run_by(engine, cluster, jobs, window, budget);
  auto run = run_by(engine, cluster, jobs, window, budget ? budget : RateBudget(kMostAutoRates));
  if (run) return run;
  if (jobs.size() == 1) {  // too many flows to hold, or too much work: their sums may be neither
    auto bound = run_by(FlowEngine::kBound, cluster, jobs, window, budget);
    return bound ? std::move(bound) : std::move(run);
  }
  if (run.error().code != ErrorCode::kCancelled || budget) return run;
  return invalid("more than " + std::to_string(kMostAutoRates) +
                 " rates of flows, some 20 s of work; accepted: --engine maxmin, which goes on to the end, or fewer "
                 "GPUs or jobs");
}

}  // namespace fathom
