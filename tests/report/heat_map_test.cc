// HeatMap: a cell per value, darker for more, with a scale; large maps keep their largest values.
#include "report/heat_map.h"

#include <gtest/gtest.h>

#include <cmath>

namespace fathom {
namespace {

HeatMap loads() {
  return {.title = "Link load",
          .row_label = "plane",
          .column_label = "leaf",
          .value_label = "load (GB/s)",
          .rows = {"0", "1"},
          .columns = {"0", "1", "2"},
          .values = {{0, 25, 50}, {NAN, 12.5, 1}},
          .origin = {"bytes / time", "max-min"}};
}

int lightness(const std::string& svg, const std::string& value) {
  const size_t fill = svg.find("fill=\"#", svg.find("data-v=\"" + value + "\"")) + 7;
  int sum = 0;
  for (size_t i = 0; i < 6; i += 2) sum += std::stoi(svg.substr(fill + i, 2), nullptr, 16);
  return sum;
}

TEST(HeatMap, IsDarkerForMoreAndSaysEachValue) {
  const std::string svg = to_svg(loads());
  EXPECT_GT(lightness(svg, "0"), lightness(svg, "12.5"));
  EXPECT_GT(lightness(svg, "12.5"), lightness(svg, "25"));
  EXPECT_GT(lightness(svg, "25"), lightness(svg, "50"));
  EXPECT_NE(svg.find("<title>plane 0, leaf 2\nload (GB/s): 50\nbytes / time\nmax-min</title>"), std::string::npos);
  EXPECT_NE(svg.find("<title>plane 1, leaf 0\nload (GB/s): no value"), std::string::npos);
  EXPECT_NE(svg.find("class=\"fc-none\""), std::string::npos);
  for (const char* label : {">plane</text>", ">leaf</text>", ">load (GB/s)</text>", ">20</text>"}) {
    EXPECT_NE(svg.find(label), std::string::npos) << label;
  }
}

TEST(HeatMap, JsonAndCsvHaveEveryValue) {
  EXPECT_EQ(to_json(loads()).find("values")->dump(), "[[0.0,25.0,50.0],[null,12.5,1.0]]");
  EXPECT_EQ(to_csv(to_table(loads())), "plane \\ leaf,0,1,2\n0,0,25,50\n1,,12.5,1\n");
}

TEST(HeatMap, ALargeOneKeepsTheLargestOfNeighbours) {
  HeatMap map = loads();
  map.rows.clear(), map.columns.clear(), map.values.clear();
  for (int i = 0; i < 200; ++i) map.rows.push_back(std::to_string(i));
  for (int i = 0; i < 2000; ++i) map.columns.push_back("<" + std::to_string(i));
  map.values.assign(200, std::vector<double>(2000, 1));
  map.values[131][1023] = 77;
  const std::string svg = to_svg(map);
  EXPECT_NE(svg.find("the largest of 4 x 16"), std::string::npos);
  EXPECT_NE(svg.find("<title>plane 128 to 131, leaf &lt;1008 to &lt;1023\nload (GB/s): 77\n"), std::string::npos);
  EXPECT_LT(svg.size(), 2'500'000u);
  EXPECT_EQ(svg.find("leaf <"), std::string::npos);
}

TEST(HeatMap, WithoutValuesSaysSo) {
  EXPECT_NE(to_svg(HeatMap{}).find("no data"), std::string::npos);
  HeatMap none = loads();
  none.values = {{NAN, NAN, NAN}, {NAN, NAN, HUGE_VAL}};
  EXPECT_NE(to_svg(none).find("no data"), std::string::npos);
}

TEST(HeatMapDeathTest, ValuesOfAnotherShapeAreOurBug) {
  HeatMap map = loads();
  map.values.pop_back();
  EXPECT_DEATH((void)to_svg(map), "a line of values per row");
}

}  // namespace
}  // namespace fathom
