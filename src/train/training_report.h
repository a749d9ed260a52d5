// Training report: a run's log as one HTML page: loss curves, learning rate, gradient norm, expert load, validation.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"

namespace fathom {

/// What belongs to the log's last run. A log is only ever appended to: {"event": "start" or "resume", "step": s} says
/// that the steps after s begin anew, so the records of later steps before that line are left out (all, with "start").
std::vector<Json> records_of_run(std::span<const Json> records);

/// Builds the page from records of the trainer's log (train/trainer.h). Records without a step and a loss are passed
/// over; of several records of one step the last counts, so the steps that a crash made the run repeat appear once.
/// `settings` is the effective configuration as TOML.
std::string training_report_html(std::string_view title, std::string_view settings, std::span<const Json> records);

}  // namespace fathom
