// Search: every layout of a training run on so many GPUs that divides and fits, with the time of its step, what it
// waits for, and what it costs; the best first. Closed forms and the timed schedule, no measurement.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/json.h"
#include "base/result.h"
#include "cluster/hardware.h"
#include "plan/answers.h"
#include "plan/decode.h"
#include "plan/footprint.h"
#include "plan/settings.h"
#include "sim/pipeline_sim.h"

namespace fathom {

/// One layout. The parts of a step are those of the rank that is busiest: step_s is their sum. While two resources work
/// at once the time counts for the one that takes longer: what is hidden behind the other is in no part.
struct RankedLayout {
  TrainingLayout layout;
  int64_t sequences = 1;  // of a micro-batch
  RankBytes bytes;
  ChunkTimes times;                 // of a stage of mean size, seconds
  std::vector<double> stage_scale;  // [stage]: over those
  double bubble = 0;                // idle share of the pipeline's time, of the rank that waits most
  double hop_s = 0;
  double compute_s = 0;   // FLOPs / (utilisation * BF16 peak)
  double hbm_s = 0;       // weights and gradients from and to HBM, where that takes longer than their products
  double exchange_s = 0;  // dispatch and combine that nothing hides
  double wait_s = 0;      // of the busiest rank in the pipeline: for others, hops and slower stages
  double reduce_s = 0;    // gradients and weights between data-parallel ranks, not hidden
  double step_s = 0;
  bool is_exchange_on_nic = false, is_reduce_on_nic = false;  // else on the scale-up network
  /// What the fastest layout of as many GPUs that does not fit would save over the fastest that does; 0: nothing.
  double capacity_s = 0;
  double tokens_per_s = 0;                 // of all GPUs
  double dollars_per_trillion_tokens = 0;  // 0: not known
  double kw = 0, kgco2 = 0;                // of the site; 0: not known

  double pipeline_s() const { return step_s - reduce_s; }
  double tokens_per_s_per_gpu() const { return tokens_per_s / static_cast<double>(layout.num_gpus()); }
  /// What takes most of the step: "compute", "HBM bandwidth", "scale-up network", "scale-out network" (exchange and
  /// reduction together, each on its link) or "pipeline bubble" (waiting); "memory capacity" where that costs more.
  std::string limit() const;
};

/// What a search found. `layouts` all fit, fastest per GPU first; ties by fewer GPUs, then by fewer bytes.
struct TrainingSearch {
  std::vector<RankedLayout> layouts;
  int64_t num_divide = 0;  // sizes that divide, with a schedule that takes them
  int64_t num_too_big = 0;
  int64_t num_over_bounds = 0;  // of power or carbon
  std::string too_big;          // the fastest that does not fit, where it is faster than all that do
};

/// Layouts of `search.gpus`: pipeline up to the layers, data = GPUs / pipeline, expert that divides data and experts,
/// micro-batches of search.sequences that divide search.batch, all four schedules. Models:
/// - the MTP module lies in memory on the last stage, but is in no time and no FLOPs: the published 250 GFLOP leave it
///   out, and so do stage times (about one layer more on the last stage);
/// - computation: forward FLOPs of training_flops / 3, input gradients of the matrices the same and of attention twice,
///   weight gradients of the matrices the same; stages by layers_of_stages, the head on the last;
/// - HBM: a chunk reads its stage's BF16 weights once (F, I), or reads and writes its FP32 gradients (W);
///   activations are not counted. A chunk takes the longer of both;
/// - exchange: exchange_cost, FP8 with scales there and BF16 back, as much in backward; hidden only in F&B pairs, up to
///   search.overlap of it: max(computation, overlap * exchange) + (1 - overlap) * exchange;
/// - pipeline: the schedule timed by simulate_pipeline, hops of a BF16 boundary over the NIC and 3.7 us;
/// - reduction: FP32 gradients reduced and BF16 weights gathered over a ring, (n - 1) / n bytes / rate, after the last
///   chunk; DualPipe and DualPipeV hold every stage twice where their schedule does.
/// Errors: search.gpus, search.batch or search.utilisation is missing; a bound whose prices or factors are missing; no
/// layout divides, none fits (the nearest is named), or none is within the bounds.
Result<TrainingSearch> search_training(const CountedModel& model, const Hardware& hardware,
                                       const PlanSettings& settings);

/// One layout with the times and bytes that a search would give it, whether it fits or not. Errors: what check_layout,
/// the schedule's generator and training_bytes refuse; search.utilisation is missing.
Result<RankedLayout> time_training(const CountedModel& model, const Hardware& hardware, const PlanSettings& settings,
                                   const TrainingLayout& layout);

/// How many were tried and what the best reaches, as figures.
FigureGroup summary(const TrainingSearch& search, const PlanSettings& settings);

/// {"layouts": [{"pipeline", ..., "step_s", "limit"}], ...} of the first `rows`.
Json to_json(const TrainingSearch& search, int64_t rows);

/// The first `rows` as lines of cells, the header first.
std::vector<std::vector<std::string>> table(const TrainingSearch& search, int64_t rows);

/// `settings` with the layout as its training section, chunk times in seconds, the scales of its stages, and no
/// search: plan_timeline of it takes pipeline_s() and has its bubble.
PlanSettings chosen(PlanSettings settings, const RankedLayout& layout);

/// What a search of either kind needs: search.gpus is there; bounds have their factors. `has_tokens`: carbon can be
/// counted. Errors name the missing setting.
Status check_search(const PlanSettings& settings, bool has_tokens);

/// energy.pue is not known or 1 or more.
Status check_site(const PlanSettings& settings);

/// Power of the site of `gpus`, kW; 0 without energy.pue.
double site_kw(const Hardware& hardware, const PlanSettings& settings, double gpus);

}  // namespace fathom
