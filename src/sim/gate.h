// Gate: where a router sends tokens, drawn token by token, when some experts are more popular than others: by a law, or
// as recorded.
#pragma once

#include <cstdint>
#include <vector>

#include "base/result.h"

namespace fathom {

/// A router over `experts` experts, spread evenly in order over nodes of `gpus_per_node` GPUs. A token draws
/// `max_nodes` nodes, then top_k experts on them, without replacement and each with the weight of its popularity:
/// rank^-skew of ranks that the seed deals out (skew 0: all alike). With `recorded` choices of each expert, the weight
/// is -log(1 - p) of the share p of tokens that it has: drawing without replacement then gives each expert about p
/// (Rosen 1997), as long as max_nodes does not hinder.
struct GateSpec {
  int64_t experts = 256, top_k = 8, max_nodes = 4;
  int64_t nodes = 1, gpus_per_node = 8;
  double skew = 0;
  uint64_t seed = 1;
  std::vector<double> recorded = {};  // [expert]; empty: skew
};

/// Means over tokens.
struct GateHits {
  std::vector<double> node;    // [node] share of the tokens that go there
  std::vector<double> gpu;     // [gpu]
  std::vector<double> copies;  // [gpu] experts of it that a token goes to
  double nodes = 0, gpus = 0;  // distinct ones of a token
  double busiest = 0;          // expert's tokens over those of the mean expert, as drawn
};

inline constexpr int64_t kMostTopK = 256;     // of a token; and of its nodes, unless it may go to all
inline constexpr int64_t kGateTokens = 8192;  // that are drawn; standard error of a mean below 0.6 % of one node

/// Errors: experts that the GPUs do not divide; more of anything than there is; recorded choices of another number of
/// experts, or of one expert more than tokens.
Result<GateHits> draw_gate(const GateSpec& spec);

}  // namespace fathom
