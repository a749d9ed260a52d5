// PipelinePicture: a timed schedule as people look at it, one row per rank, time to the right.
#pragma once

#include <string>

#include "parallel/schedule.h"
#include "report/gantt.h"
#include "sim/pipeline_sim.h"

namespace fathom {

/// The run as text: a rank per line, each instruction as its label from its start to its end, dots where the rank
/// idles. `unit` of time is four characters wide (more where labels need them); lines longer than `max_columns` are cut
/// and end in ">". `run` is of `schedule`; unit > 0.
std::string to_text(const Schedule& schedule, const PipelineRun& run, double unit, int max_columns = 1000);

/// The run as data of a picture (report/gantt.h: SVG, JSON, CSV, trace): a bar per instruction, named by its label, of
/// the kinds F, B, I, W and F&B; the second stream or leg is faded. `time_label` names the axis, with its unit.
Gantt to_gantt(const Schedule& schedule, const PipelineRun& run, const std::string& time_label);

}  // namespace fathom
