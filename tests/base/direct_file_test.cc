// DirectFile: blocks as they are in the file, and errors that name the file and the place.
#include "base/direct_file.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <string>

namespace fathom {
namespace {

constexpr int64_t kBlock = DirectFile::kAlignment;

class DirectFileTest : public testing::Test {
 protected:
  DirectFileTest()
      : path_(Path(testing::TempDir()) / ("fathom_direct_file_test_" + std::to_string(::getpid()))),
        memory_(static_cast<std::byte*>(std::aligned_alloc(kBlock, 4 * kBlock))) {
    std::string text(3 * kBlock, '\0');
    for (size_t i = 0; i < text.size(); ++i) text[i] = static_cast<char>(i * 7 + i / kBlock);
    text_ = text;
    EXPECT_TRUE(write_file(path_, text));
  }
  ~DirectFileTest() override {
    std::filesystem::remove(path_);
    std::free(memory_);
  }
  std::string_view bytes(int64_t count) const {
    return {reinterpret_cast<const char*>(memory_), static_cast<size_t>(count)};
  }
  Path path_;
  std::string text_;
  std::byte* memory_;
};

TEST_F(DirectFileTest, ReadsBlocksAsTheyAre) {
  const auto file = DirectFile::open(path_);
  ASSERT_TRUE(file) << file.error().text;
  EXPECT_EQ((*file)->num_bytes(), 3 * kBlock);
  for (int64_t first : {0, 1, 2}) {
    const int64_t count = (3 - first) * kBlock;
    ASSERT_TRUE((*file)->read(first * kBlock, {memory_, static_cast<size_t>(count)}));
    EXPECT_EQ(bytes(count), std::string_view(text_).substr(static_cast<size_t>(first * kBlock)));
  }
}

TEST_F(DirectFileTest, NamesTheByteWhereAFileEndsTooEarly) {
  const auto file = DirectFile::open(path_);
  ASSERT_TRUE(file);
  ASSERT_EQ(::truncate(path_.c_str(), kBlock + 100), 0);
  const Status s = (*file)->read(kBlock, {memory_, static_cast<size_t>(2 * kBlock)});
  ASSERT_FALSE(s);
  EXPECT_NE(s.error().text.find(path_.string() + " at byte " + std::to_string(kBlock + 100)), std::string::npos)
      << s.error().text;
  EXPECT_TRUE((*file)->read(0, {memory_, static_cast<size_t>(kBlock)})) << "what is there is still read";
}

TEST_F(DirectFileTest, OpensRegularFilesAlone) {
  const auto missing = DirectFile::open(path_.string() + ".none");
  ASSERT_FALSE(missing);
  EXPECT_EQ(missing.error().code, ErrorCode::kNotFound);
  EXPECT_FALSE(DirectFile::open("/dev/null"));
}

}  // namespace
}  // namespace fathom
