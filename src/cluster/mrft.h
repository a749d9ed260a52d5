// MRFT: the multi-rail fat tree. GPU i of every node of a unit is on rail leaf i of that unit; all leaves share one
// layer of spines, so a message can change its rail inside the network.
#pragma once

#include "cluster/topology.h"

namespace fathom {

/// `rails` (1 to 8) leaves per unit of k/2 nodes, one spine layer. At most k leaves, as every leaf reaches every spine:
/// k^2/2 endpoints. `endpoints` 0: full. Errors: rails out of range, endpoints that the rails do not divide, more than
/// two layers hold (the message offers MPFT).
Result<Fabric> mrft(int64_t radix, int64_t rails, int64_t endpoints = 0);

}  // namespace fathom
