// Sweep: its points are the answers of single simulations, its charts and tables say the same, and what it refuses.
#include "sim/sweep.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "scenario_cases.h"

namespace fathom {
namespace {

ConfigSources base(std::vector<std::string> more = {}) {
  std::vector<std::string> overrides = {"network.gpus=128", "job.op=all-to-all", "job.bytes=1e6",
                                        "network.latency=InfiniBand", "job.alpha_us=5"};
  overrides.insert(overrides.end(), more.begin(), more.end());
  return {.overrides = overrides};
}

Sweep run(const ConfigSources& sources, const std::vector<std::string>& texts) {
  auto keys = parse_sweep(texts);
  EXPECT_TRUE(keys.ok()) << (keys ? "" : keys.error().text);
  if (!keys) return {};
  auto sweep = run_sweep(sources, *std::move(keys), FlowEngine::kAuto);
  EXPECT_TRUE(sweep.ok()) << (sweep ? "" : sweep.error().text);
  return sweep ? *std::move(sweep) : Sweep{};
}

double busbw(const JobAnswer& job) {
  for (const Figure& f : job.figures) {
    if (f.name == "busbw") return f.value;
  }
  return -1;
}

template <class Block>
std::vector<const Block*> all(const Report::Section& section) {
  std::vector<const Block*> found;
  for (const Report::Block& block : section.blocks) {
    if (const auto* b = std::get_if<Block>(&block)) found.push_back(b);
  }
  return found;
}

ConfigSources without_gpus() {
  return {.overrides = {"job.op=all-to-all", "job.bytes=1e6", "network.latency=InfiniBand"}};
}

TEST(Sweep, EveryPointIsTheAnswerOfItsScenario) {
  ConfigSources sources = without_gpus();
  sources.overrides.erase(sources.overrides.begin() + 1);
  const Sweep sweep = run(sources, {"job.bytes=1e4,1e6,1e9", "network.gpus=64,128"});
  ASSERT_EQ(sweep.points.size(), 6u);
  EXPECT_EQ(sweep.points[1].values, (std::vector<std::string>{"1e4", "128"}));
  const Report::Section section = sweep_section(sweep);
  const auto charts = all<LineChart>(section);
  ASSERT_EQ(charts.size(), 4u);
  EXPECT_EQ(charts[0]->title, "busbw against job.bytes");
  EXPECT_EQ(charts[0]->x_label, "job.bytes (B)");
  EXPECT_EQ(charts[0]->y_label, "busbw (GB/s)");
  EXPECT_TRUE(charts[0]->log_x);
  EXPECT_EQ(charts[1]->title, "busbw against network.gpus");
  EXPECT_EQ(charts[1]->x_label, "network.gpus (GPUs)");
  ASSERT_EQ(charts[0]->series.size(), 2u);
  EXPECT_EQ(charts[0]->series[1].name, "network.gpus=128");
  ASSERT_EQ(charts[1]->series.size(), 3u);
  for (size_t b = 0; b < 3; ++b) {
    for (size_t g = 0; g < 2; ++g) {
      Scenario s = all_to_all(g == 0 ? 64 : 128);
      s.job.bytes = b == 0 ? 1e4 : b == 1 ? 1e6 : 1e9;
      s.network.latency = "InfiniBand";
      const auto alone = simulate(s, FlowEngine::kAuto);
      ASSERT_TRUE(alone.ok());
      const double expected = busbw(alone->jobs[0]);
      EXPECT_EQ(busbw(sweep.points[2 * b + g].answer.jobs[0]), expected);
      EXPECT_EQ(charts[0]->series[g].x[b], s.job.bytes);
      EXPECT_EQ(charts[0]->series[g].y[b], expected);
      EXPECT_EQ(charts[1]->series[b].y[g], expected);
      EXPECT_EQ(charts[2]->series[g].y[b], alone->jobs[0].seconds * 1e6);
    }
  }
  // Latency is what small messages wait for.
  EXPECT_LT(charts[0]->series[0].y[0], 0.2 * charts[0]->series[0].y[2]);
  EXPECT_EQ(charts[0]->series[0].labels,
            (std::vector<std::string>{"limit: latency", "limit: NIC out", "limit: NIC out"}));
}

TEST(Sweep, LinesGoToTheRightWhateverTheOrderOfValues) {
  const Sweep sweep = run(base(), {"network.planes=8,1,4"});
  const Report::Section section = sweep_section(sweep);
  const auto charts = all<LineChart>(section);
  ASSERT_EQ(charts.size(), 2u);
  EXPECT_EQ(charts[0]->series[0].x, (std::vector<double>{1, 4, 8}));
  EXPECT_EQ(charts[0]->series[0].y[0], busbw(sweep.points[1].answer.jobs[0]));
  EXPECT_EQ(charts[0]->series[0].name, "all-to-all");
}

TEST(Sweep, WordsAreBarsAndManyLinesAMap) {
  const Sweep words = run(base({"network.gpus_per_node=1", "network.planes=1", "network.fabric=ft2", "network.gpus=64",
                                "job.op=all-gather"}),
                          {"network.routing=adaptive,static,ecmp"});
  const Report::Section bars = sweep_section(words);
  const auto charts = all<BarChart>(bars);
  ASSERT_EQ(charts.size(), 2u);
  EXPECT_EQ(charts[0]->rows, (std::vector<std::string>{"adaptive", "static", "ecmp"}));
  EXPECT_EQ(charts[0]->parts[0].values[2], busbw(words.points[2].answer.jobs[0]));

  std::string sizes = "job.alpha_us=0", rates = "network.nic_gbps=10";
  for (int i = 1; i < 13; ++i) {
    sizes += "," + std::to_string(i);
    rates += "," + std::to_string(10 + i);
  }
  ConfigSources sources = base();
  sources.overrides.pop_back();  // alpha_us
  const Sweep many = run(sources, {sizes, rates});
  const Report::Section map = sweep_section(many);
  const auto maps = all<HeatMap>(map);
  ASSERT_EQ(maps.size(), 2u);
  EXPECT_EQ(maps[0]->values[3][5], busbw(many.points[5 * 13 + 3].answer.jobs[0]));
  EXPECT_EQ(maps[0]->rows[3], "13");
  EXPECT_EQ(maps[0]->columns[5], "5");
}

TEST(Sweep, TablesHaveEveryPointAndJob) {
  const Sweep sweep = run(base({"also.op=all-to-all", "also.bytes=2e6"}), {"fail.plane=-1,3"});
  const Table shown = to_table(sweep, false), exact = to_table(sweep, true);
  const std::vector<std::string> header = {"fail.plane", "job: time us", "job: bytes on links us", "job: busbw GB/s",
                                           "job: against healthy %"};
  ASSERT_EQ(shown.header.size(), 10u);
  EXPECT_TRUE(std::equal(header.begin(), header.end(), shown.header.begin()));
  EXPECT_EQ(shown.header[5], "also: time us");
  EXPECT_EQ(shown.header.back(), "limit");
  EXPECT_EQ(exact.header[1], "job: time (us)");
  ASSERT_EQ(exact.rows.size(), 2u);
  EXPECT_EQ(shown.rows[0][4], "-");  // nothing is broken there
  EXPECT_EQ(exact.rows[0][4], "");
  EXPECT_EQ(exact.rows[1][1], exact_text(sweep.points[1].answer.jobs[0].seconds * 1e6));
  const Json json = to_json(sweep);
  EXPECT_NE(json.dump().find("\"fail.plane\":[\"-1\",\"3\"]"), std::string::npos);
}

TEST(Sweep, RefusesWhatMakesNoSense) {
  const std::string many = [] {
    std::string text = "job.bytes=1";
    for (int i = 2; i <= 300; ++i) text += "," + std::to_string(i);
    return text;
  }();
  for (const auto& [texts, needle] : std::vector<std::pair<std::vector<std::string>, std::string>>{
           {{"job.bytes"}, "\"job.bytes\"; accepted: KEY=a,b,c"},
           {{"job.bytes="}, "accepted: KEY=a,b,c"},
           {{"=1,2"}, "accepted: KEY=a,b,c"},
           {{"job.bytes=1,,2"}, "empty value"},
           {{"job.bytes=1,2,"}, "empty value"},
           {{"job.bytes=1,2,1"}, "the value \"1\" twice"},
           {{"job.bytes=1", "job.bytes=2"}, "the key \"job.bytes\" twice"},
           {{"a=1", "b=2", "c=3"}, "given 3 times"},
           {{many}, "300 points; accepted: 256 at most"}}) {
    const auto keys = parse_sweep(texts);
    ASSERT_FALSE(keys.ok()) << texts[0];
    EXPECT_NE(keys.error().text.find(needle), std::string::npos) << keys.error().text;
  }
  const auto refused = [](const ConfigSources& sources, const std::string& text) {
    const auto sweep = run_sweep(sources, *parse_sweep({text}), FlowEngine::kAuto);
    return sweep.ok() ? "accepted" : sweep.error().text;
  };
  EXPECT_NE(refused(base(), "network.gpu=64").find("unknown key \"network.gpu\""), std::string::npos);
  EXPECT_NE(refused(without_gpus(), "network.gpus=64,many").find("network.gpus = \"many\""), std::string::npos);
  EXPECT_NE(refused(without_gpus(), "network.nic_gbps=40,nan").find("network.nic_gbps"), std::string::npos);
  EXPECT_EQ(refused(base(), "job.bytes=1e5").rfind("job.bytes is in --set and in --sweep", 0), 0u);
  EXPECT_EQ(refused(without_gpus(), "network.gpus=64,100").rfind("--sweep network.gpus=100: 100 GPUs", 0), 0u);
  EXPECT_NE(refused(base({"also.bytes=1e6"}), "also.op=none,all-to-all").find("the same jobs"), std::string::npos);
}

TEST(Sweep, GoodputHasItsColumnAndItsChart) {
  const Sweep sweep = run(base({"failures.gpu_mtbf_h=50000", "failures.checkpoint_min=1", "failures.restart_min=5"}),
                          {"failures.interval_min=10,100,1000"});
  ASSERT_EQ(sweep.points.size(), 3u);
  const Table table = to_table(sweep, true);
  const auto column = std::find(table.header.begin(), table.header.end(), "goodput (%)");
  ASSERT_NE(column, table.header.end());
  const Report::Section section = sweep_section(sweep);
  const auto charts = all<LineChart>(section);
  const auto chart = std::find_if(charts.begin(), charts.end(), [](const LineChart* c) {
    return c->title == "Goodput against failures.interval_min";
  });
  ASSERT_NE(chart, charts.end());
  EXPECT_EQ((*chart)->x_label, "failures.interval_min (min)");
  const double interval[] = {10, 100, 1000};
  for (size_t i = 0; i < 3; ++i) {
    const double expected = 100 * goodput({50000.0 / 128, 1, 5}, interval[i])->share;
    EXPECT_NEAR((*chart)->series[0].y[i], expected, 1e-9);
    EXPECT_NEAR(std::stod(table.rows[i][static_cast<size_t>(column - table.header.begin())]), expected, 1e-9);
  }
  for (const std::string& name : to_table(run(base(), {"job.ranks=64,128"}), true).header) {
    EXPECT_NE(name, "goodput (%)");
  }
}

}  // namespace
}  // namespace fathom
