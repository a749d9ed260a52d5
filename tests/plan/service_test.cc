// Service: the nodes and the price of the published load, and what is missing for it.
#include "plan/service.h"

#include <gtest/gtest.h>

#include "plan/answers.h"

namespace fathom {
namespace {

PlanSettings published() {
  PlanSettings s;
  s.service.input_tokens_per_day = 608e9;
  s.service.output_tokens_per_day = 168e9;
  s.service.node_input_tokens_per_s = 73.7e3;
  s.service.node_output_tokens_per_s = 14.8e3;
  s.service.gpu_hour_dollars = 2;
  return s;
}

double value(const PlanSettings& s, const std::string& name) {
  const auto g = plan_service(s);
  EXPECT_TRUE(g.ok()) << (g ? "" : g.error().text);
  for (const Figure& f : g ? g->figures : std::vector<Figure>{}) {
    if (f.name == name) return f.value;
  }
  return -1;
}

TEST(Service, ThePublishedLoadTakesThePublishedNodes) {
  const PlanSettings s = published();
  EXPECT_NEAR(value(s, "prefill nodes"), 95.5, 0.05);
  EXPECT_NEAR(value(s, "decode nodes"), 131.4, 0.05);
  EXPECT_NEAR(value(s, "nodes"), 226.75, 226.75 * 0.001);
  EXPECT_EQ(value(s, "whole nodes"), 227);
  EXPECT_EQ(value(s, "GPUs of whole nodes"), 1816);
  EXPECT_NEAR(value(s, "price of a day"), 87072, 87072 * 0.001);
  PlanSettings one = {};
  one.service.node_output_tokens_per_s = 22.3e3;
  one.service.gpu_hour_dollars = 2;
  EXPECT_NEAR(value(one, "price per million output tokens"), 0.199, 0.0005);
  EXPECT_EQ(value(one, "nodes"), -1) << "no load";
  EXPECT_EQ(value(one, "price per million input tokens"), -1) << "no rate";
}

TEST(Service, WhatIsMissingIsNamed) {
  PlanSettings s = published();
  s.service.node_input_tokens_per_s = 0;
  EXPECT_EQ(plan_service(s).error().text.rfind("service.node_input_tokens_per_s is missing", 0), 0u);
  s = published();
  s.service.node_output_tokens_per_s = 1e-320;
  EXPECT_NE(plan_service(s).error().text.find("1e-6 or more"), std::string::npos);
  PlanSettings rate;
  EXPECT_FALSE(has_service(rate));
  rate.service.node_output_tokens_per_s = 100;
  EXPECT_TRUE(has_service(rate));
  EXPECT_NE(plan_service(rate).error().text.find("service.gpu_hour_dollars"), std::string::npos);
  EXPECT_FALSE(answer({{}, {}, rate}).ok());
  EXPECT_EQ(answer({{}, {}, published()})->front().title, "service");
}

}  // namespace
}  // namespace fathom
