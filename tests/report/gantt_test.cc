// Gantt: bars to scale, cut in time, and the same as Chrome's trace events.
#include "report/gantt.h"

#include <gtest/gtest.h>

#include <cmath>
#include <map>

#include "../count.h"

namespace fathom {
namespace {

using testing::count;

Gantt two_rows() {
  return {.title = "run <1>",
          .time_label = "time (ms)",
          .rows = {"rank 0", "rank \"1\""},
          .kinds = {"F", "B"},
          .bars = {{0, 0, 0, 1, "F0"}, {1, 0, 1, 2, "F<0>"}, {1, 1, 2, 4.5, "B0", true}},
          .origin = {"lists in order", "simulated"}};
}

// 1,000 rows, one bar a time unit each.
Gantt many(size_t num_rows, int num_bars) {
  Gantt out{.title = "many", .time_label = "time", .rows = {}, .kinds = {"F"}, .bars = {}};
  for (size_t row = 0; row < num_rows; ++row) {
    out.rows.push_back(std::to_string(row));
    for (int i = 0; i < num_bars; ++i) out.bars.push_back({row, 0, double(i), i + 1.0, "b" + std::to_string(i)});
  }
  return out;
}

TEST(Gantt, HasABarPerThingAnAxisAndItsUnit) {
  const std::string svg = to_svg(two_rows());
  EXPECT_NE(svg.find("<title>F&lt;0&gt;: 1 to 2\nlists in order\nsimulated</title>"), std::string::npos);
  EXPECT_NE(svg.find("data-row=\"1\" data-start=\"2\" data-end=\"4.5\""), std::string::npos);
  EXPECT_NE(svg.find("fc-p1 fc-faded"), std::string::npos);
  EXPECT_NE(svg.find(">time (ms)</text>"), std::string::npos);
  EXPECT_NE(svg.find(">rank &quot;1&quot;</text>"), std::string::npos);
  EXPECT_EQ(svg.find("F<0>"), std::string::npos);
  EXPECT_NE(svg.find(">idle</text>"), std::string::npos);
  Gantt named = two_rows();
  named.idle = "";
  EXPECT_EQ(to_svg(named).find(">idle</text>"), std::string::npos);
  // A border would hide what is thinner than itself.
  named.bars.push_back({0, 1, 1000, 2000, "long"});
  EXPECT_NE(to_svg(named).find("<rect class=\"fc-p0\""), std::string::npos);
}

TEST(Gantt, ALongRunEndsAtItsLimitAndSaysSo) {
  const Gantt cut = first_bars(many(10, 1000), 95);
  EXPECT_LE(cut.bars.size(), 95u);
  EXPECT_GE(cut.bars.size(), 90u);
  EXPECT_NE(cut.title.find("bars"), std::string::npos) << cut.title;
  for (const Gantt::Bar& bar : cut.bars) EXPECT_LE(bar.end, 10);
  const std::string wide = to_svg(many(2000, 1));
  EXPECT_NE(wide.find("the first 1024 of 2000 rows"), std::string::npos);
  EXPECT_EQ(count(wide, "data-start"), 1024u);
  EXPECT_LT(to_svg(many(10, 20'000), 1000).size(), 400'000u);
}

TEST(Gantt, ThereMayBeNothing) {
  EXPECT_NE(to_svg(Gantt{}).find("no data"), std::string::npos);
  Gantt moment = two_rows();
  moment.bars = {{0, 0, 0, 0, "now"}};
  EXPECT_EQ(to_svg(moment).find("nan"), std::string::npos);
}

TEST(Gantt, JsonHasTheBarsAsColumnsAndCsvAsRows) {
  const Json json = to_json(two_rows());
  EXPECT_EQ(json.find("bars")->find("end")->dump(), "[1.0,2.0,4.5]");
  EXPECT_EQ(json.find("bars")->find("row")->dump(), "[0,1,1]");
  EXPECT_EQ(to_table(two_rows()).rows[2], (std::vector<std::string>{"rank \"1\"", "B", "B0", "2", "4.5"}));
}

TEST(Gantt, ItsTraceHasATrackPerRowAndMicroseconds) {
  const auto parsed = Json::parse(to_trace(two_rows(), 1000), "trace");
  ASSERT_TRUE(parsed) << parsed.error().text;
  std::map<int64_t, std::string> tracks;
  std::vector<std::string> events;
  for (const Json& event : parsed->find("traceEvents")->items()) {
    const std::string& phase = event.find("ph")->as_string();
    if (phase == "M" && event.find("name")->as_string() == "thread_name") {
      tracks[event.find("tid")->as_int()] = event.find("args")->find("name")->as_string();
    }
    if (phase != "X") continue;
    events.push_back(event.find("name")->as_string() + " " + event.find("cat")->as_string() + " " +
                     std::to_string(event.find("tid")->as_int()) + " " +
                     std::to_string(std::lround(event.find("ts")->as_double())) + "+" +
                     std::to_string(std::lround(event.find("dur")->as_double())));
  }
  EXPECT_EQ(tracks, (std::map<int64_t, std::string>{{1, "rank 0"}, {2, "rank \"1\""}}));
  EXPECT_EQ(events, (std::vector<std::string>{"F0 F 1 0+1000", "F<0> F 2 1000+1000", "B0 B 2 2000+2500"}));
}

TEST(GanttDeathTest, ABarOutsideTheRowsIsOurBug) {
  Gantt gantt = two_rows();
  gantt.bars[0].row = 2;
  EXPECT_DEATH((void)to_svg(gantt), "a row and a kind");
}

}  // namespace
}  // namespace fathom
