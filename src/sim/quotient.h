// Quotient: flows that are alike, as one. Colour refinement finds which links and classes of any network cannot be told
// apart by what they cross and who crosses them; their max-min rates are equal, so one class with their summed members
// on links with their summed capacity gives each of them its own rate, exactly.
#pragma once

#include <vector>

#include "sim/flows.h"

namespace fathom {

struct Quotient {
  FlowNetwork network;
  std::vector<int> class_of;  // [class of the original]: its class here
  std::vector<int> link_of;
};

/// The coarsest equitable partition of classes and links (1-dimensional Weisfeiler-Leman refinement on their
/// incidence), starting from equal bytes and members, and equal capacity. Multisets of colours are compared by 64-bit
/// sums of mixed colours: two different ones agree with probability 2^-64 per comparison. A merged class ends when each
/// of its flows does.
Quotient merge_alike(const FlowNetwork& network);

}  // namespace fathom
