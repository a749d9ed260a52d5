#include "cluster/mpft.h"

#include "cluster/fat_tree.h"

namespace fathom {

Result<Fabric> mpft(int64_t radix, int64_t planes, int64_t endpoints) {
  if (auto s = check_radix("MPFT", radix); !s) return s.error();
  if (planes < 1 || planes > 8) {
    return invalid("MPFT: " + std::to_string(planes) + " planes; accepted: 1 to 8, one per NIC of a node");
  }
  const int64_t most = planes * radix * (radix / 2);
  if (endpoints == 0) endpoints = most;
  if (endpoints < 1 || endpoints > most) {
    return invalid("MPFT: " + std::to_string(endpoints) + " endpoints; accepted: 1 to " + std::to_string(most) +
                   " with " + std::to_string(planes) + " planes of " + std::to_string(radix) + "-port switches" +
                   (planes < 8 ? " (8 planes: " + std::to_string(8 * radix * (radix / 2)) + ")" : ""));
  }
  if (endpoints % planes != 0) {
    const int64_t below = endpoints / planes * planes;
    return invalid("MPFT: " + std::to_string(endpoints) + " endpoints on " + std::to_string(planes) +
                   " planes; each plane has equally many: " + (below > 0 ? std::to_string(below) + " or " : "") +
                   std::to_string(below + planes));
  }
  auto f = fat_tree2(radix, endpoints / planes);
  if (!f) return f.error();
  f->name = "MPFT";
  f->planes = planes;
  f->endpoints = endpoints;
  f->switches *= planes;
  for (LinkCount& link : f->links) link.count *= planes;
  f->max_endpoints = most;
  f->formula = "planes * FT2(k, N / planes)";
  return f;
}

}  // namespace fathom
