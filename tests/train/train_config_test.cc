// Settings of a training run: presets, overrides, refusals.
#include "train/train_config.h"

#include <gtest/gtest.h>

#include "model/tensor_plan.h"

namespace fathom {
namespace {

double millions(const ModelConfig& config, bool active) {
  const ParameterCount count = count_parameters(config);
  return static_cast<double>(active ? count.active_with_head : count.total + count.mtp) / 1e6;
}

TEST(TrainConfig, PresetsHaveTheSizesOfTheModelFamily) {
  const struct {
    const char* name;
    double total, active;
    int64_t sequence_length;
  } family[] = {{"pico", 2.4, 0.9, 128}, {"nano", 11.3, 3.2, 256}, {"nano20", 23.9, 4.5, 256}};
  for (const auto& member : family) {
    const auto config = preset_config(member.name);
    ASSERT_TRUE(config) << member.name;
    const auto model = config->model_config();
    ASSERT_TRUE(model) << model.error().text;
    EXPECT_NEAR(millions(*model, false), member.total, 0.05) << member.name;
    EXPECT_NEAR(millions(*model, true), member.active, 0.05) << member.name;
    EXPECT_EQ(config->sequence_length, member.sequence_length);
    EXPECT_TRUE(check_learning_rate(config->learning_rate, config->num_steps));
  }
  EXPECT_FALSE(preset_config("giga"));
}

TEST(TrainConfig, SettingsLieOverThePreset) {
  const auto config = load_train_config({.overrides = {"model.preset=nano", "model.n_routed_experts=4", "train.steps=7",
                                                       "learning_rate.warmup_steps=2", "data.train=a.shard,b.shard"}});
  ASSERT_TRUE(config) << config.error().text;
  const auto model = config->model_config();
  ASSERT_TRUE(model) << model.error().text;
  EXPECT_EQ(model->hidden_size, 256);
  EXPECT_EQ(model->n_routed_experts, 4);
  EXPECT_EQ(model->aux_loss_alpha, 1e-4);
  EXPECT_EQ(config->sequence_length, 256);
  EXPECT_EQ(config->num_steps, 7);
  EXPECT_EQ(config->train_shards, (std::vector<std::string>{"a.shard", "b.shard"}));
  EXPECT_TRUE(config->validate());
}

TEST(TrainConfig, FromTakesTheShapeOfTheCheckpoint) {
  const Path golden = Path(FATHOM_SOURCE_DIR) / "tests/golden/v3";
  const auto config = load_train_config({.overrides = {"model.from=" + golden.string()}});
  ASSERT_TRUE(config) << config.error().text;
  const auto stored = ModelConfig::load(golden);
  ASSERT_TRUE(stored);
  const auto model = config->model_config();
  ASSERT_TRUE(model) << model.error().text;
  EXPECT_EQ(model->hidden_size, stored->hidden_size);
  EXPECT_EQ(model->topk_method, stored->topk_method);
  EXPECT_EQ(model->n_group, stored->n_group);
  EXPECT_EQ(model->rope_scaling, stored->rope_scaling);
  EXPECT_EQ(model->eos_token_id, stored->eos_token_id);
}

TEST(TrainConfig, TheEffectiveFileReadsBackToItself) {
  const auto config = load_train_config({.overrides = {"model.preset=nano20", "train.steps=77", "data.train=x"}});
  ASSERT_TRUE(config);
  const Path file = Path(::testing::TempDir()) / "fathom_train_config_test.toml";
  ASSERT_TRUE(write_file(file, to_toml(*config)));
  const auto again = load_train_config({.file = file});
  std::filesystem::remove(file);
  ASSERT_TRUE(again) << again.error().text;
  EXPECT_EQ(to_toml(*again), to_toml(*config));
}

TEST(TrainConfig, RefusesWhatItDoesNotKnowOrCannotBe) {
  const auto error_of = [](std::vector<std::string> overrides) {
    overrides.push_back("data.train=a");
    const auto config = load_train_config({.overrides = std::move(overrides)});
    if (!config) return config.error().text;
    if (const auto model = config->model_config(); !model) return model.error().text;
    const Status status = config->validate();
    return status ? std::string() : status.error().text;
  };
  const auto mentions = [](const std::string& text, std::string_view part) {
    return text.find(part) != std::string::npos;
  };
  EXPECT_EQ(error_of({}), "");
  EXPECT_TRUE(mentions(error_of({"train.step=5"}), "train.steps"));  // unknown key, nearest known one
  EXPECT_TRUE(mentions(error_of({"model.preset=giga"}), "pico"));
  EXPECT_TRUE(mentions(error_of({"train.precision=fp4"}), "bf16"));
  EXPECT_TRUE(mentions(error_of({"model.n_group=3"}), "n_group"));
  EXPECT_TRUE(mentions(error_of({"model.num_experts_per_tok=9"}), "num_experts_per_tok"));
  EXPECT_TRUE(mentions(error_of({"data.weights=1,2"}), "data.weights"));
  EXPECT_TRUE(mentions(error_of({"train.steps=3"}), "warmup_steps"));
  EXPECT_TRUE(mentions(error_of({"train.sequence_length=3000000000"}), "sequence_length"));
  EXPECT_TRUE(mentions(error_of({"train.seed=-1"}), "train.seed"));
}

TEST(TrainConfig, PhasesOfLambdaAndBiasBeginAtTheirSteps) {
  TrainConfig config = *preset_config("pico");
  EXPECT_EQ(config.mtp_lambda_at(1000000), 0.3);
  EXPECT_EQ(config.bias_update_speed_at(1000000), 5e-3);
  config.mtp_late_step = 10;
  config.bias_freeze_step = 20;
  EXPECT_EQ(config.mtp_lambda_at(9), 0.3);
  EXPECT_EQ(config.mtp_lambda_at(10), 0.1);
  EXPECT_EQ(config.bias_update_speed_at(19), 5e-3);
  EXPECT_EQ(config.bias_update_speed_at(20), 0);
}

}  // namespace
}  // namespace fathom
