// FatTree: two- and three-layer trees without oversubscription. k ports a switch, half of them down.
#pragma once

#include "cluster/topology.h"

namespace fathom {

/// FT2. Full: k^2/2 endpoints, k leaves + k/2 spines, k^2/2 links. With fewer endpoints: as many leaves as they need,
/// and spines for the leaves' uplinks; one leaf alone needs no spine. `endpoints` 0: full. Errors: an odd or absurd
/// radix, more endpoints than fit (the message says which trees hold them).
Result<Fabric> fat_tree2(int64_t radix, int64_t endpoints = 0);

/// FT3. Full: k^3/4 endpoints, 5k^2/4 switches, k^3/2 links. With fewer endpoints: whole pods of k^2/4 endpoints, and
/// cores for their uplinks; what fits into one pod is a two-layer tree, to be asked for by that name. Errors as
/// fat_tree2.
Result<Fabric> fat_tree3(int64_t radix, int64_t endpoints = 0);

}  // namespace fathom
