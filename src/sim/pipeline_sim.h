// PipelineSim: when every instruction of a schedule starts and ends, given what its chunks cost. Ranks run their lists
// in order; an instruction waits for its inputs.
#pragma once

#include <vector>

#include "base/result.h"
#include "parallel/schedule.h"

namespace fathom {

/// Costs of one chunk, all in one unit of the caller's choice.
struct ChunkTimes {
  double forward = 1;          // F
  double backward_input = 1;   // I
  double backward_weight = 1;  // W
  double pair = 3;             // F&B: a forward overlapped with a whole backward

  double backward() const { return backward_input + backward_weight; }  // B
};

struct PipelineCosts {
  ChunkTimes times;
  double hop = 0;                   // from the end of a chunk to the start of the one that needs it on another rank
  std::vector<double> stage_scale;  // [stage]: slowness of the stage, 1 = as `times`; empty: all alike
};

struct Span {
  double start = 0;
  double end = 0;
};

/// The timed run of a schedule. spans[rank][i] belongs to ranks[rank][i] of the schedule.
struct PipelineRun {
  std::vector<std::vector<Span>> spans;
  std::vector<double> busy;  // [rank]
  double makespan = 0;

  /// Time in which `rank` does nothing, from the start of the first to the end of the last rank.
  double idle(int rank) const { return makespan - busy[static_cast<size_t>(rank)]; }
};

/// Times `schedule`. A pair at stages of different scale takes the mean of both, weighted by F and B. Errors: the
/// schedule does not pass check_schedule; a time that is negative or not finite; a scale for other stages than it has.
Result<PipelineRun> simulate_pipeline(const Schedule& schedule, const PipelineCosts& costs);

/// The published bubbles (DualPipe README; V3 report table 2), P stages: 1F1B (P-1)(F+B), ZB1P (P-1)(F+B-2W),
/// DualPipe and DualPipeV (P/2-1)(F&B+B-3W). They hold for equal stages, no hop time, M >= P (1F1B: any M) and the
/// balance F = I = W, or near it: a schedule whose chunks do not fit into each other's gaps idles longer.
double published_bubble(const Schedule& schedule, const ChunkTimes& times);

}  // namespace fathom
