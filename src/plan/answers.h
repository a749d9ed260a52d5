// Answers: what `fathom plan` says of a model, a machine, a layout and a fabric, as figures in groups. Settings come
// from a TOML file or key=value overrides; a group whose settings are absent is left out, nothing is assumed in its
// place.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/figure.h"
#include "base/result.h"
#include "cluster/hardware.h"
#include "cluster/price.h"
#include "model/config.h"
#include "parallel/schedule.h"
#include "plan/decode.h"
#include "plan/settings.h"
#include "sim/failure_answer.h"
#include "sim/pipeline_sim.h"

namespace fathom {

/// {TITLE: [figures]}.
Json to_json(const std::vector<FigureGroup>& groups);

/// Refuses an effective rate above the line rate: the bound would be no bound. Names without "hardware.".
Status check_effective_rate(const std::string& name, double effective, const std::string& line_name, double line);

/// The preset with the settings' changes; a line rate alone keeps the preset's ratio of effective to line rate. Errors:
/// Hardware::set's; check_effective_rate's.
Result<Hardware> changed_hardware(Hardware preset, const PlanSettings& settings);

/// Parameters, KV cache, FLOPs; with settings also the training layout's bytes per rank, its bubble, time and price,
/// and the serving group's weights, room and decode bounds. Errors: what training_bytes, serving_weight_bytes and the
/// simulator refuse.
Result<std::vector<FigureGroup>> plan_model(const CountedModel& model, const Hardware& hardware,
                                            const PlanSettings& settings);

/// Counts and price of the fabric that the settings name (kind is not "none"). Errors: what its builder refuses.
Result<FigureGroup> plan_fabric(const PlanSettings& settings);

/// The settings' prices, or those that fit table 3 of arXiv 2505.09343 where none is given. Errors: prices_of's.
Result<PriceTable> fabric_prices(const PlanSettings& settings);

/// The settings' failures (gpu_mtbf_h is not 0). Errors: gpus is 0, what goodput refuses.
Result<FailureCase> failure_case(const PlanSettings& settings);

/// The share of time that a job keeps working under the settings' failures (gpu_mtbf_h is not 0), what the rest goes
/// to, and the share of a drawn run (plan_failure_run), where one can be drawn. Errors: gpus is 0, what goodput
/// refuses.
Result<FigureGroup> plan_failures(const PlanSettings& settings);

/// A run under the settings' failures with failures.stops stops, drawn with failures.seed. Errors: plan_failures';
/// draw_failures'.
Result<FailureRun> plan_failure_run(const PlanSettings& settings);

/// All that an answer depends on. Without a model only fabric and failures are answered.
struct PlanCase {
  std::optional<ModelConfig> model;
  Hardware hardware;
  PlanSettings settings;
};

/// Every group that the case's settings ask for: plan_model, the summary of a search, plan_fabric, plan_failures,
/// plan_service.
/// Errors: theirs; training or serving without a model; nothing is asked.
Result<std::vector<FigureGroup>> answer(const PlanCase& plan_case);

/// The pipeline of the settings, timed (training.pipeline is not 0).
struct Timeline {
  Schedule schedule;
  PipelineCosts costs;
  PipelineRun run;
};
Result<Timeline> plan_timeline(const PlanSettings& settings);

/// The bubble, wherever plan says the word: idle share of the pipeline's time, of the rank that waits most.
double bubble_of(const PipelineRun& run);
inline constexpr const char* kBubbleFormula = "idle share of the pipeline's time, of the rank that waits most";

}  // namespace fathom
