// A training run small enough for every test: a model of a few thousand parameters and shards of patterned documents.
#pragma once

#include <gtest/gtest.h>

#include <bit>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "../shared_data.h"
#include "base/rng.h"
#include "kernels/registry.h"
#include "train/shard.h"
#include "train/trainer.h"

namespace fathom::testing {

inline constexpr int64_t kTinyVocab = 32;

/// Documents of 5 to 24 tokens; each counts up from a random start with a random step, so that there is a rule to
/// learn.
inline std::string write_tiny_shard(const Path& path, int num_documents, uint64_t seed) {
  ShardWriter writer(kTinyVocab, 7, false);
  SequentialRng rng(seed, stream_of("tiny shard"));
  for (int d = 0; d < num_documents; ++d) {
    std::vector<int32_t> tokens;
    const int64_t length = rng.between(5, 24), stride = rng.between(1, 3);
    for (int64_t token = rng.between(0, kTinyVocab - 1); std::ssize(tokens) < length; token += stride) {
      tokens.push_back(static_cast<int32_t>(token % kTinyVocab));
    }
    EXPECT_TRUE(writer.add_document(tokens, {}, 3 * length));
  }
  EXPECT_TRUE(writer.write(path));
  return path.string();
}

/// Two layers (one MoE) and an MTP module, 4 experts; 2 slots of 2 sequences of 16 tokens.
inline TrainConfig tiny_config(const Path& shard) {
  TrainConfig config = *preset_config("pico");
  ModelConfig& m = config.shape;
  m.vocab_size = kTinyVocab;
  m.hidden_size = 16;
  m.num_hidden_layers = 2;
  m.intermediate_size = 24;
  m.moe_intermediate_size = 8;
  m.n_routed_experts = 4;
  m.num_attention_heads = 2;
  m.q_lora_rank = m.kv_lora_rank = 8;
  m.qk_nope_head_dim = m.qk_rope_head_dim = 4;
  m.v_head_dim = 6;
  m.initializer_range = 0.2;
  config.train_shards = {shard.string()};
  config.num_steps = 40;
  config.sequence_length = 16;
  config.sequences_per_slot = 2;
  config.precision = "f32";
  config.learning_rate.peak = 1e-2;
  config.learning_rate.warmup_steps = 4;
  config.checkpoint_every = 5;
  return config;
}

/// A trainer with its kernels and threads.
struct TinyRun {
  explicit TinyRun(const TrainConfig& config, int num_threads = 1) : pool(std::make_unique<ThreadPool>(num_threads)) {
    auto made = make_kernels(available_kernels().back(), *pool);
    EXPECT_TRUE(made);
    kernels = *std::move(made);
    auto created = Trainer::create(config, *kernels, *pool);
    EXPECT_TRUE(created) << created.error().text;
    if (created) trainer = *std::move(created);
  }
  std::unique_ptr<ThreadPool> pool;
  std::unique_ptr<Kernels> kernels;
  std::unique_ptr<Trainer> trainer;
};

/// The error of creating a trainer; empty when it works.
inline std::string create_error(const TrainConfig& config) {
  ThreadPool pool(1);
  const auto kernels = make_kernels(available_kernels().back(), pool);
  const auto trainer = Trainer::create(config, **kernels, pool);
  return trainer ? std::string() : trainer.error().text;
}

/// Everything about a step that must be equal as bits.
struct StepBits {
  uint64_t main, mtp, balance, total, norm;
  bool operator==(const StepBits&) const = default;
};
inline StepBits bits_of(const StepReport& r) {
  const auto bits = [](double v) { return std::bit_cast<uint64_t>(v); };
  return {bits(r.loss.main), bits(r.loss.mtp), bits(r.loss.balance), bits(r.loss.total), bits(r.gradient_norm)};
}

inline std::vector<StepBits> take_steps(Trainer& trainer, int count) {
  std::vector<StepBits> out;
  for (int i = 0; i < count; ++i) {
    const auto report = trainer.step();
    EXPECT_TRUE(report) << report.error().text;
    if (!report) break;
    out.push_back(bits_of(*report));
  }
  return out;
}

/// All masters and moments as one string of bytes.
inline std::string state_bytes(const Parameters& parameters) {
  std::string out;
  for (const Parameters::Entry& entry : parameters.entries()) {
    for (const Tensor& t : {entry.master, entry.first_moment, entry.second_moment}) {
      if (t) out.append(static_cast<const char*>(t.data), static_cast<size_t>(t.num_bytes()));
    }
  }
  return out;
}

}  // namespace fathom::testing
