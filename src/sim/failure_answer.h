// FailureAnswer: what a job that stops at random keeps of its time, as figures and as drawings.
#pragma once

#include <cstdint>
#include <string>

#include "base/figure.h"
#include "report/report.h"
#include "sim/failure_run.h"
#include "sim/goodput.h"

namespace fathom {

/// Everything that the answer depends on.
struct FailureCase {
  FailureModel model;
  double interval_min = 0;   // of work between checkpoints; 0: the best
  int64_t stops = 100;       // of the run that is drawn
  uint64_t seed = 1;         // of it
  std::string mtbf_formula;  // of model.mtbf_h: "gpu_mtbf_h / gpus"
  std::string stops_when;    // "one of its 16,384 GPUs does"
};

/// The share of time that the job keeps working, what the rest goes to, and the share of a drawn run, where one can be
/// drawn. Errors: goodput's.
Result<FigureGroup> failure_figures(const FailureCase& failures);

/// A run of `stops` stops. Errors: goodput's; draw_failures'.
Result<FailureRun> drawn_run(const FailureCase& failures);

/// Goodput against the checkpoint interval; the drawn run as a Gantt chart, and its goodput so far. Errors: goodput's.
Result<Report::Section> failure_section(const FailureCase& failures);

}  // namespace fathom
