// Slim Fly (Besta and Hoefler, SC 2014): routers on a McKay-Miller-Siran graph of diameter 2, which exists for a prime
// power q = 4w + d, d in {-1, 0, 1}: 2 q^2 routers with k' = (3q - d) / 2 links each.
#pragma once

#include "cluster/topology.h"

namespace fathom {

/// The counts that the formula gives for any q >= 3 (published tables use q for which there is no such graph): d = 0
/// where q is even. p: endpoints a router, 0: ceil(k'/2). Errors: q or p out of range.
Result<Fabric> slim_fly_counts(int64_t q, int64_t endpoints_per_router = 0);

/// slim_fly_counts of a Slim Fly that exists and fits switches of `radix` ports. Errors: q is not a prime power (the
/// nearest that are, and fit, are named with their sizes); more ports than `radix` (the largest q or p that fits).
Result<Fabric> slim_fly(int64_t q, int64_t radix, int64_t endpoints_per_router = 0);

/// Whether q = p^n for a prime p, n >= 1.
bool is_prime_power(int64_t q);

}  // namespace fathom
