// ServingSearch: expert-parallel groups and batches that a cluster can decode with, the front between tokens per second
// and user and tokens per second and GPU, and the nodes that a load needs for prefill and decode. Bounds, no queues.
#pragma once

#include <cstdint>
#include <string>
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

  double per_user() const { return 1e3 / step.tpot_ms(); }
  double per_gpu() const { return static_cast<double>(batch) * per_user(); }
};

/// A group that reads prompts. Each GPU has its own tokens; the next micro-batch computes while one is exchanged.
struct PrefillUnit {
  int64_t gpus = 0, redundant_experts = 0;  // 0: search.utilisation or search.isl was not given
  double tokens_per_s_per_gpu = 0;
  double ttft_ms = 0;  // a prompt alone on its GPU
  bool is_compute = true;
};

struct ServingSearch {
  std::vector<DecodePoint> points;  // all that fit, as front is sorted
  std::vector<DecodePoint> front;   // nothing is better in both; fastest for a user first
  DecodePoint best;                 // most tokens per GPU within search.max_tpot_ms
  PrefillUnit prefill;              // most tokens per GPU within search.max_ttft_ms
  int64_t num_tried = 0;
  double decode_gpus = 0, prefill_gpus = 0;  // of the load, not rounded to groups; 0: no load given
  double kw = 0, kgco2_per_year = 0;         // of those; 0: not known

  double load_gpus() const { return decode_gpus + prefill_gpus; }
};

/// Groups of 1, 2, 4 ... GPUs in a node and of whole nodes up to the largest of search.gpus, with the fewest redundant
/// experts that spread evenly; batches of 1, 2, 3, 4, 6, 8, 12 ... that fit. Sequences have search.isl + search.osl
/// tokens, or without those serving.context. Prefill per token: max(FLOPs of a forward pass at mean depth isl / 2 /
/// (utilisation * FP8 peak), layers with experts * hidden * (FP8 there, BF16 back) * exchange_cost).
/// Load: qps * osl and qps * isl * (1 - cache_hits) tokens per second over what a GPU does.
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
