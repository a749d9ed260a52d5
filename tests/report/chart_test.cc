// Chart: SVG that is bounded, escaped and complete for any data.
#include "report/chart.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "../count.h"

namespace fathom {
namespace {

using testing::count;

LineChart two_lines() {
  return {"Loss",
          "step",
          "loss (nats/token)",
          false,
          {{"train", {0, 1, 2}, {3, 2, 1}}, {"validation", {0, 1, 2}, {3.5, 2.5, 1.5}}}};
}

TEST(Chart, HasTitleLabelsLegendAndOnePathPerSeries) {
  const std::string svg = to_svg(two_lines());
  EXPECT_EQ(svg.substr(0, 5), "<svg ");
  EXPECT_NE(svg.find(">Loss</text>"), std::string::npos);
  EXPECT_NE(svg.find(">step</text>"), std::string::npos);
  EXPECT_NE(svg.find(">loss (nats/token)</text>"), std::string::npos);
  EXPECT_NE(svg.find(">validation</text>"), std::string::npos);
  EXPECT_EQ(count(svg, "<g data-series="), 2u);
  EXPECT_EQ(count(svg, "<circle"), 6u);
  EXPECT_NE(svg.find("prefers-color-scheme:dark"), std::string::npos);
}

TEST(Chart, EscapesEveryText) {
  LineChart chart = two_lines();
  chart.title = chart.x_label = chart.y_label = chart.series[0].name = "<script>\"&";
  const std::string svg = to_svg(chart);
  EXPECT_EQ(svg.find("<script>"), std::string::npos);
  EXPECT_EQ(count(svg, "&lt;script&gt;&quot;&amp;"), 6u + 3 * 3 + 3 * 2);  // title, its label, two axes,
                                                                           // legend, tooltips of line and dots
}

TEST(Chart, BreaksTheLineAtPointsThatCannotBeDrawn) {
  const double nan = std::nan(""), infinity = std::numeric_limits<double>::infinity();
  const std::string svg = to_svg({"t", "", "", false, {{"a", {0, 1, 2, 3, 4, 5}, {1, 2, nan, 3, infinity, 5}}}});
  const size_t at = svg.find(" d=\"M");
  ASSERT_NE(at, std::string::npos);
  const std::string path = svg.substr(at + 4, svg.find('"', at + 4) - at - 4);
  EXPECT_EQ(count(path, "M"), 3u);
  EXPECT_EQ(count(path, "L"), 1u);
  EXPECT_EQ(count(svg, "<circle"), 4u);
  EXPECT_EQ(svg.find("nan"), std::string::npos);
  EXPECT_EQ(svg.find("inf"), std::string::npos);
}

TEST(Chart, ALogAxisLeavesOutWhatIsNotPositive) {
  const std::string svg = to_svg({"t", "", "", true, {{"a", {0, 1, 2, 3}, {1, 0, 10, -5}}}});
  EXPECT_EQ(count(svg, "<circle"), 2u);
}

TEST(Chart, PointsSayTheirValuesAndOriginAndCarryTheNumbers) {
  const LineChart chart{.title = "t",
                        .x_label = "bandwidth (GB/s)",
                        .y_label = "TPOT (ms)",
                        .log_y = false,
                        .series = {{.name = "NIC",
                                    .x = {10, 1000},
                                    .y = {0.125, 12.3456789012},
                                    .labels = {"slow", "fast"},
                                    .points_only = true},
                                   {.name = "other", .x = {100}, .y = {1}, .labels = {}, .origin = {"own", ""}}},
                        .log_x = true,
                        .origin = {"a / b", "table 1"}};
  const std::string svg = to_svg(chart);
  EXPECT_NE(svg.find("data-x=\"1000\" data-y=\"12.3456789012\"><title>NIC, fast\nbandwidth (GB/s): 1,000\nTPOT "
                     "(ms): 12.346\na / b\ntable 1</title>"),
            std::string::npos);
  EXPECT_NE(svg.find("TPOT (ms): 1\nown</title>"), std::string::npos);
  EXPECT_EQ(count(svg, "<path class=\"fc-line"), 2u);  // the other series, and its legend
  const Json json = to_json(chart);
  EXPECT_EQ(json.find("series")->items()[0].find("y")->items()[1].as_double(), 12.3456789012);
  EXPECT_EQ(json.find("series")->items()[1].find("formula")->as_string(), "own");
  EXPECT_EQ(json.find("formula")->as_string(), "a / b");
  EXPECT_TRUE(json.find("log_x")->as_bool());
  EXPECT_EQ(to_csv(to_table(chart)),
            "series,label,bandwidth (GB/s),TPOT (ms)\nNIC,slow,10,0.125\nNIC,fast,1000,12.3456789012\n"
            "other,,100,1\n");
}

TEST(Chart, ALogAxisSpacesDecadesEvenly) {
  const std::string svg = to_svg({.title = "t",
                                  .x_label = "",
                                  .y_label = "",
                                  .log_y = false,
                                  .series = {{"a", {1, 10, 100}, {1, 2, 3}}},
                                  .log_x = true});
  double x[3];
  size_t at = 0;
  for (double& v : x) {
    at = svg.find(" cx=\"", at) + 5;
    v = std::stod(svg.substr(at));
  }
  EXPECT_NEAR(x[2] - x[1], x[1] - x[0], 0.02);
}

TEST(Chart, ACloudOfPointsIsBounded) {
  Series cloud{.name = "cloud", .x = {}, .y = {}, .labels = {}, .points_only = true};
  for (int i = 0; i < 200'000; ++i) {
    cloud.x.push_back(std::fmod(i * 0.618, 1));
    cloud.y.push_back(std::fmod(i * 0.414, 1));
  }
  EXPECT_LT(to_svg({"t", "", "", false, {cloud}}).size(), 2'000'000u);
  EXPECT_EQ(to_table({"t", "", "", false, {cloud}}).rows.size(), 200'000u);
}

TEST(Chart, SaysWhenThereIsNothingToShow) {
  EXPECT_NE(to_svg({"t", "x", "y", false, {}}).find("no data</text>"), std::string::npos);
  EXPECT_NE(to_svg({"t", "x", "y", true, {{"a", {1}, {-1}}}}).find("no data that this axis can show"),
            std::string::npos);
}

TEST(Chart, SizeDoesNotGrowWithTheData) {
  Series series{"noise", {}, {}};
  for (int i = 0; i < 300'000; ++i) {
    series.x.push_back(i);
    series.y.push_back(std::sin(i * 0.7) + i * 1e-5);
  }
  EXPECT_LT(to_svg({"t", "", "", false, {series}}).size(), 60'000u);
}

TEST(Chart, ThinningKeepsTheExtremes) {
  Series series{"spike", {}, {}};
  for (int i = 0; i < 100'000; ++i) {
    series.x.push_back(i);
    series.y.push_back(i == 54'321 ? 100 : 0);
  }
  // The y axis runs from 0 to 100, so the spike reaches the top grid line, whose y is that of the last tick.
  const std::string svg = to_svg({"", "", "", false, {series}});
  const size_t grid = svg.rfind("fc-grid\"");
  const size_t begin = svg.find("y1=\"", grid) + 4;
  const std::string top = svg.substr(begin, svg.find('"', begin) - begin);
  EXPECT_NE(svg.find(" " + top + "L", svg.find(" d=\"M")), std::string::npos) << top;
}

TEST(Chart, SurvivesExtremeValues) {
  const std::string svg = to_svg({"t", "", "", false, {{"a", {-1e300, 0, 1e300}, {1e300, -1e300, 1e-300}}}});
  EXPECT_EQ(count(svg, "<circle"), 3u);
  const std::string same = to_svg({"t", "", "", false, {{"a", {5, 5}, {1e-310, 1e-310}}}});
  EXPECT_EQ(count(same, "<circle"), 2u);  // two equal points in one pixel column
}

TEST(ChartDeathTest, SeriesOfUnequalLengthAreOurBug) {
  EXPECT_DEATH((void)to_svg({"t", "", "", false, {{"a", {1, 2}, {1}}}}), "as many x as y");
}

}  // namespace
}  // namespace fathom
