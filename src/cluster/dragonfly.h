// Dragonfly (Kim et al., ISCA 2008), balanced: p endpoints and h = p global links a router, a = 2p routers a group,
// every router linked to all others of its group.
#pragma once

#include "cluster/topology.h"

namespace fathom {

/// The balanced dragonfly with p endpoints a router and `groups` groups (0: the most, a h + 1). Routers use 4p - 1
/// ports. Global links are counted as g a h / 2: with fewer groups than the most, some pairs of groups have more than
/// one. Errors: p or groups out of range.
Result<Fabric> dragonfly(int64_t endpoints_per_router, int64_t groups = 0);

}  // namespace fathom
