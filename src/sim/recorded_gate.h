// RecordedGate: how often a router chose each expert, as a server has counted it.
#pragma once

#include <string>
#include <vector>

#include "base/result.h"

namespace fathom {

struct RecordedGate {
  int64_t layer = 0;
  std::vector<double> tokens;  // [expert]
};

inline constexpr int64_t kMostGateFileBytes = int64_t{64} << 20;

/// One layer of a JSON file as GET /api/stats of `fathom serve` answers it: {"experts": [{"layer": 3, "tokens": [120,
/// 7, ...]}, ...]}; other members do not matter. `layer` -1: the layer whose busiest expert has the largest share.
/// Errors, one line with the file's name: unreadable or above kMostGateFileBytes; not of this form; a count that is no
/// whole number of 0 to 2^53, more than 65536 of them or none above 0; no such layer, with those that there are.
Result<RecordedGate> read_gate(const std::string& path, int64_t layer);

}  // namespace fathom
