// PlanReport: the answers of `fathom plan` as a report with drawings: how a bound moves with its inputs, not only where
// it lies. As in plan/answers a section whose settings are absent is left out.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/figure.h"
#include "plan/answers.h"
#include "report/report.h"

namespace fathom {

/// `groups` as tables (answer), and
/// - serving: the step's bounds against network and memory bandwidth, throughput against speed over the batch, both
///   bounds with every figure of the hardware and the load 20 % lower and higher;
/// - training: memory of every pipeline rank by class, the pipeline's run (a model is not needed for it), the step with
///   its inputs 20 % lower and higher where training.mfu is known;
/// - fabrics: price per endpoint of all six kinds against endpoints, at fabric.radix, where fabric.kind is not "none";
/// - failures: goodput against the checkpoint interval; a drawn run as a Gantt chart, and its goodput so far.
/// `found`, the section of a search, stands before all of it; its best layout is what `plan_case` has. `time_label`: of
/// the pipeline's run, whose unit is that of training.chunk_times. Errors: as plan_model, plan_fabric, plan_failures
/// and plan_timeline.
Result<Report> plan_report(std::string title, const PlanCase& plan_case, const std::vector<FigureGroup>& groups,
                           std::optional<Report::Section> found = {},
                           const std::string& time_label = "time (unit of training.chunk_times)");

}  // namespace fathom
