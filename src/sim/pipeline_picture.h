// PipelinePicture: a timed schedule as people look at it, one row per rank, time to the right.
#pragma once

#include <string>

#include "parallel/schedule.h"
#include "sim/pipeline_sim.h"

namespace fathom {

/// The run as text: a rank per line, each instruction as its label from its start to its end, dots where the rank
/// idles. `unit` of time is four characters wide (more where labels need them); lines longer than `max_columns` are cut
/// and end in ">". `run` is of `schedule`; unit > 0.
std::string to_text(const Schedule& schedule, const PipelineRun& run, double unit, int max_columns = 1000);

/// The run as an <svg> element with a time axis labelled `time_label` (with its unit), a legend of ops, and per box a
/// tooltip with label, start and end. More than `max_boxes` instructions: the picture ends at the last that fits and
/// says so.
std::string to_svg(const Schedule& schedule, const PipelineRun& run, const std::string& time_label,
                   int64_t max_boxes = 20000);

}  // namespace fathom
