// Files that belong together: all or none of them, and the directories they need.
#include "base/file_set.h"

#include <gtest/gtest.h>
#include <unistd.h>

namespace fathom {
namespace {

class FileSet : public testing::Test {
 protected:
  FileSet() : path_(Path(testing::TempDir()) / ("fathom_file_set_" + std::to_string(::getpid()))) {
    std::filesystem::create_directories(path_);
  }
  ~FileSet() override { std::filesystem::remove_all(path_); }
  Path path_;
};

TEST_F(FileSet, WritesAllOrNone) {
  ASSERT_TRUE(write_file(path_ / "a", "old"));
  const FileText bad[] = {{path_ / "a", "new"}, {path_ / "absent" / "b", "new"}};
  const Status refused = write_files(bad);
  ASSERT_FALSE(refused);
  EXPECT_NE(refused.error().text.find("absent/b"), std::string::npos) << refused.error().text;
  EXPECT_EQ(*read_file(path_ / "a"), "old");
  EXPECT_FALSE(std::filesystem::exists(path_ / "a.partial"));
  const FileText good[] = {{path_ / "a", "new"}, {path_ / "b", "new too"}};
  ASSERT_TRUE(write_files(good));
  EXPECT_EQ(*read_file(path_ / "a"), "new");
  EXPECT_EQ(*read_file(path_ / "b"), "new too");
}

TEST_F(FileSet, MakesTheDirectoriesThatAreMissing) {
  const Path deep = path_ / "one" / "two" / "three";
  ASSERT_TRUE(make_directories(deep));
  EXPECT_TRUE(std::filesystem::is_directory(deep));
  EXPECT_TRUE(make_directories(deep));
  EXPECT_TRUE(make_directories(path_ / "four" / "five" / ""));
  EXPECT_TRUE(std::filesystem::is_directory(path_ / "four" / "five"));
  EXPECT_TRUE(make_directories(""));
  ASSERT_TRUE(write_file(path_ / "file", ""));
  for (const Path& bad : {path_ / "file", path_ / "file" / "below"}) {
    const Status refused = make_directories(bad);
    ASSERT_FALSE(refused) << bad;
    EXPECT_NE(refused.error().text.find((path_ / "file").string()), std::string::npos) << refused.error().text;
  }
}

}  // namespace
}  // namespace fathom
