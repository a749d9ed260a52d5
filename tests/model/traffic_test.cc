// What a step must read and multiply, against counts by hand.
#include "model/traffic.h"

#include <gtest/gtest.h>

#include "base/rng.h"
#include "model/test_models.h"

namespace fathom {
namespace {

TEST(Traffic, CountsWhatADecodeStepReads) {
  const ModelConfig c = testing::awkward_config();
  const auto model = make_model(c, DType::kF32, false);
  const ModelTraffic traffic = traffic_of(*model);
  const int64_t d = c.hidden_size, heads = c.num_attention_heads;
  const int64_t attention = c.q_lora_rank * d + heads * c.qk_head_dim() * c.q_lora_rank + c.latent_width() * d +
                            heads * (c.qk_nope_head_dim + c.v_head_dim) * c.kv_lora_rank + d * heads * c.v_head_dim;
  const int64_t norms = 2 * d + c.q_lora_rank + c.kv_lora_rank;
  const int64_t expert = 3 * c.moe_intermediate_size * d;
  const int64_t moe_layers = c.num_hidden_layers - 1;
  const int64_t macs = c.num_hidden_layers * attention + 3 * c.intermediate_size * d +
                       moe_layers * (c.n_routed_experts * d + (c.n_shared_experts + c.num_experts_per_tok) * expert);
  EXPECT_EQ(traffic.macs_per_token, macs);
  EXPECT_EQ(traffic.head_macs, c.vocab_size * d);
  EXPECT_EQ(traffic.routed_expert_bytes, 4 * moe_layers * c.n_routed_experts * expert);
  const int64_t vectors = c.num_hidden_layers * norms + d + moe_layers * c.n_routed_experts;  // with the router bias
  EXPECT_EQ(traffic.step_bytes, 4 * (macs - moe_layers * c.num_experts_per_tok * expert + c.vocab_size * d + vectors));
  EXPECT_EQ(traffic.embedding_row_bytes, 4 * d);

  // One token reads exactly the experts it chose; ten tokens of cache in BF16.
  const int64_t chosen = 4 * moe_layers * c.num_experts_per_tok * expert;
  EXPECT_DOUBLE_EQ(
      decode_step_bytes(traffic, 1, 10, kv_cache_bytes_per_token(c, DType::kBF16)),
      static_cast<double>(traffic.step_bytes + chosen + 4 * d + 10 * 2 * c.num_hidden_layers * c.latent_width()));
  const int64_t asking =
      attention - c.latent_width() * d - c.num_attention_heads * (c.qk_nope_head_dim + c.v_head_dim) * c.kv_lora_rank;
  const int64_t last_layer = asking + c.n_routed_experts * d + (c.n_shared_experts + c.num_experts_per_tok) * expert;
  EXPECT_DOUBLE_EQ(prompt_operations(traffic, 7),
                   2.0 * static_cast<double>(7 * macs - 6 * last_layer + c.vocab_size * d));
}

TEST(Traffic, LeavesMtpModulesOut) {
  ModelConfig c = testing::awkward_config();
  const ModelTraffic without = traffic_of(*make_model(c, DType::kF32, false));
  c.num_nextn_predict_layers = 1;
  const ModelTraffic with = traffic_of(*make_model(c, DType::kF32, false));
  EXPECT_EQ(with.step_bytes, without.step_bytes);
  EXPECT_EQ(with.routed_expert_bytes, without.routed_expert_bytes);
  EXPECT_EQ(with.macs_per_token, without.macs_per_token);
}

TEST(Traffic, GuessingReadsTheModuleAndMoreExperts) {
  ModelConfig c = testing::awkward_config();
  const ModelTraffic without = traffic_of(*make_model(c, DType::kF32, false));
  EXPECT_EQ(without.guess_bytes, 0);
  c.num_nextn_predict_layers = 2;  // only the first one guesses
  const ModelTraffic traffic = traffic_of(*make_model(c, DType::kF32, false));
  const int64_t d = c.hidden_size, expert = 3 * c.moe_intermediate_size * d;
  // A block is as large as the last one of the model: the share of a model with one layer more.
  ModelConfig deeper = c;
  ++deeper.num_hidden_layers;
  const int64_t block = traffic_of(*make_model(deeper, DType::kF32, false)).step_bytes - traffic.step_bytes;
  const int64_t own = 4 * (2 * d * d + 3 * d);  // eh_proj, enorm, hnorm, shared_head.norm
  const int64_t head = 4 * c.vocab_size * d;
  EXPECT_EQ(traffic.guess_bytes, block + own + head + 4 * c.num_experts_per_tok * expert);

  const double step = decode_step_bytes(traffic, 1, 0, 0);
  const auto experts = static_cast<double>(c.n_routed_experts), chosen = static_cast<double>(c.num_experts_per_tok);
  const GuessCost mtp = guess_cost(traffic, 1, true);
  EXPECT_DOUBLE_EQ(mtp.guess, static_cast<double>(traffic.guess_bytes) / step);
  // Of the second token's experts the share chosen / experts was chosen by the first one already.
  const double expert_bytes = 4 * static_cast<double>((c.num_hidden_layers - 1) * expert);
  EXPECT_NEAR(mtp.rows, chosen * (1 - chosen / experts) * expert_bytes / step, 1e-12);
  const GuessCost lookup = guess_cost(traffic, 1, false);
  EXPECT_EQ(lookup.guess, 0);
  EXPECT_EQ(lookup.rows, mtp.rows);
  EXPECT_EQ(guess_cost(traffic, 0, true).guess, 0);
}

TEST(Traffic, ATiedHeadIsReadWhole) {
  ModelConfig c = testing::awkward_config();
  const ModelTraffic apart = traffic_of(*make_model(c, DType::kF32, false));
  c.tie_word_embeddings = true;
  const ModelTraffic tied = traffic_of(*make_model(c, DType::kF32, false));
  EXPECT_EQ(tied.step_bytes, apart.step_bytes);
  EXPECT_EQ(tied.embedding_row_bytes, apart.embedding_row_bytes);
  EXPECT_EQ(tied.head_macs, apart.head_macs);
}

TEST(Traffic, ADenseModelHasNoExperts) {
  ModelConfig c = testing::awkward_config();
  c.n_routed_experts = 0;
  c.n_shared_experts = 0;
  const ModelTraffic traffic = traffic_of(*make_model(c, DType::kF32, false));
  EXPECT_EQ(traffic.routed_expert_bytes, 0);
  EXPECT_DOUBLE_EQ(decode_step_bytes(traffic, 3, 0, 2),
                   static_cast<double>(traffic.step_bytes + 3 * traffic.embedding_row_bytes));
}

// The formula against draws without replacement.
TEST(Traffic, ExpectedExpertsAreThoseOfRandomChoices) {
  EXPECT_EQ(expected_experts(0, 0, 5), 0);
  EXPECT_DOUBLE_EQ(expected_experts(64, 6, 1), 6);
  EXPECT_DOUBLE_EQ(expected_experts(8, 8, 3), 8);
  constexpr int kExperts = 64, kChosen = 6, kTokens = 16, kTrials = 2000;
  const Rng rng(1, stream_of("experts"));
  double sum = 0;
  uint64_t draw = 0;
  for (int trial = 0; trial < kTrials; ++trial) {
    bool touched[kExperts] = {};
    for (int t = 0; t < kTokens; ++t) {
      int order[kExperts];
      for (int e = 0; e < kExperts; ++e) order[e] = e;
      for (int k = 0; k < kChosen; ++k) {
        std::swap(order[k], order[k + static_cast<int>(rng.below(draw++, static_cast<uint64_t>(kExperts - k)))]);
        touched[order[k]] = true;
      }
    }
    for (bool t : touched) sum += t;
  }
  // The standard deviation of one trial is below 3.
  EXPECT_NEAR(expected_experts(kExperts, kChosen, kTokens), sum / kTrials, 5 * 3.0 / std::sqrt(double(kTrials)));
}

}  // namespace
}  // namespace fathom
