// Decode: what bounds a step, and what each format and feature changes of it.
#include "plan/decode.h"

#include <gtest/gtest.h>

#include <cmath>

#include "model/test_models.h"
#include "model/traffic.h"
#include "plan/counted_v3.h"
#include "plan/expert_traffic.h"
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

constexpr double kBytes = 1 + 1 / 32.0 + 2;  // of a number there in FP8 with its scale, and back in BF16

DecodeStep step_of(const PlanSettings::Serving& s, const Hardware& h = *find_hardware("h800")) {
  const auto step = decode_step(v3(), h, s);
  EXPECT_TRUE(step.ok()) << (step ? "" : step.error().text);
  return step ? *step : DecodeStep{};
}

TEST(Decode, IsBoundByWhatIsScarce) {
  PlanSettings::Serving s = v3_decode();
  s.batch = 1;
  const DecodeStep one = step_of(s);
  EXPECT_EQ(one.limit(), "HBM bandwidth");
  EXPECT_NEAR(one.memory_ms, (one.read_bytes + 4096 * 70272.0) / 3350e6, 1e-9);
  const DecodeStep many = step_of(v3_decode());
  EXPECT_EQ(many.limit(), "scale-out network");
  // Half the batch in each of two micro-batches, 58 layers with experts, 40 GB/s; of 8 copies 8 / 144 stay in the node.
  EXPECT_NEAR(many.network_ms, 2 * 58 * kBytes * 32 * 8 * (1 - 8 / 144.0) * 7168 / 40e6, 1e-9);
  Hardware slow = *find_hardware("h800");
  ASSERT_TRUE(slow.set("fp8_tflops", 1).ok());
  EXPECT_EQ(step_of(v3_decode(), slow).limit(), "compute");
  Hardware bare = *find_hardware("h800");
  ASSERT_TRUE(bare.set("scale_up_effective_gbps", 0.1).ok());
  EXPECT_EQ(step_of(v3_decode(), bare).limit(), "scale-up network");
  PlanSettings::Serving late = v3_decode();
  late.dispatch_us = 1000;
  EXPECT_EQ(step_of(late).limit(), "network latency");
  // Twice the NIC halves the network's part and nothing else.
  Hardware fast = *find_hardware("h800");
  ASSERT_TRUE(fast.set("nic_effective_gbps", 80).ok());
  EXPECT_EQ(step_of(v3_decode(), fast).network_ms, many.network_ms / 2);
  EXPECT_EQ(step_of(v3_decode(), fast).memory_ms, many.memory_ms);
  // In one node the rate is NVLink's, and the own GPU's copies cross nothing.
  s = v3_decode();
  s.gpus = 8;
  s.redundant_experts = 0;
  EXPECT_NEAR(step_of(s).network_ms, 2 * 58 * kBytes * 32 * 8 * (7 / 8.0) * 7168 / 160e6, 1e-9);
}

// The link to the host carries the sequences that HBM has no room for, and where it is the GPU's one port the NIC's
// bytes.
TEST(Decode, TheHostsLinkIsAResource) {
  PlanSettings::Serving s = v3_decode();
  s.host_gbps = 63;
  EXPECT_EQ(step_of(s).host_ms, 0) << "no pool of a known size";
  s.host_shares_nic = true;
  const DecodeStep shared = step_of(s);
  EXPECT_NEAR(shared.host_ms, shared.network_ms * 40 / 63, 1e-9) << "the same bytes, over a faster link";
  s.combine = "logfmt10";
  EXPECT_LT(step_of(s).host_ms, shared.host_ms);
  EXPECT_NEAR(step_of(s).host_ms, shared.host_ms * (1 + 1 / 32.0 + 9184.0 / 7168) / kBytes, 1e-9)
      << "bytes alone: the codec takes no time of this link";
  s = v3_decode();
  s.host_gbps = 63;
  s.host_gb = 256;
  s.batch = 400;
  const DecodeStep full = step_of(s);
  EXPECT_TRUE(full.holds(400));
  EXPECT_EQ(full.limit(), "host link");
  EXPECT_EQ(full.tpot_ms(), full.host_ms);
  s.host_gbps = 0;
  EXPECT_FALSE(step_of(s).holds(400)) << "no link, no pool";
  s.host_gbps = 1e-7;
  EXPECT_NE(decode_step(v3(), *find_hardware("h800"), s).error().text.find("serving.host_gbps"), std::string::npos);
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
  EXPECT_NEAR(step_of(s).weight_bytes, (base.weight_bytes - 3.92e9) * 4.25 / 8 + 3.92e9, 0.02e9);
  s = v3_decode();
  // The codec's time is of the transfer that carries LogFMT, half of it where nothing is said.
  for (const double overhead : {0.5, 0.0, 1.0}) {
    s.codec_overhead = overhead;
    s.combine = "logfmt10";
    EXPECT_NEAR(step_of(s).network_ms / base.network_ms, (1 + 1 / 32.0 + (1 + overhead) * 9184.0 / 7168) / kBytes,
                1e-12);
    s.combine = "logfmt8";
    EXPECT_NEAR(step_of(s).network_ms / base.network_ms, (1 + (1 + overhead)) * (1 + 1 / 32.0) / kBytes, 1e-12);
  }
  EXPECT_EQ(PlanSettings::Serving().codec_overhead, 0.5);
  s = v3_decode();
  s.combine = "fp8";
  EXPECT_NEAR(step_of(s).network_ms / base.network_ms, (2 + 2 / 32.0) / kBytes, 1e-12);
  s = v3_decode();
  s.dispatch_us = 34.6;
  s.combine_us = 5.7;
  EXPECT_NEAR(step_of(s).network_ms - base.network_ms, 2 * 58 * 40.3e-3, 1e-9);
}

// Only what must be read: of V3 on 16 GPUs (16 experts each), one token of each sequence.
TEST(Decode, AFewTokensReadAFewExperts) {
  PlanSettings::Serving s;
  s.gpus = 16;
  const double expert = 3.0 * 7168 * 2048, row = 2 * 7168, head = 2 * (129280.0 * 7168 + 7168);
  const DecodeStep one = step_of(s);
  const double hit = 256 * (1 - std::pow(1 - 8 / 256.0, 16)) / 16;
  EXPECT_NEAR(one.weight_bytes - one.read_bytes, 58 * expert * (16 - hit) + 129280.0 * row - row, 1e3);
  // A token that has the group for itself reads the experts that it goes to, on whatever GPU they lie.
  s.gpus = 1;
  const DecodeStep alone = step_of(s, [] {
    Hardware big = *find_hardware("h800");
    EXPECT_TRUE(big.set("memory_gb", 1000).ok());
    return big;
  }());
  const double dense = 2 * 36.625e9 / 2 - 58 * 8 * expert - head / 2;  // active parameters but experts and head
  EXPECT_NEAR(alone.read_bytes, dense + 58 * 8 * expert + head + row, 0.01 * alone.read_bytes);
  EXPECT_LT(alone.read_bytes, alone.weight_bytes / 15);
  // With many tokens every expert is read, and of the embedding still the rows alone.
  const DecodeStep many = step_of(v3_decode());
  EXPECT_NEAR(many.weight_bytes - many.read_bytes, (129280.0 - 64) * row, 1e3);
}

// What the machine at hand is said to read, and what a GPU is: the same count of tensors and experts.
TEST(Decode, ReadsWhatTheTrafficOfAModelSays) {
  for (const int64_t tokens : {1, 3, 20}) {
    const ModelConfig c = testing::awkward_config();
    const LayerElements elements = count_elements(c);
    const double n = static_cast<double>(tokens), rows = n * static_cast<double>(c.hidden_size);
    double kept = 0;  // of the layers, in BF16
    for (int64_t layer = 0; layer < c.num_hidden_layers; ++layer) {
      kept += elements.layers[static_cast<size_t>(layer)].kept;
    }
    const double as_f32 = *serving_read_bytes(c, elements, 1, 0, 4, false, n, n) + 2 * (elements.head + rows + kept);
    EXPECT_NEAR(as_f32, decode_step_bytes(traffic_of(*make_model(c, DType::kF32, false)), tokens, 0, 0), 1e-6 * as_f32);
  }
}

// A switch that multiplies tokens saves what is sent; a GPU receives as before, but for experts that share a GPU.
TEST(Decode, MulticastDoesNotSaveWhatIsReceived) {
  const Hardware h = *find_hardware("h800");
  PlanSettings::Serving s = v3_decode();
  const TokenCopies alone = token_copies(v3(), h, s);
  EXPECT_NEAR(alone.nic, 8 * (1 - 8 / 144.0), 1e-12);
  EXPECT_NEAR(alone.nvlink, 8 * 7 / 144.0, 1e-12);
  const double before = step_of(s).network_ms;
  s.in_network = true;
  const double distinct = destinations_of(v3().gate, 144, 8).gpus;
  EXPECT_GT(distinct, 6.5);
  EXPECT_NEAR(step_of(s).network_ms / before, distinct / 8, 1e-12);
}

// No bound lies above a slower estimate of the same, wherever most copies stay in the node.
TEST(Decode, TheBoundIsBelowDeepEpsLine) {
  for (const int64_t gpus : {16, 32, 64, 128, 256}) {
    PlanSettings::Serving s;
    s.gpus = gpus;
    s.batch = 128;
    const double bound = step_of(s).network_ms, ranks = static_cast<double>(gpus);
    const double us = fit_dispatch().latency_us(low_latency_bytes(64, 8, 7392, ranks)) +
                      fit_combine().latency_us(low_latency_bytes(64, 8, 14336, ranks));
    EXPECT_LE(bound, 2 * 58 * us / 1e3) << gpus;
  }
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

// A token changes all of a linear layer's state: it is read and written back, where a cache is read alone.
TEST(Decode, LinearStatesCrossTheMemoryTwice) {
  PlanSettings::Serving s = v3_decode();
  s.full_attention_every = 4;
  for (const int64_t context : {4096, 8192}) {
    s.context = context;
    const double cache = 16 * 1152.0 * static_cast<double>(context), states = 45 * 4.0 * 128 * 128 * 128;
    EXPECT_NEAR(step_of(s).memory_ms, (step_of(s).read_bytes + 64 * (cache + 2 * states)) / 3350e6, 1e-9);
    EXPECT_EQ(step_of(s).sequence_bytes, cache + states) << "it is held once";
  }
  EXPECT_NEAR(step_of(s).memory_ms, 23.9, 0.1);
  s.context = 4096;
  EXPECT_NEAR(step_of(s).memory_ms, 22.5, 0.1);
  // A linear layer saves 1152 B a token and adds twice 8.4 MB: it pays from 14,564 tokens on.
  for (const auto& [context, pays] : {std::pair{int64_t{14500}, false}, {int64_t{14600}, true}}) {
    s.context = context;
    PlanSettings::Serving all = s;
    all.full_attention_every = 1;
    s.batch = all.batch = 16;
    EXPECT_EQ(step_of(s).memory_ms < step_of(all).memory_ms, pays) << context;
  }
}

TEST(Decode, WhatDoesNotFitSaysWhatWould) {
  PlanSettings::Serving s = v3_decode();
  s.gpus = 64;
  s.redundant_experts = 0;
  s.batch = 1000;
  const Hardware h = *find_hardware("h800");
  EXPECT_EQ(
      check_fits(v3(), step_of(s), h, s).error().text.rfind("serving: 1000 sequences of 4096 tokens do not fit", 0),
      0u);
  // The same number however many were asked for, also where the buffers of so many are larger than the memory.
  PlanSettings::Serving many = v3_decode();
  for (const int64_t batch : {189, 192, 1000, 100000}) {
    many.batch = batch;
    const Status fits = check_fits(v3(), step_of(many), h, many);
    ASSERT_FALSE(fits) << batch;
    EXPECT_EQ(fits.error().text,
              "serving: " + std::to_string(batch) +
                  " sequences of 4096 tokens do not fit beside the weights and their buffers; at most 188");
  }
  many.batch = most_sequences(v3(), h, many);
  EXPECT_EQ(many.batch, 188);
  EXPECT_TRUE(check_fits(v3(), step_of(many), h, many));
  s.gpus = 1;
  EXPECT_EQ(check_fits(v3(), step_of(s), h, s).error().text,
            "serving: the weights of one GPU are 673 GB, more than the 80 GB of h800; spread them over more GPUs");
  s.gpus = 144;
  EXPECT_FALSE(decode_step(v3(), h, s).ok());
}

}  // namespace
}  // namespace fathom
