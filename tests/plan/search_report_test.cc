// SearchReport: the drawings of a search show what it found, all of it.
#include "plan/search_report.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "../find_block.h"
#include "plan/paper.h"

namespace fathom {
namespace {

using testing::find;

const Series* series_of(const LineChart& chart, const std::string& name) {
  const auto at =
      std::find_if(chart.series.begin(), chart.series.end(), [&](const Series& s) { return s.name == name; });
  if (at == chart.series.end()) ADD_FAILURE() << "no series " << name;
  return at == chart.series.end() ? nullptr : &*at;
}

TEST(SearchReport, AllOfServingIsDrawnOnceAndNothingBeatsTheFront) {
  PlanSettings s;
  s.search.kind = "serving";
  s.search.gpus = {256};
  s.search.max_tpot_ms = 30;
  const auto search = search_serving(CountedModel(paper_input().v3), *find_hardware("h800"), s);
  ASSERT_TRUE(search.ok());
  EXPECT_GT(search->points.size(), search->front.size());
  const Report::Section section = search_section(*search, s);
  const auto& chart = *find<LineChart>(section, "Tokens per GPU against tokens per user, all that fit");
  EXPECT_TRUE(chart.log_x && chart.log_y);
  const Series* front = series_of(chart, "front");
  const Series* best = series_of(chart, "the best within 30 ms a token");
  ASSERT_TRUE(front != nullptr && best != nullptr);
  ASSERT_EQ(front->x.size(), search->front.size());
  EXPECT_EQ(best->x[0], search->best.per_user());
  EXPECT_GE(best->x[0], 1e3 / 30);
  size_t num_points = front->x.size();
  for (const Series& series : chart.series) {
    if (!series.name.starts_with("limit: ")) continue;
    num_points += series.x.size();
    for (size_t i = 0; i < series.x.size(); ++i) {
      const bool is_beaten = std::any_of(search->front.begin(), search->front.end(), [&](const DecodePoint& p) {
        return p.per_user() >= series.x[i] && p.per_gpu() >= series.y[i] * (1 - 1e-9);
      });
      EXPECT_TRUE(is_beaten) << series.labels[i];
    }
  }
  EXPECT_EQ(num_points, search->points.size());
  EXPECT_EQ(front->labels[0].rfind(std::to_string(search->front[0].gpus) + " GPUs, batch ", 0), 0u) << front->labels[0];
  const auto& bounds = *find<LineChart>(section, "What limits the front");
  for (size_t i = 0; i < search->front.size(); ++i) {
    double most = 0;
    for (const Series& bound : bounds.series) most = std::max(most, bound.y[i]);
    EXPECT_EQ(most, search->front[i].step.tpot_ms());  // no drafts
  }
}

TEST(SearchReport, LayoutsOfTrainingAreRankedWithTheirLimits) {
  PlanSettings s;
  s.search.kind = "training";
  s.search.gpus = {2048};
  s.search.batch = 15360;
  s.search.utilisation = 0.52;
  s.search.rows = 6;
  const Hardware h800 = *find_hardware("h800");
  const auto search = search_training(CountedModel(paper_input().v3), h800, s);
  ASSERT_TRUE(search.ok());
  const Report::Section section = search_section(*search, h800, s);
  const auto& time = *find<BarChart>(section, "Step of the fastest layouts");
  const auto& memory = *find<BarChart>(section, "Memory of their fullest rank");
  const auto& grid = *find<Grid>(section, "The fastest layouts");
  ASSERT_EQ(time.rows.size(), 6u);
  ASSERT_EQ(grid.rows.size(), 6u);
  EXPECT_EQ(memory.limit->value, h800.memory_gb);
  for (size_t row = 0; row < 6; ++row) {
    const RankedLayout& r = search->layouts[row];
    double step = 0, bytes = 0;
    for (const BarChart::Part& part : time.parts) step += part.values[row];
    for (const BarChart::Part& part : memory.parts) bytes += part.values[row];
    EXPECT_NEAR(step, r.step_s, 1e-9 * step);
    EXPECT_NEAR(bytes, r.bytes.total() / 1e9, 1e-9 * bytes);
    EXPECT_EQ(grid.rows[row].values[2], r.step_s);
    EXPECT_TRUE(grid.rows[row].name.ends_with("; " + r.limit())) << grid.rows[row].name;
  }
  size_t num_drawn = 0;
  for (const Series& series : find<LineChart>(section, "All layouts that fit: speed against memory")->series) {
    if (series.name.starts_with("limit: ")) num_drawn += series.x.size();
  }
  EXPECT_EQ(num_drawn, search->layouts.size());
}

}  // namespace
}  // namespace fathom
