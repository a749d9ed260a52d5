#include "cluster/fat_tree.h"

#include "base/integers.h"

namespace fathom {
namespace {

Error too_many(const std::string& name, int64_t endpoints, int64_t most, const std::string& instead) {
  return invalid(name + ": " + std::to_string(endpoints) + " endpoints; accepted: 1 to " + std::to_string(most) +
                 instead);
}

}  // namespace

Result<Fabric> fat_tree2(int64_t radix, int64_t endpoints) {
  if (auto s = check_radix("FT2", radix); !s) return s.error();
  const int64_t half = radix / 2, most = radix * half;
  if (endpoints == 0) endpoints = most;
  if (endpoints < 1 || endpoints > most) {
    return too_many("FT2", endpoints, most,
                    " with " + std::to_string(radix) + " ports (more: FT3, or MPFT with several planes)");
  }
  const int64_t leaves = ceil_div(endpoints, half);
  const int64_t uplinks = leaves > 1 ? leaves * half : 0;
  Fabric f;
  f.name = "FT2";
  f.radix = radix;
  f.endpoints = endpoints;
  f.switches = leaves + ceil_div(uplinks, radix);
  f.links = {{"leaf-spine", uplinks}};
  f.max_endpoints = most;
  f.formula = "leaves = ceil(N / (k/2)); links = leaves * k/2; spines = ceil(links / k); full: k^2/2, 3k/2, k^2/2";
  return f;
}

Result<Fabric> fat_tree3(int64_t radix, int64_t endpoints) {
  if (auto s = check_radix("FT3", radix); !s) return s.error();
  const int64_t half = radix / 2, pod = half * half, most = radix * pod;
  if (endpoints == 0) endpoints = most;
  if (endpoints < 1 || endpoints > most) {
    return too_many("FT3", endpoints, most, " with " + std::to_string(radix) + " ports");
  }
  if (endpoints <= pod) {
    return too_many("FT3", endpoints, most, "; one pod holds " + std::to_string(pod) + ": FT2 has them in two layers");
  }
  const int64_t pods = ceil_div(endpoints, pod);
  Fabric f;
  f.name = "FT3";
  f.radix = radix;
  f.endpoints = endpoints;
  f.switches = pods * radix + ceil_div(pods * pod, radix);
  f.links = {{"leaf-spine", pods * pod}, {"spine-core", pods * pod}};
  f.max_endpoints = most;
  f.formula =
      "pods = ceil(N / (k^2/4)); switches = pods * k + ceil(pods * k^2/4 / k); links = 2 * pods * k^2/4; full: "
      "k^3/4, 5k^2/4, k^3/2";
  return f;
}

}  // namespace fathom
