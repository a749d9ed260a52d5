// Goodput: the share of time that a job which fails and restarts spends on work it keeps.
#pragma once

#include "base/result.h"

namespace fathom {

struct FailureModel {
  double mtbf_h = 0;          // of the whole job: of one GPU divided by the GPUs
  double checkpoint_min = 0;  // that the job stands still for one checkpoint
  double restart_min = 0;     // from a stop to running again
};

struct Goodput {
  double interval_min = 0;  // of work between checkpoints
  double share = 0;
};

/// Failures come at random (exponential) with mean mtbf, also while restarting. Expected time of one interval of work t
/// and its checkpoint c after restarts of r: M exp(r / M) (exp((t + c) / M) - 1) (Daly 2006), so the share is t over
/// that. `interval_min` 0: the best one, near sqrt(2 c M) (Young 1974). Errors: times that are negative, not finite, or
/// absurd.
Result<Goodput> goodput(const FailureModel& model, double interval_min = 0);

}  // namespace fathom
