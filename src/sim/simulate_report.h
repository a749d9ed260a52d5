// SimulateReport: a scenario's answer as a page: what takes the time, which links limit, how full all of them are, and
// what a failure costs.
#pragma once

#include <string>

#include "report/report.h"
#include "sim/simulate.h"
#include "sim/sweep.h"

namespace fathom {

/// Figures of every job, its time by parts (also when nothing is broken, where something is), the links that limit, and
/// load_maps. Errors: cluster_of's.
Result<Report> simulate_report(std::string title, const Scenario& scenario, const Simulation& answer);

/// The page of a sweep: sweep_section.
Report sweep_report(std::string title, const Sweep& sweep);

}  // namespace fathom
