// libFuzzer target: any bytes as a recorded gate. What is accepted has a layer and a token, and can be drawn from or is
// refused.
#include "sim/recorded_gate.h"

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/check.h"
#include "sim/gate.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto gate = fathom::parse_gate({reinterpret_cast<const char*>(data), size}, "fuzz", -1);
  if (!gate) return 0;
  fathom::check(gate->layer >= 0 && !gate->tokens.empty(), "a gate has a layer and experts");
  if (gate->tokens.size() > 64) return 0;  // drawing is slow
  fathom::GateSpec spec;
  spec.experts = static_cast<int64_t>(gate->tokens.size());
  spec.gpus_per_node = 1;
  spec.top_k = 1;
  spec.recorded = gate->tokens;
  const auto hits = fathom::draw_gate(spec);
  fathom::check(hits.ok() && hits->copies[0] == 1, "one node has every token");
  return 0;
}
