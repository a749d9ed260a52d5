#include "model/quantize_checkpoint.h"

#include <gtest/gtest.h>

#include <cstring>
#include <fstream>
#include <map>

#include "checkpoint_dir.h"
#include "kernels/registry.h"
#include "model/policy_of.h"
#include "model/prepare_weights.h"
#include "model/transformer.h"
#include "numerics/compare.h"
#include "numerics/intq.h"

namespace fathom {
namespace {

namespace fs = std::filesystem;

/// Asks to stop when `left` updates have come.
class StopsAfter final : public Progress {
 public:
  explicit StopsAfter(int64_t left) : left_(left) {}
  void update(std::string_view, int64_t, int64_t, std::string_view) override { --left_; }
  bool stop_requested() const override { return left_ <= 0; }

 private:
  int64_t left_;
};

/// A directory of a random model, and where its quantised form goes.
class QuantizeCheckpoint : public ::testing::Test {
 protected:
  void SetUp() override { write(testing::awkward_config(), DType::kBF16); }

  void write(const ModelConfig& config, DType dtype) {
    fs::remove_all(source());
    testing::write_model(*testing::random_model(config, 5, dtype), source());
  }

  Path source() const { return dir_.path() / "model"; }
  Path out() const { return dir_.path() / "out"; }
  Path partial() const { return dir_.path() / "out.partial"; }

  Result<QuantizeReport> quantize(const std::string& policy, int64_t shard_bytes, Progress& progress) {
    return quantize_checkpoint(source(), out(), {.policy = policy_of(policy), .max_shard_bytes = shard_bytes}, pool_,
                               progress);
  }
  Result<QuantizeReport> quantize(const std::string& policy, int64_t shard_bytes = 5'000'000'000) {
    SilentProgress silent;
    return quantize(policy, shard_bytes, silent);
  }

  /// Logits of 40 random tokens of a directory, prepared with a policy.
  std::vector<float> logits_of(const Path& model_dir, const std::string& policy, Precision precision) {
    auto model = load_model(model_dir);
    EXPECT_TRUE(model) << model.error().text;
    if (!model) return {};
    const auto kernels = make_kernels("cpu", pool_);
    SilentProgress silent;
    EXPECT_TRUE(prepare_weights(**model, policy_of(policy), precision, **kernels, silent));
    const auto tokens = testing::random_tokens(40, (*model)->config.vocab_size, 1);
    const std::vector<int64_t> offsets{0, 40};
    const DocumentLayout layout(offsets);
    Arena arena;
    const fathom::Run run{.k = **kernels, .arena = arena, .precision = precision};
    const Transformer transformer((*model)->config, (*model)->weights);
    const Tensor hidden =
        transformer.forward(run, {.tokens = tokens, .positions = layout.positions, .segments = layout.segments});
    const Tensor logits = run.make({40, (*model)->config.vocab_size});
    transformer.head().forward(run, hidden, logits);
    return {logits.ptr<float>(), logits.ptr<float>() + logits.numel()};
  }

  void expect_error(const Result<QuantizeReport>& result, std::string_view part) {
    ASSERT_FALSE(result);
    EXPECT_NE(result.error().text.find(part), std::string::npos) << result.error().text;
    EXPECT_EQ(result.error().text.find('\n'), std::string::npos) << result.error().text;
  }

  testing::TemporaryDirectory dir_;
  ThreadPool pool_{2};
};

constexpr const char* kPolicies[] = {"int8",
                                     "int4",
                                     "iq4_nl",
                                     "mxfp4",
                                     "fp8",
                                     "experts=int4,attention=int8,head=mxfp4",
                                     "int8,experts.1=int4,attention.2=none,dense=bf16"};

std::string file_text(const Path& path) {
  const auto text = read_file(path);
  EXPECT_TRUE(text) << path;
  return text ? *text : std::string();
}

TEST_F(QuantizeCheckpoint, GivesTheLogitsOfQuantisingAtLoadBitForBit) {
  for (const DType dtype : {DType::kBF16, DType::kF32}) {
    write(testing::awkward_config(), dtype);
    for (const std::string policy : kPolicies) {
      fs::remove_all(out());
      const auto report = quantize(policy);
      ASSERT_TRUE(report) << report.error().text;
      const auto at_load = logits_of(source(), policy, Precision::kBF16);
      EXPECT_TRUE(bit_equal(std::span<const float>(logits_of(out(), "none", Precision::kBF16)),
                            std::span<const float>(at_load)))
          << policy;
      EXPECT_FALSE(bit_equal(std::span<const float>(logits_of(source(), "none", Precision::kBF16)),
                             std::span<const float>(at_load)))
          << policy << ": it changes something";
    }
  }
}

TEST_F(QuantizeCheckpoint, OfAnFp8SourceToo) {
  ASSERT_TRUE(quantize("fp8"));
  fs::remove_all(source());
  // As a released FP8 checkpoint: E4M3 where it has it, and a config that says fp8.
  fs::rename(out(), source());
  auto config = Json::parse(file_text(source() / "config.json"), "config");
  ASSERT_TRUE(config);
  ModelConfig released = *ModelConfig::parse(*config, "config");
  released.stored_formats.reset();
  released.quantization = Fp8Quantization{.ue8m0_scales = true};
  ASSERT_TRUE(write_file(source() / "config.json", released.to_json().dump()));
  for (const std::string policy : {"int8", "mxfp4", "bf16", "experts=int4"}) {
    fs::remove_all(out());
    const auto report = quantize(policy);
    ASSERT_TRUE(report) << report.error().text;
    EXPECT_TRUE(bit_equal(std::span<const float>(logits_of(out(), "none", Precision::kBF16)),
                          std::span<const float>(logits_of(source(), policy, Precision::kBF16))))
        << policy;
  }
  EXPECT_EQ(load_model_config(out())->quantization, released.quantization) << "E4M3 that stayed keeps its scales";
  fs::remove_all(out());
  expect_error(quantize("fp8"), "changes no tensor");
}

TEST_F(QuantizeCheckpoint, KeepsATiedHeadApartFromTheEmbedding) {
  ModelConfig config = testing::awkward_config();
  config.tie_word_embeddings = true;
  write(config, DType::kBF16);
  for (const std::string policy : {"int4", "experts=int4"}) {
    fs::remove_all(out());
    ASSERT_TRUE(quantize(policy));
    EXPECT_TRUE(bit_equal(std::span<const float>(logits_of(out(), "none", Precision::kBF16)),
                          std::span<const float>(logits_of(source(), policy, Precision::kBF16))))
        << policy;
    const auto difference = compare_with_plan(*load_model_config(out()), *Checkpoint::open(out()));
    EXPECT_TRUE(difference.missing.empty() && difference.unexpected.empty() && difference.wrong.empty());
  }
}

TEST_F(QuantizeCheckpoint, WritesTheFormThatIsDescribed) {
  ASSERT_TRUE(quantize("int8,experts=int4,dense=mxfp4"));
  const auto checkpoint = Checkpoint::open(out());
  ASSERT_TRUE(checkpoint) << checkpoint.error().text;
  const auto expect_tensor = [&](const char* name, DType dtype, std::vector<int64_t> shape) {
    const StoredTensor* stored = checkpoint->find(name);
    ASSERT_NE(stored, nullptr) << name;
    EXPECT_EQ(stored->dtype, dtype) << name;
    EXPECT_EQ(stored->shape, shape) << name;
  };
  // Hidden 44 is two groups, an expert's width 7 is one.
  expect_tensor("model.layers.0.self_attn.q_a_proj.weight", DType::kI8, {21, 64});
  expect_tensor("model.layers.0.self_attn.q_a_proj.weight_scale", DType::kF16, {21, 2});
  expect_tensor("model.layers.1.mlp.experts.3.down_proj.weight", DType::kU8, {44, 16});
  expect_tensor("model.layers.1.mlp.experts.3.down_proj.weight_scale", DType::kF16, {44, 1});
  expect_tensor("model.layers.0.mlp.up_proj.weight", DType::kU8, {37, 32});
  expect_tensor("model.layers.0.mlp.up_proj.weight_scale", DType::kE8M0, {37, 2});
  expect_tensor("model.layers.0.self_attn.kv_b_proj.weight", DType::kBF16, {72, 19});
  expect_tensor("model.embed_tokens.weight", DType::kBF16, {71, 44});
  // The low half is the even k.
  const auto model = load_model(source());
  const Weight& w = (*model)->weights.blocks[1].moe.down.value[3];
  float numbers[kGroupSize] = {};
  uint8_t codes[kGroupSize];
  uint16_t scale = 0;
  for (int64_t k = 0; k < 7; ++k) numbers[k] = to_float(w.codes.ptr<bf16>()[2 * w.codes.stride(0) + k]);
  ASSERT_TRUE(quantize_groups(numbers, 1, GroupFormat::kInt4, codes, &scale));
  const StoredTensor* stored = checkpoint->find("model.layers.1.mlp.experts.3.down_proj.weight");
  for (size_t k = 0; k < 7; k += 2) {
    EXPECT_EQ(static_cast<uint8_t>(stored->bytes[2 * 16 + k / 2]), codes[k] | codes[k + 1] << 4);
  }
  const auto config = Json::parse(file_text(out() / "config.json"), "config");
  const Json* written = config->find("quantization_config");
  ASSERT_NE(written, nullptr);
  EXPECT_EQ(written->find("quant_method")->as_string(), "fathom");
  EXPECT_EQ(written->find("formats")->find("experts")->as_string(), "int4");
}

TEST_F(QuantizeCheckpoint, GoesOnBehindTheShardsOfAnInterruptedRun) {
  constexpr int64_t kShard = 3000;  // codes and scales of a matrix fall into different shards
  ASSERT_TRUE(quantize("int4", kShard));
  std::map<std::string, std::string> whole;
  for (const auto& entry : fs::directory_iterator(out())) whole[entry.path().filename()] = file_text(entry.path());
  const auto num_shards = static_cast<int64_t>(Checkpoint::open(out())->shards().size());
  ASSERT_GT(num_shards, 10);
  for (int64_t cut : {1, 8, 9, 40, 80}) {
    fs::remove_all(out());
    fs::remove_all(partial());
    StopsAfter stops(cut);
    const auto interrupted = quantize("int4", kShard, stops);
    ASSERT_FALSE(interrupted);
    EXPECT_EQ(interrupted.error().code, ErrorCode::kCancelled);
    EXPECT_FALSE(fs::exists(out()));
    const bool has_shards = fs::exists(partial() / "resume.txt");
    const auto resumed = quantize("int4", kShard);
    ASSERT_TRUE(resumed) << resumed.error().text;
    EXPECT_EQ(resumed->num_resumed > 0, has_shards) << cut;
    EXPECT_GE(resumed->num_resumed, cut < 20 ? 0 : 10) << cut;
    std::map<std::string, std::string> again;
    for (const auto& entry : fs::directory_iterator(out())) again[entry.path().filename()] = file_text(entry.path());
    EXPECT_EQ(again, whole) << cut;
    EXPECT_FALSE(fs::exists(partial()));
  }
}

TEST_F(QuantizeCheckpoint, WritesABrokenShardAgain) {
  StopsAfter stops(40);
  ASSERT_FALSE(quantize("int4", 3000, stops));
  Path last;
  for (const auto& entry : fs::directory_iterator(partial())) {
    if (entry.path().extension() == ".safetensors") last = std::max(last, entry.path());
  }
  ASSERT_FALSE(last.empty());
  fs::resize_file(last, fs::file_size(last) - 1);
  ASSERT_TRUE(quantize("int4", 3000));
  EXPECT_TRUE(load_model(out()));
}

TEST_F(QuantizeCheckpoint, ResumesNothingOfAnotherRun) {
  const auto interrupt = [&] {
    StopsAfter stops(40);
    ASSERT_FALSE(quantize("int4", 3000, stops));
  };
  interrupt();
  expect_error(quantize("int8", 3000), "another source or other settings");
  expect_error(quantize("int4", 3100), "another source or other settings");
  ASSERT_TRUE(fs::exists(partial())) << "what is another run's is left alone";
  write(testing::awkward_config(), DType::kF32);  // a source that changed
  expect_error(quantize("int4", 3000), "another source or other settings");
  fs::remove_all(partial());
  fs::create_directory(partial());
  std::ofstream(partial() / "notes.txt") << "mine";
  expect_error(quantize("int4", 3000), "remove it");
  EXPECT_TRUE(fs::exists(partial() / "notes.txt"));
}

TEST_F(QuantizeCheckpoint, RefusesASecondWriter) {
  StopsAfter stops(40);
  ASSERT_FALSE(quantize("int4", 3000, stops));
  {
    const auto lock = FileLock::try_acquire(partial() / "fathom.lock");
    ASSERT_TRUE(lock && *lock);
    expect_error(quantize("int4", 3000), "another run is writing");
  }
  EXPECT_TRUE(quantize("int4", 3000));
}

TEST_F(QuantizeCheckpoint, RefusesPlacesAndSourcesThatCannotBe) {
  expect_error(quantize("none"), "changes no tensor");
  expect_error(quantize("int8,experts.99=int4"), "layers 0 to 2");
  SilentProgress silent;
  const auto to = [&](const Path& where) {
    return quantize_checkpoint(source(), where, {.policy = policy_of("int8")}, pool_, silent);
  };
  expect_error(to(source() / "out"), "lies inside");
  expect_error(to(source() / ".." / "model" / "a" / "b"), "lies inside");
  expect_error(to(source()), "lies inside");
  expect_error(to(dir_.path()), "exists");
  expect_error(to(dir_.path() / "absent" / "out"), "absent");
  ASSERT_TRUE(to(out()));
  expect_error(to(out()), "exists");
  expect_error(quantize_checkpoint(out(), dir_.path() / "twice", {.policy = policy_of("int4")}, pool_, silent),
               "is quantised already");
  EXPECT_FALSE(fs::exists(dir_.path() / "twice"));
}

TEST_F(QuantizeCheckpoint, NamesATensorThatDoesNotFitItsFormat) {
  auto model = testing::random_model(testing::awkward_config(), 5, DType::kBF16);
  model->weights.blocks[1].moe.gate.value[2].codes.ptr<bf16>()[3] = {0x7FC0};
  fs::remove_all(source());
  testing::write_model(*model, source());
  expect_error(quantize("int4"), "model.layers.1.mlp.experts.2.gate_proj.weight");
  EXPECT_FALSE(fs::exists(out()));
  EXPECT_FALSE(fs::exists(partial())) << "no shard was complete";
}

TEST_F(QuantizeCheckpoint, CopiesFilesAndTensorsThatItDoesNotKnow) {
  ModelConfig config = testing::awkward_config();
  auto model = testing::random_model(config, 5, DType::kBF16);
  std::ofstream(source() / "tokenizer.json") << "{}";
  std::ofstream(source() / "private.key") << "secret";
  // A tensor more.
  const auto checkpoint = Checkpoint::open(source());
  std::vector<TensorDecl> tensors = {{"model.extra", DType::kI32, {3}}};
  for (const StoredTensor& t : checkpoint->shards()[0].tensors()) tensors.push_back({t.name, t.dtype, t.shape});
  auto writer = SafetensorsWriter::create(dir_.path() / "more.safetensors", tensors);
  ASSERT_TRUE(writer);
  const int32_t extra[] = {1, 2, 3};
  ASSERT_TRUE(writer->append("model.extra", std::as_bytes(std::span(extra))));
  for (const StoredTensor& t : checkpoint->shards()[0].tensors()) ASSERT_TRUE(writer->append(t.name, t.bytes));
  ASSERT_TRUE(writer->commit());
  fs::rename(dir_.path() / "more.safetensors", source() / "model.safetensors");
  ASSERT_TRUE(quantize("int8"));
  const auto written = Checkpoint::open(out());
  const StoredTensor* found = written->find("model.extra");
  ASSERT_NE(found, nullptr);
  EXPECT_EQ(std::memcmp(found->bytes.data(), extra, sizeof extra), 0);
  EXPECT_EQ(file_text(out() / "tokenizer.json"), "{}");
  EXPECT_FALSE(fs::exists(out() / "private.key"));
}

}  // namespace
}  // namespace fathom
