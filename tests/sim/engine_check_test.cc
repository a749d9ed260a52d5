// EngineCheck: a second engine's word, and what is said when it has none.
#include "sim/engine_check.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <optional>

#include "../effort.h"
#include "scenario_cases.h"

namespace fathom {
namespace {

/// Nothing where SimGrid may be absent and is.
std::optional<EngineCheck> check_of(const Scenario& s, const Simulation& answer, double share = 1) {
  auto check = check_engine(s, answer, share);
  if (!check && check.error().code == ErrorCode::kNotFound && std::getenv("FATHOM_CI") == nullptr) return {};
  EXPECT_TRUE(check.ok()) << (check ? "" : check.error().text);
  return check ? std::optional(*std::move(check)) : EngineCheck{};
}

Scenario small_message() {
  Scenario s;
  s.network.gpus = 2048;
  s.network.latency = "InfiniBand";
  s.job.op = "send";
  s.job.bytes = 64;
  s.job.to = 2040;
  return s;
}

Scenario window_on_ecmp(int64_t gpus) {
  Scenario s = all_to_all(gpus);
  s.network.fabric = "ft2";
  s.network.gpus_per_node = 1;
  s.network.radix = 16;
  s.network.routing = "ecmp";
  s.job.window = 8;
  return s;
}

TEST(EngineCheck, SimGridAgreesOnSmallMessagesAndOnWindows) {
  for (const Scenario& s : {small_message(), window_on_ecmp(64), three_jobs()}) {
    const Simulation answer = run(s, FlowEngine::kMaxMin);
    const auto check = check_of(s, answer);
    if (!check) GTEST_SKIP() << "SimGrid (libsimgrid3.32) is not installed";
    EXPECT_EQ(check->engine, FlowEngine::kSimGrid);
    EXPECT_EQ(check->skipped, "");
    EXPECT_TRUE(check->agrees()) << s.job.op << " " << check->difference;
    EXPECT_EQ(text_of(*check, answer), "engine simgrid agrees within 0.01 %");
  }
}

// 3.7 us of latency would hide any error in the 1.6 ns that 64 bytes are on the links.
TEST(EngineCheck, LatencyAndSoftwareHideNothing) {
  Scenario s = small_message();
  s.job.alpha_us = 1000;
  Simulation answer = run(s, FlowEngine::kBound);
  EXPECT_TRUE(check_of(s, answer)->agrees());
  answer.jobs[0].link_seconds *= 1.01;
  const auto check = check_of(s, answer);
  EXPECT_NEAR(check->difference, 0.01, 1e-9);
  EXPECT_FALSE(check->agrees());
  EXPECT_EQ(text_of(*check, answer),
            "engines bound and maxmin differ by 1 %; accepted: 0.01 % (a bound need not be reached)");
}

// The example whose windows have most flows: whether it is checked depends on counts alone.
TEST(EngineCheck, TheExampleWithWindowsIsChecked) {
  if (testing::effort() == testing::Effort::kLittle) GTEST_SKIP() << "30 million rates; the usual round runs it";
  Scenario s = window_on_ecmp(256);
  s.network.radix = 64;
  s.network.nic_gbps = 43.5;
  const Simulation answer = run(s, FlowEngine::kMaxMin);
  EXPECT_EQ(answer.num_rates, run(s, FlowEngine::kMaxMin).num_rates);
  EXPECT_LT(answer.num_rates, kMostSimGridRates);
  EXPECT_LT(answer.num_rates, kMostMaxMinRates);
}

TEST(EngineCheck, WhatCostsTooMuchIsSkippedAndSaysWhy) {
  if (testing::effort() == testing::Effort::kLittle) GTEST_SKIP() << "millions of rates; the usual round runs it";
  const Scenario s = window_on_ecmp(128);
  Simulation answer = run(s, FlowEngine::kBound);
  const auto most = check_of(s, answer, 0);
  EXPECT_EQ(most->skipped,
            "engine maxmin gave up after 0 solves for 1024 different flows; a check is given 0 rates here");
  EXPECT_FALSE(most->agrees());
  EXPECT_EQ(text_of(*most, answer).rfind("check skipped: ", 0), 0u);
  EXPECT_NE(to_json(*most).dump().find("\"skipped\""), std::string::npos);
  // Exactly as many as it takes are enough, one fewer are not.
  const auto rates = static_cast<double>(run(s, FlowEngine::kMaxMin).num_rates);
  const Simulation limit = answer;
  EXPECT_EQ(check_of(s, limit, (rates + 0.5) / kMostMaxMinRates)->skipped, "");
  EXPECT_NE(check_of(s, limit, (rates - 0.5) / kMostMaxMinRates)->skipped, "");
  answer = run(s, FlowEngine::kMaxMin);
  const auto simgrid = check_of(s, answer, (rates - 0.5) / kMostSimGridRates);
  EXPECT_EQ(simgrid->skipped, "engine simgrid would compute " + figure_text(rates, 9) + " rates; a check is given " +
                                  figure_text(rates - 1, 9) + " rates here");
  // 400 x 399 flows are more than SimGrid is given.
  const Scenario many = window_on_ecmp(100);
  Scenario whole = all_to_all(400);
  whole.network.fabric = "ft2";
  whole.network.gpus_per_node = 1;
  whole.network.routing = "ecmp";
  answer = run(many, FlowEngine::kMaxMin);  // as if of the other: only the second engine is asked
  const auto large = check_of(whole, answer);
  if (!large) GTEST_SKIP() << "SimGrid (libsimgrid3.32) is not installed";
  EXPECT_NE(large->skipped.find("classes of flows; SimGrid is given 100000 at most"), std::string::npos)
      << large->skipped;
}

}  // namespace
}  // namespace fathom
