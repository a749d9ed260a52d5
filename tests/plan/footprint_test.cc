// Footprint: FLOPs in both conventions, bytes per rank against counts by hand, layouts that do not divide.
#include "plan/footprint.h"

#include <gtest/gtest.h>

#include "model/tensor_plan.h"
#include "plan/paper.h"

namespace fathom {
namespace {

TEST(Footprint, BothConventionsOfTheTable) {
  const PaperInput in = paper_input();
  EXPECT_NEAR(training_flops(in.v3, 4096).matrices / 1e9, 219.7, 0.1);
  EXPECT_NEAR(training_flops(in.v3, 4096).causal_attention / 1e9, 30.7, 0.05);
  EXPECT_NEAR(training_flops(in.v3, 4096).full() / 1e9, 281.2, 0.1);
  EXPECT_NEAR(dense_training_flops(in.llama) / 1e9, 2447.85, 0.01);
  EXPECT_EQ(training_flops(in.v3, 8192).causal_attention, 2 * training_flops(in.v3, 4096).causal_attention);
}

TEST(Footprint, OneRankHoldsEverything) {
  const ModelConfig c = paper_input().v3;
  const auto bytes = training_bytes(c, {.micro_batch_tokens = 1});
  ASSERT_TRUE(bytes.ok());
  const ParameterCount count = count_parameters(c);
  const double parameters = static_cast<double>(count.total + count.mtp);
  EXPECT_EQ(bytes->weights, 2 * parameters);
  EXPECT_EQ(bytes->gradients, 4 * parameters);
  EXPECT_EQ(bytes->optimizer, 8 * parameters);
  double saved = 0;
  for (int64_t layer = 0; layer < 62; ++layer) saved += saved_bytes_per_token(c, layer);
  EXPECT_EQ(bytes->activations, saved + 4 * 129280.0);  // logits
}

TEST(Footprint, SavedBytesOfAV3LayerByHand) {
  const ModelConfig c = paper_input().v3;
  const double attention = 14336 + 3072 + 1152 + 24576 + 512;
  EXPECT_EQ(saved_bytes_per_token(c, 0), attention + 14336 + 7168 + 2 * 18432);
  EXPECT_EQ(saved_bytes_per_token(c, 3), attention + 14336 + 1024 + 8 * (7168 + 4096) + 7168 + 4096);
}

TEST(Footprint, TheV3RunFitsItsGpus) {
  const TrainingLayout layout{
      .pipeline = 16, .expert = 64, .data = 128, .schedule = "dualpipe", .num_micro_batches = 120};
  EXPECT_EQ(layout.num_gpus(), 2048);
  const auto bytes = training_bytes(paper_input().v3, layout);
  ASSERT_TRUE(bytes.ok());
  EXPECT_LT(bytes->total(), 80e9);
  EXPECT_GT(bytes->total(), 40e9);
  // DualPipe holds two stages: twice the weights of 1F1B, P + 1 instead of P activations.
  TrainingLayout one = layout;
  one.schedule = "1f1b";
  const auto single = training_bytes(paper_input().v3, one);
  ASSERT_TRUE(single.ok());
  EXPECT_GT(bytes->weights, 1.8 * single->weights);
  // The last stage has the logits of its tokens.
  TrainingLayout half = one;
  half.micro_batch_tokens = 2048;
  const auto ranks = [&](const TrainingLayout& l) {
    const ModelConfig c = paper_input().v3;
    return *training_bytes_by_rank(c, count_elements(c), *make_schedule("1f1b", 16, 120), l);
  };
  EXPECT_EQ(logit_bytes(paper_input().v3, 4096), 4 * 4096.0 * 129280);
  // Two copies of each stage: DualPipe's rank 0 holds stages 0 and 15, and half of their optimizer.
  const auto two = *training_bytes_by_rank(paper_input().v3, count_elements(paper_input().v3),
                                           *make_schedule("dualpipe", 16, 120), layout);
  EXPECT_NEAR(two[0].weights, ranks(one)[0].weights + ranks(one)[15].weights, 1);
  EXPECT_NEAR(two[0].optimizer, (ranks(one)[0].optimizer + ranks(one)[15].optimizer) / 2, 1);
  const double tail = ranks(one).back().activations - ranks(half).back().activations;
  double layers = 0;
  for (int64_t layer = 58; layer < 62; ++layer) layers += saved_bytes_per_token(paper_input().v3, layer);
  EXPECT_NEAR(tail, 2048 * layers + logit_bytes(paper_input().v3, 2048), 1);
  // Without expert parallelism it does not fit.
  TrainingLayout none = layout;
  none.expert = 1;
  EXPECT_GT(training_bytes(paper_input().v3, none)->total(), 80e9);
}

TEST(Footprint, ServingWeightsOfADecodeGpu) {
  // 2 routed experts and 1 shared of 44.04 MB in 58 layers, attention 11.4 GB, dense 1.2 GB, embedding and head 3.7 GB.
  const auto bytes = serving_weight_bytes(paper_input().v3, 144, 32);
  ASSERT_TRUE(bytes.ok());
  EXPECT_NEAR(*bytes / 1e9, 24.1, 0.2);
  EXPECT_NEAR(*serving_weight_bytes(paper_input().v3, 1, 0) / 1e9, 671.03 + 1.85 + 0.107,
              0.05);  // two matrices, gates and norms in BF16
  EXPECT_EQ(serving_weight_bytes(paper_input().v3, 144, 0).error().text,
            "serving: 256 routed experts do not spread evenly over 144 ranks; possible with 32 redundant experts");
  EXPECT_FALSE(serving_weight_bytes(paper_input().v3, 0, 0).ok());
}

// The rank's buffers: two streams of 8 copies of 4096 tokens, and four boundaries.
TEST(Footprint, CommunicationBuffers) {
  const ModelConfig c = paper_input().v3;
  const TrainingLayout layout{.pipeline = 16, .expert = 64, .data = 128, .schedule = "1f1b", .num_micro_batches = 16};
  const double token = 4096.0 * 7168;
  EXPECT_EQ(training_buffer_bytes(c, layout), 2 * token * 8 * (3 + 1.0 / 32) + 8 * token);
  EXPECT_EQ(training_bytes(c, layout)->buffers, training_buffer_bytes(c, layout));
  EXPECT_EQ(training_buffer_bytes(c, {.pipeline = 1, .expert = 1}), 0);
  // DeepEP with 128 tokens and 256 experts: 1.908 GB.
  EXPECT_NEAR(low_latency_buffer_bytes(128, 256, 7168) / 1e9, 1.908, 0.001);
}

TEST(Footprint, LayersOfStagesAreEven) {
  EXPECT_EQ(layers_of_stages(7, 3), (std::vector<int64_t>{3, 2, 2}));
  EXPECT_EQ(layers_of_stages(4, 4), (std::vector<int64_t>{1, 1, 1, 1}));
}

TEST(Footprint, LayoutsThatDoNotDivideSayWhatDoes) {
  const ModelConfig c = paper_input().v3;
  const auto error = [&](const TrainingLayout& layout) {
    const auto bytes = training_bytes(c, layout);
    return bytes ? "" : bytes.error().text;
  };
  EXPECT_EQ(error({.expert = 48, .data = 96}),
            "layout: expert 48 does not divide the 256 routed experts; possible: 32");
  EXPECT_EQ(error({.expert = 64, .data = 96}), "layout: expert 64 does not divide data 96; possible: 32");
  EXPECT_EQ(error({.expert = 32, .data = 96}), "");
  EXPECT_EQ(error({.expert = 48, .data = 192}),
            "layout: expert 48 does not divide the 256 routed experts; possible: 32 or 64");
  EXPECT_EQ(error({.expert = 64, .data = 100}), "layout: expert 64 does not divide data 100; possible: 4");
  EXPECT_EQ(error({.pipeline = 64, .num_micro_batches = 200}),
            "layout: 64 pipeline stages for 61 layers; accepted: at most one stage a layer");
  EXPECT_EQ(error({.pipeline = 15, .schedule = "dualpipe", .num_micro_batches = 30}).rfind("dualpipe: 15 ranks; ", 0),
            0u);
  EXPECT_EQ(error({.data = -2}), "layout: data is -2; accepted: 1 to 1048576");
}

// A checkpoint in FP8 has gates, norms and MTP's eh_proj in BF16.
TEST(Footprint, WhatFp8LeavesOutTakesTwoBytes) {
  const ModelConfig c = paper_input().v3;
  const LayerElements e = count_elements(c);
  const double norms = 2 * 7168 + 1536 + 512, gate = 256 * 7168 + 256;
  EXPECT_EQ(e.layers[0].kept, norms);
  EXPECT_EQ(e.layers[3].kept, norms + gate);
  EXPECT_EQ(e.layers[61].kept, norms + gate + 3 * 7168 + 2 * 7168 * 7168.0);
  const double without = *serving_weight_bytes(c, e, 144, 32, 1, false);
  EXPECT_NEAR(*serving_weight_bytes(c, e, 144, 32, 1, true) - without,
              e.layers[61].other + e.layers[61].kept + 2 * e.layers[61].expert / 256, 1);
  // FP4 matrices: the rest stays.
  EXPECT_NEAR(without - *serving_weight_bytes(c, e, 144, 32, 0.5, false),
              0.5 * (without - 2 * (e.embedding + e.head + 61 * norms + 58 * gate)), 1);
}

}  // namespace
}  // namespace fathom
