// fathom simulate: a scenario's jobs on a cluster's links: time, bandwidth, and the links that limit; at one point, or
// at each of some values of its settings.
#include "sim/simulate.h"

#include <algorithm>
#include <csignal>
#include <cstdio>

#include "apps/console.h"
#include "apps/outputs.h"
#include "apps/verbs.h"
#include "report/bench_lines.h"
#include "sim/engine_check.h"
#include "sim/simulate_report.h"
#include "sim/sweep.h"

namespace fathom::apps {
namespace {

void print_figures(const std::string& title, const std::vector<Figure>& figures) {
  std::printf("%s\n", styled(title, "1").c_str());
  for (const Figure& f : figures) {
    const std::string value = figure_text(f.value) + (f.unit.empty() ? "" : " " + f.unit);
    std::printf("  %-38s %18s  %s\n", f.name.c_str(), value.c_str(), styled(f.formula, "2").c_str());
  }
}

void print(const Simulation& s) {
  constexpr size_t kMostLinks = 3;
  std::printf("%s; engine %s\n", s.cluster.c_str(), engine_name(s.engine).c_str());
  for (const std::string& note : s.notes) std::printf("note: %s\n", note.c_str());
  for (const JobAnswer& job : s.jobs) {
    print_figures(s.jobs.size() > 1 ? job.name + ": " + job.op : job.op, job.figures);
    std::printf("  %-38s %s\n", "limit", job.limit.text.c_str());
    for (const std::string& note : job.notes) std::printf("  %-38s %s\n", "note", note.c_str());
  }
  std::printf("%s\n", styled("links that limit", "1").c_str());
  for (size_t i = 0; i < s.links.size() && i < kMostLinks; ++i) {
    const LinkAnswer& l = s.links[i];
    const std::string alike = l.alike > 1 ? " and " + figure_text(l.alike - 1, 9) + " alike" : "";
    // What the efficiency of its jobs leaves of the rate.
    const double share = l.bytes / (l.seconds * 1e9 * l.gbps);
    const std::string rate = (share < 1 - 1e-9 ? "(" + figure_text(share) + " x " : "") + figure_text(l.gbps) +
                             " GB/s" + (share < 1 - 1e-9 ? ")" : "");
    std::printf("  %-42s %14s  %s\n", (l.name + alike).c_str(), (figure_text(l.seconds * 1e6) + " us").c_str(),
                styled(figure_text(l.bytes / 1e6) + " MB / " + rate, "2").c_str());
  }
  if (!s.failures.empty()) print_figures("failures", s.failures);
  print_figures("fabric", s.fabric);
  print_figures("work", s.work);
}

std::string title_of(const SimulateOptions& options) {
  return "Simulation: " + Path(options.scenario).filename().string();
}

/// The answer is there: an interrupt may no longer end the program at once, which would leave a part of the files.
Status write_pages(const Report& page, const Path& path) {
  catch_interrupts();
  return write_report(page, path);
}

Status simulate_one(const SimulateOptions& options, const ConfigSources& sources, FlowEngine engine) {
  const auto scenario = load_config<Scenario>(sources);
  if (!scenario) return scenario.error();
  const auto answer = fathom::simulate(*scenario, engine);
  if (!answer) return answer.error();
  Json json = to_json(*answer);
  std::string differs;
  if (options.check) {
    const auto check = check_engine(*scenario, *answer);
    if (!check) return check.error();
    json.set("check", to_json(*check));
    const std::string text = text_of(*check, *answer);
    if (check->skipped.empty() && !check->agrees()) {
      differs = text;
    } else if (!options.json) {
      std::printf("%s\n", text.c_str());
    }
  }
  if (!options.report.empty()) {
    const auto page = simulate_report(title_of(options), *scenario, *answer);
    if (!page) return page.error();
    if (auto written = write_pages(*page, options.report); !written) return written;
  }
  if (options.json) {
    std::printf("%s\n", json.dump(2).c_str());
  } else {
    print(*answer);
  }
  if (!differs.empty()) return corrupt(differs);
  return {};
}

Status simulate_sweep(const SimulateOptions& options, const ConfigSources& sources, FlowEngine engine) {
  auto keys = parse_sweep(options.sweep);
  if (!keys) return keys.error();
  const auto sweep = run_sweep(sources, *std::move(keys), engine);
  if (!sweep) return sweep.error();
  Json checks = Json::array();
  if (options.check) {
    // All points together may cost as much as two.
    double shares_left = 2;
    size_t num_checked = 0;
    for (const SweepPoint& point : sweep->points) {
      const auto check = check_engine(point.scenario, point.answer, std::min(shares_left, 1.0));
      if (!check) return check.error();
      const std::string text = "--sweep " + text_of(*sweep, point) + ": " + text_of(*check, point.answer);
      shares_left = std::max(shares_left - check->cost, 0.0);
      checks.push(to_json(*check));
      if (check->agrees()) {
        ++num_checked;
      } else if (check->skipped.empty()) {
        return corrupt(text);
      } else if (!options.json && !options.csv) {
        std::printf("%s\n", text.c_str());
      }
    }
    if (!options.json && !options.csv) {
      const size_t num_points = sweep->points.size();
      std::printf("a second engine agrees within 0.01 %% at %s%zu points\n",
                  num_checked == num_points ? "all " : (std::to_string(num_checked) + " of ").c_str(), num_points);
    }
  }
  if (!options.report.empty()) {
    if (auto written = write_pages(sweep_report(title_of(options), *sweep), options.report); !written) return written;
  }
  if (options.json) {
    Json json = to_json(*sweep);
    if (options.check) json.set("checks", std::move(checks));
    std::printf("%s\n", json.dump(2).c_str());
  } else if (options.csv) {
    std::printf("%s", to_csv(to_table(*sweep, true)).c_str());
  } else {
    const Table table = to_table(*sweep, false);
    std::vector<std::vector<std::string>> rows = {table.header};
    rows.insert(rows.end(), table.rows.begin(), table.rows.end());
    std::printf("%s", aligned(rows, 0).c_str());
  }
  return {};
}

}  // namespace

Status simulate(const SimulateOptions& options) {
  const ConfigSources sources{
      .file = options.scenario, .environment = process_environment(), .overrides = options.overrides};
  if (options.print_config) {
    const auto scenario = load_config<Scenario>(sources);
    if (!scenario) return scenario.error();
    std::printf("%s", scenario_toml(*scenario).c_str());
    return {};
  }
  const auto engine = parse_engine(options.engine);
  if (!engine) return engine.error();
  if (auto s = check_outputs({{"--report", options.report}}, {options.scenario}); !s) return s;
  if (!options.report.empty()) {  // before minutes are spent
    if (auto writable = check_report_path(options.report); !writable) return writable;
  }
  // Nothing is written while it computes, so an interrupt may end the program at once.
  std::signal(SIGINT, SIG_DFL);
  std::signal(SIGTERM, SIG_DFL);
  if (interrupted()) return interrupted_error("starting");
  return options.sweep.empty() ? simulate_one(options, sources, *engine) : simulate_sweep(options, sources, *engine);
}

}  // namespace fathom::apps
