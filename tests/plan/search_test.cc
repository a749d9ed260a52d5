// Search: the V3 run's layouts, what moves them, and what is refused.
#include "plan/search.h"

#include <gtest/gtest.h>

#include <string_view>

#include "../effort.h"
#include "plan/counted_v3.h"
#include "plan/paper.h"

namespace fathom {
namespace {

PlanSettings v3_run() {
  PlanSettings s;
  s.search.kind = "training";
  s.search.gpus = {2048};
  s.search.batch = 15360;
  s.search.utilisation = 0.52;
  return s;
}

const TrainingSearch& v3_search() {
  static const TrainingSearch search = *search_training(v3(), *find_hardware("h800"), v3_run());
  return search;
}

std::string refusal(const PlanSettings& s, const char* hardware = "h800") {
  const auto found = search_training(v3(), *find_hardware(hardware), s);
  return found ? "" : found.error().text;
}

TEST(Search, TheV3LayoutTakesAboutItsPublishedStep) {
  const TrainingSearch& search = v3_search();
  const RankedLayout* v3_layout = nullptr;
  for (const RankedLayout& r : search.layouts) {
    if (r.layout.pipeline == 16 && r.layout.expert == 64 && r.layout.schedule == "dualpipe" && r.sequences == 1) {
      v3_layout = &r;
    }
  }
  ASSERT_NE(v3_layout, nullptr);
  EXPECT_EQ(v3_layout->layout.num_micro_batches, 120);
  // 0.52 of the BF16 peak is what the published profile's F&B pairs reach; stragglers are not in it.
  EXPECT_NEAR(v3_layout->step_s / 19.926, 1, 0.08);
  EXPECT_EQ(v3_layout->limit(), "compute");
  // Of schedules with the same sizes, the one that overlaps is the fastest.
  for (const RankedLayout& r : search.layouts) {
    if (r.layout.pipeline == 16 && r.layout.expert == 64 && r.sequences == 1 && r.layout.schedule != "dualpipev") {
      EXPECT_GE(r.step_s, v3_layout->step_s) << r.layout.schedule;
    }
  }
}

TEST(Search, OneLayoutIsTimedAsTheSearchTimesIt) {
  const RankedLayout& best = v3_search().layouts.front();
  const auto one = time_training(v3(), *find_hardware("h800"), v3_run(), best.layout);
  ASSERT_TRUE(one.ok()) << one.error().text;
  EXPECT_EQ(one->step_s, best.step_s);
  EXPECT_EQ(one->times.pair, best.times.pair);
  EXPECT_EQ(one->bytes.total(), best.bytes.total());
  PlanSettings s = v3_run();
  s.search.utilisation = 0;
  EXPECT_EQ(time_training(v3(), *find_hardware("h800"), s, best.layout).error().text.rfind("search.utilisation", 0),
            0u);
  TrainingLayout odd = best.layout;
  odd.expert = 7;
  EXPECT_FALSE(time_training(v3(), *find_hardware("h800"), v3_run(), odd).ok());
}

TEST(Search, LayoutsDivideFitAndAreSorted) {
  const TrainingSearch& search = v3_search();
  EXPECT_EQ(search.num_divide, search.num_too_big + static_cast<int64_t>(search.layouts.size()));
  double last = 1e300;
  for (const RankedLayout& r : search.layouts) {
    EXPECT_EQ(r.layout.num_gpus(), 2048);
    EXPECT_EQ(r.layout.data * r.sequences * r.layout.num_micro_batches, 15360);
    EXPECT_EQ(r.layout.data % r.layout.expert, 0);
    EXPECT_LE(r.bytes.total(), 80e9);
    EXPECT_NEAR(r.compute_s + r.hbm_s + r.exchange_s + r.wait_s + r.reduce_s, r.step_s, 1e-9 * r.step_s);
    EXPECT_LE(r.tokens_per_s_per_gpu(), last);
    last = r.tokens_per_s_per_gpu();
    // Nobody is faster than the products alone.
    EXPECT_GE(r.step_s, 15360.0 * 4096 * training_flops(v3().config, 4096).causal() / (2048 * 0.52 * 989.4e12));
  }
}

TEST(Search, FasterPartsShortenTheirParts) {
  Hardware fast = *find_hardware("h800");
  ASSERT_TRUE(fast.set("nic_effective_gbps", 80).ok());
  const auto faster = search_training(v3(), fast, v3_run());
  ASSERT_TRUE(faster.ok());
  EXPECT_LT(faster->layouts[0].step_s, v3_search().layouts[0].step_s);
  PlanSettings half = v3_run();
  half.search.utilisation = 0.26;
  const auto slower = search_training(v3(), *find_hardware("h800"), half);
  ASSERT_TRUE(slower.ok());
  EXPECT_NEAR(slower->layouts[0].compute_s / 2, v3_search().layouts[0].compute_s,
              0.1 * v3_search().layouts[0].compute_s);
  PlanSettings exposed = v3_run();
  exposed.search.overlap = 0;
  const auto none = search_training(v3(), *find_hardware("h800"), exposed);
  ASSERT_TRUE(none.ok());
  EXPECT_GT(none->layouts[0].step_s, v3_search().layouts[0].step_s);
}

// Each resource made scarce on its own: it is named, and more of it shortens the step that it limits.
TEST(Search, NamesTheResourceThatBinds) {
  if (testing::effort() == testing::Effort::kLittle) GTEST_SKIP() << "a search many times; the usual round runs it";
  struct Scarce {
    const char* fact;  // of the hardware; null: as it is
    double value;
    int64_t batch;
    const char* limit;
    int64_t pipeline, expert;  // of the layout that is looked at; 0: the fastest
  };
  for (const Scarce& scarce : {Scarce{nullptr, 0, 15360, "compute", 0, 0},
                               {"memory_gbps", 50, 15360, "HBM bandwidth", 0, 0},
                               {"scale_up_effective_gbps", 2, 15360, "scale-up network", 16, 16},
                               {"nic_effective_gbps", 2, 15360, "scale-out network", 16, 64},
                               {nullptr, 0, 128, "pipeline bubble", 0, 0},
                               {"scale_up_effective_gbps", 2, 15360, "memory capacity", 0, 0}}) {
    Hardware h = *find_hardware("h800");
    if (scarce.fact) {
      ASSERT_TRUE(h.set(scarce.fact, scarce.value).ok());
    }
    PlanSettings s = v3_run();
    s.search.batch = scarce.batch;
    const auto found = search_training(v3(), h, s);
    ASSERT_TRUE(found.ok()) << found.error().text;
    const RankedLayout* looked_at = &found->layouts.front();
    for (const RankedLayout& r : found->layouts) {
      EXPECT_NEAR(r.compute_s + r.hbm_s + r.exchange_s + r.wait_s + r.reduce_s, r.step_s, 1e-9 * r.step_s);
      if (r.layout.pipeline == scarce.pipeline && r.layout.expert == scarce.expert) looked_at = &r;
    }
    EXPECT_EQ(looked_at->limit(), scarce.limit) << looked_at->layout.schedule << ", batch " << scarce.batch;
    EXPECT_EQ(found->too_big.empty(), found->layouts.front().capacity_s == 0);
    if (std::string_view(scarce.limit) != "memory capacity") continue;
    // The layout that did not fit does with more memory, and is then the fastest or slower than another that fits too.
    ASSERT_TRUE(h.set("memory_gb", 400).ok());
    const auto roomy = search_training(v3(), h, s);
    ASSERT_TRUE(roomy.ok());
    const RankedLayout& before = found->layouts.front();
    EXPECT_LE(roomy->layouts.front().step_s, (before.step_s - before.capacity_s) * (1 + 1e-12));
  }
}

// Of two that work at once the time is that of the slower: products hidden behind the exchange are in no part.
TEST(Search, WhatIsHiddenLimitsNothing) {
  Hardware h = *find_hardware("h800");
  ASSERT_TRUE(h.set("nic_effective_gbps", 10).ok());
  const auto layout_of = [](const TrainingSearch& search) -> const RankedLayout& {
    for (const RankedLayout& r : search.layouts) {
      if (r.layout.pipeline == 16 && r.layout.expert == 64 && r.layout.schedule == "dualpipe") return r;
    }
    ADD_FAILURE() << "no such layout";
    return search.layouts.front();
  };
  const auto half = search_training(v3(), h, v3_run());
  PlanSettings fast = v3_run();
  fast.search.utilisation = 1;
  const auto all = search_training(v3(), h, fast);
  ASSERT_TRUE(half.ok() && all.ok());
  const RankedLayout &slow = layout_of(*half), &quick = layout_of(*all);
  EXPECT_EQ(slow.limit(), "scale-out network");
  // Nearly all of a step is pairs, which the exchange fills: twice the speed of products changes little.
  EXPECT_GT(quick.step_s / slow.step_s, 0.9);
  EXPECT_LT(slow.compute_s / slow.step_s, 0.2);
}

// The chosen layout as settings: its pipeline takes the time that the search said and has its bubble.
TEST(Search, TheChosenLayoutIsReadBack) {
  const RankedLayout& best = v3_search().layouts[0];
  const auto read = load_config<PlanSettings>({}, chosen(v3_run(), best));
  ASSERT_TRUE(read.ok());
  EXPECT_EQ(read->search.kind, "none");
  const auto timeline = plan_timeline(*read);
  ASSERT_TRUE(timeline.ok());
  EXPECT_NEAR(timeline->run.makespan / best.pipeline_s(), 1, 1e-9);
  const auto groups = plan_model(v3(), *find_hardware("h800"), *read);
  ASSERT_TRUE(groups.ok());
  const auto value = [](const FigureGroup& group, std::string_view name) {
    for (const Figure& f : group.figures) {
      if (f.name == name) return f.value;
    }
    ADD_FAILURE() << name;
    return 0.0;
  };
  for (const char* name : {"time of the pipeline", "bubble"}) {
    const double said = value(summary(v3_search(), v3_run()), name);
    EXPECT_NEAR(value(groups->back(), name) / said, 1, 1e-9) << name;
  }
  // Two shares that are not the same, so each says of which rank it is; and a time has a unit.
  const auto figure = [](const FigureGroup& group, std::string_view name) {
    for (const Figure& f : group.figures) {
      if (f.name == name) return f;
    }
    ADD_FAILURE() << name;
    return Figure{};
  };
  const FigureGroup said = summary(v3_search(), v3_run());
  EXPECT_NE(figure(said, "bubble").formula.find("that of the busiest is waiting"), std::string::npos);
  EXPECT_NE(figure(said, "waiting").formula.find("the bubble is of the one that waits most"), std::string::npos);
  EXPECT_GT(figure(said, "bubble").value, figure(said, "waiting").value);
  EXPECT_EQ(figure(groups->back(), "time of the pipeline").unit, "units");
  // Stages differ, or nothing of this is shown.
  EXPECT_NE(best.stage_scale.front(), best.stage_scale.back());
}

TEST(Search, BoundsOfPowerAndCarbon) {
  if (testing::effort() == testing::Effort::kLittle) GTEST_SKIP() << "a search many times; the usual round runs it";
  PlanSettings s = v3_run();
  s.search.gpus = {1024, 2048};
  s.search.max_kw = 1000;
  EXPECT_EQ(refusal(s), "search.max_kw needs energy.pue: the site's power over that of its GPUs, as 1.3");
  s.energy.pue = 1.3;
  const auto small = search_training(v3(), *find_hardware("h800"), s);
  ASSERT_TRUE(small.ok()) << small.error().text;
  for (const RankedLayout& r : small->layouts) EXPECT_EQ(r.layout.num_gpus(), 1024);
  EXPECT_NEAR(small->layouts[0].kw, 1024 * 0.7 * 1.3, 1e-9);
  s.search.max_kgco2 = 1;
  EXPECT_EQ(refusal(s), "search.max_kgco2 needs energy.pue, energy.kg_per_kwh and training.tokens");
  s.energy.kg_per_kwh = 0.3;
  s.training.tokens = 14.8e12;
  EXPECT_NE(refusal(s).find("is within search.max_kw and search.max_kgco2"), std::string::npos);
  s.energy.pue = 0.5;
  EXPECT_EQ(refusal(s), "energy.pue is 0.5; a site needs at least what its GPUs need: 1 or more");
}

TEST(Search, SaysWhatIsMissing) {
  if (testing::effort() == testing::Effort::kLittle) GTEST_SKIP() << "a search many times; the usual round runs it";
  PlanSettings s = v3_run();
  s.search.gpus = {};
  EXPECT_EQ(refusal(s), "search.gpus is missing: the GPUs of the cluster, as 2048 (--gpus)");
  s = v3_run();
  s.search.utilisation = 0;
  EXPECT_EQ(refusal(s), "search.utilisation is missing: the share of the BF16 peak that products reach, as 0.5");
  s = v3_run();
  s.search.batch = 0;
  EXPECT_EQ(refusal(s), "search.batch is missing: sequences of a training step, as 15360");
  s.search.batch = 15361;
  EXPECT_EQ(refusal(s),
            "search: no layout of 2048 GPUs divides a batch of 15361 sequences; give a batch that is a "
            "multiple of GPUs / pipeline");
  s = v3_run();
  s.search.gpus = {8};
  EXPECT_EQ(refusal(s).rfind("search: none of ", 0), 0u);
  EXPECT_NE(refusal(s).find("the nearest (PP "), std::string::npos);
}

}  // namespace
}  // namespace fathom
