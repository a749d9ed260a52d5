// Scenario: what `fathom simulate` reads from a file: a cluster, the jobs that share its links, what is broken, and
// what it costs.
#pragma once

#include <array>
#include <optional>
#include <string>
#include <string_view>

#include "base/config.h"
#include "cluster/price.h"
#include "cluster/routing.h"
#include "sim/failure_answer.h"
#include "sim/traffic.h"

namespace fathom {

struct JobSettings {
  std::string op;  // empty: not given
  double bytes = 0;
  int64_t ranks = 0, ring_gpus = 0, ring_stride = 1, queue_pairs = 1, window = 0;
  double weight = 1, alpha_us = 0, efficiency = 1;
  int64_t tokens = 4096, experts = 256, top_k = 8, max_nodes = 4, seed = 1;
  double skew = 0;
  std::string gate_file;
  int64_t gate_layer = -1;
  bool direct = false;
  int64_t from = 0, to = 1;

  bool operator==(const JobSettings&) const = default;

  template <class V>
  void fields(V& v, const std::string& name) {
    v(name + ".op", op, "what the GPUs do; none: the section does not count",
      one_of({"all-to-all", "all-gather", "reduce-scatter", "all-reduce", "dispatch", "combine", "send", "none", ""}));
    v(name + ".bytes", bytes,
      "all-to-all: a rank's whole buffer; all-gather, reduce-scatter, all-reduce: the whole result; dispatch, combine: "
      "one copy of a token; send: the message",
      between(0, 1e18));
    v(name + ".ranks", ranks, "consecutive GPUs of a group, whole nodes; every group does the same; 0: all",
      between(0, 1 << 24));
    v(name + ".ring_gpus", ring_gpus, "GPUs of a node in one ring, the others in rings beside it; 0: all",
      between(0, 1024));
    v(name + ".ring_stride", ring_stride, "nodes from one of a ring to its next, those between in rings beside it",
      between(1, 1 << 20));
    v(name + ".queue_pairs", queue_pairs, "of each pair of NICs; ECMP hashes each", between(1, 1024));
    v(name + ".window", window, "all-to-all: peer nodes in flight; 0: all at once", between(0, 1 << 20));
    v(name + ".weight", weight, "of the job's virtual lane: its flows against flows of weight 1", between(1e-6, 1e6));
    v(name + ".alpha_us", alpha_us, "time of the software before the first byte", between(0, 1e9));
    v(name + ".efficiency", efficiency,
      "of the links' rates, what this job's kernels reach: each byte keeps a link busy 1 / efficiency as long",
      between(0.01, 1));
    v(name + ".tokens", tokens, "of a GPU, for dispatch and combine", between(1, 1 << 30));
    v(name + ".experts", experts, "of the layer, redundant ones included", between(1, 65536));
    v(name + ".top_k", top_k, "experts of a token", between(1, kMostTopK));
    v(name + ".max_nodes", max_nodes, "nodes of a token at most", between(1, 65536));
    v(name + ".skew", skew, "popularity of experts: rank^-skew; 0: all alike", between(0, 10));
    v(name + ".seed", seed, "of the popularity and of the draws", between(0, 1e18));
    v(name + ".gate_file", gate_file,
      "dispatch, combine: how often each expert was chosen, instead of skew: what GET /api/stats of fathom serve "
      "answered");
    v(name + ".gate_layer", gate_layer, "of that file; -1: the one with the busiest expert", between(-1, 1 << 20));
    v(name + ".direct", direct, "one copy per expert, GPU to GPU (low-latency kernels), not one per node");
    v(name + ".from", from, "send: the GPU", between(0, 1 << 24));
    v(name + ".to", to, "send: to this GPU", between(0, 1 << 24));
  }
};

inline constexpr size_t kMostJobs = 16;
/// "job", "also", "also2" and so on to "also15".
std::string job_name(size_t i);

struct Scenario {
  struct NetworkSettings {
    std::string fabric = "mpft", routing = "adaptive", latency = "none";
    int64_t gpus = 0, gpus_per_node = 8, planes = 8, radix = 64, seed = 1;
    int64_t slim_fly_q = 0, gpus_per_switch = 0, dragonfly_groups = 0;
    double nic_gbps = 40, nvlink_gbps = 160, port_gbps = 50;
    bool pxn = true;
  } network;
  JobSettings job;
  std::array<JobSettings, kMostJobs - 1> also;  // jobs beside it
  struct Broken {
    int64_t plane = -1, leaf = -1, nic = -1, uplinks = 0;
    bool spread = true;
  } fail;
  PriceSettings prices;
  struct Failures {  // that stop the job in time
    // Hours between two failures of one; 0: none. Links are those between switches.
    double gpu_mtbf_h = 0, nic_mtbf_h = 0, switch_mtbf_h = 0, link_mtbf_h = 0;
    double checkpoint_min = 0, restart_min = 0, interval_min = 0;
    int64_t stops = 100, seed = 1;  // of the drawn run

    bool operator==(const Failures&) const = default;
  } failures;

  /// Of the i-th section, "job" being 0.
  const JobSettings& settings(size_t i) const { return i == 0 ? job : also[i - 1]; }

  template <class V>
  void fields(V& v) {
    v("network.fabric", network.fabric,
      "trees of two and three layers, multi-plane and multi-rail; Slim Fly, Dragonfly",
      one_of({"ft2", "ft3", "mpft", "mrft", "slimfly", "dragonfly"}));
    v("network.gpus", network.gpus, "of the cluster, a NIC each", between(0, 1 << 20));
    v("network.gpus_per_node", network.gpus_per_node, "that NVLink joins", between(1, 1024));
    v("network.planes", network.planes, "of mpft; rails of mrft", between(1, 8));
    v("network.radix", network.radix, "ports of a switch", between(4, 1024));
    v("network.slim_fly_q", network.slim_fly_q,
      "slimfly: a prime power, 2 q^2 switches; 0: the smallest that holds the GPUs", between(0, 512));
    v("network.gpus_per_switch", network.gpus_per_switch,
      "slimfly, dragonfly; 0: half of a switch's links to others, and (radix + 1) / 4", between(0, 1024));
    v("network.dragonfly_groups", network.dragonfly_groups,
      "dragonfly: groups of 2 gpus_per_switch switches; 0: as many as the GPUs need", between(0, 1 << 20));
    v("network.nic_gbps", network.nic_gbps, "a NIC as measured, one direction, GB/s", between(0, 1e9));
    v("network.nvlink_gbps", network.nvlink_gbps, "NVLink of a GPU as measured, one direction, GB/s", between(0, 1e9));
    v("network.port_gbps", network.port_gbps, "a port between switches, GB/s", between(0, 1e9));
    v("network.routing", network.routing,
      "how switches choose among uplinks, or minimal ways; valiant: slimfly, dragonfly over a third switch or group",
      one_of({"adaptive", "static", "ecmp", "valiant"}));
    v("network.seed", network.seed, "of ECMP's hash", between(0, 1e18));
    v("network.pxn", network.pxn, "messages change to the target's rail over NVLink in the sender's node");
    v("network.latency", network.latency, "of a step: table 5 of arXiv 2505.09343, or none",
      one_of({"none", "InfiniBand", "RoCE"}));
    job.fields(v, "job");
    for (size_t i = 0; i < also.size(); ++i) also[i].fields(v, job_name(i + 1));
    v("fail.plane", fail.plane, "a plane that is dead; -1: none", between(-1, 7));
    v("fail.leaf", fail.leaf, "the plane, or rail, whose leaf of the first nodes is dead; -1: none", between(-1, 7));
    v("fail.nic", fail.nic, "a NIC of node 0 that is dead; -1: none", between(-1, 1023));
    v("fail.uplinks", fail.uplinks,
      "uplinks, and downlinks, that the first leaf has lost; slimfly, dragonfly: links of the first switch, to other "
      "groups",
      between(0, 1024));
    v("fail.spread", fail.spread, "traffic of the dead goes over all other NICs of a node, or else over the next");
    v("prices.switch_base_dollars", prices.switch_base_dollars, "of a switch without ports", between(-1e9, 1e12));
    v("prices.switch_port_dollars", prices.switch_port_dollars, "per port of a switch; -1: not given", at_least(-1));
    v("prices.link_dollars", prices.link_dollars, "of a link between switches; -1: not given", at_least(-1));
    v("prices.endpoint_dollars", prices.endpoint_dollars,
      "of an endpoint's link; -1: not given; no price given: those that fit table 3 of arXiv 2505.09343", at_least(-1));
    v("failures.gpu_mtbf_h", failures.gpu_mtbf_h, "hours between stops that one GPU causes; 0: none", between(0, 1e12));
    v("failures.nic_mtbf_h", failures.nic_mtbf_h, "of one GPU's NIC and its cable; 0: none", between(0, 1e12));
    v("failures.switch_mtbf_h", failures.switch_mtbf_h, "of one switch; 0: none", between(0, 1e12));
    v("failures.link_mtbf_h", failures.link_mtbf_h, "of one link between switches; 0: none", between(0, 1e12));
    v("failures.checkpoint_min", failures.checkpoint_min, "minutes that the job stands still for a checkpoint",
      between(0, 1e6));
    v("failures.restart_min", failures.restart_min, "minutes from a stop to running again", between(0, 1e6));
    v("failures.interval_min", failures.interval_min, "minutes of work between checkpoints; 0: the best",
      between(0, 1e6));
    v("failures.stops", failures.stops, "of the run that is drawn", between(1, 10000));
    v("failures.seed", failures.seed, "of the run that is drawn", between(0, 1e18));
  }
};

/// The effective scenario as TOML that load_config reads back to equal values; jobs that are not there are left out.
std::string scenario_toml(const Scenario& scenario);

/// Errors: network.gpus is 0; a setting of another fabric; what Cluster::make refuses.
Result<Cluster> cluster_of(const Scenario& scenario);

/// Reads the gate file, if one is given. Errors: no bytes, or less than one (named by `name`: "job" or "also"); a
/// setting that the op does not look at; a gate file beside a skew; what read_gate refuses.
Result<Job> job_of(const JobSettings& settings, std::string_view name);

/// The job on all GPUs of `cluster` that stops when anything does whose rate is given; nothing where no rate is.
/// Errors: settings of failures without a rate; a time between stops that is 0 or above 1e9 h.
Result<std::optional<FailureCase>> failures_of(const Scenario& scenario, const Cluster& cluster);

/// failure_figures, with how often the job stops and because of what. Errors: failure_figures'.
Result<std::vector<Figure>> stop_figures(const Scenario& scenario, const Cluster& cluster, const FailureCase& failures);

struct NamedJob {
  std::string name;  // job_name
  JobSettings settings;
  Job job;
};
/// All whose op is not "none". Errors: "job" has none; other settings of a section without an op; job_of's.
Result<std::vector<NamedJob>> jobs_of(const Scenario& scenario);

}  // namespace fathom
