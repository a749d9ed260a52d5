// Decode: what bounds a step, and what each format and feature changes of it.
#include "plan/decode.h"

#include <gtest/gtest.h>

#include "plan/paper.h"

namespace fathom {
namespace {

PlanSettings::Serving v3_decode() {
  PlanSettings::Serving s;
  s.gpus = 144;
  s.redundant_experts = 32;
  s.batch = 64;
  return s;
}

const CountedModel& v3() {
  static const CountedModel model(paper_input().v3);
  return model;
}

DecodeStep step_of(const PlanSettings::Serving& s, const Hardware& h = *find_hardware("h800")) {
  const auto step = decode_step(v3(), h, s);
  EXPECT_TRUE(step.ok()) << (step ? "" : step.error().text);
  return step ? *step : DecodeStep{};
}

TEST(Decode, IsBoundByWhatIsScarce) {
  const double weights = *serving_weight_bytes(paper_input().v3, 144, 32);
  PlanSettings::Serving s = v3_decode();
  s.batch = 1;
  const DecodeStep one = step_of(s);
  EXPECT_EQ(one.limit(), "memory");
  EXPECT_NEAR(one.memory_ms, (weights + 4096 * 70272.0) / 3350e6, 1e-9);
  const DecodeStep many = step_of(v3_decode());
  EXPECT_EQ(many.limit(), "network");
  // Half the batch in each of two micro-batches, 58 layers with experts, 8 copies, 40 GB/s.
  EXPECT_NEAR(many.network_ms, 2 * 58 * 3 * 32 * 8 * 7168 / 40e6, 1e-9);
  Hardware slow = *find_hardware("h800");
  ASSERT_TRUE(slow.set("fp8_tflops", 1).ok());
  EXPECT_EQ(step_of(v3_decode(), slow).limit(), "compute");
  // Twice the NIC halves the network's part and nothing else.
  Hardware fast = *find_hardware("h800");
  ASSERT_TRUE(fast.set("nic_effective_gbps", 80).ok());
  EXPECT_EQ(step_of(v3_decode(), fast).network_ms, many.network_ms / 2);
  EXPECT_EQ(step_of(v3_decode(), fast).memory_ms, many.memory_ms);
  // In one node the rate is NVLink's.
  s = v3_decode();
  s.gpus = 8;
  s.redundant_experts = 0;
  EXPECT_NEAR(step_of(s).network_ms, many.network_ms / 4, 1e-9);
}

TEST(Decode, FormatsChangeWhatTheyTouch) {
  const DecodeStep base = step_of(v3_decode());
  PlanSettings::Serving s = v3_decode();
  s.kv = "fp8";
  EXPECT_EQ(serving_kv_bytes(v3().config, s), 656 * 61);  // FlashMLA
  EXPECT_LT(step_of(s).memory_ms, base.memory_ms);
  EXPECT_EQ(step_of(s).network_ms, base.network_ms);
  s = v3_decode();
  s.weights = "fp4";
  EXPECT_NEAR(step_of(s).weight_bytes, (base.weight_bytes - 3.7e9) * 4.25 / 8 + 3.7e9, 0.02e9);
  s = v3_decode();
  s.combine = "logfmt10";
  EXPECT_NEAR(step_of(s).network_ms / base.network_ms, (1 + 9184.0 / 7168) / 3, 1e-12);
  s.combine = "logfmt8";
  EXPECT_NEAR(step_of(s).network_ms / base.network_ms, (1 + 1 + 1.0 / 32) / 3, 1e-12);
  s = v3_decode();
  s.in_network = true;
  EXPECT_NEAR(step_of(s).network_ms, base.network_ms / 8, 1e-9);
  s = v3_decode();
  s.dispatch_us = 34.6;
  s.combine_us = 5.7;
  EXPECT_NEAR(step_of(s).network_ms - base.network_ms, 2 * 58 * 40.3e-3, 1e-9);
}

TEST(Decode, DraftsCarryTwoPositionsAndOneMoreLayer) {
  const DecodeStep base = step_of(v3_decode());
  PlanSettings::Serving s = v3_decode();
  s.mtp_acceptance = 0.85;
  const DecodeStep drafts = step_of(s);
  EXPECT_EQ(drafts.tokens_per_sequence, 1.85);
  EXPECT_NEAR(drafts.network_ms / base.network_ms, 2 * 59.0 / 58, 1e-12);
  EXPECT_NEAR(drafts.tpot_ms(), drafts.most_ms() / 1.85, 1e-12);
  EXPECT_GT(drafts.weight_bytes, base.weight_bytes);
  EXPECT_NEAR(drafts.sequence_bytes / base.sequence_bytes, 62.0 / 61, 1e-12);
  const CountedModel without(paper_input().v2);
  s.redundant_experts = 128;
  EXPECT_NE(decode_step(without, *find_hardware("h800"), s).error().text.find("num_nextn_predict_layers"),
            std::string::npos);
}

TEST(Decode, LinearLayersHoldAStateInsteadOfACache) {
  PlanSettings::Serving s = v3_decode();
  const double all = decode_flops(v3(), s);
  s.full_attention_every = 4;
  EXPECT_EQ(serving_kv_bytes(v3().config, s), 16 * 1152);
  EXPECT_EQ(linear_state_bytes(v3().config, s), 45 * 4.0 * 128 * 128 * 128);
  EXPECT_LT(decode_flops(v3(), s), all);
  s.full_attention_every = 1;
  EXPECT_EQ(linear_state_bytes(v3().config, s), 0);
  // Absorbed attention: 2176 FLOPs per query, key and head.
  s.context = 5096;
  EXPECT_EQ(decode_flops(v3(), s) - all, 61.0 * 128 * 2176 * 1000);
}

TEST(Decode, WhatDoesNotFitSaysWhatWould) {
  PlanSettings::Serving s = v3_decode();
  s.gpus = 64;
  s.redundant_experts = 0;
  s.batch = 1000;
  const Hardware h = *find_hardware("h800");
  EXPECT_EQ(check_fits(step_of(s), h, s).error().text.rfind("serving: 1000 sequences of 4096 tokens do not fit", 0),
            0u);
  s.gpus = 1;
  EXPECT_EQ(check_fits(step_of(s), h, s).error().text,
            "serving: the weights of one GPU are 672.9 GB, more than the 80 GB of h800; spread them over more GPUs");
  s.gpus = 144;
  EXPECT_FALSE(decode_step(v3(), h, s).ok());
}

}  // namespace
}  // namespace fathom
