// SimulateReport: a page whose numbers are the answer's, each with where it comes from.
#include "sim/simulate_report.h"

#include <gtest/gtest.h>

#include "../find_block.h"
#include "scenario_cases.h"

namespace fathom {
namespace {

using testing::find;

struct Page {
  Simulation answer;
  Report report;
};

Page page(const Scenario& s) {
  auto answer = simulate(s, FlowEngine::kAuto);
  EXPECT_TRUE(answer.ok()) << (answer ? "" : answer.error().text);
  if (!answer) return {};
  auto report = simulate_report("page", s, *answer);
  EXPECT_TRUE(report.ok()) << (report ? "" : report.error().text);
  return {*std::move(answer), report ? *std::move(report) : Report{}};
}

TEST(SimulateReport, TimeIsDrawnByItsParts) {
  Scenario s = all_to_all(64);
  s.network.latency = "RoCE";
  s.job.alpha_us = 7;
  s.fail.plane = 2;
  const Page p = page(s);
  const auto& chart = *find<BarChart>(p.report, "What takes the time");
  EXPECT_EQ(chart.rows, (std::vector<std::string>{"all-to-all", "all-to-all, whole"}));
  ASSERT_EQ(chart.parts.size(), 3u);
  double sum = 0;
  for (const BarChart::Part& part : chart.parts) {
    sum += part.values[0];
    EXPECT_FALSE(part.origin.formula.empty());
  }
  EXPECT_NEAR(sum, p.answer.jobs[0].seconds * 1e6, 1e-6 * sum);
  EXPECT_NEAR(chart.parts[0].values[1], 7.0 / 8 * chart.parts[0].values[0], 1e-6 * sum);
  const auto& grid = *find<Grid>(p.report, "With and without what is broken");
  EXPECT_NEAR(grid.rows[0].values[2], -12.5, 1e-6);
}

TEST(SimulateReport, TheMostLoadedLinkReachesTheLine) {
  const Page p = page(all_to_all(128));
  const auto& chart = *find<BarChart>(p.report, "How long each kind of link is needed at full rate");
  ASSERT_TRUE(chart.limit.has_value());
  EXPECT_NEAR(chart.parts[0].values[0], chart.limit->value, 1e-6 * chart.limit->value);
  EXPECT_EQ(chart.rows.size(), p.answer.links.size());
  EXPECT_EQ(chart.rows[0], p.answer.links[0].kind);
  EXPECT_NEAR(find<HeatMap>(p.report, "NICs out")->values[3][7], 100, 1e-6);
}

TEST(SimulateReport, TwoJobsAreTwoRows) {
  Scenario s = all_to_all(128);
  s.also[0] = s.job;
  const Page p = page(s);
  EXPECT_EQ(find<BarChart>(p.report, "What takes the time")->rows,
            (std::vector<std::string>{"job: all-to-all", "also: all-to-all"}));
  EXPECT_EQ(find<FigureGroup>(p.report, "also: all-to-all")->figures.size(), p.answer.jobs[1].figures.size());
}

}  // namespace
}  // namespace fathom
