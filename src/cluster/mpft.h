// MPFT: the multi-plane fat tree. GPU i of every node is on plane i mod planes; a plane is a two-layer fat tree of its
// own.
#pragma once

#include "cluster/topology.h"

namespace fathom {

/// `planes` (1 to 8) two-layer trees that share the endpoints evenly. Full: planes * k^2/2 endpoints. `endpoints` 0:
/// full. Errors: planes out of range, endpoints that the planes do not divide (the nearest numbers that work are
/// named), what fat_tree2 refuses.
Result<Fabric> mpft(int64_t radix, int64_t planes, int64_t endpoints = 0);

}  // namespace fathom
