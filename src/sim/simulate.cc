#include "sim/simulate.h"

#include <algorithm>
#include <array>
#include <numeric>
#include <optional>

#include "cluster/hardware.h"
#include "report/table.h"

namespace fathom {
namespace {

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

/// What a job's time is up to. `link`: JobsRun::limit. From its first byte to its last it is
/// idle while one window waits for its slowest flow, and for the latency of the next.
JobLimit limit_of(const Cluster& cluster, const LinkLoad& link, double link_s, double latency_us, double software_us,
                  const JobsRun& run, int64_t window) {
  constexpr double kFull = 0.99;
  const double between_us = latency_us * (run.num_parts - 1) / run.num_parts, us = link_s * 1e6 + between_us;
  const double share = link.seconds() * 1e6 / us;
  std::string fullest = cluster.name(link.group.first);
  if (run.seconds.size() > 1) {
    fullest += ", which all its jobs together need for " + figure_text(link.seconds() * 1e6) + " us";
  } else {
    fullest += ", needed " + figure_text(100 * share) + " % of the " + figure_text(us) + " us from first byte to last";
  }
  if (software_us > us && software_us >= latency_us) {
    return {"software", "software: " + figure_text(software_us) + " us before the first byte"};
  }
  if (run.num_parts > 1 && share < kFull) {
    return {"window", "window of " + std::to_string(window) + (window == 1 ? " peer" : " peers") +
                          ": the fullest link is " + fullest};
  }
  if (latency_us > us) return {"latency", "latency: " + figure_text(latency_us) + " us"};
  return {link_kind_name(link.group.first.kind), fullest};
}

JobAnswer answer(const Cluster& cluster, const NamedJob& named, const Scenario& scenario, const JobsRun& run, size_t id,
                 std::optional<double> healthy_s) {
  const Job& job = named.job;
  const JobSettings& settings = named.settings;
  const double fluid_s = run.seconds[id];
  const std::string how = run.engine == FlowEngine::kBound
                              ? "the largest bytes / rate of a link"
                              : "rates are max-min fair at every moment, until the last flow ends";
  JobAnswer a;
  a.name = named.name;
  a.op = settings.op;
  a.link_seconds = fluid_s;
  const auto ranks = static_cast<double>(is_ring(job.op) ? ring_ranks_of(cluster, job) : ranks_of(cluster, job));
  double steps = run.num_parts, latency_us = 0;
  std::string steps_formula = "steps of the longest way's latency";
  if (is_ring(job.op)) {
    steps = (ranks - 1) * (job.op == JobOp::kAllReduce ? 2 : 1);
    steps_formula = job.op == JobOp::kAllReduce ? "2 (ranks - 1) steps" : "ranks - 1 steps";
  }
  if (scenario.network.latency != "none") {
    latency_us = steps * step_latency_us(cluster, job, scenario.network.latency);
  }
  a.seconds = fluid_s + latency_us / 1e6 + settings.alpha_us / 1e6;
  const LinkLoad& link = run.load.by_group.at(run.limit[id]);
  a.limit = limit_of(cluster, link, fluid_s, latency_us, settings.alpha_us, run, settings.window);
  const std::string prototype = "fluid flows, max-min fair";
  a.figures.push_back({"time", a.seconds * 1e6, "us", "bytes on links + latency + software", prototype});
  a.figures.push_back({"of it bytes on links", fluid_s * 1e6, "us", how, prototype});
  if (run.seconds.size() == 1) {  // of several jobs, none has the link for itself
    a.figures.push_back({"of them the limiting link's", 100 * link.seconds() / fluid_s, "%",
                         "bytes / efficiency / rate of the link that its last flows wait for, over the above",
                         prototype});
  }
  if (latency_us > 0) {
    a.figures.push_back(
        {"of it latency", latency_us, "us", figure_text(steps) + " x " + steps_formula, "arXiv 2505.09343, table 5"});
  }
  if (settings.alpha_us > 0) {
    a.figures.push_back({"of it software", settings.alpha_us, "us", "alpha_us", "given"});
  }
  if (healthy_s) {
    a.figures.push_back({"bytes on links when nothing is broken", *healthy_s * 1e6, "us", how, prototype});
    const double gained = *healthy_s / fluid_s - 1;
    constexpr double kRounding = 1e-9;  // of the engines' own arithmetic
    a.figures.push_back({"bandwidth against healthy", std::abs(gained) < kRounding ? 0 : 100 * gained, "%",
                         "healthy time / time - 1, of bytes on links", prototype});
  }
  if (job.op == JobOp::kCombine && job.efficiency == 1) {
    a.notes.push_back(
        std::string("computed as fast as a dispatch of these bytes; DeepEP's combine reaches ") +
        (job.direct ? "0.86 of its low-latency dispatch's rate and starts after 5.7 us: job.efficiency, job.alpha_us"
                    : "0.94 of its dispatch's rate: job.efficiency"));
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
  if (s.dead_leaf >= 0) {
    text += ", leaf 0 of " + std::string(s.kind == FabricKind::kMrft ? "rail " : "plane ") +
            std::to_string(s.dead_leaf) + " dead";
  }
  if (s.dead_nic >= 0) text += ", NIC " + std::to_string(s.dead_nic) + " of node 0 dead";
  if (s.lost_uplinks > 0)
    text += ", " + std::to_string(s.lost_uplinks) +
            (cluster.graph() ? " links of a switch lost" : " uplinks of a leaf lost");
  return text;
}

/// What was given and changes nothing, a line each. (What belongs to another op or fabric is an error: scenario.)
std::vector<std::string> idle_settings(const Cluster& cluster, const Scenario& scenario,
                                       const std::vector<NamedJob>& jobs) {
  const Scenario none;
  std::vector<std::string> notes;
  const auto& fail = scenario.fail;
  if (!fail.spread && fail.plane < 0 && fail.leaf < 0 && fail.nic < 0) {
    notes.push_back("fail.spread = false changes nothing: it is where the traffic of a dead plane, leaf or NIC goes");
  }
  const auto died_before = [&](const char* key, int64_t value, int64_t plane) {
    if (value < 0) return;
    const bool is_of_plane = plane == fail.plane;
    if (!is_of_plane && (std::string(key) == "leaf" || plane != fail.leaf)) return;
    notes.push_back(std::string("fail.") + key + " = " + std::to_string(value) + " changes nothing: it is dead with " +
                    (is_of_plane ? "fail.plane" : "fail.leaf"));
  };
  died_before("leaf", fail.leaf, fail.leaf);
  died_before("nic", fail.nic, fail.nic % cluster.spec().planes);
  const FabricKind kind = cluster.spec().kind;
  if (scenario.network.planes != none.network.planes && kind != FabricKind::kMpft && kind != FabricKind::kMrft) {
    notes.push_back("network.planes = " + std::to_string(scenario.network.planes) +
                    " changes nothing: " + scenario.network.fabric + " has none; mpft and mrft have");
  }
  const bool has_hashes = cluster.spec().routing == Routing::kEcmp;
  if (scenario.network.seed != none.network.seed && !has_hashes) {
    notes.push_back("network.seed = " + std::to_string(scenario.network.seed) +
                    " changes nothing: it is of ECMP's hash");
  }
  if (scenario.failures.link_mtbf_h > 0 && cluster.counts().switch_links() == 0) {
    notes.push_back("failures.link_mtbf_h changes nothing: " + figure_text(static_cast<double>(cluster.spec().gpus)) +
                    " GPUs need no link between switches");
  }
  for (const NamedJob& job : jobs) {
    if (job.settings.queue_pairs != none.job.queue_pairs && !has_hashes) {
      notes.push_back(job.name + ".queue_pairs = " + std::to_string(job.settings.queue_pairs) +
                      " changes nothing: ECMP alone hashes them");
    }
    if (job.settings.weight != none.job.weight && jobs.size() == 1) {
      notes.push_back(job.name + ".weight = " + figure_text(job.settings.weight) +
                      " changes nothing: no other job shares its links");
    }
  }
  return notes;
}

}  // namespace

Json to_json(const Simulation& simulation) {
  const auto list = [](const std::vector<Figure>& figures) {
    Json all = Json::array();
    for (const Figure& f : figures) all.push(to_json(f));
    return all;
  };
  Json jobs = Json::array(), links = Json::array(), json = Json::object();
  for (const JobAnswer& job : simulation.jobs) {
    jobs.push(Json::object()
                  .set("name", job.name)
                  .set("op", job.op)
                  .set("seconds", job.seconds)
                  .set("limit", Json::object().set("resource", job.limit.resource).set("text", job.limit.text))
                  .set("notes", text_json(job.notes))
                  .set("figures", list(job.figures)));
  }
  for (const LinkAnswer& link : simulation.links) {
    links.push(Json::object()
                   .set("name", link.name)
                   .set("kind", link.kind)
                   .set("alike", link.alike)
                   .set("bytes", link.bytes)
                   .set("gbps", link.gbps)
                   .set("seconds", link.seconds)
                   .set("formula", "bytes over one link / efficiency of the job / its rate"));
  }
  if (!simulation.failures.empty()) json.set("failures", list(simulation.failures));
  return json.set("cluster", simulation.cluster)
      .set("notes", text_json(simulation.notes))
      .set("engine", engine_name(simulation.engine))
      .set("fabric", list(simulation.fabric))
      .set("jobs", std::move(jobs))
      .set("links", std::move(links))
      .set("work", list(simulation.work));
}

Result<Simulation> simulate(const Scenario& scenario, FlowEngine engine, const RateBudget& budget) {
  const auto cluster = cluster_of(scenario);
  if (!cluster) return cluster.error();
  const auto prices = prices_of(scenario.prices, "prices");
  if (!prices) return prices.error();
  const auto named = jobs_of(scenario);
  if (!named) return named.error();
  const int64_t window = scenario.job.window;
  if (named->size() > 1) {
    const std::string& other = (*named)[1].name;
    if (window > 0) {
      return invalid("job.window is " + std::to_string(window) + " beside " + other +
                     ".op: windows of one job alone can be simulated; accepted: 0");
    }
    if (engine == FlowEngine::kBound) {
      return invalid("engine bound knows one job's time only, and " + other +
                     ".op is given; accepted: maxmin, simgrid");
    }
  }
  const auto failures = failures_of(scenario, *cluster);
  if (!failures) return failures.error();
  Simulation result;
  if (*failures) {
    auto figures = stop_figures(scenario, *cluster, **failures);
    if (!figures) return figures.error();
    result.failures = *std::move(figures);
  }
  std::vector<Job> jobs;
  for (const NamedJob& job : *named) jobs.push_back(job.job);
  auto run = run_jobs(*cluster, jobs, window, engine, budget);
  if (!run) return run.error();
  std::optional<JobsRun> healthy;
  if (cluster->is_broken()) {
    Scenario whole = scenario;
    whole.fail = {};
    const auto mended = cluster_of(whole);
    if (!mended) return mended.error();
    const RateBudget left = budget ? RateBudget(std::max<int64_t>(*budget - run->num_rates, 0)) : budget;
    auto whole_run = run_jobs(*mended, jobs, window, run->engine, left);
    if (!whole_run) return whole_run.error();
    healthy = *std::move(whole_run);
  }

  result.cluster = words(*cluster, scenario);
  if (cluster->spec().nic_gbps >= 4 * cluster->spec().port_gbps) {
    result.notes.push_back("network.nic_gbps is " + figure_text(cluster->spec().nic_gbps) + " GB/s, that is " +
                           figure_text(8 * cluster->spec().nic_gbps) + " Gb/s, and network.port_gbps " +
                           figure_text(cluster->spec().port_gbps) + " GB/s: a NIC of 400 Gb/s has 50 GB/s");
  }
  for (std::string& note : idle_settings(*cluster, scenario, *named)) result.notes.push_back(std::move(note));
  result.engine = run->engine;
  result.num_rates = run->num_rates + (healthy ? healthy->num_rates : 0);
  auto fabric = fabric_figures(cluster->counts(), *prices);
  if (!fabric) return fabric.error();
  result.fabric = *std::move(fabric);
  for (size_t j = 0; j < named->size(); ++j) {
    std::optional<double> healthy_s;
    if (healthy) healthy_s = healthy->seconds[j];
    result.jobs.push_back(answer(*cluster, (*named)[j], scenario, *run, j, healthy_s));
  }
  std::array<LinkAnswer, kNumLinkKinds> worst;
  for (const auto& [key, load] : run->load.by_group) {
    const LinkGroup& group = load.group;
    LinkAnswer& most = worst[static_cast<size_t>(key.kind)];
    const double seconds = load.seconds();
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
  result.work = {{"flows", run->num_flows, "", "messages between two GPUs, by each of their ways", "counted"},
                 {"different flows", run->num_classes, "", "classes of flows that are alike", "counted"},
                 {"parts", run->num_parts, "", "windows, one after the other", "counted"}};
  if (run->engine == FlowEngine::kMaxMin) {
    result.work.push_back({"solves", run->num_solves, "", "times that rates were computed", "counted"});
    result.work.push_back({"rates", static_cast<double>(result.num_rates), "",
                           "of different flows that still moved, over all solves" +
                               std::string(healthy ? ", with nothing broken too" : ""),
                           "counted"});
  }
  result.loads = std::move(run->load);
  return result;
}

}  // namespace fathom
