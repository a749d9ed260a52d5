// FailureAnswer: how often a job of a scenario stops, because of what, and that plan and simulate say the same of it.
#include "sim/failure_answer.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "scenario_cases.h"
#include "sim/simulate.h"
#include "sim/simulate_report.h"

namespace fathom {
namespace {

double value_of(const std::vector<Figure>& figures, const std::string& name) {
  for (const Figure& f : figures) {
    if (f.name == name) return f.value;
  }
  ADD_FAILURE() << "no figure " << name;
  return -1;
}

/// 16,384 GPUs for 54 days: 384 stops of GPUs, 35 of what joins them.
Scenario llama() {
  Scenario s = all_to_all(16384);
  s.failures = {
      .gpu_mtbf_h = 16384 * 1296.0 / 384, .link_mtbf_h = 16384 * 1296.0 / 35, .checkpoint_min = 0.5, .restart_min = 4};
  return s;
}

TEST(FailureAnswer, StopsOfAScenarioAddUp) {
  const auto answer = simulate(llama(), FlowEngine::kAuto);
  ASSERT_TRUE(answer.ok()) << answer.error().text;
  const auto& figures = answer->failures;
  EXPECT_NEAR(54 * value_of(figures, "stops a day"), 419, 1e-9);
  EXPECT_NEAR(value_of(figures, "of them because of links"), 100 * 35.0 / 419, 1e-9);
  EXPECT_GT(value_of(figures, "goodput"), 90);
  EXPECT_NEAR(value_of(figures, "goodput") + value_of(figures, "of the rest: checkpoints") +
                  value_of(figures, "of the rest: restarts") + value_of(figures, "of the rest: work lost"),
              100, 1e-9);
  EXPECT_NE(to_json(*answer).dump().find("\"stops a day\""), std::string::npos);
  // 768 switches that fail as often as two GPUs each are as 1,536 GPUs more.
  Scenario s = llama();
  s.failures.switch_mtbf_h = s.failures.gpu_mtbf_h / 2;
  const auto more = simulate(s, FlowEngine::kAuto);
  EXPECT_NEAR(54 * value_of(more->failures, "stops a day"), 419 + 384 * 1536.0 / 16384, 1e-9);
  s = llama();
  s.failures.nic_mtbf_h = s.failures.gpu_mtbf_h;
  EXPECT_NEAR(54 * value_of(simulate(s, FlowEngine::kAuto)->failures, "stops a day"), 419 + 384, 1e-9);
}

TEST(FailureAnswer, AScenarioHasTheGoodputOfItsTimeBetweenStops) {
  Scenario s = llama();
  for (const double interval : {0.0, 5.0, 60.0}) {
    s.failures.interval_min = interval;
    const auto answer = simulate(s, FlowEngine::kAuto);
    ASSERT_TRUE(answer.ok()) << answer.error().text;
    EXPECT_NEAR(value_of(answer->failures, "goodput"), 100 * goodput({1296.0 / 419, 0.5, 4}, interval)->share, 1e-9);
  }
}

TEST(FailureAnswer, TheReportDrawsTheRun) {
  const Scenario s = llama();
  const auto answer = simulate(s, FlowEngine::kAuto);
  const auto report = simulate_report("failures", s, *answer);
  ASSERT_TRUE(report.ok()) << report.error().text;
  const auto at = std::find_if(report->sections.begin(), report->sections.end(),
                               [](const auto& section) { return section.title == "Failures"; });
  ASSERT_NE(at, report->sections.end());
  EXPECT_NE(at->text.find("one of its 16,384 GPUs or 16,384 links does"), std::string::npos) << at->text;
  const Gantt* gantt = nullptr;
  for (const auto& block : at->blocks) {
    if (const auto* found = std::get_if<Gantt>(&block)) gantt = found;
  }
  ASSERT_NE(gantt, nullptr);
  EXPECT_GT(gantt->bars.size(), 8u);
  const auto none = simulate_report("none", all_to_all(64), *simulate(all_to_all(64), FlowEngine::kAuto));
  for (const auto& section : none->sections) EXPECT_NE(section.title, "Failures");
}

TEST(FailureAnswer, RefusesWhatChangesNothing) {
  const auto text_of = [](const Scenario& s) {
    const auto answer = simulate(s, FlowEngine::kAuto);
    return answer ? std::string() : answer.error().text;
  };
  Scenario s = all_to_all(64);
  s.failures.checkpoint_min = 1;
  EXPECT_EQ(text_of(s).rfind("failures has no rate of anything that the fabric has; accepted: failures.gpu_mtbf_h", 0),
            0u);
  s.failures.link_mtbf_h = 1e5;  // 64 GPUs hang on one leaf of each plane
  EXPECT_EQ(text_of(s).rfind("failures has no rate of anything that the fabric has", 0), 0u);
  s.failures.gpu_mtbf_h = 5e4;
  EXPECT_EQ(text_of(s), "");
  s.failures.checkpoint_min = 0;
  EXPECT_EQ(text_of(s),
            "failures.checkpoint_min is 0, so the best interval is none; give it, or failures.interval_min");
  s.failures.interval_min = 10;
  s.failures.gpu_mtbf_h = 1e12;
  EXPECT_EQ(
      text_of(s),
      "failures: 1 / (64 / gpu_mtbf_h) is 15,625,000,000 h between stops of the job; accepted: more than 0 to 1e9");
}

}  // namespace
}  // namespace fathom
