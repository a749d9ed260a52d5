// fathom simulate: a scenario's jobs on a cluster's links: time, bandwidth, and the links that limit; at one point, or
// at each of some values of its settings.
#include "sim/simulate.h"

#include <cmath>
#include <csignal>
#include <cstdio>

#include "apps/console.h"
#include "apps/verbs.h"
#include "report/bench_lines.h"
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
  for (const JobAnswer& job : s.jobs) print_figures(job.op, job.figures);
  std::printf("%s\n", styled("links that limit", "1").c_str());
  for (size_t i = 0; i < s.links.size() && i < kMostLinks; ++i) {
    const LinkAnswer& l = s.links[i];
    const std::string alike = l.alike > 1 ? " and " + figure_text(l.alike - 1, 9) + " alike" : "";
    std::printf("  %-42s %14s  %s\n", (l.name + alike).c_str(), (figure_text(l.seconds * 1e6) + " us").c_str(),
                styled(figure_text(l.bytes / 1e6) + " MB / " + figure_text(l.gbps) + " GB/s", "2").c_str());
  }
  print_figures("work", s.work);
}

/// A second engine's answer to the same question.
struct Check {
  FlowEngine engine = FlowEngine::kMaxMin;
  double difference = 0;  // the largest of a job's time, as a share
};

Result<Check> check_with_another(const Scenario& scenario, const Simulation& answer) {
  Check check{answer.engine == FlowEngine::kMaxMin ? FlowEngine::kSimGrid : FlowEngine::kMaxMin};
  const auto second = fathom::simulate(scenario, check.engine);
  if (!second) return second.error();
  for (size_t j = 0; j < answer.jobs.size(); ++j) {
    const double difference = answer.jobs[j].seconds / second->jobs[j].seconds - 1;
    if (std::abs(difference) > std::abs(check.difference)) check.difference = difference;
  }
  return check;
}

/// What is wrong with a check; empty where the engines agree.
std::string difference_text(const Simulation& answer, const Check& check) {
  constexpr double kAgree = 1e-4;
  if (std::abs(check.difference) <= kAgree) return "";
  return "engines " + engine_name(answer.engine) + " and " + engine_name(check.engine) + " differ by " +
         figure_text(100 * check.difference) + " %; accepted: 0.01 %" +
         (answer.engine == FlowEngine::kBound ? " (a bound need not be reached)" : "");
}

Json to_json(const Check& check) {
  return Json::object().set("engine", engine_name(check.engine)).set("difference", check.difference);
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
    const auto check = check_with_another(*scenario, *answer);
    if (!check) return check.error();
    json.set("check", to_json(*check));
    differs = difference_text(*answer, *check);
    if (differs.empty() && !options.json) {
      std::printf("engine %s agrees within 0.01 %%\n", engine_name(check->engine).c_str());
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
  if (options.check) {
    for (const SweepPoint& point : sweep->points) {
      const auto check = check_with_another(point.scenario, point.answer);
      if (!check) return check.error();
      const std::string differs = difference_text(point.answer, *check);
      if (!differs.empty()) return corrupt("--sweep " + text_of(*sweep, point) + ": " + differs);
    }
    if (!options.json && !options.csv) {
      std::printf("a second engine agrees within 0.01 %% at all %zu points\n", sweep->points.size());
    }
  }
  if (!options.report.empty()) {
    if (auto written = write_pages(sweep_report(title_of(options), *sweep), options.report); !written) return written;
  }
  if (options.json) {
    std::printf("%s\n", to_json(*sweep).dump(2).c_str());
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
  const auto engine = parse_engine(options.engine);
  if (!engine) return engine.error();
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
