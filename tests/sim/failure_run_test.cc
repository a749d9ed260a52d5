// FailureRun: drawn runs against the expected goodput, their parts against their sum, and their pictures.
#include "sim/failure_run.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

namespace fathom {
namespace {

constexpr FailureModel kLlama{3.09, 0.5, 4};  // 16,384 GPUs

FailureRun drawn(const FailureModel& m, double interval, int64_t stretches, uint64_t seed = 1) {
  auto run = draw_failures(m, interval, stretches, seed);
  EXPECT_TRUE(run.ok()) << (run ? "" : run.error().text);
  return run ? *std::move(run) : FailureRun{};
}

// A cycle's length and its kept work both have a standard deviation of about their mean, so after n cycles the share's
// standard error is below 1.5 * (1 - share) / sqrt(n) plus the restarts' own; five of them are allowed.
TEST(FailureRun, TendsToTheExpectedGoodput) {
  constexpr int64_t kStretches = 40'000;
  for (const FailureModel& m : {kLlama, FailureModel{0.5, 2, 5}, FailureModel{1, 0, 30}}) {
    const double expected = goodput(m, 12)->share;
    for (const uint64_t seed : {uint64_t{1}, uint64_t{2}}) {
      EXPECT_NEAR(drawn(m, 12, kStretches, seed).share(), expected, 5 * 1.5 * (1 - expected) / std::sqrt(kStretches));
    }
  }
}

TEST(FailureRun, EveryMinuteIsOneOfFourThings) {
  const FailureRun run = drawn(kLlama, 13, 500);
  EXPECT_NEAR(run.kept_min() + run.checkpoint_min() + run.lost_min() + run.restart_min(), run.minutes(),
              1e-9 * run.minutes());
  for (const FailureStretch& s : run.stretches) {
    EXPECT_GE(s.lost_min, 0);
    EXPECT_LE(s.lost_min, 13.5 + 1e-9);
    EXPECT_GE(s.restart_min, 4);
    EXPECT_EQ(s.restart_min > 4, s.stops > 1);
  }
  // Stops while restarting: 1 - exp(-4 / 185.4) of 500, 10.7 with a standard deviation of 3.3.
  const auto again =
      std::count_if(run.stretches.begin(), run.stretches.end(), [](const auto& s) { return s.stops > 1; });
  EXPECT_NEAR(static_cast<double>(again), 10.7, 13);
}

TEST(FailureRun, IsTheSameForTheSameSeed) {
  const FailureRun a = drawn(kLlama, 13, 50, 7), b = drawn(kLlama, 13, 50, 7), c = drawn(kLlama, 13, 50, 8);
  EXPECT_EQ(a.minutes(), b.minutes());
  EXPECT_NE(a.minutes(), c.minutes());
}

TEST(FailureRun, ItsGanttIsItsParts) {
  const FailureRun run = drawn(kLlama, 13, 5);
  const Gantt gantt = to_gantt(run, 1200);
  double minutes[4] = {};
  double end = 0;
  for (const Gantt::Bar& bar : gantt.bars) {
    EXPECT_EQ(bar.row, bar.kind);
    EXPECT_NEAR(bar.start, end, 1e-9) << "one after the other";
    end = bar.end;
    minutes[bar.kind] += 60 * (bar.end - bar.start);
  }
  EXPECT_NEAR(minutes[0], run.kept_min(), 1e-6);
  EXPECT_NEAR(minutes[1], run.checkpoint_min(), 1e-6);
  EXPECT_NEAR(minutes[2], run.lost_min(), 1e-6);
  EXPECT_NEAR(minutes[3], run.restart_min(), 1e-6);
  EXPECT_EQ(gantt.title, "A drawn run and its stops");
  EXPECT_EQ(gantt.origin.source, "drawn with seed 1, up to stop 5 of 5");
  const Gantt cut = to_gantt(drawn(kLlama, 13, 500), 200);
  EXPECT_LE(cut.bars.size(), 200u);
  EXPECT_GT(cut.bars.size(), 50u);
  EXPECT_TRUE(cut.origin.source.ends_with(" of 500")) << cut.origin.source;
}

// A hundred million checkpoints between two stops are one bar.
TEST(FailureRun, ManyIntervalsStayFewBars) {
  const FailureRun run = drawn({1e9, 1e-6, 5}, 300, 100);
  EXPECT_GT(run.stretches[0].intervals, 1e6);
  const Gantt gantt = to_gantt(run);
  EXPECT_LE(gantt.bars.size(), 400u);
  EXPECT_NE(gantt.bars[0].name.find("intervals of work"), std::string::npos);
  const std::string text = to_text(run);
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 4);
}

TEST(FailureRun, ItsTextShowsStopsAndWhatTheyCost) {
  const std::string text = to_text(drawn({1, 1, 12}, 20, 8), 60, 2);
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 2);
  for (const char c : {'=', 'c', 'x', 'r', '!'}) EXPECT_NE(text.find(c), std::string::npos) << c << '\n' << text;
  EXPECT_EQ(text.substr(0, 13), "        0 h  ");
  // Without anything broken for long there is work alone.
  const std::string calm = to_text(drawn({1e6, 0, 1e-3}, 1e4, 1), 20, 1);
  EXPECT_EQ(calm, "        0 h  ===================!\n");
}

TEST(FailureRun, RefusesWhatCannotBeDrawn) {
  EXPECT_EQ(draw_failures(kLlama, 0, 10, 1).error().text,
            "failures: the work between checkpoints is 0 minutes; accepted: more than 0");
  EXPECT_EQ(draw_failures(kLlama, 13, 0, 1).error().text, "failures: 0 stops to draw; accepted: 1 to 100000");
  EXPECT_FALSE(draw_failures({-1, 1, 1}, 13, 10, 1).ok());
  // exp(600 / 6) tries a restart.
  EXPECT_NE(draw_failures({0.1, 1, 600}, 13, 10, 1).error().text.find("give a shorter failures.restart_min"),
            std::string::npos);
}

}  // namespace
}  // namespace fathom
