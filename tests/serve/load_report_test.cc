// Load reports: percentiles against values by hand, what counts as good, and two reports side by side.
#include "serve/load_report.h"

#include <gtest/gtest.h>

#include <cmath>

namespace fathom::serve {
namespace {

LoadRecord record(double start, double first, double end, int64_t tokens) {
  return {.start_s = start, .first_s = first, .end_s = end, .input_tokens = 10, .output_tokens = tokens};
}

TEST(LoadReport, PercentilesInterpolate) {
  const Latency latency = latency_of({0.004, 0.001, 0.002, 0.003});
  EXPECT_DOUBLE_EQ(latency.mean, 2.5);
  EXPECT_DOUBLE_EQ(latency.p50, 2.5);  // numpy.percentile([1, 2, 3, 4], 50)
  EXPECT_DOUBLE_EQ(latency.p90, 3.7);
  EXPECT_DOUBLE_EQ(latency.p99, 3.97);
  EXPECT_EQ(latency_of(std::vector<double>{}).p99, 0);
  EXPECT_DOUBLE_EQ(latency_of({0.5}).p99, 500);
}

TEST(LoadReport, BucketsAreRightWithinHalfAPercent) {
  GapHistogram gaps;
  double sum = 0;
  for (int i = 1; i <= 10'000; ++i) {
    gaps.add(i * 1e-4);
    sum += i * 1e-4;
  }
  EXPECT_EQ(gaps.count(), 10'000);
  EXPECT_NEAR(gaps.mean_s(), sum / 10'000, 1e-9);
  for (const double q : {0.01, 0.5, 0.9, 0.99, 1.0}) EXPECT_NEAR(gaps.quantile_s(q) / q, 1, 0.0051) << q;
  gaps.add(0);
  gaps.add(1e9);
  EXPECT_GT(gaps.quantile_s(1), 3600) << "what is beyond the last bucket is in it";
  EXPECT_LT(gaps.quantile_s(0), 1.01e-6);
  EXPECT_EQ(GapHistogram().quantile_s(0.5), 0);
}

TEST(LoadReport, SumsUpWhatWasAnswered) {
  std::vector<LoadRecord> records = {record(1, 1.1, 2, 10), record(2, 2.3, 4, 18), record(1.5, 1.5, 5, 7)};
  records[2].error = "http 429";
  records[2].error_text = "queue is full";
  records.push_back(records[2]);
  records[1].cached_tokens = 4;
  const LoadReport report = summarise(records, {}, {});
  EXPECT_EQ(report.requests, 4);
  EXPECT_EQ(report.answered, 2);
  EXPECT_EQ(report.errors.at("http 429").count, 2);
  EXPECT_EQ(report.errors.at("http 429").text, "queue is full");
  EXPECT_DOUBLE_EQ(report.duration_s, 4);
  EXPECT_EQ(report.input_tokens, 20);
  EXPECT_EQ(report.output_tokens, 28);
  EXPECT_EQ(report.cached_tokens, 4);
  EXPECT_DOUBLE_EQ(report.per_s(report.output_tokens), 7);
  EXPECT_NEAR(report.ttft.p50, 200, 1e-6);
  EXPECT_NEAR(report.tpot.mean, 100, 1e-6);  // 0.9 s for 9 tokens after the first, 1.7 s for 17
  EXPECT_NEAR(report.e2e.mean, 1500, 1e-6);
  EXPECT_FALSE(report.good);
  EXPECT_FALSE(record(0, 1, 2, 1).tpot_s()) << "one token has no time per token after it";
  const LoadReport nothing = summarise({}, {}, {});
  EXPECT_EQ(nothing.per_s(nothing.output_tokens), 0);
}

TEST(LoadReport, GoodRequestsKeepEveryGoal) {
  std::vector<LoadRecord> records = {record(0, 0.1, 1, 10), record(0, 0.3, 1, 10), record(0, 0.1, 1, 10),
                                     record(0, 0.1, 1, 10)};
  records[2].longest_gap_s = 0.2;
  records[3].error = "timeout";
  const auto goals = parse_goals("ttft:200,itl:150");
  ASSERT_TRUE(goals);
  const LoadReport report = summarise(records, {}, *goals);
  EXPECT_EQ(report.good, 1);
  EXPECT_EQ(summarise(records, {}, *parse_goals("tpot:99")).good, 1) << "0.7 s for 9 tokens";
  EXPECT_EQ(summarise(records, {}, *parse_goals("tpot:101")).good, 3);
  EXPECT_EQ(summarise(records, {}, *parse_goals("e2e:1000")).good, 3);
  EXPECT_NE(load_table(report).find("goodput 1.00 requests/s: 1 requests kept"), std::string::npos);
}

TEST(LoadReport, GoalsThatAreNoneAreRefused) {
  for (const char* text :
       {"", "ttft", "ttft:", "ttft:x", "ttft:0", "ttft:-1", "ttft:nan", "speed:1", "ttft:1,", "ttft:1ms"}) {
    EXPECT_FALSE(parse_goals(text)) << text;
  }
  const auto twice = parse_goals("ttft:1,ttft:2");
  ASSERT_FALSE(twice);
  EXPECT_EQ(twice.error().text, "ttft is given twice");
}

TEST(LoadReport, TheColdRequestStandsBesideTheOthers) {
  const std::vector<LoadRecord> records = {record(0, 0.1, 1, 10)};
  LoadReport report = summarise(records, {}, {});
  report.cold_ttft_ms = 800;
  EXPECT_NEAR(report.cold_ratio(), 8, 1e-9);
  EXPECT_NE(load_table(report).find("8.00 times lower"), std::string::npos);
  EXPECT_NEAR(to_json(report).find("cold_ratio")->as_double(), 8, 1e-9);
}

TEST(LoadReport, TwoReportsSideBySide) {
  const std::vector<LoadRecord> slow = {record(0, 0.2, 2, 10)}, fast = {record(0, 0.1, 1, 10)};
  const Json before = to_json(summarise(slow, {}, {})), now = to_json(summarise(fast, {}, {}));
  const auto compared = compare_loads(now, before, "old.json");
  ASSERT_TRUE(compared);
  EXPECT_EQ(compared->front().name, "output_tokens_per_s");
  EXPECT_NEAR(compared->front().ratio().value(), 2, 1e-9);
  for (const LoadComparison& c : *compared) {
    if (c.name == "ttft_ms.p50") {
      EXPECT_NEAR(c.ratio().value(), 0.5, 1e-9);
    }
    if (c.name == "itl_ms.p50") {
      EXPECT_FALSE(c.ratio()) << "nothing is no divisor";
    }
  }
  EXPECT_NE(comparison_table(*compared).find("2.000"), std::string::npos);
  for (const char* text : {"{}", "[]", R"({"output_tokens_per_s": "fast"})", R"({"ttft_ms": 3})"}) {
    const auto refused = compare_loads(now, *Json::parse(text, "old.json"), "old.json");
    ASSERT_FALSE(refused) << text;
    EXPECT_NE(refused.error().text.find("old.json"), std::string::npos);
  }
}

}  // namespace
}  // namespace fathom::serve
