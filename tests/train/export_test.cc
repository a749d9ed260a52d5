// Export: what is written loads back as the same numbers and routes the same way.
#include "train/export.h"

#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>

#include "numerics/decode.h"
#include "numerics/fp8.h"
#include "tiny_run.h"

namespace fathom {
namespace {

using testing::take_steps;
using testing::TemporaryDirectory;
using testing::tiny_config;
using testing::TinyRun;
using testing::write_tiny_shard;

/// Logits of the main model and the experts of every MoE layer, over one packed batch of two documents.
struct ForwardBits {
  std::vector<float> logits;
  std::vector<int32_t> expert_ids;
  bool operator==(const ForwardBits&) const = default;
};

ForwardBits forward_bits(const ModelConfig& config, const ModelWeights& weights, Kernels& kernels,
                         Precision precision) {
  Arena arena;
  const Run run{.k = kernels, .arena = arena, .precision = precision, .activation = DType::kF32};
  const std::vector<int32_t> tokens = {3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8};
  const std::vector<int64_t> offsets = {0, 7, 12};
  const DocumentLayout layout(offsets);
  const Transformer model(config, weights);
  TransformerSaved saved;
  const Tensor hidden =
      model.forward(run, {.tokens = tokens, .positions = layout.positions, .segments = layout.segments}, &saved);
  const Tensor logits = run.make({hidden.extent(0), config.vocab_size});
  model.head().forward(run, hidden, logits);
  ForwardBits out;
  out.logits.assign(logits.ptr<float>(), logits.ptr<float>() + logits.numel());
  for (size_t l = 0; l < saved.blocks.size(); ++l) {
    if (!weights.blocks[l].is_moe) continue;
    const Tensor ids = saved.blocks[l].moe.expert_ids;
    out.expert_ids.insert(out.expert_ids.end(), ids.ptr<int32_t>(), ids.ptr<int32_t>() + ids.numel());
  }
  return out;
}

/// A few steps of training, so that biases and norms are no longer what they began as.
struct Trained {
  explicit Trained(const char* precision) {
    TrainConfig config = tiny_config(write_tiny_shard(dir.path() / "train.shard", 60, 1));
    config.precision = precision;
    config.bias_update_speed = 0.01;
    run.emplace(config);
    take_steps(*run->trainer, 5);
  }
  const Parameters& parameters() const { return run->trainer->parameters(); }
  ForwardBits forward(Precision precision) const {
    return forward_bits(parameters().config(), parameters().weights(), *run->kernels, precision);
  }
  ForwardBits forward_of(const Model& model, Precision precision) const {
    return forward_bits(model.config, model.weights, *run->kernels, precision);
  }
  TemporaryDirectory dir;
  std::optional<TinyRun> run;
};

std::string names_of(const std::vector<std::string>& names) {
  std::string out;
  for (const std::string& name : names) out += name + " ";
  return out;
}

TEST(Export, F32LoadsBackWithEqualBitsAndRouting) {
  const Trained trained("f32");
  const Path dir = trained.dir.path() / "model";
  const Status status =
      export_model(trained.parameters(), dir, {.format = ExportFormat::kF32, .tokenizer_directory = {}});
  ASSERT_TRUE(status) << status.error().text;
  const auto model = load_model(dir);
  ASSERT_TRUE(model) << model.error().text;
  size_t i = 0;
  double bias_sum = 0;
  visit_weights((*model)->config, (*model)->weights, [&](const TensorSpec& spec, Weight& value, Tensor*) {
    const Parameters::Entry& entry = trained.parameters().entries()[i++];
    EXPECT_EQ(entry.spec.name, spec.name);
    EXPECT_EQ(std::memcmp(entry.master.data, value.codes.data, static_cast<size_t>(entry.master.num_bytes())), 0)
        << spec.name;
    if (entry.is_router_bias()) bias_sum += std::fabs(value.codes.ptr<float>()[0]);
  });
  EXPECT_EQ(i, trained.parameters().entries().size());
  EXPECT_GT(bias_sum, 0);
  EXPECT_EQ(trained.forward(Precision::kF32), trained.forward_of(**model, Precision::kF32));
  const auto checkpoint = Checkpoint::open(dir);
  ASSERT_TRUE(checkpoint);
  const CheckpointDifference difference = compare_with_plan((*model)->config, *checkpoint);
  EXPECT_EQ(names_of(difference.missing) + names_of(difference.unexpected), "");
}

TEST(Export, Bf16ComputesTheLogitsOfTheTrainingForward) {
  const Trained trained("bf16");
  const Path dir = trained.dir.path() / "model";
  ASSERT_TRUE(export_model(trained.parameters(), dir, {}));
  const auto model = load_model(dir);
  ASSERT_TRUE(model) << model.error().text;
  EXPECT_EQ((*model)->weights.embedding.value.codes.dtype, DType::kBF16);
  const ForwardBits training = trained.forward(Precision::kBF16);
  EXPECT_EQ(training, trained.forward_of(**model, Precision::kBF16));
  EXPECT_NE(training.logits, trained.forward(Precision::kF32).logits);  // the comparison sees the precision
  EXPECT_EQ(Checkpoint::open(dir)->find("model.layers.1.mlp.gate.e_score_correction_bias")->dtype, DType::kF32);
}

TEST(Export, Fp8StoresProjectionsInBlocksAndTheRestInBf16) {
  const Trained trained("bf16");
  const Path dir = trained.dir.path() / "model";
  ASSERT_TRUE(export_model(trained.parameters(), dir, {.format = ExportFormat::kFp8, .tokenizer_directory = {}}));
  const auto model = load_model(dir);
  ASSERT_TRUE(model) << model.error().text;
  EXPECT_TRUE((*model)->config.quantization.has_value());
  const auto checkpoint = Checkpoint::open(dir);
  ASSERT_TRUE(checkpoint);
  const auto dtype_of = [&](const std::string& name) { return checkpoint->find(name)->dtype; };
  EXPECT_EQ(dtype_of("model.embed_tokens.weight"), DType::kBF16);
  EXPECT_EQ(dtype_of("lm_head.weight"), DType::kBF16);
  EXPECT_EQ(dtype_of("model.norm.weight"), DType::kBF16);
  EXPECT_EQ(dtype_of("model.layers.1.mlp.gate.weight"), DType::kBF16);
  EXPECT_EQ(dtype_of("model.layers.1.mlp.gate.e_score_correction_bias"), DType::kF32);
  EXPECT_EQ(dtype_of("model.layers.2.eh_proj.weight"), DType::kBF16);
  EXPECT_EQ(dtype_of("model.layers.1.mlp.experts.3.down_proj.weight"), DType::kE4M3);
  EXPECT_EQ(dtype_of("model.layers.1.mlp.experts.3.down_proj.weight_scale_inv"), DType::kF32);
  size_t i = 0, num_fp8 = 0;
  visit_weights((*model)->config, (*model)->weights, [&](const TensorSpec& spec, Weight& value, Tensor*) {
    const Tensor master = trained.parameters().entries()[i++].master;
    if (value.codes.dtype != DType::kE4M3) return;
    ++num_fp8;
    // One block per tensor here. Three mantissa bits: half an ulp is 1/16 of a normal number, 2^-10 of the scale below.
    const float scale = value.scales.ptr<const float>()[0];
    for (int64_t n = 0; n < spec.shape[0]; ++n) {
      for (int64_t k = 0; k < spec.shape[1]; ++k) {
        const float w = master.ptr<float>()[n * spec.shape[1] + k];
        ASSERT_NEAR(weight_at(value, n, k), w, std::max(std::fabs(w) / 16, scale * 0x1p-10f) * 1.001f) << spec.name;
      }
    }
  });
  EXPECT_EQ(num_fp8, 3u * 5 + 3 + 2 * 3 * 5);  // attention, dense layer, experts and shared expert of two layers
}

TEST(Export, WritesConfigGenerationConfigAndTokenizer) {
  const Trained trained("f32");
  const Path tokenizer = trained.dir.path() / "tokenizer";
  std::filesystem::create_directory(tokenizer);
  const Path dir = trained.dir.path() / "model";
  Status status =
      export_model(trained.parameters(), dir, {.format = ExportFormat::kF32, .tokenizer_directory = tokenizer});
  ASSERT_FALSE(status);
  EXPECT_NE(status.error().text.find("tokenizer.json"), std::string::npos) << status.error().text;
  EXPECT_FALSE(std::filesystem::exists(dir));

  ASSERT_TRUE(write_file(tokenizer / "tokenizer.json", "{\"a\": 1}"));
  ASSERT_TRUE(write_file(tokenizer / "tokenizer_config.json", "{}"));
  ASSERT_TRUE(write_file(tokenizer / "private.txt", "stays here"));
  ASSERT_TRUE(
      export_model(trained.parameters(), dir, {.format = ExportFormat::kF32, .tokenizer_directory = tokenizer}));
  EXPECT_EQ(*read_file(dir / "tokenizer.json"), "{\"a\": 1}");
  EXPECT_EQ(*read_file(dir / "tokenizer_config.json"), "{}");
  EXPECT_FALSE(std::filesystem::exists(dir / "private.txt"));
  const auto config = Json::parse(*read_file(dir / "config.json"), "config.json");
  ASSERT_TRUE(config);
  EXPECT_EQ(config->find("torch_dtype")->as_string(), "float32");
  EXPECT_EQ(config->find("quantization_config"), nullptr);
  EXPECT_EQ(config->find("aux_loss_alpha")->as_double(), 1e-4);
  const auto generation = Json::parse(*read_file(dir / "generation_config.json"), "generation_config.json");
  ASSERT_TRUE(generation);
  EXPECT_EQ(generation->find("bos_token_id")->as_int(), 0);
  EXPECT_EQ(generation->find("eos_token_id")->as_int(), 1);

  status = export_model(trained.parameters(), dir, {});
  ASSERT_FALSE(status);
  EXPECT_NE(status.error().text.find("exists"), std::string::npos);
}

TEST(Export, FormatsHaveNames) {
  EXPECT_EQ(*export_format_from("bf16"), ExportFormat::kBF16);
  EXPECT_EQ(*export_format_from("f32"), ExportFormat::kF32);
  EXPECT_EQ(*export_format_from("fp8"), ExportFormat::kFp8);
  EXPECT_FALSE(export_format_from("int4"));
}

}  // namespace
}  // namespace fathom
