// Report: page, JSON and CSV of one answer with every kind of block. FATHOM_SAMPLE_REPORT=FILE.html keeps the files:
// tests/npm looks at them in a browser.
#include "report/report.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <cstdlib>

namespace fathom {
namespace {

constexpr const char* kHostile = "<script>alert(1)</script>\"'&";

Report sample() {
  LineChart busbw{.title = "Bus bandwidth of an all-to-all",
                  .x_label = "message (B)",
                  .y_label = "busbw (GB/s)",
                  .log_y = false,
                  .series = {},
                  .log_x = true,
                  .origin = {"bytes * (n - 1) / n / time", "fluid model"}};
  for (const int gpus : {16, 64, 256}) {
    Series series{.name = std::to_string(gpus) + " GPUs", .x = {}, .y = {}};
    for (int k = 10; k <= 30; k += 2) {
      series.x.push_back(std::exp2(k));
      series.y.push_back(43.5 / (1 + 2e4 * std::sqrt(gpus) / std::exp2(k)));
    }
    busbw.series.push_back(std::move(series));
  }
  LineChart pareto{
      .title = "Throughput against speed",
      .x_label = "tokens per second and user (tokens/s)",
      .y_label = "tokens/s per GPU",
      .log_y = true,
      .series = {{.name = "all layouts", .x = {}, .y = {}, .labels = {}, .points_only = true},
                 {.name = "best", .x = {20, 40, 60}, .y = {5000, 3000, 500}, .labels = {"EP 320", "EP 144", "EP 32"}}},
      .log_x = false,
      .origin = {"1 / TPOT, batch / TPOT", "roofline"}};
  for (int i = 0; i < 60; ++i) {
    pareto.series[0].x.push_back(10 + i * 0.8);
    pareto.series[0].y.push_back(3000.0 / (1 + i % 17));
    pareto.series[0].labels.push_back("layout " + std::to_string(i));
  }
  HeatMap heat{.title = "Load of links after the failure of a leaf",
               .row_label = "plane",
               .column_label = "leaf",
               .value_label = "load (GB/s)",
               .rows = {},
               .columns = {},
               .values = {},
               .origin = {"max-min rates", "fluid model"}};
  for (int leaf = 0; leaf < 32; ++leaf) heat.columns.push_back(std::to_string(leaf));
  for (int plane = 0; plane < 8; ++plane) {
    heat.rows.push_back(std::to_string(plane));
    heat.values.emplace_back();
    for (int leaf = 0; leaf < 32; ++leaf) {
      heat.values.back().push_back(plane == 3 && leaf == 7 ? NAN : 20 + 15 * std::sin(plane + leaf * 0.5));
    }
  }
  Gantt failures{.title = "Failures of a job",
                 .time_label = "time (h)",
                 .rows = {"job"},
                 .kinds = {"work", "checkpoint", "lost", "restart"},
                 .bars = {{0, 0, 0, 10, "work"},
                          {0, 1, 10, 11, "checkpoint"},
                          {0, 2, 11, 15, "lost"},
                          {0, 3, 15, 17, "restart"},
                          {0, 0, 17, 30, "work"}},
                 .origin = {"seeded stops", "simulated"}};
  BarChart memory{.title = "Memory of each rank",
                  .row_label = "pipeline rank",
                  .value_label = "memory (GB)",
                  .rows = {"0", "1", "2", "3"},
                  .parts = {{"weights", {22, 20, 20, 21.5}}, {"activations", {30, 25, 20, 12.25}}},
                  .limit = BarChart::Limit{"h800", 80},
                  .origin = {"weights + activations", "V3 report"}};
  Tornado tornado{
      .title = "What moves TPOT",
      .value_label = "TPOT (ms)",
      .base = 15,
      .low_name = "input -20 %",
      .high_name = "input +20 %",
      .rows = {{"serving.batch", 12, 18}, {"nic_effective_gbps (GB/s)", 18.75, 12.5}, {"memory_gbps", 15, 14}},
      .origin = {"largest bound", "roofline"}};
  return {"Sample <report>",
          "Every kind of block.",
          {{"Figures",
            "",
            {FigureGroup{"model",
                         {{"KV cache per token", 70272, "B", "(512 + 64) * 61 * 2", "table 1"},
                          {kHostile, 1.5, "ms", kHostile, kHostile}}},
             Grid{"Cost",
                  "network",
                  {{"endpoints", "", {"as built", "settings"}}, {"price", "M$", {"sum", "table 3"}}},
                  {{"FT2", {2048, 9.25}}, {kHostile, {65536, 491}}}}}},
           {"Network", "Lines, points and cells.", {busbw, pareto, heat}},
           {"Time & memory", "", {memory, tornado, failures}}}};
}

TEST(Report, JsonHasEverySectionAndBlock) {
  const Json json = to_json(sample());
  EXPECT_EQ(json.find("title")->as_string(), "Sample <report>");
  std::string kinds;
  for (const Json& section : json.find("sections")->items()) {
    for (const Json& block : section.find("blocks")->items()) kinds += block.find("kind")->as_string() + " ";
  }
  EXPECT_EQ(kinds, "figures grid line line heat bars tornado gantt ");
  const Json& figures = json.find("sections")->items()[0].find("blocks")->items()[0];
  EXPECT_EQ(figures.find("figures")->items()[0].find("formula")->as_string(), "(512 + 64) * 61 * 2");
}

TEST(Report, FilesAreNamedByTheirBlocksAndThePageIsLast) {
  Report report = sample();
  report.sections.push_back({"Again", "", {Grid{.title = "Cost", .row_label = "", .columns = {}, .rows = {}}}});
  report.sections.push_back({"\xC3\xA4", "", {Grid{.title = "", .row_label = "", .columns = {}, .rows = {}}}});
  std::string names;
  for (const ReportFile& file : report_files(report)) names += file.name + " ";
  EXPECT_EQ(names,
            "-model.csv -cost.csv -bus-bandwidth-of-an-all-to-all.csv -throughput-against-speed.csv "
            "-load-of-links-after-the-failure-of-a-leaf.csv -memory-of-each-rank.csv -what-moves-tpot.csv "
            "-failures-of-a-job.csv -cost-2.csv -data.csv .json .html ");
}

TEST(Report, TextOfOthersIsEscapedEverywhere) {
  Report report;
  report.title = report.text = kHostile;
  report.sections.push_back({kHostile, kHostile, {}});
  const Origin origin{kHostile, kHostile};
  report.sections[0].blocks = {FigureGroup{kHostile, {{kHostile, 1, kHostile, kHostile, kHostile}}},
                               Grid{kHostile, kHostile, {{kHostile, kHostile, origin}}, {{kHostile, {1}}}},
                               LineChart{kHostile,
                                         kHostile,
                                         kHostile,
                                         false,
                                         {{kHostile, {1}, {2}, {kHostile}, true, origin}, {kHostile, {1}, {2}}},
                                         false,
                                         origin},
                               BarChart{kHostile,
                                        kHostile,
                                        kHostile,
                                        {kHostile},
                                        {{kHostile, {1}, origin}, {kHostile, {1}}},
                                        BarChart::Limit{kHostile, 2},
                                        origin},
                               Tornado{kHostile, kHostile, 1, kHostile, kHostile, {{kHostile, 0, 2, origin}}, origin},
                               HeatMap{kHostile, kHostile, kHostile, kHostile, {kHostile}, {kHostile}, {{1}}, origin},
                               Gantt{kHostile, kHostile, {kHostile}, {kHostile}, {{0, 0, 0, 1, kHostile}}, origin}};
  const std::string html = to_html(report);
  EXPECT_EQ(html.find("<script"), std::string::npos);
  EXPECT_EQ(html.find("\"'&"), std::string::npos);
  EXPECT_NE(html.find("&lt;script&gt;alert(1)"), std::string::npos);
  EXPECT_TRUE(Json::parse(to_json(report).dump(), "report"));
}

TEST(Report, AMillionPointsMakeASmallPage) {
  Series series{.name = "noise", .x = {}, .y = {}};
  for (int i = 0; i < 1'000'000; ++i) {
    series.x.push_back(i);
    series.y.push_back(std::fmod(i * 0.618, 1));
  }
  const Report report{"t", "", {{"s", "", {LineChart{"noise", "x (s)", "y (m)", false, {std::move(series)}}}}}};
  EXPECT_LT(to_html(report).size(), 150'000u);
}

TEST(Report, IsWrittenWholeOrNotAtAll) {
  const Path dir = Path(::testing::TempDir()) / ("report_" + std::to_string(::getpid()));
  std::filesystem::create_directories(dir);
  ASSERT_TRUE(write_report(sample(), dir / "plan.html"));
  for (const ReportFile& file : report_files(sample())) {
    EXPECT_EQ(*read_file(dir / ("plan" + file.name)), file.text) << file.name;
  }
  const auto other = write_report(sample(), dir / "plan.pdf");
  ASSERT_FALSE(other);
  EXPECT_NE(other.error().text.find(".html"), std::string::npos);
  EXPECT_FALSE(std::filesystem::exists(dir / "plan.pdf"));
  // The page cannot be written: nothing else appears.
  std::filesystem::create_directories(dir / "taken.html");
  EXPECT_FALSE(write_report(sample(), dir / "taken.html"));
  EXPECT_FALSE(std::filesystem::exists(dir / "taken.json"));
  EXPECT_FALSE(std::filesystem::exists(dir / "taken-cost.csv"));
  std::filesystem::remove_all(dir);
  const char* wanted = std::getenv("FATHOM_SAMPLE_REPORT");
  if (wanted != nullptr) {
    ASSERT_TRUE(write_report(sample(), wanted));
  }
}

}  // namespace
}  // namespace fathom
