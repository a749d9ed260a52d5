// Alike: which places of a cluster play the same part in several jobs at once, so that their flows are classes.
#pragma once

#include <span>

#include "cluster/routing.h"
#include "sim/traffic.h"

namespace fathom {

/// The coarsest symmetry of the cluster that all jobs keep, found by colour refinement of its nodes, leaves and pods:
/// nodes are alike when they have as many alike peers on their leaves, in their pod and beyond in every job, follow and
/// are followed by alike nodes in every ring, and have the same experts where some are more popular. The ends of a
/// message (send), and GPUs of a node where some experts are more popular, are alike to nobody. So a ring divides the
/// nodes of a leaf by how far they are from its ends, and all leaves stay alike. Nothing is alike under static or ECMP
/// routing, and on graphs of switches unless all jobs are uniform (is_uniform).
Symmetry symmetry_of(const Cluster& cluster, std::span<const Job> jobs);

}  // namespace fathom
