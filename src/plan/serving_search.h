// ServingSearch: expert-parallel groups and batches that a cluster can decode with, the front between tokens per second
// and user and tokens per second and GPU, and the nodes that a load needs for prefill and decode. Bounds, no queues.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "base/result.h"
#include "cluster/hardware.h"
#include "plan/answers.h"
#include "plan/decode.h"
#include "plan/settings.h"

namespace fathom {

/// A group that decodes, at one batch.
struct DecodePoint {
  int64_t gpus = 1, redundant_experts = 0, batch = 1;
  DecodeStep step;
  bool is_full = false;  // a larger batch would give more tokens per GPU (over 1 %), but does not fit

  double per_user() const { return 1e3 / step.tpot_ms(); }
  double per_gpu() const { return static_cast<double>(batch) * per_user(); }
  /// What keeps the group from more tokens: "memory capacity", or what limits its step.
  std::string limit() const { return is_full ? "memory capacity" : step.limit(); }
};

/// A group that reads prompts. Each GPU has its own tokens; the next micro-batch computes while one is exchanged.
struct PrefillUnit {
  int64_t gpus = 0, redundant_experts = 0;  // 0: search.utilisation or search.isl was not given
  double tokens_per_s_per_gpu = 0;
  double ttft_ms = 0;      // the new tokens of a prompt alone on its GPU
  std::string_view limit;  // "compute", "scale-up network", "scale-out network" or "host link"
};

struct ServingSearch {
  std::vector<DecodePoint> points;  // all that fit, as front is sorted
  std::vector<DecodePoint> front;   // nothing is better in both; fastest for a user first
  // Within search.max_tpot_ms and search.max_ttft_ms: most tokens per GPU; for a load the fewest GPUs in whole groups.
  DecodePoint best;
  PrefillUnit prefill;
  int64_t num_tried = 0;
  double decode_gpus = 0, prefill_gpus = 0;       // that the load keeps busy; 0: no load given
  int64_t decode_groups = 0, prefill_groups = 0;  // whole ones that it needs
  double kw = 0, kgco2_per_year = 0;              // of the groups; 0: not known

  int64_t load_gpus() const { return decode_groups * best.gpus + prefill_groups * prefill.gpus; }
};

/// Groups of 1, 2, 4 ... GPUs in a node and of whole nodes up to the largest of search.gpus, with the fewest redundant
/// experts that spread evenly; batches of 1, 2, 3, 4, 6, 8, 12 ... that fit. Sequences have search.isl + search.osl
/// tokens, or without those serving.context. Prefill per new token: max(FLOPs of a forward pass at mean depth isl (1 +
/// cache_hits) / 2 / (utilisation * FP8 peak), layers with experts * hidden * (dispatch + combine, transfer_bytes) *
/// exchange_cost, KV of cache hits / host_gbps where a pool of the host has them, together with the NIC's bytes where
/// host_shares_nic); in_network saves nothing there, a token goes to each node once anyway. Load: qps * osl and qps *
/// isl * (1 - cache_hits) tokens per second over what a GPU does, rounded up to whole groups: a group's experts are
/// spread over all its GPUs, so a part of one serves nobody. Power, price and search.gpus are those of whole groups.
/// Errors: search.gpus is missing; load without isl, osl or utilisation; nothing fits; no group is within the limits;
/// the load needs more GPUs, power or carbon than given.
Result<ServingSearch> search_serving(const CountedModel& model, const Hardware& hardware, const PlanSettings& settings);

FigureGroup summary(const ServingSearch& search, const Hardware& hardware, const PlanSettings& settings);

/// {"pareto": [{"gpus", "batch", "tpot_ms", "tokens_per_s_per_user", "tokens_per_s_per_gpu", "limit"}], ...}, all of
/// it.
Json to_json(const ServingSearch& search);

/// The front as lines of cells, thinned evenly to `rows`, its ends kept; the header first.
std::vector<std::vector<std::string>> table(const ServingSearch& search, int64_t rows);

/// `settings` with the best group as its serving section, and no search.
PlanSettings chosen(PlanSettings settings, const DecodePoint& point);

}  // namespace fathom
