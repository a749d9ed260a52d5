#include "model/prepare_weights.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdio>
#include <limits>

#include "kernels/registry.h"
#include "model/checkpoint_dir.h"
#include "model/policy_of.h"
#include "model/quantize_checkpoint.h"
#include "model/transformer.h"
#include "numerics/compare.h"
#include "numerics/panels.h"

namespace fathom {
namespace {

/// Logits of 40 random tokens.
std::vector<float> logits_of(const Model& model, Kernels& kernels, Precision precision) {
  const auto tokens = testing::random_tokens(40, model.config.vocab_size, 1);
  const std::vector<int64_t> offsets{0, 40};
  const DocumentLayout layout(offsets);
  Arena arena;
  const Run run{.k = kernels, .arena = arena, .precision = precision};
  const Transformer transformer(model.config, model.weights);
  const Tensor hidden =
      transformer.forward(run, {.tokens = tokens, .positions = layout.positions, .segments = layout.segments});
  const Tensor logits = run.make({40, model.config.vocab_size});
  transformer.head().forward(run, hidden, logits);
  return {logits.ptr<float>(), logits.ptr<float>() + logits.numel()};
}

/// Those of a random model's weights prepared by `quant`, or as they are with "rows".
std::vector<float> logits_of(const std::string& quant, Precision precision, const std::string& level = "cpu",
                             int threads = 2, const ModelConfig& config = testing::awkward_config()) {
  const auto model = testing::random_model(config, 5, DType::kBF16);
  ThreadPool pool(threads);
  const auto kernels = make_kernels(level, pool);
  EXPECT_TRUE(kernels);
  SilentProgress silent;
  if (quant != "rows") {
    const Status s = prepare_weights(*model, policy_of(quant), precision, **kernels, silent);
    EXPECT_TRUE(s) << s.error().text;
  }
  return logits_of(*model, **kernels, precision);
}

double relative_l2(const std::vector<float>& got, const std::vector<float>& wanted) {
  double error = 0, norm = 0;
  for (size_t i = 0; i < got.size(); ++i) {
    error += std::pow(double{got[i]} - double{wanted[i]}, 2);
    norm += double{wanted[i]} * double{wanted[i]};
  }
  return std::sqrt(error / norm);
}

TEST(PrepareWeights, OfStoredFormatsDoesNotChangeABit) {
  for (const std::string& level : available_kernels()) {
    EXPECT_TRUE(bit_equal(std::span<const float>(logits_of("none", Precision::kBF16, level)),
                          std::span<const float>(logits_of("rows", Precision::kBF16, level))))
        << level;
  }
}

TEST(PrepareWeights, CountsWhatWouldBeRoundedTwice) {
  const auto model = testing::random_model(testing::awkward_config(), 5, DType::kBF16);
  EXPECT_EQ(num_quantized_twice(*model, policy_of("int4")), 0);
  ThreadPool pool(1);
  const auto kernels = make_kernels("cpu", pool);
  SilentProgress silent;
  ASSERT_TRUE(prepare_weights(*model, policy_of("experts=int8"), Precision::kBF16, **kernels, silent));
  const int64_t twice = num_quantized_twice(*model, policy_of("int4"));
  EXPECT_GT(twice, 0);
  EXPECT_EQ(num_quantized_twice(*model, policy_of("experts=fp8")), twice);
  for (const char* once : {"none", "int8", "bf16", "experts=int8,attention=int4"}) {
    EXPECT_EQ(num_quantized_twice(*model, policy_of(once)), 0) << once;
  }
}

// A model of this depth passes on errors of its products at about their own size: INT8's two operands err by 0.5 %
// each, INT4's weights by 8 %, MXFP4's by 11 %, E4M3's by 2.5 %. Between a tenth of that, or nothing was quantised, and
// four times. Without experts: one that is chosen instead of another changes more than any rounding.
TEST(PrepareWeights, ErrsAsTheFormatsDo) {
  ModelConfig config = testing::awkward_config();
  config.first_k_dense_replace = config.num_hidden_layers;
  const auto exact = logits_of("rows", Precision::kBF16, "cpu", 2, config);
  for (const auto& [quant, error] :
       {std::pair{"int8", 0.007}, {"int4", 0.08}, {"iq4_nl", 0.07}, {"mxfp4", 0.11}, {"fp8", 0.025}}) {
    const double measured = relative_l2(logits_of(quant, Precision::kBF16, "cpu", 2, config), exact);
    EXPECT_LT(measured, 4 * error) << quant;
    EXPECT_GT(measured, error / 10) << quant;
    std::printf("%s: relative error of the logits %.4f\n", quant, measured);
  }
}

TEST(PrepareWeights, GivesTheSameBitsForAnyNumberOfThreads) {
  for (const char* quant : {"int8", "int4", "mxfp4", "fp8"}) {
    const auto one = logits_of(quant, Precision::kBF16, "cpu", 1);
    for (int threads : {2, 3, 8}) {
      EXPECT_TRUE(bit_equal(std::span<const float>(one),
                            std::span<const float>(logits_of(quant, Precision::kBF16, "cpu", threads))))
          << quant << " " << threads;
    }
  }
}

TEST(PrepareWeights, KeepsRowsWhereProductsAreNotBf16) {
  const auto model = testing::random_model(testing::awkward_config(), 5, DType::kBF16);
  ThreadPool pool(1);
  const auto kernels = make_kernels("cpu", pool);
  SilentProgress silent;
  ASSERT_TRUE(prepare_weights(*model, policy_of("head=int8"), Precision::kF32, **kernels, silent));
  EXPECT_EQ(model->weights.blocks[0].attention.o.value.layout, WeightLayout::kRows);
  EXPECT_EQ(model->weights.head.value.groups, GroupFormat::kInt8);
}

TEST(PrepareWeights, LeavesEmbeddingRouterNormsAndKvB) {
  const auto model = testing::random_model(testing::awkward_config(), 5, DType::kBF16);
  ThreadPool pool(1);
  const auto kernels = make_kernels("cpu", pool);
  SilentProgress silent;
  ASSERT_TRUE(prepare_weights(*model, policy_of("int4"), Precision::kBF16, **kernels, silent));
  const BlockWeights& block = model->weights.blocks[1];
  for (const Weight* w : std::initializer_list<const Weight*>{&model->weights.embedding.value, &block.moe.router.value,
                                                              &block.attention.kv_b.value, &block.input_norm.value}) {
    EXPECT_EQ(w->layout, WeightLayout::kRows);
  }
  EXPECT_EQ(block.moe.gate.value[0].groups, GroupFormat::kInt4);
  EXPECT_EQ(block.moe.gate.value[0].layout, WeightLayout::kPanels);
}

TEST(PrepareWeights, CountsTheSameBytesFromThePlanAlone) {
  for (const DType dtype : {DType::kBF16, DType::kF32}) {
    const auto model = testing::random_model(testing::awkward_config(), 5, dtype);
    for (const char* quant : {"none", "int8", "int4,experts=mxfp4", "fp8", "bf16", "experts=iq4_nl,experts.2=none"}) {
      for (Precision precision : {Precision::kF32, Precision::kBF16}) {
        int64_t planned = 0;
        for (const TensorSpec& spec : expected_tensors(model->config)) {
          planned += prepared_bytes(spec, dtype, GroupFormat::kNone, policy_of(quant), precision);
        }
        EXPECT_EQ(planned, prepared_bytes(*model, policy_of(quant), precision).prepared)
            << quant << " " << name_of(dtype) << " " << static_cast<int>(precision);
      }
    }
  }
}

TEST(PrepareWeights, CountsBytesBeforeAndAfter) {
  const auto model = testing::random_model(testing::awkward_config(), 5, DType::kBF16);
  const PreparedBytes before = prepared_bytes(*model, policy_of("int8"), Precision::kBF16);
  EXPECT_EQ(before.stored, prepared_bytes(*model, policy_of("none"), Precision::kF32).prepared);
  ThreadPool pool(1);
  const auto kernels = make_kernels("cpu", pool);
  SilentProgress silent;
  ASSERT_TRUE(prepare_weights(*model, policy_of("int8"), Precision::kBF16, **kernels, silent));
  EXPECT_EQ(before.prepared, prepared_bytes(*model, policy_of("none"), Precision::kF32).stored);
}

TEST(PrepareWeights, NamesATensorThatCannotBeHeld) {
  const auto model = testing::random_model(testing::awkward_config(), 5, DType::kF32);
  model->weights.blocks[1].moe.up.value[3].codes.ptr<float>()[5] = std::numeric_limits<float>::quiet_NaN();
  ThreadPool pool(2);
  const auto kernels = make_kernels("cpu", pool);
  SilentProgress silent;
  const Status s = prepare_weights(*model, policy_of("experts=int8"), Precision::kBF16, **kernels, silent);
  ASSERT_FALSE(s);
  EXPECT_NE(s.error().text.find("model.layers.1.mlp.experts.3.up_proj.weight"), std::string::npos) << s.error().text;
  EXPECT_NE(s.error().text.find("int8"), std::string::npos);
}

// ------------------------------------------------------------------------------------------------ kept in a file

class KeptWeightsTest : public ::testing::Test {
 protected:
  KeptWeightsTest() : pool_(2), kernels_(std::move(*make_kernels("cpu", pool_))) {
    testing::write_model(*testing::random_model(testing::awkward_config(), 5, DType::kBF16), bf16());
    SilentProgress silent;
    EXPECT_TRUE(quantize_checkpoint(bf16(), fp8(), {.policy = policy_of("fp8")}, pool_, silent));
    EXPECT_TRUE(quantize_checkpoint(bf16(), int4(), {.policy = policy_of("int4")}, pool_, silent));
  }
  Path bf16() const { return directory_.path() / "bf16"; }
  Path fp8() const { return directory_.path() / "fp8"; }
  Path int4() const { return directory_.path() / "int4"; }
  static std::unique_ptr<Model> load(const Path& path) {
    auto model = load_model(path);
    EXPECT_TRUE(model) << model.error().text;
    return std::move(*model);
  }
  KeptWeights prepare(Model& model, const std::string& quant = "none", Precision precision = Precision::kBF16) {
    SilentProgress silent;
    const auto kept =
        prepare_weights_once(model, policy_of(quant), precision, *kernels_, directory_.path() / "kept", silent);
    EXPECT_TRUE(kept) << kept.error().text;
    EXPECT_TRUE(kept->kept) << kept->kept.error().text;
    return *kept;
  }
  std::vector<float> in_memory(const Path& path, const std::string& quant) {
    const auto model = load(path);
    SilentProgress silent;
    EXPECT_TRUE(prepare_weights(*model, policy_of(quant), Precision::kBF16, *kernels_, silent));
    return logits_of(*model, *kernels_, Precision::kBF16);
  }
  ThreadPool pool_;
  std::unique_ptr<Kernels> kernels_;
  testing::TemporaryDirectory directory_;
};

TEST_F(KeptWeightsTest, ChangeNoBitInAnyFormat) {
  for (const Path& path : {bf16(), fp8(), int4(), Path(FATHOM_SOURCE_DIR) / "tests/golden/v3"}) {
    for (const char* quant :
         {"none", "bf16", "fp8", "int8", "int4", "iq4_nl", "mxfp4", "experts=int4,head=int8,attention=fp8"}) {
      SCOPED_TRACE(path.filename().string() + ", " + quant);
      const auto wanted = in_memory(path, quant);
      std::filesystem::remove_all(directory_.path() / "kept");  // "none" and "bf16" may be the same
      for (const bool is_second : {false, true}) {
        const auto model = load(path);
        const KeptWeights kept = prepare(*model, quant);
        EXPECT_EQ(kept.is_mapped, is_second);
        EXPECT_EQ(model->prepared.has_value(), is_second);
        EXPECT_TRUE(bit_equal(std::span<const float>(logits_of(*model, *kernels_, Precision::kBF16)),
                              std::span<const float>(wanted)));
      }
    }
  }
}

// The layout is not of an instruction set: a file is made by one and mapped by all.
TEST_F(KeptWeightsTest, ServeEveryInstructionSet) {
  for (const char* quant : {"none", "int4"}) {
    prepare(*load(fp8()), quant);
    for (const std::string& level : available_kernels()) {
      kernels_ = std::move(*make_kernels(level, pool_));
      const auto model = load(fp8());
      EXPECT_TRUE(prepare(*model, quant).is_mapped) << level;
      EXPECT_TRUE(bit_equal(std::span<const float>(logits_of(*model, *kernels_, Precision::kBF16)),
                            std::span<const float>(in_memory(fp8(), quant))))
          << level;
    }
    kernels_ = std::move(*make_kernels("cpu", pool_));
  }
}

TEST_F(KeptWeightsTest, AreTheSameBytesWheneverTheyAreMade) {
  for (const char* quant : {"none", "fp8", "int4"}) {
    const KeptWeights kept = prepare(*load(bf16()), quant);
    const std::string first = *read_file(kept.path);
    std::filesystem::remove(kept.path);
    // Fresh memory is zeros more often than not; this is none.
    std::vector<std::unique_ptr<std::string>> dirt;
    for (int i = 0; i < 64; ++i) dirt.push_back(std::make_unique<std::string>(size_t{1} << (10 + i % 8), 'd'));
    dirt.clear();
    EXPECT_FALSE(prepare(*load(bf16()), quant).is_mapped);
    EXPECT_TRUE(*read_file(kept.path) == first) << quant;
  }
}

TEST_F(KeptWeightsTest, AreMadeAgainWhenTheFileIsCutOrTheCheckpointChanges) {
  const KeptWeights first = prepare(*load(bf16()));
  const std::string whole = *read_file(first.path);
  std::filesystem::resize_file(first.path, whole.size() - 1);
  EXPECT_FALSE(prepare(*load(bf16())).is_mapped);
  EXPECT_TRUE(*read_file(first.path) == whole);
  EXPECT_TRUE(prepare(*load(bf16())).is_mapped);
  EXPECT_NE(prepare(*load(bf16()), "int8").path, first.path);
  testing::write_model(*testing::random_model(testing::awkward_config(), 6, DType::kBF16), directory_.path() / "other");
  std::filesystem::rename(directory_.path() / "other" / "model.safetensors", bf16() / "model.safetensors");
  const auto changed = load(bf16());
  const KeptWeights second = prepare(*changed);
  EXPECT_FALSE(second.is_mapped);
  EXPECT_NE(second.path, first.path);
  EXPECT_TRUE(bit_equal(std::span<const float>(logits_of(*changed, *kernels_, Precision::kBF16)),
                        std::span<const float>(in_memory(bf16(), "none"))));
}

TEST_F(KeptWeightsTest, AreReadOnlyAndAllInTheFile) {
  prepare(*load(fp8()), "experts=fp8,head=int8");
  const auto model = load(fp8());
  ASSERT_TRUE(prepare(*model, "experts=fp8,head=int8").is_mapped);
  const auto map = model->prepared->bytes();
  const auto is_in_file = [&](const void* data) { return data >= map.data() && data < map.data() + map.size(); };
  visit_weights(model->config, model->weights, [&](const TensorSpec& spec, Weight& w, Tensor*) {
    if (w.layout != WeightLayout::kPanels) return;
    EXPECT_TRUE(is_in_file(w.codes.data)) << spec.name;
    EXPECT_TRUE(w.scales.rank == 0 || is_in_file(w.scales.data)) << spec.name;
  });
  auto* const first = static_cast<std::byte*>(model->weights.head.value.codes.data);
  EXPECT_DEATH(*first = std::byte{0}, "");
}

TEST_F(KeptWeightsTest, TakeTheBytesThatThePlanSays) {
  for (const char* quant : {"none", "fp8", "int8", "int4,experts=mxfp4"}) {
    for (Precision precision : {Precision::kF32, Precision::kBF16}) {
      const auto model = load(bf16());
      int64_t planned = 0;
      for (const TensorSpec& spec : expected_tensors(model->config)) {
        planned += kept_bytes(spec, DType::kBF16, GroupFormat::kNone, policy_of(quant), precision);
      }
      const KeptWeights kept = prepare(*model, quant, precision);
      ASSERT_EQ(kept.path.empty(), planned == 0) << quant;
      if (planned == 0) continue;
      EXPECT_EQ(static_cast<int64_t>(std::filesystem::file_size(kept.path)), kept.num_bytes);
      const std::string text = *read_file(kept.path);
      const auto head = static_cast<int64_t>(text.find('\0') / 4096 + 1) * 4096;
      EXPECT_EQ(kept.num_bytes - head, planned) << quant;
    }
  }
}

TEST_F(KeptWeightsTest, AreInMemoryWhereNoFileCanBe) {
  ASSERT_TRUE(write_file(directory_.path() / "kept", "a file in the way"));
  const auto model = load(bf16());
  SilentProgress silent;
  const auto kept = prepare_weights_once(*model, {}, Precision::kBF16, *kernels_, directory_.path() / "kept", silent);
  ASSERT_TRUE(kept) << kept.error().text;
  EXPECT_FALSE(kept->is_mapped);
  ASSERT_FALSE(kept->kept);
  EXPECT_NE(kept->kept.error().text.find("kept"), std::string::npos) << kept->kept.error().text;
  EXPECT_TRUE(bit_equal(std::span<const float>(logits_of(*model, *kernels_, Precision::kBF16)),
                        std::span<const float>(in_memory(bf16(), "none"))));
}

TEST_F(KeptWeightsTest, LeaveNothingWhenTheyAreStopped) {
  class Stop final : public Progress {
   public:
    explicit Stop(std::string at) : at_(std::move(at)) {}
    void update(std::string_view what, int64_t, int64_t, std::string_view) override { stops_ |= what == at_; }
    bool stop_requested() const override { return stops_; }

   private:
    std::string at_;
    bool stops_ = false;
  };
  for (const char* at : {"preparing weights", "writing prepared weights"}) {
    Stop stop(at);
    const auto model = load(bf16());
    const auto kept = prepare_weights_once(*model, {}, Precision::kBF16, *kernels_, directory_.path() / "kept", stop);
    ASSERT_FALSE(kept) << at;
    EXPECT_EQ(kept.error().code, ErrorCode::kCancelled);
    for (const auto& entry : std::filesystem::directory_iterator(directory_.path() / "kept")) {
      EXPECT_EQ(entry.path().extension(), ".lock");
    }
  }
}

}  // namespace
}  // namespace fathom
