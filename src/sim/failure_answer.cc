#include "sim/failure_answer.h"

#include <algorithm>
#include <cmath>

namespace fathom {
namespace {

/// By the names that the user gave.
Result<Goodput> goodput_of(const FailureCase& f) {
  if (f.model.checkpoint_min == 0 && f.interval_min == 0) {
    return invalid("failures.checkpoint_min is 0, so the best interval is none; give it, or failures.interval_min");
  }
  return goodput(f.model, f.interval_min);
}

// Kept work over time after each stop of a drawn run, beside the expectation.
LineChart goodput_over_time(const FailureRun& run, double expected) {
  const std::string of = "M = " + figure_text(run.model.mtbf_h) + " h between stops, " + figure_text(run.interval_min) +
                         " min of work between checkpoints";
  LineChart chart{.title = "Goodput of a drawn run so far",
                  .x_label = "time (h)",
                  .y_label = "goodput (%)",
                  .log_y = false,
                  .series = {},
                  .log_x = true,
                  .origin = {"kept work / time, after each stop and its restart; " + of,
                             "drawn with seed " + std::to_string(run.seed)}};
  Series drawn{.name = "drawn", .x = {}, .y = {}, .labels = {}};
  double kept = 0;
  for (size_t i = 0; i < run.stretches.size(); ++i) {
    kept += run.stretches[i].intervals * run.interval_min;
    const double end = i + 1 < run.stretches.size() ? run.stretches[i + 1].start_min : run.minutes();
    drawn.x.push_back(end / 60);
    drawn.y.push_back(100 * kept / end);
    drawn.labels.push_back("after stop " + std::to_string(i + 1));
  }
  Series line{.name = "expected", .x = {drawn.x.front(), drawn.x.back()}, .y = {100 * expected, 100 * expected}};
  line.origin = {"t / (M exp(r / M) (exp((t + c) / M) - 1))", "Daly 2006"};
  chart.series = {std::move(drawn), std::move(line)};
  return chart;
}

}  // namespace

Result<FigureGroup> failure_figures(const FailureCase& f) {
  const FailureModel& model = f.model;
  const auto result = goodput_of(f);
  if (!result) return result.error();
  const double checkpoints = result->share * model.checkpoint_min / result->interval_min;
  const double restarts = -std::expm1(-model.restart_min / (model.mtbf_h * 60));
  FigureGroup g{"failures",
                {{"time between stops", model.mtbf_h, "h", f.mtbf_formula, "settings"},
                 {"work between checkpoints", result->interval_min, "min",
                  f.interval_min > 0 ? "as given" : "the best, near sqrt(2 * checkpoint * time between stops)",
                  "Young 1974, Daly 2006"},
                 {"goodput", 100 * result->share, "%", "t / (M exp(r / M) (exp((t + c) / M) - 1))", "Daly 2006"},
                 {"of the rest: checkpoints", 100 * checkpoints, "%", "goodput * c / t", "Daly 2006"},
                 {"of the rest: restarts", 100 * restarts, "%", "1 - exp(-r / M), restarts that a stop ends included",
                  "Daly 2006"},
                 {"of the rest: work lost", 100 * std::max(0.0, 1 - result->share - checkpoints - restarts), "%",
                  "100 % - goodput - checkpoints - restarts", "Daly 2006"}}};
  if (const auto run = drawn_run(f)) {
    g.figures.push_back({"goodput of a drawn run", 100 * run->share(), "%",
                         "kept work / time up to stop " + std::to_string(f.stops) + ", gaps -M ln(1 - u)",
                         "drawn with failures.seed " + std::to_string(f.seed)});
  }
  return g;
}

Result<FailureRun> drawn_run(const FailureCase& f) {
  const auto planned = goodput_of(f);
  if (!planned) return planned.error();
  return draw_failures(f.model, planned->interval_min, f.stops, f.seed);
}

Result<Report::Section> failure_section(const FailureCase& f) {
  const auto planned = goodput_of(f);
  if (!planned) return planned.error();
  LineChart chart{.title = "Goodput against the checkpoint interval",
                  .x_label = "work between checkpoints (min)",
                  .y_label = "goodput (%)",
                  .log_y = false,
                  .series = {},
                  .log_x = true,
                  .origin = {"t / (M exp(r / M) (exp((t + c) / M) - 1)), t between checkpoints of c, restarts of r, M "
                             "between stops",
                             "Daly 2006"}};
  for (const double factor : {0.5, 1.0, 2.0}) {
    FailureModel scaled = f.model;
    scaled.mtbf_h *= factor;
    Series series{.name = figure_text(scaled.mtbf_h, 3) + " h between stops" + (factor == 1 ? ", as given" : ""),
                  .x = {},
                  .y = {}};
    for (int k = -10; k <= 10; ++k) {
      const double interval = planned->interval_min * std::exp2(k / 2.0);
      const auto at = goodput(scaled, interval);
      if (!at) continue;
      series.x.push_back(interval);
      series.y.push_back(100 * at->share);
    }
    chart.series.push_back(std::move(series));
  }
  chart.series.push_back({.name = f.interval_min > 0 ? "as planned" : "the best",
                          .x = {planned->interval_min},
                          .y = {100 * planned->share},
                          .points_only = true});
  Report::Section out{"Failures",
                      "A job that stops when " + f.stops_when + " and goes on from the last checkpoint.",
                      {std::move(chart)}};
  const auto run = drawn_run(f);
  if (!run) return out;  // restarts that hardly ever end: the expectation says it
  out.blocks.push_back(goodput_over_time(*run, planned->share));
  out.blocks.push_back(to_gantt(*run));
  return out;
}

}  // namespace fathom
