#include "sim/scenario.h"

#include <array>

#include "base/figure.h"
#include "sim/recorded_gate.h"

namespace fathom {
namespace {

/// A setting that this fabric, or op, does not look at.
struct Unused {
  const char* key;
  bool is_given, is_used;
  const char* accepted;
};

Status check_fabric_keys(const Scenario::NetworkSettings& n) {
  const bool is_slim_fly = n.fabric == "slimfly", is_dragonfly = n.fabric == "dragonfly";
  for (const Unused& u :
       {Unused{"slim_fly_q", n.slim_fly_q != 0, is_slim_fly, "slimfly"},
        Unused{"dragonfly_groups", n.dragonfly_groups != 0, is_dragonfly, "dragonfly"},
        Unused{"gpus_per_switch", n.gpus_per_switch != 0, is_slim_fly || is_dragonfly, "slimfly and dragonfly"}}) {
    if (u.is_given && !u.is_used) {
      return invalid(std::string("network.") + u.key + " is given for network.fabric = \"" + n.fabric +
                     "\"; accepted: with " + u.accepted);
    }
  }
  return {};
}

Status check_op_keys(const JobSettings& s, JobOp op, const std::string& name) {
  const JobSettings none;
  const char *experts = "dispatch and combine", *rings = "all-gather, reduce-scatter and all-reduce", *send = "send";
  const bool has_experts = is_expert(op), has_rings = is_ring(op), is_send = op == JobOp::kSend;
  for (const Unused& u :
       {Unused{"gate_file", s.gate_file != none.gate_file, has_experts, experts},
        Unused{"ranks", s.ranks != none.ranks, !is_send, "all but send"},
        Unused{"ring_gpus", s.ring_gpus != none.ring_gpus, has_rings, rings},
        Unused{"ring_stride", s.ring_stride != none.ring_stride, has_rings, rings},
        Unused{"tokens", s.tokens != none.tokens, has_experts, experts},
        Unused{"experts", s.experts != none.experts, has_experts, experts},
        Unused{"top_k", s.top_k != none.top_k, has_experts, experts},
        Unused{"max_nodes", s.max_nodes != none.max_nodes, has_experts, experts},
        Unused{"skew", s.skew != none.skew, has_experts, experts},
        Unused{"seed", s.seed != none.seed, has_experts, experts},
        Unused{"gate_layer", s.gate_layer != none.gate_layer, !s.gate_file.empty(), "a gate_file"},
        Unused{"direct", s.direct != none.direct, has_experts, experts},
        Unused{"from", s.from != none.from, is_send, send}, Unused{"to", s.to != none.to, is_send, send}}) {
    if (u.is_given && !u.is_used) {
      return invalid(name + "." + u.key + " is given for " + name + ".op = \"" + s.op + "\"; accepted: with " +
                     u.accepted);
    }
  }
  return {};
}

}  // namespace

std::string job_name(size_t i) { return i == 0 ? "job" : "also" + (i == 1 ? "" : std::to_string(i)); }

std::string scenario_toml(const Scenario& scenario) {
  Scenario copy = scenario;
  ConfigFields fields;
  copy.fields(fields);
  std::vector<ConfigField> list = fields.list();
  std::erase_if(list, [&](const ConfigField& field) {
    for (size_t i = 1; i < kMostJobs; ++i) {
      if (field.key.starts_with(job_name(i) + ".")) return scenario.settings(i) == JobSettings{};
    }
    return false;
  });
  return config_to_toml(list);
}

Result<Cluster> cluster_of(const Scenario& scenario) {
  const auto& n = scenario.network;
  if (n.gpus == 0) return invalid("network.gpus is missing: how many GPUs the cluster has, as network.gpus = 2048");
  if (auto ok = check_fabric_keys(n); !ok) return ok.error();
  ClusterSpec s;
  s.kind = n.fabric == "ft2"         ? FabricKind::kFt2
           : n.fabric == "ft3"       ? FabricKind::kFt3
           : n.fabric == "mrft"      ? FabricKind::kMrft
           : n.fabric == "slimfly"   ? FabricKind::kSlimFly
           : n.fabric == "dragonfly" ? FabricKind::kDragonfly
                                     : FabricKind::kMpft;
  s.slim_fly_q = static_cast<int>(n.slim_fly_q);
  s.gpus_per_switch = static_cast<int>(n.gpus_per_switch);
  s.dragonfly_groups = static_cast<int>(n.dragonfly_groups);
  s.gpus = n.gpus;
  s.gpus_per_node = static_cast<int>(n.gpus_per_node);
  s.planes = static_cast<int>(n.planes);
  s.radix = static_cast<int>(n.radix);
  s.nic_gbps = n.nic_gbps;
  s.nvlink_gbps = n.nvlink_gbps;
  s.port_gbps = n.port_gbps;
  s.routing = n.routing == "ecmp"      ? Routing::kEcmp
              : n.routing == "static"  ? Routing::kStatic
              : n.routing == "valiant" ? Routing::kValiant
                                       : Routing::kAdaptive;
  s.seed = static_cast<uint64_t>(n.seed);
  s.pxn = n.pxn;
  s.dead_plane = static_cast<int>(scenario.fail.plane);
  s.dead_leaf = static_cast<int>(scenario.fail.leaf);
  s.dead_nic = static_cast<int>(scenario.fail.nic);
  s.lost_uplinks = static_cast<int>(scenario.fail.uplinks);
  s.spread = scenario.fail.spread;
  return Cluster::make(s);
}

Result<Job> job_of(const JobSettings& settings, std::string_view name) {
  constexpr std::array<std::pair<const char*, JobOp>, 7> kOps{{{"all-to-all", JobOp::kAllToAll},
                                                               {"all-gather", JobOp::kAllGather},
                                                               {"reduce-scatter", JobOp::kReduceScatter},
                                                               {"all-reduce", JobOp::kAllReduce},
                                                               {"dispatch", JobOp::kDispatch},
                                                               {"combine", JobOp::kCombine},
                                                               {"send", JobOp::kSend}}};
  Job job;
  bool is_known = false;
  for (const auto& [op, value] : kOps) {
    if (settings.op == op) job.op = value, is_known = true;
  }
  if (settings.op == "none") {
    return invalid(std::string(name) +
                   ".op is \"none\", which takes out also, also2 and so on; accepted: what the GPUs do, as " +
                   std::string(name) + ".op = \"all-to-all\"");
  }
  if (!is_known) {
    return invalid(std::string(name) + ".op is missing: what the GPUs do, as " + std::string(name) +
                   ".op = \"all-to-all\"");
  }
  if (!(settings.bytes > 0)) {
    return invalid(std::string(name) + ".bytes is missing: how much the " + settings.op + " moves, as 1e9");
  }
  if (settings.bytes < 1) {
    return invalid(std::string(name) + ".bytes is " + figure_text(settings.bytes) + "; accepted: 1 or more");
  }
  if (settings.window > 0 && (job.op != JobOp::kAllToAll || name != "job")) {
    return invalid(std::string(name) + ".window is " + std::to_string(settings.window) +
                   "; accepted: with job.op = \"all-to-all\" only");
  }
  if (auto ok = check_op_keys(settings, job.op, std::string(name)); !ok) return ok.error();
  if (!settings.gate_file.empty()) {
    if (settings.skew > 0) {
      return invalid(std::string(name) + ".gate_file and " + std::string(name) +
                     ".skew both say how popular experts are; accepted: one of them");
    }
    auto gate = read_gate(settings.gate_file, settings.gate_layer);
    if (!gate) return gate.error();
    job.recorded = std::move(gate->tokens);
  }
  job.bytes = settings.bytes;
  job.ranks = settings.ranks;
  job.ring_gpus = static_cast<int>(settings.ring_gpus);
  job.ring_stride = settings.ring_stride;
  job.queue_pairs = static_cast<int>(settings.queue_pairs);
  job.weight = settings.weight;
  job.efficiency = settings.efficiency;
  job.tokens = settings.tokens;
  job.experts = settings.experts;
  job.top_k = settings.top_k;
  job.max_nodes = settings.max_nodes;
  job.skew = settings.skew;
  job.seed = static_cast<uint64_t>(settings.seed);
  job.direct = settings.direct;
  job.from = settings.from;
  job.to = settings.to;
  return job;
}

namespace {

/// What can stop the job: how many there are, and how often each fails.
struct Stopper {
  const char* key;   // of failures
  const char* name;  // "GPUs"
  int64_t count;
  double mtbf_h;

  double per_h() const { return static_cast<double>(count) / mtbf_h; }
};

/// Those with a rate.
std::vector<Stopper> stoppers_of(const Scenario& scenario, const Cluster& cluster) {
  const auto& f = scenario.failures;
  const int64_t gpus = cluster.spec().gpus;
  const Fabric& fabric = cluster.counts();
  std::vector<Stopper> all = {{"gpu_mtbf_h", "GPUs", gpus, f.gpu_mtbf_h},
                              {"nic_mtbf_h", "NICs", gpus, f.nic_mtbf_h},
                              {"switch_mtbf_h", "switches", fabric.switches, f.switch_mtbf_h},
                              {"link_mtbf_h", "links", fabric.switch_links(), f.link_mtbf_h}};
  std::erase_if(all, [](const Stopper& s) { return s.mtbf_h == 0 || s.count == 0; });
  return all;
}

double stops_per_h(const std::vector<Stopper>& stoppers) {
  double sum = 0;
  for (const Stopper& s : stoppers) sum += s.per_h();
  return sum;
}

}  // namespace

Result<std::optional<FailureCase>> failures_of(const Scenario& scenario, const Cluster& cluster) {
  const auto& f = scenario.failures;
  if (f == Scenario::Failures{}) return std::optional<FailureCase>();
  const std::vector<Stopper> stoppers = stoppers_of(scenario, cluster);
  if (stoppers.empty()) {
    return invalid(
        "failures has no rate of anything that the fabric has; accepted: failures.gpu_mtbf_h, nic_mtbf_h, "
        "switch_mtbf_h "
        "or link_mtbf_h, hours between failures of one, as failures.gpu_mtbf_h = 50000");
  }
  FailureCase out{
      .model = {.mtbf_h = 1 / stops_per_h(stoppers), .checkpoint_min = f.checkpoint_min, .restart_min = f.restart_min},
      .interval_min = f.interval_min,
      .stops = f.stops,
      .seed = static_cast<uint64_t>(f.seed),
      .mtbf_formula = "",
      .stops_when = "one of its "};
  for (size_t i = 0; i < stoppers.size(); ++i) {
    const Stopper& s = stoppers[i];
    out.mtbf_formula += (i == 0 ? "1 / (" : " + ") + figure_text(static_cast<double>(s.count), 9) + " / " + s.key;
    out.stops_when += (i == 0                    ? ""
                       : i + 1 < stoppers.size() ? ", "
                                                 : " or ") +
                      figure_text(static_cast<double>(s.count), 9) + " " + s.name;
  }
  out.mtbf_formula += ")";
  out.stops_when += " does";
  if (!(out.model.mtbf_h > 0) || !(out.model.mtbf_h <= 1e9)) {
    return invalid("failures: " + out.mtbf_formula + " is " + figure_text(out.model.mtbf_h) +
                   " h between stops of the job; accepted: more than 0 to 1e9");
  }
  return std::optional(std::move(out));
}

Result<std::vector<Figure>> stop_figures(const Scenario& scenario, const Cluster& cluster,
                                         const FailureCase& failures) {
  auto group = failure_figures(failures);
  if (!group) return group.error();
  const std::vector<Stopper> stoppers = stoppers_of(scenario, cluster);
  std::vector<Figure> more = {{"stops a day", 24 / failures.model.mtbf_h, "", "24 h / time between stops", "settings"}};
  for (const Stopper& s : stoppers) {
    if (stoppers.size() == 1) break;
    more.push_back({std::string("of them because of ") + s.name, 100 * s.per_h() / stops_per_h(stoppers), "%",
                    figure_text(static_cast<double>(s.count), 9) + " / " + s.key + " * time between stops",
                    "settings"});
  }
  group->figures.insert(group->figures.begin() + 1, more.begin(), more.end());
  return std::move(group->figures);
}

Result<std::vector<NamedJob>> jobs_of(const Scenario& scenario) {
  std::vector<NamedJob> jobs;
  for (size_t i = 0; i < kMostJobs; ++i) {
    const JobSettings& settings = scenario.settings(i);
    if (i > 0 && (settings.op == "none" || settings == JobSettings{})) continue;  // off, or not there
    auto job = job_of(settings, job_name(i));
    if (!job) return job.error();
    jobs.push_back({job_name(i), settings, *std::move(job)});
  }
  return jobs;
}

}  // namespace fathom
