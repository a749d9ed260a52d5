#include "sim/simulate_report.h"

#include <algorithm>

namespace fathom {
namespace {

constexpr const char* kIntro =
    "Traffic is a fluid: every message has the rate that max-min fairness gives it. Numbers say their formula and "
    "source "
    "when a pointer rests on them.";

double value_of(const JobAnswer& job, std::string_view name) {
  const Figure* found = find_figure(job.figures, name);
  return found ? found->value : 0;
}

constexpr const char* kOnLinks = "of it bytes on links";
constexpr const char* kHealthy = "bytes on links when nothing is broken";
constexpr const char* kCost = "bandwidth against healthy";

std::string row_name(const Simulation& answer, size_t job) {
  const std::string& op = answer.jobs[job].op;
  return answer.jobs.size() == 1 ? op : answer.jobs[job].name + ": " + op;
}

BarChart time_chart(const Simulation& answer) {
  BarChart chart{.title = "What takes the time",
                 .row_label = "job",
                 .value_label = "time (us)",
                 .rows = {},
                 .parts = {{"bytes on links", {}, {}}, {"latency", {}, {}}, {"software", {}, {}}},
                 .origin = {"bytes on links + latency + software", "fluid flows, max-min fair"}};
  const auto add = [&](std::string name, const JobAnswer& job, double on_links) {
    chart.rows.push_back(std::move(name));
    chart.parts[0].values.push_back(on_links);
    chart.parts[1].values.push_back(value_of(job, "of it latency"));
    chart.parts[2].values.push_back(value_of(job, "of it software"));
  };
  for (size_t j = 0; j < answer.jobs.size(); ++j) {
    const JobAnswer& job = answer.jobs[j];
    add(row_name(answer, j), job, value_of(job, kOnLinks));
    if (find_figure(job.figures, kHealthy)) add(row_name(answer, j) + ", whole", job, value_of(job, kHealthy));
    const char* names[] = {kOnLinks, "of it latency", "of it software"};
    for (size_t part = 0; part < 3; ++part) {
      const Figure* figure = find_figure(job.figures, names[part]);
      if (figure) chart.parts[part].origin = {figure->formula, figure->source};
    }
  }
  std::erase_if(chart.parts, [](const BarChart::Part& part) {
    return std::all_of(part.values.begin(), part.values.end(), [](double v) { return v == 0; });
  });
  return chart;
}

Report::Section links_section(const Simulation& answer) {
  const Origin origin{"bytes over one link / efficiency of the job / its rate", "the flows that the engine ran"};
  BarChart chart{.title = "How long each kind of link is needed at full rate",
                 .row_label = "kind of link",
                 .value_label = "time (us)",
                 .rows = {},
                 .parts = {{"the most loaded one", {}}},
                 .limit = BarChart::Limit{"all bytes moved", answer.loads.seconds * 1e6},
                 .origin = origin};
  Grid grid{.title = "The most loaded link of each kind",
            .row_label = "link",
            .columns = {{"alike", "", {"links as loaded by symmetry", "counted"}},
                        {"bytes", "MB", {"over one of them", "the flows that the engine ran"}},
                        {"rate", "GB/s", {"of one of them", "given"}},
                        {"time", "us", origin}},
            .rows = {}};
  for (const LinkAnswer& link : answer.links) {
    chart.rows.push_back(link.kind);
    chart.parts[0].values.push_back(link.seconds * 1e6);
    grid.rows.push_back({link.name, {link.alike, link.bytes / 1e6, link.gbps, link.seconds * 1e6}});
  }
  std::string text =
      "A link whose time reaches the line is full from the first byte to the last: nothing else can be faster.";
  for (size_t j = 0; j < answer.jobs.size(); ++j) {
    text += " Limit of " + row_name(answer, j) + ": " + answer.jobs[j].limit.text + ".";
  }
  return {"Links that limit", std::move(text), {std::move(chart), std::move(grid)}};
}

Report::Section broken_section(const Scenario& scenario, const Simulation& answer) {
  const bool has_dead = scenario.fail.plane >= 0 || scenario.fail.leaf >= 0 || scenario.fail.nic >= 0;
  Grid grid{.title = "With and without what is broken", .row_label = "job", .columns = {}, .rows = {}};
  for (size_t j = 0; j < answer.jobs.size(); ++j) {
    const JobAnswer& job = answer.jobs[j];
    Grid::Row row{row_name(answer, j), {}};
    for (const char* name : {kHealthy, kOnLinks, kCost}) {
      const Figure& figure = *find_figure(job.figures, name);
      if (j == 0) {
        const bool is_now = figure.name == kOnLinks;
        grid.columns.push_back(
            {is_now ? "bytes on links now" : figure.name, figure.unit, {figure.formula, figure.source}});
      }
      row.values.push_back(figure.value);
    }
    grid.rows.push_back(std::move(row));
  }
  return {
      "What is broken", answer.cluster + (has_dead ? ". Grey cells below are dead links." : "."), {std::move(grid)}};
}

}  // namespace

Result<Report> simulate_report(std::string title, const Scenario& scenario, const Simulation& answer) {
  const auto cluster = cluster_of(scenario);
  if (!cluster) return cluster.error();
  Report report{std::move(title), kIntro, {}};
  Report::Section figures{"Figures", answer.cluster + "; engine " + engine_name(answer.engine) + ".", {}};
  for (const std::string& note : answer.notes) figures.text += " Note: " + note + ".";
  for (size_t j = 0; j < answer.jobs.size(); ++j) {
    for (const std::string& note : answer.jobs[j].notes)
      figures.text += " Note on " + row_name(answer, j) + ": " + note + ".";
  }
  for (size_t j = 0; j < answer.jobs.size(); ++j) {
    figures.blocks.push_back(FigureGroup{row_name(answer, j), answer.jobs[j].figures});
  }
  figures.blocks.push_back(time_chart(answer));
  if (!answer.failures.empty()) figures.blocks.push_back(FigureGroup{"failures", answer.failures});
  figures.blocks.push_back(FigureGroup{"fabric", answer.fabric});
  figures.blocks.push_back(FigureGroup{"work", answer.work});
  report.sections.push_back(std::move(figures));
  report.sections.push_back(links_section(answer));
  if (find_figure(answer.jobs.front().figures, kHealthy)) report.sections.push_back(broken_section(scenario, answer));
  const auto failures = failures_of(scenario, *cluster);
  if (!failures) return failures.error();
  if (*failures) {
    auto section = failure_section(**failures);
    if (!section) return section.error();
    report.sections.push_back(*std::move(section));
  }
  Report::Section loads{
      "Load of the links", "The share of the time that a link would need at its full rate for what it carried.", {}};
  for (HeatMap& map : load_maps(*cluster, answer.loads)) loads.blocks.push_back(std::move(map));
  if (!loads.blocks.empty()) report.sections.push_back(std::move(loads));
  return report;
}

Report sweep_report(std::string title, const Sweep& sweep) {
  return {std::move(title), kIntro, {sweep_section(sweep)}};
}

}  // namespace fathom
