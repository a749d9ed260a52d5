// RecordedGate: how often a router chose each expert, as a server has counted it.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace fathom {

struct RecordedGate {
  int64_t layer = 0;
  std::vector<double> tokens;  // [expert]
};

inline constexpr int64_t kMostGateFileBytes = int64_t{64} << 20;

/// One layer of JSON text as GET /api/stats of `fathom serve` answers it: {"experts": [{"layer": 3, "tokens": [120,
/// 7, ...]}, ...]}; other members do not matter. `layer` -1: the layer whose busiest expert has the largest share.
/// Errors, one line that begins with `where`: not of this form; a count that is no
/// whole number of 0 to 2^53, more than 65536 of them or none above 0; no such layer, with those that there are.
Result<RecordedGate> parse_gate(std::string_view text, const std::string& where, int64_t layer);

/// parse_gate of a file. Errors: unreadable or above kMostGateFileBytes; parse_gate's.
Result<RecordedGate> read_gate(const std::string& path, int64_t layer);

}  // namespace fathom
