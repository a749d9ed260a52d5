#include "sim/failure_run.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <functional>

#include "base/check.h"
#include "base/figure.h"
#include "base/rng.h"

namespace fathom {
namespace {

constexpr int64_t kMostStretches = 100'000;
constexpr uint64_t kMostDraws = 1'000'000;
enum Kind : size_t { kKept, kCheckpoint, kLost, kRestart };

double end_of(const FailureRun& run, const FailureStretch& s) {
  return s.start_min + s.intervals * (run.interval_min + run.model.checkpoint_min) + s.lost_min + s.restart_min;
}

/// Calls see(kind, start, end, name), in minutes, for what happens in a stretch. `is_merged`: kept work in one piece,
/// and its checkpoints in one behind it.
void for_each_part(const FailureRun& run, const FailureStretch& s, bool is_merged,
                   const std::function<void(Kind, double, double, const std::string&)>& see) {
  const double work = run.interval_min, checkpoint = run.model.checkpoint_min;
  double at = s.start_min;
  const auto part = [&](Kind kind, double minutes, const std::string& name) {
    if (minutes > 0) see(kind, at, at + minutes, name);
    at += minutes;
  };
  if (is_merged) {
    const std::string count = figure_text(s.intervals, 9);
    part(kKept, s.intervals * work, count + " intervals of work");
    part(kCheckpoint, s.intervals * checkpoint, "their " + count + " checkpoints");
  } else {
    for (int64_t i = 0; i < static_cast<int64_t>(s.intervals); ++i) {
      part(kKept, work, "work");
      part(kCheckpoint, checkpoint, "checkpoint");
    }
  }
  part(kLost, s.lost_min, "lost since the last checkpoint");
  part(kRestart, s.restart_min,
       s.stops > 1
           ? "restart, stopped " + figure_text(static_cast<double>(s.stops - 1), 9) + (s.stops > 2 ? " times" : " time")
           : "restart");
}

}  // namespace

double FailureRun::minutes() const { return stretches.empty() ? 0 : end_of(*this, stretches.back()); }

double FailureRun::kept_min() const {
  double sum = 0;
  for (const FailureStretch& s : stretches) sum += s.intervals * interval_min;
  return sum;
}

double FailureRun::checkpoint_min() const {
  double sum = 0;
  for (const FailureStretch& s : stretches) sum += s.intervals * model.checkpoint_min;
  return sum;
}

double FailureRun::lost_min() const {
  double sum = 0;
  for (const FailureStretch& s : stretches) sum += s.lost_min;
  return sum;
}

double FailureRun::restart_min() const {
  double sum = 0;
  for (const FailureStretch& s : stretches) sum += s.restart_min;
  return sum;
}

Result<FailureRun> draw_failures(const FailureModel& model, double interval_min, int64_t num_stretches, uint64_t seed) {
  if (auto expected = goodput(model, interval_min); !expected) return expected.error();
  if (!(interval_min > 0)) return invalid("failures: the work between checkpoints is 0 minutes; accepted: more than 0");
  if (num_stretches < 1 || num_stretches > kMostStretches) {
    return invalid("failures: " + std::to_string(num_stretches) + " stops to draw; accepted: 1 to " +
                   std::to_string(kMostStretches));
  }
  const double mean = model.mtbf_h * 60;
  const Rng rng(seed, stream_of("failures"));
  uint64_t num_draws = 0;
  const auto gap = [&] { return -mean * std::log1p(-rng.uniform(num_draws++)); };
  FailureRun run{model, interval_min, seed, {}};
  double now = 0, until_stop = gap();
  for (int64_t i = 0; i < num_stretches; ++i) {
    FailureStretch s{.start_min = now};
    const double cycle = interval_min + model.checkpoint_min;
    s.intervals = std::floor(until_stop / cycle);
    s.lost_min = std::max(0.0, until_stop - s.intervals * cycle);
    until_stop = gap();
    while (until_stop < model.restart_min) {
      s.restart_min += until_stop;
      ++s.stops;
      if (num_draws > kMostDraws) {
        return invalid("failures: a restart of " + figure_text(model.restart_min) + " min between stops every " +
                       figure_text(mean) +
                       " min needs more tries than can be drawn; give a shorter failures.restart_min");
      }
      until_stop = gap();
    }
    s.restart_min += model.restart_min;
    until_stop -= model.restart_min;
    now = end_of(run, s);
    run.stretches.push_back(s);
  }
  return run;
}

Gantt to_gantt(const FailureRun& run, int64_t max_bars) {
  check(max_bars > 0 && !run.stretches.empty(), "a run and bars to show it");
  const auto bars_of = [](const FailureStretch& s) { return 2 * s.intervals + 2; };
  const bool is_merged = bars_of(run.stretches.front()) > static_cast<double>(max_bars);
  Gantt out{
      .title = "A drawn run and its stops",
      .time_label = "time (h)",
      .rows = {"work kept", "checkpoint", "work lost", "restart"},
      .kinds = {"work kept", "checkpoint", "work lost", "restart"},
      .bars = {},
      .origin = {"stops after -M ln(1 - u), u drawn; work since the last checkpoint is lost; a stop while restarting "
                 "begins the restart anew; M = " +
                     figure_text(run.model.mtbf_h) + " h, " + figure_text(run.interval_min) +
                     " min of work between checkpoints of " + figure_text(run.model.checkpoint_min) +
                     " min, restarts of " + figure_text(run.model.restart_min) + " min",
                 "drawn with seed " + std::to_string(run.seed)},
      .idle = ""};
  double num_bars = 0;
  size_t shown = 0;
  for (const FailureStretch& s : run.stretches) {
    num_bars += is_merged ? 4 : bars_of(s);
    if (shown > 0 && num_bars > static_cast<double>(max_bars)) break;
    for_each_part(run, s, is_merged, [&](Kind kind, double start, double end, const std::string& name) {
      out.bars.push_back({kind, kind, start / 60, end / 60, name});
    });
    ++shown;
  }
  out.origin.source += ", up to stop " + std::to_string(shown) + " of " + std::to_string(run.stretches.size());
  return out;
}

std::string to_text(const FailureRun& run, int columns, int lines) {
  check(columns > 0 && lines > 0 && !run.stretches.empty(), "a run and characters to show it");
  const auto num_cells = static_cast<size_t>(columns) * static_cast<size_t>(lines);
  // Enough stretches that a picture has some stops, and few enough that their restarts can be seen.
  const size_t shown = std::min<size_t>(run.stretches.size(), 2 * static_cast<size_t>(lines));
  const double end = end_of(run, run.stretches[shown - 1]), cell = end / static_cast<double>(num_cells);
  std::vector<std::array<double, 4>> minutes(num_cells);
  std::vector<bool> stops(num_cells);
  const auto cell_of = [&](double t) { return std::min(static_cast<size_t>(t / cell), num_cells - 1); };
  const auto for_each_cell = [&](double from, double to, const auto& see) {
    for (size_t i = cell_of(from); i <= cell_of(to); ++i) {
      const double left = static_cast<double>(i) * cell;
      const double overlap = std::min(to, left + cell) - std::max(from, left);
      if (overlap > 0) see(minutes[i], overlap);
    }
  };
  for (size_t i = 0; i < shown; ++i) {
    const FailureStretch& s = run.stretches[i];
    const double cycle = run.interval_min + run.model.checkpoint_min, kept = s.intervals * cycle;
    if (cycle < cell) {  // too short to be seen one by one
      const double work = run.interval_min / cycle;
      for_each_cell(s.start_min, s.start_min + kept, [&](auto& of_cell, double overlap) {
        of_cell[kKept] += overlap * work;
        of_cell[kCheckpoint] += overlap * (1 - work);
      });
    }
    for_each_part(run, s, cycle < cell, [&](Kind kind, double from, double to, const std::string&) {
      if (cycle < cell && (kind == kKept || kind == kCheckpoint)) return;
      for_each_cell(from, to, [&](auto& of_cell, double overlap) { of_cell[kind] += overlap; });
    });
    stops[cell_of(s.start_min + kept + s.lost_min)] = true;
  }
  std::string text;
  for (size_t i = 0; i < num_cells; ++i) {
    if (i % static_cast<size_t>(columns) == 0) {
      char head[40];
      std::snprintf(head, sizeof head, "%s%9s h  ", i > 0 ? "\n" : "",
                    figure_text(static_cast<double>(i) * cell / 60, 4).c_str());
      text += head;
    }
    const auto most = std::max_element(minutes[i].begin(), minutes[i].end()) - minutes[i].begin();
    text += stops[i] ? '!' : "=cxr"[most];
  }
  return text + "\n";
}

}  // namespace fathom
