#include "sim/simulate.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <numeric>
#include <optional>

#include "cluster/hardware.h"
#include "sim/quotient.h"
#include "sim/simgrid_engine.h"

namespace fathom {
namespace {

constexpr std::array<std::pair<const char*, FlowEngine>, 4> kEngines{{{"auto", FlowEngine::kAuto},
                                                                      {"bound", FlowEngine::kBound},
                                                                      {"maxmin", FlowEngine::kMaxMin},
                                                                      {"simgrid", FlowEngine::kSimGrid}}};

/// What running the jobs once gave.
struct Totals {
  FlowEngine engine = FlowEngine::kAuto;
  std::vector<double> seconds;  // [job]
  LinkLoads load;
  double num_flows = 0, num_classes = 0, num_solves = 0, num_parts = 0;
};

Status run_part(const Traffic& traffic, bool is_symmetric, size_t num_jobs, FlowEngine engine, Totals& totals) {
  const std::vector<double> loads = traffic.network.loads();
  for (size_t l = 0; l < loads.size(); ++l) {
    const LinkGroup& group = traffic.links[l];
    totals.load.by_group.try_emplace(group.group, LinkLoad{group, 0}).first->second.bytes += loads[l] / group.count;
  }
  totals.num_flows += traffic.num_flows;
  ++totals.num_parts;
  // Under the cluster's own symmetry the classes mostly are few already. The bound needs no fewer.
  constexpr int kFew = 1000;
  const bool is_merged = (!is_symmetric || traffic.network.num_classes() > kFew) && engine != FlowEngine::kBound;
  Quotient quotient;
  if (is_merged) quotient = merge_alike(traffic.network);
  const FlowNetwork& network = is_merged ? quotient.network : traffic.network;
  if (engine == FlowEngine::kAuto) {
    engine = num_jobs == 1 && network.num_classes() > kMostAutoClasses ? FlowEngine::kBound : FlowEngine::kMaxMin;
  }
  totals.engine = engine;
  totals.num_classes += network.num_classes();
  if (engine == FlowEngine::kBound) {
    const auto bound = flow_bound(network);
    if (!bound) return bound.error();
    totals.seconds[0] += bound->seconds;
    return {};
  }
  if (engine == FlowEngine::kMaxMin && network.num_classes() > kMostMaxMinClasses) {
    return invalid(std::to_string(network.num_classes()) + " different flows; engine maxmin is given " +
                   std::to_string(kMostMaxMinClasses) + " at most; accepted: engine bound, or fewer GPUs");
  }
  const auto run = engine == FlowEngine::kSimGrid ? run_simgrid(network) : run_flows(network);
  if (!run) return run.error();
  totals.num_solves += static_cast<double>(run->num_solves);
  std::vector<double> ended(num_jobs, 0);
  for (size_t c = 0; c < traffic.job.size(); ++c) {
    const size_t merged = is_merged ? static_cast<size_t>(quotient.class_of[c]) : c;
    double& end = ended[static_cast<size_t>(traffic.job[c])];
    end = std::max(end, run->ended[merged]);
  }
  for (size_t j = 0; j < num_jobs; ++j) totals.seconds[j] += ended[j];
  return {};
}

Result<Totals> run_jobs(const Cluster& cluster, const std::vector<Job>& jobs, int64_t window, FlowEngine engine) {
  Totals totals;
  totals.seconds.assign(jobs.size(), 0);
  const bool is_symmetric =
      std::all_of(jobs.begin(), jobs.end(), [&](const Job& job) { return is_uniform(cluster, job); }) &&
      !(cluster.graph() && window > 0);  // which nodes are near by number is not what a graph's symmetry keeps
  const Symmetry symmetry = is_symmetric ? cluster.symmetry() : cluster.none_alike();
  totals.load.symmetry = symmetry;
  const int64_t distances = ranks_of(cluster, jobs[0]) / cluster.spec().gpus_per_node - 1;
  if (window == 0 || window >= distances) {
    const auto traffic = make_traffic(cluster, jobs, symmetry);
    if (!traffic) return traffic.error();
    if (auto s = run_part(*traffic, is_symmetric, jobs.size(), engine, totals); !s) return s.error();
    return totals;
  }
  // The peers in flight, one window after the other; what stays in the node goes beside the first.
  for (int64_t from = 1; from <= distances; from += window) {
    const Distances part{from == 1 ? 0 : from, std::min(from + window - 1, distances)};
    const auto traffic = make_traffic(cluster, jobs, symmetry, part);
    if (!traffic) return traffic.error();
    if (auto s = run_part(*traffic, is_symmetric, jobs.size(), engine, totals); !s) return s.error();
  }
  return totals;
}

/// Microseconds of the longest step of a job, by switches.
double step_latency_us(const Cluster& cluster, const Job& job, const std::string& link_name) {
  const int gpus = cluster.spec().gpus_per_node;
  const int64_t group_nodes = ranks_of(cluster, job) / gpus;
  int switches = 0;
  const auto see = [&](int64_t u, int a, int64_t v, int b) {
    for (const Way& way : cluster.ways(u, a, v, b)) switches = std::max(switches, num_switches(way));
  };
  if (job.op == JobOp::kSend) {
    see(job.from / gpus, static_cast<int>(job.from % gpus), job.to / gpus, static_cast<int>(job.to % gpus));
  } else if (is_ring(job.op)) {
    for (int64_t u = 0; u < cluster.num_nodes(); ++u) {
      const int64_t next = ring_next(cluster, job, u);
      if (next != u) see(u, 0, next, 0);
    }
  } else {
    for (int64_t first = 0; first < cluster.num_nodes(); first += group_nodes) {
      for (int64_t v = first + 1; v < first + group_nodes; ++v) {
        for (int b = 0; b < gpus; ++b) {
          if (!is_expert(job.op) || job.direct || b == 0) see(first, 0, v, b);
        }
      }
    }
  }
  for (const LinkLatency& link : kLatencies) {
    if (switches == 0 ? link.link == "NVLink" : link.link == link_name) {
      return latency_us(link, std::max(switches, 1));
    }
  }
  return 0;
}

JobAnswer answer(const Cluster& cluster, const Job& job, const JobSettings& settings, const Scenario& scenario,
                 double fluid_s, double num_parts, std::optional<double> healthy_s, const std::string& how) {
  JobAnswer a;
  a.op = settings.op;
  const auto ranks = static_cast<double>(is_ring(job.op) ? ring_ranks_of(cluster, job) : ranks_of(cluster, job));
  double steps = num_parts, latency_us = 0;
  std::string steps_formula = "steps of the longest way's latency";
  if (is_ring(job.op)) {
    steps = (ranks - 1) * (job.op == JobOp::kAllReduce ? 2 : 1);
    steps_formula = job.op == JobOp::kAllReduce ? "2 (ranks - 1) steps" : "ranks - 1 steps";
  }
  if (scenario.network.latency != "none") {
    latency_us = steps * step_latency_us(cluster, job, scenario.network.latency);
  }
  a.seconds = fluid_s + latency_us / 1e6 + settings.alpha_us / 1e6;
  const std::string prototype = "fluid flows, max-min fair";
  a.figures.push_back({"time", a.seconds * 1e6, "us", "bytes on links + latency + software", prototype});
  a.figures.push_back({"of it bytes on links", fluid_s * 1e6, "us", how, prototype});
  if (latency_us > 0) {
    a.figures.push_back(
        {"of it latency", latency_us, "us", figure_text(steps) + " x " + steps_formula, "arXiv 2505.09343, table 5"});
  }
  if (settings.alpha_us > 0) {
    a.figures.push_back({"of it software", settings.alpha_us, "us", "alpha_us", "given"});
  }
  if (healthy_s) {
    a.figures.push_back({"bytes on links when nothing is broken", *healthy_s * 1e6, "us", how, prototype});
    a.figures.push_back({"bandwidth against healthy", 100 * (*healthy_s / fluid_s - 1), "%",
                         "healthy time / time - 1, of bytes on links", prototype});
  }
  const std::string tests = "nccl-tests, doc/PERFORMANCE.md";
  if (is_expert(job.op)) {
    const auto hits = draw_gate(gate_of(cluster, job));  // the same draws that made the traffic: cannot fail now
    if (hits) {
      const double copies = job.direct ? static_cast<double>(job.top_k) : hits->nodes;
      const std::string drawn = "mean over " + std::to_string(kGateTokens) + " drawn tokens";
      a.figures.push_back({"nodes per token", hits->nodes, "", drawn, "sim/gate"});
      a.figures.push_back({"GPUs per token", hits->gpus, "", drawn, "sim/gate"});
      if (!job.recorded.empty()) {
        const double most = *std::max_element(job.recorded.begin(), job.recorded.end());
        const double sum = std::accumulate(job.recorded.begin(), job.recorded.end(), 0.0);
        a.figures.push_back({"busiest expert, recorded", most / sum * static_cast<double>(job.experts), "",
                             "its tokens / those of the mean expert", settings.gate_file});
        a.figures.push_back({"busiest expert, drawn", hits->busiest, "", drawn, "sim/gate"});
      }
      a.figures.push_back({"logical bandwidth", static_cast<double>(job.tokens) * job.bytes * copies / a.seconds / 1e9,
                           "GB/s",
                           job.direct ? "tokens * top_k * bytes / time" : "tokens * nodes per token * bytes / time",
                           "as DeepEP counts, copies to the own node too"});
    }
  } else {
    const double algbw = job.bytes / a.seconds / 1e9;
    a.figures.push_back({"algbw", algbw, "GB/s", "bytes / time", tests});
    if (job.op != JobOp::kSend) {
      const double factor = (job.op == JobOp::kAllReduce ? 2 : 1) * (ranks - 1) / ranks;
      a.figures.push_back(
          {"busbw", algbw * factor, "GB/s",
           job.op == JobOp::kAllReduce ? "algbw * 2 (ranks - 1) / ranks" : "algbw * (ranks - 1) / ranks", tests});
    }
  }
  return a;
}

std::string words(const Cluster& cluster, const Scenario& scenario) {
  const ClusterSpec& s = cluster.spec();
  std::string text = scenario.network.fabric + ", " + figure_text(static_cast<double>(s.gpus)) + " GPUs in nodes of " +
                     std::to_string(s.gpus_per_node);
  if (s.planes > 1) text += (s.kind == FabricKind::kMrft ? ", rails " : ", planes ") + std::to_string(s.planes);
  if (cluster.graph()) text += " on " + figure_text(cluster.graph()->num_switches()) + " switches";
  text += ", " + scenario.network.routing + " routing" + (s.pxn ? ", PXN" : ", no PXN");
  if (s.dead_plane >= 0) text += ", plane " + std::to_string(s.dead_plane) + " dead";
  if (s.dead_nic >= 0) text += ", NIC " + std::to_string(s.dead_nic) + " of node 0 dead";
  if (s.lost_uplinks > 0)
    text += ", " + std::to_string(s.lost_uplinks) +
            (cluster.graph() ? " links of a switch lost" : " uplinks of a leaf lost");
  return text;
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

Json to_json(const Simulation& simulation) {
  const auto list = [](const std::vector<Figure>& figures) {
    Json all = Json::array();
    for (const Figure& f : figures) all.push(to_json(f));
    return all;
  };
  Json jobs = Json::array(), links = Json::array(), json = Json::object();
  for (const JobAnswer& job : simulation.jobs) {
    jobs.push(Json::object().set("op", job.op).set("seconds", job.seconds).set("figures", list(job.figures)));
  }
  for (const LinkAnswer& link : simulation.links) {
    links.push(Json::object()
                   .set("name", link.name)
                   .set("kind", link.kind)
                   .set("alike", link.alike)
                   .set("bytes", link.bytes)
                   .set("gbps", link.gbps)
                   .set("seconds", link.seconds)
                   .set("formula", "bytes over one link / its rate"));
  }
  return json.set("cluster", simulation.cluster)
      .set("engine", engine_name(simulation.engine))
      .set("jobs", std::move(jobs))
      .set("links", std::move(links))
      .set("work", list(simulation.work));
}

Result<Simulation> simulate(const Scenario& scenario, FlowEngine engine) {
  const auto cluster = cluster_of(scenario);
  if (!cluster) return cluster.error();
  std::vector<Job> jobs;
  std::vector<const JobSettings*> settings = {&scenario.job};
  const auto first = job_of(scenario.job, "job");
  if (!first) return first.error();
  jobs.push_back(*first);
  if (scenario.also.op != "none") {
    const auto second = job_of(scenario.also, "also");
    if (!second) return second.error();
    jobs.push_back(*second);
    settings.push_back(&scenario.also);
    if (scenario.job.window > 0) {
      return invalid("job.window is " + std::to_string(scenario.job.window) +
                     " beside also.op: windows of one job alone can be simulated; accepted: 0");
    }
    if (engine == FlowEngine::kBound) {
      return invalid("engine bound knows one job's time only, and also.op is given; accepted: maxmin, simgrid");
    }
  }
  auto totals = run_jobs(*cluster, jobs, scenario.job.window, engine);
  if (!totals) return totals.error();
  std::optional<Totals> healthy;
  const ClusterSpec& spec = cluster->spec();
  if (spec.dead_plane >= 0 || spec.dead_nic >= 0 || spec.lost_uplinks > 0) {
    Scenario whole = scenario;
    whole.fail = {};
    const auto mended = cluster_of(whole);
    if (!mended) return mended.error();
    auto run = run_jobs(*mended, jobs, scenario.job.window, totals->engine);
    if (!run) return run.error();
    healthy = *std::move(run);
  }

  Simulation result;
  result.cluster = words(*cluster, scenario);
  result.engine = totals->engine;
  const std::string how = totals->engine == FlowEngine::kBound
                              ? "the largest bytes / rate of a link"
                              : "rates are max-min fair at every moment, until the last flow ends";
  for (size_t j = 0; j < jobs.size(); ++j) {
    std::optional<double> healthy_s;
    if (healthy) healthy_s = healthy->seconds[j];
    result.jobs.push_back(
        answer(*cluster, jobs[j], *settings[j], scenario, totals->seconds[j], totals->num_parts, healthy_s, how));
  }
  std::array<LinkAnswer, kNumLinkKinds> worst;
  for (const auto& [key, load] : totals->load.by_group) {
    const LinkGroup& group = load.group;
    LinkAnswer& most = worst[static_cast<size_t>(key.kind)];
    const double seconds = load.bytes / (group.gbps * 1e9);
    if (seconds <= most.seconds) continue;
    most = {cluster->name(group.first), group.count, load.bytes, group.gbps, seconds, link_kind_name(key.kind)};
  }
  std::array<size_t, kNumLinkKinds> order{};
  std::iota(order.begin(), order.end(), size_t{0});
  std::sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    return worst[a].seconds != worst[b].seconds ? worst[a].seconds > worst[b].seconds : a < b;
  });
  for (size_t kind : order) {
    if (worst[kind].seconds > 0) result.links.push_back(std::move(worst[kind]));
  }
  result.work = {{"flows", totals->num_flows, "", "messages between two GPUs, by each of their ways", "counted"},
                 {"different flows", totals->num_classes, "", "classes of flows that are alike", "counted"},
                 {"parts", totals->num_parts, "", "windows, one after the other", "counted"}};
  if (totals->engine == FlowEngine::kMaxMin) {
    result.work.push_back({"solves", totals->num_solves, "", "times that rates were computed", "counted"});
  }
  result.loads = std::move(totals->load);
  result.loads.seconds = *std::max_element(totals->seconds.begin(), totals->seconds.end());
  return result;
}

}  // namespace fathom
