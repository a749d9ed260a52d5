// Traffic: what collectives and expert dispatch put on the links of a cluster, as classes of equal flows.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "cluster/routing.h"
#include "sim/flows.h"
#include "sim/gate.h"

namespace fathom {

enum class JobOp { kAllToAll, kAllGather, kReduceScatter, kAllReduce, kDispatch, kCombine, kSend };

/// One collective, in every group of `ranks` consecutive GPUs at once.
struct Job {
  JobOp op = JobOp::kAllToAll;
  /// all-to-all: of each rank's buffer, 1 / ranks of it for each peer (as nccl-tests); all-gather, reduce-scatter,
  /// all-reduce: of the whole buffer; dispatch, combine: of one copy of a token; send: of the message.
  double bytes = 0;
  int64_t ranks = 0;        // whole nodes that divide the cluster; 0: all GPUs
  int ring_gpus = 0;        // GPUs of a node in one ring, the others in rings beside it; 0: all
  int64_t ring_stride = 1;  // nodes from one of a ring to its next, those between in rings beside it
  int queue_pairs = 1;      // of a pair of NICs, each with its own hash
  double weight = 1;        // of its virtual lane: of each of its flows against a flow of weight 1
  double efficiency = 1;    // of the links' rates that its kernels reach: a byte is 1 / efficiency on the links
  int64_t tokens = 4096;    // of a GPU: dispatch, combine
  int64_t experts = 256, top_k = 8, max_nodes = 4;
  double skew = 0;                    // of the experts' popularity
  std::vector<double> recorded = {};  // [expert] choices, instead
  uint64_t seed = 1;                  // of it
  bool direct = false;  // one copy per expert from GPU to GPU, as low-latency kernels do; else one per node, forwarded
  int64_t from = 0, to = 0;  // send
};

/// Part of an all-to-all whose ranks have few peers in flight: the nodes at these distances, the own
/// node being at 0.
struct Distances {
  int64_t from = 0, to = 0;  // from <= distance <= to; to 0: all
};

/// One link of `count` alike ones.
struct LinkGroup {
  ClusterLink first;
  double count = 1;
  double gbps = 0;    // of each
  ClusterLink group;  // its places as colours of the symmetry: the same for all of them, whichever was seen first
};

/// What is kept of flows.
enum class Keep {
  kClasses,  // each class: what engines run
  kLoads     // what links carry of them together, as a bound needs: of many more
};

struct Traffic {
  FlowNetwork network;           // its bytes are those that the links are busy for: of a job over its efficiency
  std::vector<LinkGroup> links;  // [link of network], whose capacity is theirs together
  std::vector<int> job;          // [class]
  std::vector<double> loads;     // [link] Keep::kLoads: bytes, as the network's, of classes that it does not have
  double num_classes = 0;
  double num_flows = 0;  // between two GPUs by one way
};

inline constexpr int64_t kMostFlowClasses = 1'200'000;
/// Flows of which none are alike that are summed at most: an all-to-all of 16,384 GPUs.
inline constexpr int64_t kMostSummedFlows = int64_t{1} << 28;

/// What two nodes share: 0: they are the same; 1: leaves; 2: a pod; 3: none of it.
int relation_of(const Cluster& cluster, int64_t u, int64_t v);

/// Whether the cluster can run the job. Errors: see make_traffic.
Status check_job(const Cluster& cluster, const Job& job);

/// Whether the symmetry of the cluster alone holds for this job: uniform, in groups that fill units and pods evenly.
bool is_uniform(const Cluster& cluster, const Job& job);

/// The flows of `jobs` under `symmetry`: symmetry_of (sim/alike), or none_alike() for one class per flow. Routes:
/// Cluster::ways. Rings (all-gather, reduce-scatter; all-reduce is both): ranks - 1 steps of 1/ranks of the buffer, one
/// ring per NIC, each with its share of the bytes; a node passes them on over NVLink. Dispatch, not direct: one copy to
/// the same GPU of each target node, that forwards over NVLink to each target GPU there (DeepEP); combine: the same
/// backwards. Errors: sizes that are not above 0; ranks that are not whole nodes or do not divide; a ring that a node's
/// GPUs do not divide; what draw_gate refuses; more than kMostFlowClasses, or kMostSummedFlows.
Result<Traffic> make_traffic(const Cluster& cluster, std::span<const Job> jobs, const Symmetry& symmetry,
                             const Distances& distances = {}, Keep keep = Keep::kClasses);

/// Group of the job's ranks: as given, or all.
int64_t ranks_of(const Cluster& cluster, const Job& job);
/// In one ring of the job.
int64_t ring_ranks_of(const Cluster& cluster, const Job& job);
/// The node that follows `node` in its ring; itself where the ring has one.
int64_t ring_next(const Cluster& cluster, const Job& job, int64_t node);
/// The router of a dispatch or combine on its group.
GateSpec gate_of(const Cluster& cluster, const Job& job);

bool is_ring(JobOp op);
bool is_expert(JobOp op);

}  // namespace fathom
