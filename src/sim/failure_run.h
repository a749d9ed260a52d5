// FailureRun: one run of a job that fails at random, drawn stop by stop, beside the expectation of sim/goodput.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"
#include "report/gantt.h"
#include "sim/goodput.h"

namespace fathom {

/// From being up to being up again.
struct FailureStretch {
  double start_min = 0;
  double intervals = 0;    // of work with their checkpoints that ended before the stop: kept
  double lost_min = 0;     // since the last of them: work, or work and a part of a checkpoint
  double restart_min = 0;  // until it is up again, with the tries that a stop ended
  int64_t stops = 1;       // the one that ended it, and those while it restarted
};

struct FailureRun {
  FailureModel model;
  double interval_min = 0;
  uint64_t seed = 0;
  std::vector<FailureStretch> stretches;

  double minutes() const;
  double kept_min() const;
  double checkpoint_min() const;  // of kept intervals
  double lost_min() const;
  double restart_min() const;
  /// kept_min / minutes: its mean over many seeds tends to goodput(model, interval_min).share as the run grows.
  double share() const { return kept_min() / minutes(); }
};

/// Draws `num_stretches` stretches: gaps between stops are exponential of mean model.mtbf_h, from base/rng with `seed`;
/// a stop while restarting begins the restart anew. `interval_min` is that of a Goodput, above 0. Errors: what goodput
/// refuses; fewer than 1 or more than 100,000 stretches; restarts that would take more than a million tries.
Result<FailureRun> draw_failures(const FailureModel& model, double interval_min, int64_t num_stretches, uint64_t seed);

/// The first stretches as rows of kept work, checkpoints, lost work and restarts over hours; as many as `max_bars` bars
/// show, one at least. A stretch with more intervals than that is one bar of each sort.
Gantt to_gantt(const FailureRun& run, int64_t max_bars = 120);

/// The first stretches, as many as fit, as `lines` lines of `columns` characters, each line with the hour that it
/// begins at: "=" kept work, "c" checkpoint, "x" lost work, "r" restart, whichever takes most of a character's time,
/// "!" where it stops.
std::string to_text(const FailureRun& run, int columns = 96, int lines = 4);

}  // namespace fathom
