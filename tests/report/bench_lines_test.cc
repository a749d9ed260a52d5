// Shares, the JSON round trip and the comparison of two runs.
#include "report/bench_lines.h"

#include <gtest/gtest.h>

#include <functional>

namespace fathom {
namespace {

BenchLine decode_line(int64_t batch, double speed) {
  return {.work = "decode",
          .threads = 2,
          .batch = batch,
          .depth = 4096,
          .tokens = 32,
          .tokens_per_s = {.median = speed, .lowest = speed / 2, .highest = 2 * speed},
          .reached = 24,
          .limit = 32,
          .unit = "GB/s"};
}

TEST(BenchLines, TheShareIsOfTheLimit) {
  BenchLine line = decode_line(1, 10);
  EXPECT_EQ(line.share(), 0.75);
  line.limit = 0;
  EXPECT_EQ(line.share(), 0);
}

TEST(BenchLines, ComeBackFromJson) {
  Json report = Json::object();
  report.set("lines", Json::array().push(to_json(decode_line(1, 10.25))).push(to_json(decode_line(16, 99.5))));
  const auto parsed = Json::parse(report.dump(2), "report");
  ASSERT_TRUE(parsed);
  const auto lines = bench_lines_of(*parsed, "old.json");
  ASSERT_TRUE(lines) << lines.error().text;
  ASSERT_EQ(lines->size(), 2u);
  EXPECT_EQ((*lines)[1].name(), "decode, 2 threads, batch 16, depth 4096, 32 tokens");
  EXPECT_EQ((*lines)[1].tokens_per_s.median, 99.5);
  EXPECT_EQ((*lines)[1].tokens_per_s.lowest, 99.5 / 2);
  EXPECT_EQ((*lines)[1].tokens_per_s.highest, 199);
  EXPECT_EQ((*lines)[1].reached, 24);
  EXPECT_EQ((*lines)[1].limit, 32);
  EXPECT_EQ((*lines)[1].unit, "GB/s");
  EXPECT_EQ(report.find("lines")->items()[0].find("share")->as_double(), 0.75);
}

TEST(BenchLines, OfSeveralWeightsAreApart) {
  BenchLine int8 = decode_line(1, 10), int4 = decode_line(1, 20);
  int8.weights = "int8";
  int4.weights = "int4";
  Json report = Json::object();
  report.set("lines", Json::array().push(to_json(int8)).push(to_json(int4)));
  const auto lines = bench_lines_of(report, "old.json");
  ASSERT_TRUE(lines) << lines.error().text;
  EXPECT_EQ((*lines)[1].name(), "decode, 2 threads, batch 1, depth 4096, 32 tokens, int4");
  EXPECT_EQ(*compare_lines(*lines, *lines)[1].ratio(), 1);
  EXPECT_NE(bench_table(*lines).find("decode int8"), std::string::npos);
}

TEST(BenchLines, WhatIsNoReportIsRefusedByName) {
  const auto refusal = [](const std::function<void(Json&)>& damage) {
    Json line = to_json(decode_line(1, 10));
    damage(line);
    Json report = Json::object();
    report.set("lines", Json::array().push(to_json(decode_line(4, 10))).push(line));
    const auto lines = bench_lines_of(report, "old.json");
    return lines ? std::string("accepted") : lines.error().text;
  };
  EXPECT_EQ(refusal([](Json&) {}), "accepted");
  const auto expect_named = [&](const std::string& text, const char* name) {
    EXPECT_NE(text.find("old.json"), std::string::npos) << text;
    EXPECT_NE(text.find(name), std::string::npos) << text;
  };
  for (const char* key : {"work", "unit", "threads", "batch", "depth", "tokens", "tokens_per_s", "lowest", "limit"}) {
    expect_named(refusal([&](Json& line) { line.set(key, nullptr); }), key);
    expect_named(refusal([&](Json& line) { line.set(key, Json::array()); }), key);
    expect_named(refusal([&](Json& line) {
                   std::erase_if(line.members(), [&](const auto& member) { return member.first == key; });
                 }),
                 key);
  }
  expect_named(refusal([](Json& line) { line.set("batch", 1.5); }), "batch");
  expect_named(refusal([](Json& line) { line.set("batch", -1); }), "batch");
  expect_named(refusal([](Json& line) { line.set("batch", 4); }), "twice");
  expect_named(refusal([](Json& line) { line = Json("text"); }), "work");
  for (const Json& report : {Json(), Json(3), Json::array(), Json::object(), Json::object().set("lines", 3)}) {
    const auto lines = bench_lines_of(report, "old.json");
    ASSERT_FALSE(lines) << report.dump();
    expect_named(lines.error().text, "\"lines\"");
  }
}

TEST(BenchLines, ATableHasALineEach) {
  BenchLine without_limit = decode_line(16, 1234.56);
  without_limit.limit = 0;
  const std::string table = bench_table(std::vector{decode_line(1, 10), without_limit});
  EXPECT_EQ(table,
            "work    threads  batch  depth  tokens  tokens/s   spread  reached  limit        share\n"
            "decode        2      1   4096      32      10.0  150.0 %     24.0   32.0  GB/s   75 %\n"
            "decode        2     16   4096      32    1234.6  150.0 %     24.0      -  GB/s      -\n");
}

TEST(BenchLines, AComparisonFindsTheSameWork) {
  const std::vector<BenchLine> before = {decode_line(16, 50), decode_line(1, 10), decode_line(2, 0)};
  BenchLine other_depth = decode_line(1, 12);
  other_depth.depth = 0;
  const auto comparisons = compare_lines(
      std::vector{decode_line(1, 12), decode_line(16, 40), decode_line(4, 20), decode_line(2, 5), other_depth}, before);
  ASSERT_EQ(comparisons.size(), 5u);
  EXPECT_DOUBLE_EQ(comparisons[0].ratio().value(), 1.2);
  EXPECT_DOUBLE_EQ(comparisons[1].ratio().value(), 0.8);
  EXPECT_FALSE(comparisons[2].before_tokens_per_s);
  EXPECT_FALSE(comparisons[2].ratio());
  EXPECT_EQ(comparisons[3].before_tokens_per_s, 0.0);
  EXPECT_FALSE(comparisons[3].ratio());
  EXPECT_FALSE(comparisons[4].ratio());
  EXPECT_EQ(slower_than(comparisons, 1), std::vector<std::string>{comparisons[1].now.name()});
  EXPECT_TRUE(slower_than(comparisons, 0.5).empty());
  EXPECT_EQ(slower_than(comparisons, 2).size(), 2u);  // a line without an old figure is never slower
  EXPECT_EQ(comparison_table(std::span(comparisons).first(3)),
            "work    threads  batch  depth  tokens  old tokens/s  new tokens/s  new/old\n"
            "decode        2      1   4096      32          10.0          12.0    1.200\n"
            "decode        2     16   4096      32          50.0          40.0    0.800\n"
            "decode        2      4   4096      32             -          20.0        -\n");
}

TEST(BenchLines, ColumnsAreAsWideAsTheirWidestCell) {
  EXPECT_EQ(aligned(std::vector<std::vector<std::string>>{{"a", "bbb", "c"}, {"dddd", "e"}, {}}, 2),
            "a     bbb  c\ndddd  e\n\n");
  EXPECT_EQ(aligned(std::vector<std::vector<std::string>>{{"a", "bbb"}, {"dddd", "e"}}, 0), "   a  bbb\ndddd    e\n");
}

}  // namespace
}  // namespace fathom
