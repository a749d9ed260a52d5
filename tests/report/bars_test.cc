// Bars: lengths that are the values, stacked to their sum; tornadoes with the widest row on top.
#include "report/bars.h"

#include <gtest/gtest.h>

#include <cmath>

#include "../count.h"

namespace fathom {
namespace {

using testing::count;

// x and width of the bar that carries this value.
std::pair<double, double> bar(const std::string& svg, const std::string& value) {
  const size_t data = svg.find("data-v=\"" + value + "\"/>");  // not a tick
  if (data == std::string::npos) return {NAN, NAN};
  const size_t rect = svg.rfind("<rect", data);
  const auto number = [&](const char* name) {
    return std::stod(svg.substr(svg.find(name, rect) + std::string(name).size()));
  };
  return {number(" x=\""), number(" width=\"")};
}

BarChart memory() {
  return {.title = "Memory",
          .row_label = "rank",
          .value_label = "memory (GB)",
          .rows = {"0", "1"},
          .parts = {{"weights", {30, 10}, {"2 B each", "report"}}, {"KV", {15, 60}}},
          .limit = BarChart::Limit{"h800", 80},
          .origin = {"sum", "plan"}};
}

TEST(Bars, PartsAreStackedToScale) {
  const std::string svg = to_svg(memory());
  const auto [x30, w30] = bar(svg, "30");
  const auto [x15, w15] = bar(svg, "15");
  EXPECT_NEAR(x15, x30 + w30, 0.02);
  EXPECT_NEAR(w30, 2 * w15, 0.02);
  EXPECT_NEAR(bar(svg, "60").second, 4 * w15, 0.02);
  EXPECT_NE(svg.find("<title>weights, 0\nmemory (GB): 30\n2 B each\nreport</title>"), std::string::npos);
  EXPECT_NE(svg.find("<title>KV, 1\nmemory (GB): 60\nsum\nplan</title>"), std::string::npos);
  EXPECT_NE(svg.find("h800: 80</text>"), std::string::npos);
  EXPECT_NE(svg.find(">memory (GB)</text>"), std::string::npos);
}

TEST(Bars, JsonAndCsvHaveEveryValue) {
  const Json json = to_json(memory());
  EXPECT_EQ(json.find("parts")->items()[1].find("values")->items()[1].as_double(), 60);
  EXPECT_EQ(json.find("limit")->find("value")->as_double(), 80);
  EXPECT_EQ(to_csv(to_table(memory())), "rank,weights: memory (GB),KV: memory (GB)\n0,30,15\n1,10,60\n");
}

TEST(Bars, WhatCannotBeDrawnHasNoBarAndManyRowsAreCut) {
  BarChart chart = memory();
  chart.parts[0].values = {NAN, -5};
  EXPECT_EQ(count(to_svg(chart), "data-v=\"") - count(to_svg(chart), "fc-xt"), 2u);
  chart.rows.assign(100'000, "r<");
  chart.parts = {{"all", std::vector<double>(100'000, 1e300)}};
  const std::string svg = to_svg(chart);
  EXPECT_NE(svg.find("the first 64 of 100000 rows"), std::string::npos);
  EXPECT_LT(svg.size(), 40'000u);
  EXPECT_EQ(svg.find("r<"), std::string::npos);
  EXPECT_NE(to_svg(BarChart{}).find("no data"), std::string::npos);
}

TEST(Tornado, HasTheWidestRowOnTopAndBarsFromTheBase) {
  const Tornado chart{.title = "What moves TPOT",
                      .value_label = "TPOT (ms)",
                      .base = 10,
                      .low_name = "-20 %",
                      .high_name = "+20 %",
                      .rows = {{"batch", 9, 11}, {"bandwidth", 12.5, 8, {"a / b", ""}}, {"broken", NAN, 1}},
                      .origin = {"max", "roofline"}};
  const std::string svg = to_svg(chart);
  EXPECT_LT(svg.find(">bandwidth</text>"), svg.find(">batch</text>"));
  EXPECT_EQ(svg.find("broken"), std::string::npos);
  const auto [low_x, low_width] = bar(svg, "8");
  const auto [high_x, high_width] = bar(svg, "12.5");
  EXPECT_NEAR(low_x + low_width, high_x, 0.02);
  EXPECT_NEAR(high_width / low_width, 2.5 / 2, 1e-3);
  EXPECT_NE(svg.find("<title>bandwidth +20 %\nTPOT (ms): 8\na / b</title>"), std::string::npos);
  EXPECT_EQ(to_json(chart).find("rows")->items()[1].find("low")->as_double(), 12.5);
  EXPECT_EQ(to_csv(to_table(chart)),
            "input,-20 %: TPOT (ms),as given: TPOT (ms),+20 %: TPOT (ms)\nbatch,9,10,11\nbandwidth,12.5,10,8\n"
            "broken,,10,1\n");
}

TEST(BarsDeathTest, PartsOfAnotherLengthAreOurBug) {
  EXPECT_DEATH(
      (void)to_svg(BarChart{.title = "", .row_label = "", .value_label = "", .rows = {"a"}, .parts = {{"p", {}}}}),
      "a value per row");
}

}  // namespace
}  // namespace fathom
