// Topology: how many endpoints, switches and links a fabric has. The builders (fat_tree, mpft, mrft, dragonfly,
// slim_fly) refuse what cannot be built and say what could be instead.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"

namespace fathom {

/// Links between switches, by what they join.
struct LinkCount {
  std::string kind;  // "leaf-spine", "spine-core", "local", "global"
  int64_t count = 0;
};

struct Fabric {
  std::string name;       // "FT2", "MPFT", ...
  int64_t radix = 0;      // ports of a switch that are used, at most
  int64_t planes = 1;     // networks without a link between them
  int64_t endpoints = 0;  // NICs, one link each to its switch
  int64_t switches = 0;
  std::vector<LinkCount> links;
  int64_t max_endpoints = 0;  // of this kind at this radix
  std::string formula;        // of the counts

  /// Links between switches, all kinds.
  int64_t switch_links() const;
};

/// Ports that builders accept.
inline constexpr int64_t kMinRadix = 4, kMaxRadix = 1024;

/// Whether `radix` is even and within the bounds; `name` starts the message.
Status check_radix(const std::string& name, int64_t radix);

}  // namespace fathom
