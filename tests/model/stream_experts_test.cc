// Experts from a file: the bits of a model in memory, for every format, any number of slots and threads; and the file.
#include "model/stream_experts.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include "kernels/registry.h"
#include "model/mtp.h"
#include "model/prepare_weights.h"
#include "model/transformer.h"
#include "numerics/compare.h"
#include "test_models.h"

namespace fathom {
namespace {

using testing::TemporaryDirectory;

struct How {
  std::string quant = "none";
  Precision precision = Precision::kBF16;
  int threads = 2;
  int64_t tokens = 30;
  std::string level = "cpu";
};

std::unique_ptr<Model> golden(const char* name) {
  auto model = load_model(Path(FATHOM_SOURCE_DIR) / "tests/golden" / name);
  EXPECT_TRUE(model) << model.error().text;
  return std::move(*model);
}

/// Hidden states of the model, then of its MTP module, for random tokens; two steps, so that the second finds experts
/// in memory.
std::vector<float> outputs(const Model& model, Kernels& kernels, const How& how) {
  const auto tokens = testing::random_tokens(how.tokens + 1, model.config.vocab_size, 1);
  const std::vector<int64_t> offsets{0, how.tokens};
  const DocumentLayout layout(offsets);
  const std::span<const int32_t> inputs(tokens.data(), static_cast<size_t>(how.tokens));
  std::vector<float> out;
  const Transformer transformer(model.config, model.weights);
  for (int step = 0; step < 2; ++step) {
    Arena arena;
    const Run run{.k = kernels, .arena = arena, .precision = how.precision};
    const Tensor hidden =
        transformer.forward(run, {.tokens = inputs, .positions = layout.positions, .segments = layout.segments});
    out.insert(out.end(), hidden.ptr<float>(), hidden.ptr<float>() + hidden.numel());
    if (model.config.num_nextn_predict_layers == 0) continue;
    const Tensor guess =
        Mtp(transformer, 0)
            .forward(
                run, hidden,
                {.tokens = std::span(tokens).subspan(1), .positions = layout.positions, .segments = layout.segments});
    out.insert(out.end(), guess.ptr<float>(), guess.ptr<float>() + guess.numel());
  }
  return out;
}

/// With all weights in memory (slots = 0), or with experts from a file below `directory`.
std::vector<float> outputs_of(const char* name, const How& how, int64_t slots = 0, const Path& directory = {}) {
  const auto model = golden(name);
  ThreadPool pool(how.threads);
  const auto kernels = make_kernels(how.level, pool);
  SilentProgress silent;
  const auto policy = parse_quant_policy(how.quant);
  if (slots > 0) {
    const Status s = stream_experts(*model, *policy, how.precision, **kernels, directory, silent);
    EXPECT_TRUE(s) << s.error().text;
    model->experts->allocate(slots);
  }
  const Status s = prepare_weights(*model, *policy, how.precision, **kernels, silent);
  EXPECT_TRUE(s) << s.error().text;
  auto out = outputs(*model, **kernels, how);
  if (slots > 0) {
    EXPECT_TRUE(model->experts->take_status());
    EXPECT_GT(model->experts->stats().bytes_read, 0);
  }
  return out;
}

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return bit_equal(std::span<const float>(a), std::span<const float>(b));
}

TEST(StreamExperts, ChangeNoBitInAnyFormat) {
  const TemporaryDirectory directory;
  for (const char* name : {"v3", "v2lite"}) {
    for (const char* quant :
         {"none", "bf16", "fp8", "int8", "int4", "iq4_nl", "mxfp4", "experts=int4,attention=int8"}) {
      const How how{.quant = quant};
      const auto in_memory = outputs_of(name, how);
      for (int64_t slots : {3, 4, 7, 40}) {
        EXPECT_TRUE(same_bits(outputs_of(name, how, slots, directory.path()), in_memory))
            << name << ", " << quant << ", " << slots << " slots";
      }
    }
  }
}

TEST(StreamExperts, ChangeNoBitInRows) {
  const TemporaryDirectory directory;
  const How how{.precision = Precision::kF32};
  EXPECT_TRUE(same_bits(outputs_of("v3", how, 3, directory.path()), outputs_of("v3", how)));
}

TEST(StreamExperts, ChangeNoBitForAnyThreadsTokensAndLevel) {
  const TemporaryDirectory directory;
  for (const std::string& level : available_kernels()) {
    if (level == "ref") continue;
    for (int64_t tokens : {1, 2, 65}) {
      const auto in_memory = outputs_of("v3", {.quant = "int8", .threads = 1, .tokens = tokens, .level = level});
      for (int threads : {1, 2, 3, 8}) {
        const How how{.quant = "int8", .threads = threads, .tokens = tokens, .level = level};
        EXPECT_TRUE(same_bits(outputs_of("v3", how, 5, directory.path()), in_memory))
            << level << ", " << tokens << " tokens, " << threads << " threads";
      }
    }
  }
}

class StreamExpertsFile : public ::testing::Test {
 protected:
  StreamExpertsFile() : pool_(1), kernels_(std::move(*make_kernels("cpu", pool_))) {}
  Status stream(Model& model, const std::string& quant = "int8") {
    SilentProgress silent;
    return stream_experts(model, *parse_quant_policy(quant), Precision::kBF16, *kernels_, directory_.path() / "sub",
                          silent);
  }
  ExpertFile file_of(const Model& model, const std::string& quant = "int8") {
    const auto file = expert_file(model, *parse_quant_policy(quant), Precision::kBF16, directory_.path() / "sub");
    EXPECT_TRUE(file) << file.error().text;
    return *file;
  }
  static int64_t inode(const Path& path) {
    struct stat info {};
    EXPECT_EQ(::stat(path.c_str(), &info), 0);
    return static_cast<int64_t>(info.st_ino);
  }
  ThreadPool pool_;
  std::unique_ptr<Kernels> kernels_;
  TemporaryDirectory directory_;
};

TEST_F(StreamExpertsFile, IsMadeOnceAndForEachFormat) {
  const auto model = golden("v3");
  const ExpertFile before = file_of(*model);
  EXPECT_FALSE(before.is_there);
  ASSERT_TRUE(stream(*golden("v3")));
  const ExpertFile after = file_of(*model);
  EXPECT_TRUE(after.is_there);
  EXPECT_EQ(after.path, before.path);
  EXPECT_EQ(static_cast<int64_t>(std::filesystem::file_size(after.path)), before.num_bytes);
  const int64_t made = inode(after.path);
  ASSERT_TRUE(stream(*golden("v3")));
  EXPECT_EQ(inode(after.path), made);
  EXPECT_NE(file_of(*model, "int4").path, after.path);
  EXPECT_NE(file_of(*golden("v3-plain")).path, after.path);
}

TEST_F(StreamExpertsFile, IsMadeAgainWhenItIsCutOrOfAnotherIdentity) {
  ASSERT_TRUE(stream(*golden("v3")));
  const Path path = file_of(*golden("v3")).path;
  const std::string whole = *read_file(path);
  std::filesystem::resize_file(path, whole.size() - 1);
  EXPECT_FALSE(file_of(*golden("v3")).is_there);
  ASSERT_TRUE(stream(*golden("v3")));
  EXPECT_EQ(*read_file(path), whole);
  std::string other = whole;
  other[20] ^= 1;  // in the path of the checkpoint
  ASSERT_TRUE(write_file(path, other));
  ASSERT_TRUE(stream(*golden("v3")));
  EXPECT_EQ(*read_file(path), whole);
}

TEST_F(StreamExpertsFile, IsNotLeftHalfDone) {
  class Stop final : public Progress {
   public:
    void update(std::string_view, int64_t, int64_t, std::string_view) override { ++updates_; }
    bool stop_requested() const override { return updates_ >= 3; }

   private:
    int updates_ = 0;
  } stop;
  const auto model = golden("v3");
  const Status s =
      stream_experts(*model, *parse_quant_policy("int8"), Precision::kBF16, *kernels_, directory_.path() / "sub", stop);
  ASSERT_FALSE(s);
  EXPECT_EQ(s.error().code, ErrorCode::kCancelled);
  for (const auto& entry : std::filesystem::directory_iterator(directory_.path() / "sub")) {
    EXPECT_EQ(entry.path().extension(), ".lock");
  }
}

TEST_F(StreamExpertsFile, IsRefusedWhereItCannotBe) {
  ASSERT_TRUE(write_file(directory_.path() / "sub", "a file"));
  const Status s = stream(*golden("v3"));
  ASSERT_FALSE(s);
  EXPECT_NE(s.error().text.find((directory_.path() / "sub").string()), std::string::npos) << s.error().text;
  const auto in_memory = testing::random_model(testing::awkward_config(), 5);
  EXPECT_FALSE(expert_file(*in_memory, {}, Precision::kBF16, directory_.path()));
}

}  // namespace
}  // namespace fathom
