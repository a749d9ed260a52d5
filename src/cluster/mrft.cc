#include "cluster/mrft.h"

#include "base/integers.h"

namespace fathom {

Result<Fabric> mrft(int64_t radix, int64_t rails, int64_t endpoints) {
  if (auto s = check_radix("MRFT", radix); !s) return s.error();
  if (rails < 1 || rails > 8) {
    return invalid("MRFT: " + std::to_string(rails) + " rails; accepted: 1 to 8, one per NIC of a node");
  }
  const int64_t half = radix / 2, units = radix / rails, most = units * rails * half;
  if (units == 0) {
    return invalid("MRFT: " + std::to_string(rails) +
                   " rails need at least as many spine ports as rails; accepted: radix " +
                   std::to_string(rails + rails % 2) + " or more");
  }
  if (endpoints == 0) endpoints = most;
  if (endpoints < 1 || endpoints > most) {
    return invalid("MRFT: " + std::to_string(endpoints) + " endpoints; two layers of " + std::to_string(radix) +
                   "-port switches hold 1 to " + std::to_string(most) + "; MPFT with " + std::to_string(rails) +
                   " planes holds " + std::to_string(rails * radix * half));
  }
  if (endpoints % rails != 0) {
    const int64_t below = endpoints / rails * rails;
    return invalid("MRFT: " + std::to_string(endpoints) + " endpoints on " + std::to_string(rails) +
                   " rails; each node has one on every rail: " + (below > 0 ? std::to_string(below) + " or " : "") +
                   std::to_string(below + rails));
  }
  const int64_t leaves = ceil_div(endpoints / rails, half) * rails;
  const int64_t uplinks = leaves > 1 ? leaves * half : 0;
  Fabric f;
  f.name = "MRFT";
  f.radix = radix;
  f.endpoints = endpoints;
  f.switches = leaves + ceil_div(uplinks, radix);
  f.links = {{"leaf-spine", uplinks}};
  f.max_endpoints = most;
  f.formula = "leaves = rails * ceil(N / rails / (k/2)); links = leaves * k/2; spines = ceil(links / k)";
  return f;
}

}  // namespace fathom
