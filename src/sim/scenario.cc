#include "sim/scenario.h"

#include <array>

#include "base/figure.h"
#include "sim/recorded_gate.h"

namespace fathom {

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
  if (!settings.gate_file.empty()) {
    if (!is_expert(job.op)) {
      return invalid(std::string(name) + ".gate_file is given for " + std::string(name) + ".op = \"" + settings.op +
                     "\"; accepted: with dispatch and combine");
    }
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
