// PipelineSim: the worked examples to the tick, published bubbles for every size, hops and slow stages.
#include "sim/pipeline_sim.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "sim/pipeline_picture.h"

namespace fathom {
namespace {

PipelineRun run_of(const Schedule& s, const PipelineCosts& costs = {}) {
  auto run = simulate_pipeline(s, costs);
  EXPECT_TRUE(run.ok()) << (run ? "" : run.error().text);
  return run ? *run : PipelineRun{};
}

// "Fa0@0 Fa1@1 ..." of a rank.
std::string timed_list(const Schedule& s, const PipelineRun& run, size_t rank) {
  std::string text;
  for (size_t i = 0; i < s.ranks[rank].size(); ++i) {
    text += (i ? " " : "") + label(s, s.ranks[rank][i]) + "@" + std::to_string(std::lround(run.spans[rank][i].start));
  }
  return text;
}

TEST(PipelineSim, TheWorkedExampleOfDualPipe) {
  const Schedule s = *make_schedule("dualpipe", 4, 10);
  const PipelineRun run = run_of(s);
  EXPECT_EQ(run.makespan, 32);
  for (int rank = 0; rank < 4; ++rank) EXPECT_EQ(run.idle(rank), 2);
  EXPECT_EQ(timed_list(s, run, 0),
            "Fa0@0 Fa1@1 Fa2@2 Fb0@3 Ib0@4 Wb0@5 Fb1@6 Fa3&Bb1@7 Fb2&Ba0@11 Fa4&Bb2@14 Fb3&Ba1@17 Bb3@20 Fb4&Ba2@23 "
            "Bb4@26 Ia3@28 Wa3@29 Ia4@30 Wa4@31");
  EXPECT_EQ(timed_list(s, run, 1),
            "Fa0@1 Fb0@2 Fa1@3 Fb1@4 Fa2@5 Bb0@6 Fb2&Ba0@8 Fa3&Bb1@11 Fb3&Ba1@14 Fa4&Bb2@17 Fb4&Ba2@20 Bb3@23 Ba3@25 "
            "Ib4@28 Ia4@29 Wb4@30 Wa4@31");
  PipelineCosts overlapped;
  overlapped.times.pair = 2.5;
  EXPECT_EQ(run_of(s, overlapped).makespan, 29);
  EXPECT_EQ(run_of(s, overlapped).idle(0), 1.5);
}

TEST(PipelineSim, TheOtherSchedulesOfTheSameSize) {
  const PipelineRun one = run_of(*make_schedule("1f1b", 4, 10));
  EXPECT_EQ(one.makespan, 39);
  EXPECT_EQ(one.idle(2), 9);
  const Schedule s = *make_schedule("zb1p", 4, 10);
  const PipelineRun zero = run_of(s);
  EXPECT_EQ(zero.makespan, 33);
  EXPECT_EQ(zero.idle(2), 3);
  EXPECT_EQ(timed_list(s, zero, 2).substr(0, 78),
            "F0@2 F1@3 I0@5 F2@6 I1@7 F3@8 I2@9 W0@10 F4@11 I3@12 W1@13 F5@14 I4@15 W2@16 F");
}

TEST(PipelineSim, MakespansOfOtherSizes) {
  const struct {
    const char* name;
    int ranks, micro_batches;
    double makespan, idle;
  } cases[] = {{"dualpipe", 2, 4, 12, 0},  {"dualpipe", 4, 8, 26, 2},  {"dualpipe", 4, 12, 38, 2},
               {"dualpipe", 6, 12, 40, 4}, {"dualpipe", 8, 16, 54, 6}, {"dualpipe", 8, 20, 66, 6},
               {"dualpipev", 2, 4, 26, 2}, {"dualpipev", 2, 6, 38, 2}, {"dualpipev", 4, 8, 54, 6},
               {"dualpipev", 4, 10, 66, 6}};
  for (const auto& c : cases) {
    const PipelineRun run = run_of(*make_schedule(c.name, c.ranks, c.micro_batches));
    EXPECT_EQ(run.makespan, c.makespan) << c.name << c.ranks << c.micro_batches;
    for (int rank = 0; rank < c.ranks; ++rank) EXPECT_EQ(run.idle(rank), c.idle) << c.name << c.ranks;
  }
}

TEST(PipelineSim, EveryBubbleUpTo8By24IsThePublishedOne) {
  for (int ranks = 1; ranks <= 8; ++ranks) {
    for (int m = 1; m <= 24; ++m) {
      for (const char* name : {"1f1b", "zb1p", "dualpipe", "dualpipev"}) {
        const auto s = make_schedule(name, ranks, m);
        if (!s || (std::string_view(name) == "zb1p" && m < ranks)) continue;
        for (double pair : {3.0, 2.5}) {
          PipelineCosts costs;
          costs.times.pair = pair;
          const PipelineRun run = run_of(*s, costs);
          double most = 0;
          for (int rank = 0; rank < ranks; ++rank) most = std::max(most, run.idle(rank));
          EXPECT_NEAR(most, published_bubble(*s, costs.times), 1e-9) << name << " " << ranks << " " << m << " " << pair;
        }
      }
    }
  }
}

TEST(PipelineSim, HopsAndSlowStages) {
  PipelineCosts costs;
  costs.hop = 0.5;
  // 1F1B with one micro-batch: P - 1 hops down and P - 1 back.
  EXPECT_EQ(run_of(*make_schedule("1f1b", 4, 1), costs).makespan, 4 * 3 + 6 * 0.5);
  // A hop is no cost on the rank where the V turns: of 2R - 1 boundaries one is local.
  EXPECT_EQ(run_of(*make_schedule("dualpipev", 1, 2), costs).makespan,
            run_of(*make_schedule("dualpipev", 1, 2)).makespan);
  costs.hop = 0;
  costs.stage_scale = {1, 1, 1, 2};
  EXPECT_EQ(run_of(*make_schedule("1f1b", 4, 1), costs).makespan, 3 * 3 + 6);
  // The slow last stage is never idle in the steady state: the first forward reaches it after 3, the last backward
  // leaves to 3 stages of B = 2.
  EXPECT_EQ(run_of(*make_schedule("1f1b", 4, 10), costs).makespan, 3 + 10 * 6 + 3 * 2);
  costs.stage_scale = {2, 1, 1, 1};
  const Schedule dual = *make_schedule("dualpipe", 4, 8);
  const PipelineRun run = run_of(dual, costs);
  // Rank 0 holds stage 0 of a and stage 3 of b: the pair Fa3&Bb1 costs 3 (F scale 2, B scale 1, weights 1 and 2) = 4.
  for (size_t i = 0; i < dual.ranks[0].size(); ++i) {
    if (label(dual, dual.ranks[0][i]) == "Fa3&Bb1") {
      EXPECT_NEAR(run.spans[0][i].end - run.spans[0][i].start, 4, 1e-12);
    }
  }
}

TEST(PipelineSim, RefusesTimesThatAreNone) {
  const Schedule s = *make_schedule("1f1b", 2, 2);
  for (double bad : {-1.0, std::nan(""), std::numeric_limits<double>::infinity()}) {
    PipelineCosts costs;
    costs.times.backward_weight = bad;
    const auto run = simulate_pipeline(s, costs);
    ASSERT_FALSE(run.ok());
    EXPECT_EQ(run.error().text.rfind("1f1b: time backward_weight is ", 0), 0u) << run.error().text;
  }
  PipelineCosts costs;
  costs.stage_scale = {1, 1, 1};
  EXPECT_EQ(simulate_pipeline(s, costs).error().text, "1f1b: 3 stage scales for 2 stages");
  Schedule broken = s;
  broken.ranks[1].pop_back();
  EXPECT_FALSE(simulate_pipeline(broken, {}).ok());
}

}  // namespace
}  // namespace fathom
