#include "cluster/dragonfly.h"

namespace fathom {

Result<Fabric> dragonfly(int64_t endpoints_per_router, int64_t groups) {
  const int64_t p = endpoints_per_router, a = 2 * p, h = p;
  constexpr int64_t kMostPerRouter = kMaxRadix / 4;
  if (p < 1 || p > kMostPerRouter) {
    return invalid("Dragonfly: " + std::to_string(p) + " endpoints a router; accepted: 1 to " +
                   std::to_string(kMostPerRouter));
  }
  const int64_t most = a * h + 1;
  if (groups == 0) groups = most;
  if (groups < 2 || groups > most) {
    return invalid("Dragonfly: " + std::to_string(groups) + " groups; a group has " + std::to_string(a * h) +
                   " global links, so accepted are 2 to " + std::to_string(most));
  }
  Fabric f;
  f.name = "Dragonfly";
  f.radix = p + a - 1 + h;
  f.switches = groups * a;
  f.endpoints = f.switches * p;
  f.links = {{"local", groups * (a * (a - 1) / 2)}, {"global", groups * a * h / 2}};
  f.max_endpoints = most * a * p;
  f.formula = "a = 2p, h = p; switches = g a; endpoints = g a p; links = g a (a - 1) / 2 + g a h / 2; g <= a h + 1";
  return f;
}

}  // namespace fathom
