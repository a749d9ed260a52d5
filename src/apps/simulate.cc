// fathom simulate: a scenario's jobs on a cluster's links: time, bandwidth, and the links that limit.
#include "sim/simulate.h"

#include <cmath>
#include <csignal>
#include <cstdio>

#include "apps/console.h"
#include "apps/verbs.h"

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

}  // namespace

Status simulate(const SimulateOptions& options) {
  constexpr double kAgree = 1e-4;
  // Nothing is written that an interrupt could leave half done.
  std::signal(SIGINT, SIG_DFL);
  std::signal(SIGTERM, SIG_DFL);
  const auto scenario = load_config<Scenario>(
      {.file = options.scenario, .environment = process_environment(), .overrides = options.overrides});
  if (!scenario) return scenario.error();
  const auto engine = parse_engine(options.engine);
  if (!engine) return engine.error();
  const auto answer = fathom::simulate(*scenario, *engine);
  if (!answer) return answer.error();
  Json json = to_json(*answer);
  std::string differs;
  if (options.check) {
    const FlowEngine other = answer->engine == FlowEngine::kMaxMin ? FlowEngine::kSimGrid : FlowEngine::kMaxMin;
    const auto second = fathom::simulate(*scenario, other);
    if (!second) return second.error();
    Json check = Json::object();
    check.set("engine", engine_name(other));
    double worst = 0;
    for (size_t j = 0; j < answer->jobs.size(); ++j) {
      const double difference = answer->jobs[j].seconds / second->jobs[j].seconds - 1;
      if (std::abs(difference) > std::abs(worst)) worst = difference;
    }
    json.set("check", check.set("difference", worst));
    if (std::abs(worst) > kAgree) {
      differs = "engines " + engine_name(answer->engine) + " and " + engine_name(other) + " differ by " +
                figure_text(100 * worst) + " %; accepted: 0.01 %" +
                (answer->engine == FlowEngine::kBound ? " (a bound need not be reached)" : "");
    } else if (!options.json) {
      std::printf("engine %s agrees within 0.01 %%\n", engine_name(other).c_str());
    }
  }
  if (options.json) {
    std::printf("%s\n", json.dump(2).c_str());
  } else {
    print(*answer);
  }
  if (!differs.empty()) return corrupt(differs);
  return {};
}

}  // namespace fathom::apps
