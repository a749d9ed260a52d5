#include "cluster/topology.h"

namespace fathom {

int64_t Fabric::switch_links() const {
  int64_t sum = 0;
  for (const LinkCount& link : links) sum += link.count;
  return sum;
}

Status check_radix(const std::string& name, int64_t radix) {
  if (radix >= kMinRadix && radix <= kMaxRadix && radix % 2 == 0) return {};
  return invalid(name + ": a switch of " + std::to_string(radix) + " ports; accepted: even numbers from " +
                 std::to_string(kMinRadix) + " to " + std::to_string(kMaxRadix));
}

}  // namespace fathom
