// SearchReport: what a search of layouts tried and found, as drawings: the front of serving, the ranks of training.
#pragma once

#include "plan/search.h"
#include "plan/serving_search.h"
#include "report/report.h"

namespace fathom {

/// Of the first `search.rows` layouts, 24 at most: the step by parts, the memory of the fullest rank by class, the same
/// as a table with the limit of each; of all that fit: speed against memory by limiting resource.
Report::Section search_section(const TrainingSearch& search, const Hardware& hardware, const PlanSettings& settings);

/// All groups and batches that fit, tokens per second and GPU against tokens per second and user by limiting resource,
/// with the front and the best; the front's time per token by bound.
Report::Section search_section(const ServingSearch& search, const PlanSettings& settings);

}  // namespace fathom
