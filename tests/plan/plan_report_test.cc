// PlanReport: drawings whose points are the answers of plan/answers and its formulas.
#include "plan/plan_report.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "../find_block.h"
#include "plan/decode.h"
#include "plan/footprint.h"
#include "plan/paper.h"
#include "sim/goodput.h"

namespace fathom {
namespace {

using testing::find;

template <class Block>
const Block* find(const Report&& report, const std::string& title) = delete;  // what is found would be gone

Report v3_report(PlanSettings settings) {
  const PlanCase v3{paper_input().v3, *find_hardware("h800"), std::move(settings)};
  const auto groups = answer(v3);
  EXPECT_TRUE(groups) << groups.error().text;
  auto report = plan_report("V3", v3, *groups);
  EXPECT_TRUE(report) << report.error().text;
  return *std::move(report);
}

PlanSettings serving() {
  PlanSettings s;
  s.serving.gpus = 144;
  s.serving.redundant_experts = 32;
  s.serving.batch = 64;
  return s;
}

TEST(PlanReport, BoundsAgainstBandwidthPassThroughThePlannedOne) {
  const Report report = v3_report(serving());
  const auto& chart = *find<LineChart>(report, "TPOT against network bandwidth");
  ASSERT_EQ(chart.series.size(), 4u);
  const Series& bound = chart.series[3];
  const Hardware h800 = *find_hardware("h800");
  const DecodeStep b = *decode_step(CountedModel(paper_input().v3), h800, serving().serving);
  const auto given = std::find(bound.x.begin(), bound.x.end(), h800.nic_effective_gbps);
  ASSERT_NE(given, bound.x.end());
  const auto i = static_cast<size_t>(given - bound.x.begin());
  EXPECT_EQ(bound.y[i], b.most_ms());
  EXPECT_EQ(bound.labels[i], "as given, limited by scale-out network");
  EXPECT_DOUBLE_EQ(chart.series[2].y.front(), 8 * b.network_ms);  // an eighth of the bandwidth
  EXPECT_EQ(bound.labels.back(), "limited by HBM bandwidth");
  EXPECT_TRUE(chart.log_x && chart.log_y);
}

TEST(PlanReport, TheHostsLinkIsDrawnWhereItCarriesSomething) {
  PlanSettings s = serving();
  s.serving.host_gbps = 450;
  s.serving.host_gb = 480;
  s.serving.batch = 300;
  const Report report = v3_report(s);
  const auto& chart = *find<LineChart>(report, "TPOT against network bandwidth");
  ASSERT_EQ(chart.series.size(), 5u);
  EXPECT_EQ(chart.series[3].name, "host link");
  const DecodeStep b = *decode_step(CountedModel(paper_input().v3), *find_hardware("h800"), s.serving);
  EXPECT_DOUBLE_EQ(chart.series[3].y.front(), b.host_ms);
  EXPECT_EQ(chart.series[4].y.size(), chart.series[4].labels.size());
}

TEST(PlanReport, TheTornadoIsTheFormulaWithChangedInputs) {
  const Report report = v3_report(serving());
  const auto& chart = *find<Tornado>(report, "What moves the bound on TPOT");
  const auto row = std::find_if(chart.rows.begin(), chart.rows.end(),
                                [](const Tornado::Row& r) { return r.name.starts_with("nic_effective_gbps"); });
  ASSERT_NE(row, chart.rows.end());
  EXPECT_DOUBLE_EQ(row->low, chart.base / 0.8);
  EXPECT_DOUBLE_EQ(row->high, chart.base / 1.2);
  for (const Tornado::Row& r : chart.rows) EXPECT_FALSE(r.name.starts_with("fp8_tflops")) << "compute is far below";
  const auto& sum = *find<Tornado>(report, "What moves a step that overlaps nothing");
  EXPECT_GT(sum.rows.size(), chart.rows.size());
  EXPECT_GT(sum.base, chart.base);
}

TEST(PlanReport, DraftsAndLatenciesAreInTheDrawingsToo) {
  PlanSettings s = serving();
  s.serving.mtp_acceptance = 0.85;
  s.serving.dispatch_us = 30;
  const Report report = v3_report(s);
  const CountedModel model(paper_input().v3);
  const Hardware h800 = *find_hardware("h800");
  const DecodeStep b = *decode_step(model, h800, s.serving);
  const auto& chart = *find<Tornado>(report, "What moves the bound on TPOT");
  EXPECT_EQ(chart.base, b.tpot_ms());
  const auto row = std::find_if(chart.rows.begin(), chart.rows.end(),
                                [](const Tornado::Row& r) { return r.name == "serving.batch"; });
  ASSERT_NE(row, chart.rows.end());
  s.serving.batch = 80;  // 64 and a quarter
  const double quarter = decode_step(model, h800, s.serving)->tpot_ms() - b.tpot_ms();
  EXPECT_NEAR(row->high - chart.base, 0.8 * quarter, 1e-9 * chart.base);
  EXPECT_NEAR(chart.base - row->low, 0.8 * quarter, 1e-9 * chart.base);
}

TEST(PlanReport, ThroughputRisesAndSpeedFallsWithTheBatch) {
  const Report report = v3_report(serving());
  const auto& chart = *find<LineChart>(report, "Throughput against speed, by sequences per GPU");
  const Series& all = chart.series[0];
  EXPECT_EQ(all.labels.front(), "batch 1");
  EXPECT_EQ(all.labels.back(), "batch 188");
  const CountedModel model(paper_input().v3);
  const Hardware h800 = *find_hardware("h800");
  PlanSettings::Serving most = serving().serving;
  for (const auto& [batch, fits] : {std::pair{188, true}, {189, false}}) {
    most.batch = batch;
    EXPECT_EQ(check_fits(model, *decode_step(model, h800, most), h800, most).ok(), fits) << batch;
  }
  for (size_t i = 1; i < all.x.size(); ++i) {
    EXPECT_LE(all.x[i], all.x[i - 1]);
    EXPECT_GE(all.y[i], all.y[i - 1] * (1 - 1e-12));
  }
  EXPECT_NEAR(chart.series[1].x[0], 1e3 / 15.235, 0.01);
}

TEST(PlanReport, MemoryIsThatOfEveryRankAndThePipelineIsTheSimulatedOne) {
  PlanSettings s;
  s.training = {.pipeline = 16, .expert = 64, .data = 128, .micro_batches = 32, .schedule = "dualpipe", .mfu = 0.385};
  const Report report = v3_report(s);
  const auto& memory = *find<BarChart>(report, "Memory of each pipeline rank");
  ASSERT_EQ(memory.rows.size(), 16u);
  double most = 0;
  for (size_t rank = 0; rank < 16; ++rank) {
    double sum = 0;
    for (const auto& part : memory.parts) sum += part.values[rank];
    most = std::max(most, sum);
  }
  const auto worst = training_bytes(paper_input().v3, {.pipeline = 16,
                                                       .expert = 64,
                                                       .data = 128,
                                                       .schedule = "dualpipe",
                                                       .micro_batch_tokens = 4096,
                                                       .num_micro_batches = 32});
  EXPECT_NEAR(most, worst->total() / 1e9, 1e-9);
  const auto& gantt = *find<Gantt>(report, "Pipeline dualpipe: 16 ranks, 32 micro-batches");
  double end = 0;
  for (const Gantt::Bar& bar : gantt.bars) end = std::max(end, bar.end);
  EXPECT_EQ(end, plan_timeline(s)->run.makespan);
  const auto& step = *find<Tornado>(report, "What moves the training step");
  const auto& figures = *find<FigureGroup>(report, "training");
  const auto given =
      std::find_if(figures.figures.begin(), figures.figures.end(), [](const Figure& f) { return f.name == "step"; });
  ASSERT_NE(given, figures.figures.end());
  EXPECT_NEAR(step.base, given->value, 1e-9 * given->value);
}

TEST(PlanReport, FabricsOfAllKindsEndAtTheirFullSize) {
  PlanSettings s;
  s.fabric.kind = "mpft";
  const auto report = plan_report("net", {{}, {}, s}, {});
  ASSERT_TRUE(report);
  const auto& chart = *find<LineChart>(*report, "Price of a network per endpoint");
  const auto& grid = *find<Grid>(*report, "The largest of each kind with 64-port switches");
  ASSERT_EQ(chart.series.size(), 6u);
  ASSERT_EQ(grid.rows.size(), 6u);
  // Table 3 of arXiv 2505.09343: FT2 2,048 endpoints, FT3 65,536, MPFT 16,384.
  EXPECT_EQ(grid.rows[0].values[0], 2048);
  EXPECT_EQ(grid.rows[1].values[0], 65536);
  EXPECT_EQ(grid.rows[2].values[0], 16384);
  EXPECT_EQ(grid.rows[2].values[1], 768);
  for (size_t i = 0; i < 6; ++i) {
    EXPECT_EQ(chart.series[i].x.back(), grid.rows[i].values[0]);
    EXPECT_EQ(chart.series[i].y.back(), grid.rows[i].values[4]);
    EXPECT_TRUE(std::is_sorted(chart.series[i].x.begin(), chart.series[i].x.end()));
    EXPECT_GT(chart.series[i].x.size(), 2u) << chart.series[i].name;
  }
  PlanSettings dear = s;
  dear.fabric.switch_port_dollars = dear.fabric.link_dollars = dear.fabric.endpoint_dollars = 1e6;
  const auto dearer = plan_report("net", {{}, {}, dear}, {});
  ASSERT_TRUE(dearer);
  EXPECT_GT(find<LineChart>(*dearer, chart.title)->series[0].y.back(), chart.series[0].y.back());
}

TEST(PlanReport, GoodputIsHighestAtTheBestInterval) {
  PlanSettings s;
  s.failures = {.gpu_mtbf_h = 50677, .gpus = 16384, .checkpoint_min = 0.5, .restart_min = 4};
  const auto report = plan_report("failures", {{}, {}, s}, {});
  ASSERT_TRUE(report);
  const auto& chart = *find<LineChart>(*report, "Goodput against the checkpoint interval");
  ASSERT_EQ(chart.series.size(), 4u);
  const double best = chart.series[3].y[0];
  for (const double share : chart.series[1].y) EXPECT_LE(share, best * (1 + 1e-9));
  EXPECT_LT(chart.series[0].y[10], chart.series[1].y[10]);
  EXPECT_LT(chart.series[1].y[10], chart.series[2].y[10]);
}

TEST(PlanReport, ADrawnRunStandsBesideItsExpectation) {
  PlanSettings s;
  s.failures = {.gpu_mtbf_h = 50677, .gpus = 16384, .checkpoint_min = 0.5, .restart_min = 4};
  s.failures.stops = 300;
  const auto report = plan_report("failures", {{}, {}, s}, {});
  ASSERT_TRUE(report);
  const FailureRun run = *plan_failure_run(s);
  const auto& chart = *find<LineChart>(*report, "Goodput of a drawn run so far");
  ASSERT_EQ(chart.series.size(), 2u);
  ASSERT_EQ(chart.series[0].x.size(), 300u);
  EXPECT_DOUBLE_EQ(chart.series[0].y.back(), 100 * run.share());
  EXPECT_DOUBLE_EQ(chart.series[0].x.back(), run.minutes() / 60);
  EXPECT_EQ(chart.series[1].y[0], 100 * goodput(run.model, run.interval_min)->share);
  EXPECT_FALSE(find<Gantt>(*report, to_gantt(run).title)->bars.empty());
  // Restarts that hardly ever end leave the expectation alone.
  s.failures.restart_min = 6000;
  const auto never = plan_report("failures", {{}, {}, s}, {});
  ASSERT_TRUE(never);
  EXPECT_EQ(never->sections.back().blocks.size(), 1u);
}

TEST(PlanReport, RefusesWhatTheAnswersRefuse) {
  PlanSettings s;
  s.training.pipeline = 3;
  s.training.schedule = "dualpipe";
  EXPECT_FALSE(plan_report("t", {{}, {}, s}, {}));
}

}  // namespace
}  // namespace fathom
