// The training loop: it learns, its bits do not depend on threads, it stops and refuses cleanly.
#include "train/trainer.h"

#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>

#include "tiny_run.h"

namespace fathom {
namespace {

using testing::bits_of;
using testing::create_error;
using testing::StepBits;
using testing::take_steps;
using testing::TemporaryDirectory;
using testing::tiny_config;
using testing::TinyRun;
using testing::write_tiny_shard;

TEST(Trainer, OverfitsOneBatch) {
  const TemporaryDirectory dir;
  ShardWriter writer(testing::kTinyVocab, 7, false);
  const std::vector<int32_t> document = {3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9, 7, 9, 3};
  ASSERT_TRUE(writer.add_document(document, {}, 16));
  ASSERT_TRUE(writer.write(dir.path() / "one.shard"));
  TrainConfig config = tiny_config(dir.path() / "one.shard");
  config.num_steps = 300;
  config.sequences_per_slot = config.slots_per_step = 1;
  config.weight_decay = 0;
  TinyRun run(config);
  double first = 0, main = 1, mtp = 1;
  for (int64_t s = 0; s < config.num_steps; ++s) {
    const auto report = run.trainer->step();
    ASSERT_TRUE(report) << report.error().text;
    if (s == 0) first = report->loss.main;
    main = report->loss.main;
    mtp = report->loss.mtp;
  }
  EXPECT_GT(first, 2);
  EXPECT_LT(main, 0.01);
  EXPECT_LT(mtp, 0.01);
}

TEST(Trainer, FirstTenStepsAreBitEqualOnRerunAndOverThreads) {
  const TemporaryDirectory dir;
  const std::string shard = write_tiny_shard(dir.path() / "train.shard", 60, 1);
  for (const char* precision : {"f32", "bf16"}) {
    TrainConfig config = tiny_config(shard);
    config.precision = precision;
    TinyRun first(config, 1);
    const std::vector<StepBits> expected = take_steps(*first.trainer, 10);
    ASSERT_EQ(expected.size(), 10u);
    for (const int threads : {1, 2, 3, 8}) {
      TinyRun again(config, threads);
      EXPECT_EQ(take_steps(*again.trainer, 10), expected) << precision << ", " << threads << " threads";
      EXPECT_EQ(testing::state_bytes(again.trainer->parameters()), testing::state_bytes(first.trainer->parameters()));
    }
  }
}

TEST(Trainer, SeedsChangeTheRun) {
  const TemporaryDirectory dir;
  TrainConfig config = tiny_config(write_tiny_shard(dir.path() / "train.shard", 60, 1));
  TinyRun one(config);
  config.seed = 2;
  TinyRun two(config);
  EXPECT_NE(take_steps(*one.trainer, 1), take_steps(*two.trainer, 1));
}

TEST(Trainer, MovesTheRouterBiasByItsSpeedUntilItIsFrozen) {
  const TemporaryDirectory dir;
  TrainConfig config = tiny_config(write_tiny_shard(dir.path() / "train.shard", 60, 1));
  config.bias_update_speed = 0.25;
  config.bias_freeze_step = 1;
  TinyRun run(config);
  const std::vector<Tensor> biases = run.trainer->parameters().router_biases();
  ASSERT_EQ(biases.size(), 2u);  // one MoE layer and the MTP module
  take_steps(*run.trainer, 1);
  std::vector<float> after_one;
  double moved = 0;
  for (const Tensor& bias : biases) {
    for (int64_t e = 0; e < bias.numel(); ++e) {
      after_one.push_back(bias.ptr<float>()[e]);
      EXPECT_TRUE(after_one.back() == 0 || std::fabs(after_one.back()) == 0.25f) << after_one.back();
      moved += std::fabs(after_one.back());
    }
  }
  EXPECT_GT(moved, 0);
  take_steps(*run.trainer, 3);
  size_t next = 0;
  for (const Tensor& bias : biases) {
    for (int64_t e = 0; e < bias.numel(); ++e) EXPECT_EQ(bias.ptr<float>()[e], after_one[next++]);
  }
}

TEST(Trainer, RunWritesLogReportSettingsSnapshotsAndExport) {
  const TemporaryDirectory dir;
  TrainConfig config = tiny_config(write_tiny_shard(dir.path() / "train.shard", 60, 1));
  config.validation_shards = {write_tiny_shard(dir.path() / "val.shard", 20, 2)};
  config.num_steps = 12;
  config.eval_every = 5;
  config.eval_sequences = 4;
  config.checkpoint_directory = dir.path() / "run";
  config.log_path = dir.path() / "log.jsonl";
  config.report_path = dir.path() / "report.html";
  config.export_directory = dir.path() / "model";
  TinyRun run(config);
  SilentProgress silent;
  const Status status = run.trainer->run(silent);
  ASSERT_TRUE(status) << status.error().text;

  const auto log = read_jsonl(config.log_path);
  ASSERT_TRUE(log) << log.error().text;
  ASSERT_EQ(log->records.size(), 13u);
  EXPECT_EQ(*log->records[0].find("event"), Json("start"));
  for (size_t i = 0; i < 12; ++i) {
    const Json& record = log->records[i + 1];
    EXPECT_EQ(record.find("step")->as_int(), static_cast<int64_t>(i + 1));
    EXPECT_EQ(record.find("tokens")->as_int(), static_cast<int64_t>(i + 1) * 64);
    for (const char* key : {"loss.main", "loss.mtp", "loss.balance", "lr", "grad_norm", "max_vio", "tokens_per_s"}) {
      ASSERT_NE(record.find(key), nullptr) << key;
    }
    const bool validates = i + 1 == 5 || i + 1 == 10 || i + 1 == 12;
    EXPECT_EQ(record.find("validation.loss") != nullptr, validates) << i;
    if (validates) {  // three bytes per token in these shards
      EXPECT_NEAR(record.find("validation.bits_per_byte")->as_double(),
                  record.find("validation.loss")->as_double() / std::log(2.0) / 3, 1e-12);
    }
  }
  EXPECT_LT(log->records.back().find("loss.main")->as_double(), log->records[1].find("loss.main")->as_double());
  const auto html = read_file(config.report_path);
  ASSERT_TRUE(html);
  EXPECT_NE(html->find("<svg"), std::string::npos);
  // The settings beside the snapshots read back to the same settings.
  const auto again = load_train_config({.file = config.checkpoint_directory / "settings.toml"});
  ASSERT_TRUE(again) << again.error().text;
  EXPECT_EQ(to_toml(*again), to_toml(config));
  for (const char* step : {"step-00000005", "step-00000010", "step-00000012"}) {
    EXPECT_TRUE(std::filesystem::exists(config.checkpoint_directory / step)) << step;
  }
  const auto model = load_model(config.export_directory);
  ASSERT_TRUE(model) << model.error().text;
  EXPECT_EQ((*model)->config.num_nextn_predict_layers, 1);
}

class StopAfter final : public Progress {
 public:
  explicit StopAfter(int64_t steps) : left_(steps) {}
  void update(std::string_view, int64_t, int64_t, std::string_view) override { --left_; }
  bool stop_requested() const override { return left_ <= 1; }

 private:
  int64_t left_;
};

TEST(Trainer, StopsAfterTheStepWithASnapshotThatContinuesTheSameRun) {
  const TemporaryDirectory dir;
  TrainConfig config = tiny_config(write_tiny_shard(dir.path() / "train.shard", 60, 1));
  config.num_steps = 9;
  config.checkpoint_every = 0;
  config.log_path = dir.path() / "log.jsonl";
  TinyRun whole(config);
  const std::vector<StepBits> expected = take_steps(*whole.trainer, 9);

  config.checkpoint_directory = dir.path() / "run";
  {
    TinyRun first(config);
    StopAfter stop(4);
    const Status status = first.trainer->run(stop);
    ASSERT_FALSE(status);
    EXPECT_EQ(status.error().code, ErrorCode::kCancelled);
    EXPECT_NE(status.error().text.find("after step 4 of 9"), std::string::npos) << status.error().text;
  }
  TinyRun second(config);
  EXPECT_EQ(second.trainer->progress().step, 4);
  SilentProgress silent;
  ASSERT_TRUE(second.trainer->run(silent));
  const auto log = read_jsonl(config.log_path);
  ASSERT_TRUE(log);
  std::vector<uint64_t> logged;
  for (const Json& record : log->records) {
    if (record.find("loss.main")) logged.push_back(std::bit_cast<uint64_t>(record.find("loss.main")->as_double()));
  }
  ASSERT_EQ(logged.size(), 9u);
  for (size_t i = 0; i < 9; ++i) EXPECT_EQ(logged[i], expected[i].main) << "step " << i + 1;
}

TEST(Trainer, StartsFromACheckpointAndRefusesAnotherShape) {
  const TemporaryDirectory dir;
  TrainConfig config = tiny_config(write_tiny_shard(dir.path() / "train.shard", 60, 1));
  config.num_steps = 4;
  config.export_directory = dir.path() / "model";
  config.export_format = "f32";
  TinyRun first(config);
  SilentProgress silent;
  ASSERT_TRUE(first.trainer->run(silent));

  TrainConfig next = config;
  next.export_directory.clear();
  next.from = dir.path() / "model";
  TinyRun second(next);
  for (size_t i = 0; i < first.trainer->parameters().entries().size(); ++i) {
    const Tensor a = first.trainer->parameters().entries()[i].master;
    const Tensor b = second.trainer->parameters().entries()[i].master;
    EXPECT_EQ(std::memcmp(a.data, b.data, static_cast<size_t>(a.num_bytes())), 0) << i;
  }
  next.shape.moe_intermediate_size = 10;
  EXPECT_NE(create_error(next).find("model.moe_intermediate_size is 10"), std::string::npos) << create_error(next);
}

TEST(Trainer, RefusesANonFiniteLossBeforeAnythingChanges) {
  const TemporaryDirectory dir;
  TrainConfig config = tiny_config(write_tiny_shard(dir.path() / "train.shard", 60, 1));
  config.checkpoint_directory = dir.path() / "run";
  TinyRun run(config);
  ASSERT_TRUE(run.trainer->step());
  // An o_proj of layer 1 that overflows: the first layer stays finite.
  for (const Parameters::Entry& entry : run.trainer->parameters().entries()) {
    if (entry.spec.name == "model.layers.1.self_attn.o_proj.weight") {
      std::fill_n(entry.master.ptr<float>(), entry.master.numel(), 3e38f);
    }
  }
  const std::string before = testing::state_bytes(run.trainer->parameters());
  SilentProgress silent;
  const Status status = run.trainer->run(silent);
  ASSERT_FALSE(status);
  EXPECT_NE(status.error().text.find("step 2"), std::string::npos) << status.error().text;
  EXPECT_NE(status.error().text.find("layer 1"), std::string::npos) << status.error().text;
  EXPECT_EQ(testing::state_bytes(run.trainer->parameters()), before);
  EXPECT_FALSE(std::filesystem::exists(config.checkpoint_directory / "step-00000002"));
}

TEST(Trainer, RefusesSettingsThatDoNotFitTheWorld) {
  const TemporaryDirectory dir;
  const TrainConfig good = tiny_config(write_tiny_shard(dir.path() / "train.shard", 60, 1));
  EXPECT_EQ(create_error(good), "");
  TrainConfig config = good;
  config.train_shards.clear();
  EXPECT_NE(create_error(config).find("data.train"), std::string::npos);
  config = good;
  config.shape.vocab_size = 31;
  EXPECT_NE(create_error(config).find("vocabulary of 32"), std::string::npos);
  config = good;
  config.export_directory = dir.path();
  EXPECT_NE(create_error(config).find("exists"), std::string::npos);
  config = good;
  for (const char* left_over : {"model.partial", "model.replaced"}) {
    config.export_directory = dir.path() / "model";
    std::filesystem::create_directory(dir.path() / left_over);
    ASSERT_TRUE(write_file(dir.path() / left_over / "notes.txt", "mine"));
    EXPECT_NE(create_error(config).find(std::string(left_over) + " is "), std::string::npos) << create_error(config);
    std::filesystem::remove_all(dir.path() / left_over);
  }
  EXPECT_EQ(create_error(config), "");
  config = good;
  config.shape.hidden_size = 100000;
  config.shape.intermediate_size = 100000;
  EXPECT_NE(create_error(config).find("training needs at least"), std::string::npos) << create_error(config);
  config = good;
  config.sequences_per_slot = 50'000'000;
  EXPECT_NE(create_error(config).find("train.sequences_per_slot smaller"), std::string::npos) << create_error(config);
  config = good;
  config.export_directory = dir.path() / "model";
  config.tokenizer_directory = dir.path() / "nowhere";
  EXPECT_NE(create_error(config).find("tokenizer.json"), std::string::npos);
}

}  // namespace
}  // namespace fathom
