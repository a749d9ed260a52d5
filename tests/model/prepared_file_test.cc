// The file of prepared weights or experts: when it is taken for what it is wanted for, and who makes it.
#include "model/prepared_file.h"

#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "base/direct_file.h"
#include "base/file_set.h"
#include "model/checkpoint_dir.h"
#include "numerics/panels.h"

namespace fathom {
namespace {

using testing::TemporaryDirectory;

class PreparedFileTest : public ::testing::Test {
 protected:
  PreparedFileTest() {
    testing::write_model(*testing::random_model(testing::awkward_config(), 1), directory_.path() / "model");
    auto model = load_model(directory_.path() / "model");
    EXPECT_TRUE(model) << model.error().text;
    model_ = std::move(*model);
  }
  PreparedFile file_of(std::string_view layout = "a layout", int64_t content_bytes = 100,
                       PreparedKind kind = kPreparedWeights) const {
    auto file = PreparedFile::of(kind, *model_, layout, content_bytes, directory_.path() / "kept");
    EXPECT_TRUE(file) << file.error().text;
    return *file;
  }
  void make(const PreparedFile& file, char byte = 'x', size_t bytes = 100) const {
    const auto claim = file.claim(silent_);
    ASSERT_TRUE(claim && *claim);
    auto out = file.create();
    ASSERT_TRUE(out) << out.error().text;
    ASSERT_TRUE(out->write(std::string(bytes, byte)));
    ASSERT_TRUE(out->commit());
  }
  TemporaryDirectory directory_;
  std::unique_ptr<Model> model_;
  mutable SilentProgress silent_;
};

TEST_F(PreparedFileTest, HasItsContentBehindAnAlignedHead) {
  const PreparedFile file = file_of();
  EXPECT_FALSE(file.is_there());
  EXPECT_FALSE(file.map());
  make(file);
  EXPECT_TRUE(file.is_there());
  EXPECT_EQ(file.head_bytes() % DirectFile::kAlignment, 0);
  EXPECT_EQ(static_cast<int64_t>(std::filesystem::file_size(file.path())), file.num_bytes());
  const auto map = file.map();
  ASSERT_TRUE(map);
  for (int i = 0; i < 100; ++i) EXPECT_EQ(file.content(*map)[i], std::byte{'x'});
  const auto again = file.claim(silent_);
  ASSERT_TRUE(again);
  EXPECT_FALSE(*again) << "nothing is to be made";
}

TEST_F(PreparedFileTest, IsAnotherForEachLayoutKindAndState) {
  const PreparedFile file = file_of();
  EXPECT_NE(file_of("another layout").path(), file.path());
  EXPECT_NE(file_of("a layout", 100, kPreparedExperts).path(), file.path());
  EXPECT_EQ(file_of().path(), file.path());
  const Path shard = directory_.path() / "model" / "model.safetensors";
  std::filesystem::last_write_time(shard, std::filesystem::last_write_time(shard) + std::chrono::seconds(1));
  EXPECT_NE(file_of().path(), file.path()) << "a checkpoint that was written again";
}

// A hash may be met by chance or on purpose: the head is what counts, to its last byte.
TEST_F(PreparedFileTest, IsNotThereWhenItIsForeignOrCut) {
  const PreparedFile file = file_of(std::string(10'000, 'l'));
  make(file);
  const std::string whole = *read_file(file.path());
  for (const size_t at : {size_t{0}, size_t{20}, size_t{9'000}, static_cast<size_t>(file.head_bytes()) - 1}) {
    std::string foreign = whole;
    foreign[at] ^= 1;
    ASSERT_TRUE(write_file(file.path(), foreign));
    EXPECT_FALSE(file.is_there()) << "byte " << at;
  }
  for (const std::string& other : {whole.substr(0, whole.size() - 1), whole + "x", std::string()}) {
    ASSERT_TRUE(write_file(file.path(), other));
    EXPECT_FALSE(file.is_there()) << other.size() << " bytes";
    EXPECT_FALSE(file.map()) << other.size() << " bytes";
  }
  ASSERT_TRUE(write_file(file.path(), whole));
  EXPECT_TRUE(file.is_there());
}

TEST_F(PreparedFileTest, IsMadeByOneOfThoseWhoWantIt) {
  const PreparedFile file = file_of();
  std::atomic<int> makers{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      SilentProgress silent;
      const auto claim = file.claim(silent);
      ASSERT_TRUE(claim) << claim.error().text;
      if (!*claim) {
        EXPECT_TRUE(file.is_there());
        return;
      }
      ++makers;
      auto out = file.create();
      ASSERT_TRUE(out);
      ASSERT_TRUE(out->write(std::string(100, 'y')));
      ASSERT_TRUE(out->commit());
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(makers, 1);
}

TEST_F(PreparedFileTest, IsWaitedForUntilAWishToStop) {
  class Stop final : public Progress {
   public:
    void update(std::string_view what, int64_t, int64_t, std::string_view) override { what_ = what; }
    bool stop_requested() const override { return !what_.empty(); }
    std::string what_;
  } stop;
  const PreparedFile file = file_of();
  const auto held = file.claim(silent_);
  ASSERT_TRUE(held && *held);
  const auto claim = file.claim(stop);
  ASSERT_FALSE(claim);
  EXPECT_EQ(claim.error().code, ErrorCode::kCancelled);
  EXPECT_EQ(stop.what_, "waiting for another process that prepares the weights");
}

TEST_F(PreparedFileTest, NamesThePlaceAndTheFlagWhenThereIsNoRoom) {
  const PreparedFile file = file_of("a layout", int64_t{1} << 60);
  ASSERT_TRUE(make_directories(directory_.path() / "kept"));
  const auto out = file.create();
  ASSERT_FALSE(out);
  for (const char* said : {"prepared weights", "--prepared-dir", "kept", "1048576.00 TiB"}) {
    EXPECT_NE(out.error().text.find(said), std::string::npos) << out.error().text;
  }
  EXPECT_TRUE(std::filesystem::is_empty(directory_.path() / "kept"));
}

TEST_F(PreparedFileTest, IsOfModelsFromFilesAlone) {
  const auto in_memory = testing::random_model(testing::awkward_config(), 1);
  EXPECT_FALSE(PreparedFile::of(kPreparedWeights, *in_memory, "a layout", 1, directory_.path()));
  std::filesystem::remove(directory_.path() / "model" / "model.safetensors");
  const auto gone = PreparedFile::of(kPreparedWeights, *model_, "a layout", 1, directory_.path());
  ASSERT_FALSE(gone);
  EXPECT_NE(gone.error().text.find("model.safetensors"), std::string::npos) << gone.error().text;
}

TEST(PreparedForms, SayWhatAMatrixIsAndBecomes) {
  const Weight bf16 = panels_of(DType::kBF16, 16, 64), int8 = panels_of(GroupFormat::kInt8, 16, 64);
  EXPECT_NE(form_text(bf16, int8), form_text(bf16, bf16));
  EXPECT_NE(form_text(bf16, int8), form_text(int8, int8));
  Weight rows = bf16;
  rows.layout = WeightLayout::kRows;
  EXPECT_NE(form_text(rows, int8), form_text(bf16, int8));
  Weight ue8m0 = panels_of(DType::kE4M3, 16, 64), f32 = ue8m0;
  ue8m0.scale_format = ScaleFormat::kUe8m0;
  EXPECT_NE(form_text(rows, ue8m0), form_text(rows, f32));
}

}  // namespace
}  // namespace fathom
