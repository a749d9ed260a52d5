// Files: bounded reads, maps, and writes that are whole or absent; every error names its path.
#include "base/file.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

namespace fathom {
namespace {

class Folder : public testing::Test {
 protected:
  Folder() : path_(Path(testing::TempDir()) / ("fathom_file_test_" + std::to_string(::getpid()))) {
    std::filesystem::create_directories(path_);
  }
  ~Folder() override { std::filesystem::remove_all(path_); }
  Path path_;
};

using AtomicFileTest = Folder;
using ReadFileTest = Folder;
using MappedFileTest = Folder;
using FileLockTest = Folder;

TEST_F(FileLockTest, HasOneHolderAtATime) {
  const Path path = path_ / "lock";
  {
    auto held = FileLock::try_acquire(path);
    ASSERT_TRUE(held && *held);
    const FileLock moved = std::move(**held);
    const auto second = FileLock::try_acquire(path);
    ASSERT_TRUE(second);
    EXPECT_FALSE(*second);
  }
  const auto after = FileLock::try_acquire(path);
  EXPECT_TRUE(after && *after);
}

TEST_F(FileLockTest, NamesAPlaceThatCannotBeLocked) {
  const auto lock = FileLock::try_acquire(path_ / "absent" / "lock");
  ASSERT_FALSE(lock);
  EXPECT_NE(lock.error().text.find("absent/lock"), std::string::npos) << lock.error().text;
}

TEST_F(AtomicFileTest, AppearsOnlyWithCommit) {
  const Path target = path_ / "a.txt";
  {
    auto file = AtomicFile::create(target);
    ASSERT_TRUE(file) << file.error().text;
    ASSERT_TRUE(file->write("new"));
    EXPECT_FALSE(std::filesystem::exists(target));
    ASSERT_TRUE(file->write(" text"));
    ASSERT_TRUE(file->commit());
  }
  EXPECT_EQ(*read_file(target), "new text");
  EXPECT_FALSE(std::filesystem::exists(path_ / "a.txt.partial"));
}

TEST_F(AtomicFileTest, LeavesTheOldFileIntactWithoutCommit) {
  const Path target = path_ / "a.txt";
  ASSERT_TRUE(write_file(target, "old"));
  {
    auto file = AtomicFile::create(target);
    ASSERT_TRUE(file);
    ASSERT_TRUE(file->write("half of the new te"));
  }
  EXPECT_EQ(*read_file(target), "old");
  EXPECT_FALSE(std::filesystem::exists(path_ / "a.txt.partial"));
}

TEST_F(AtomicFileTest, AMovedFromFileDoesNotRemoveAnything) {
  const Path target = path_ / "a.txt";
  {
    auto first = AtomicFile::create(target);
    ASSERT_TRUE(first);
    AtomicFile second = std::move(*first);
    ASSERT_TRUE(second.write("x"));
    ASSERT_TRUE(second.commit());
  }
  EXPECT_EQ(*read_file(target), "x");
}

TEST_F(AtomicFileTest, ErrorsNameThePath) {
  const auto file = AtomicFile::create(path_ / "missing" / "a.txt");
  ASSERT_FALSE(file);
  EXPECT_EQ(file.error().code, ErrorCode::kNotFound);
  EXPECT_NE(file.error().text.find((path_ / "missing" / "a.txt").string()), std::string::npos) << file.error().text;
}

TEST_F(AtomicFileTest, RefusesWhatIsNoFileAndLeavesItAlone) {
  std::filesystem::create_directories(path_ / "folder" / "inside");
  ASSERT_EQ(::mkfifo((path_ / "pipe").c_str(), 0600), 0);
  std::filesystem::create_symlink("/dev/null", path_ / "link");
  for (const char* name : {"folder", "pipe", "link"}) {
    const auto file = AtomicFile::create(path_ / name);
    ASSERT_FALSE(file) << name;
    EXPECT_EQ(file.error().text, (path_ / name).string() + " is not a regular file; name a file");
    EXPECT_FALSE(std::filesystem::exists(path_ / (std::string(name) + ".partial")));
  }
  EXPECT_TRUE(std::filesystem::exists(path_ / "folder" / "inside"));
  EXPECT_TRUE(std::filesystem::is_fifo(path_ / "pipe"));
  EXPECT_TRUE(std::filesystem::is_symlink(path_ / "link"));
}

TEST_F(AtomicFileTest, CommitOverAFolderThatCameMeanwhileFailsAndLeavesNoPartialFile) {
  const Path target = path_ / "folder";
  auto file = AtomicFile::create(target);
  ASSERT_TRUE(file);
  std::filesystem::create_directories(target / "inside");
  const auto committed = file->commit();
  ASSERT_FALSE(committed);
  EXPECT_NE(committed.error().text.find(target.string()), std::string::npos);
  EXPECT_FALSE(std::filesystem::exists(path_ / "folder.partial"));
  EXPECT_TRUE(std::filesystem::exists(target / "inside"));
}

TEST_F(AtomicFileTest, ReplacesTheFileBehindALink) {
  std::filesystem::create_directory(path_ / "elsewhere");
  ASSERT_TRUE(write_file(path_ / "elsewhere" / "file", "old"));
  std::filesystem::create_symlink("elsewhere/file", path_ / "link");
  ASSERT_TRUE(write_file(path_ / "link", "new"));
  EXPECT_TRUE(std::filesystem::is_symlink(path_ / "link"));
  EXPECT_EQ(*read_file(path_ / "elsewhere" / "file"), "new");
  std::filesystem::create_symlink("elsewhere/fresh", path_ / "dangling");
  ASSERT_TRUE(write_file(path_ / "dangling", "first"));
  EXPECT_EQ(*read_file(path_ / "elsewhere" / "fresh"), "first");
}

TEST_F(ReadFileTest, ReturnsEveryByte) {
  std::string text(100'000, 'x');
  text[5] = '\0';
  ASSERT_TRUE(write_file(path_ / "a", text));
  const auto read = read_file(path_ / "a");
  ASSERT_TRUE(read);
  EXPECT_EQ(*read, text);
}

TEST_F(ReadFileTest, RefusesMoreThanTheLimitAndNamesBoth) {
  ASSERT_TRUE(write_file(path_ / "a", "12345"));
  EXPECT_TRUE(read_file(path_ / "a", 5));
  const auto read = read_file(path_ / "a", 4);
  ASSERT_FALSE(read);
  EXPECT_EQ(read.error().code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(read.error().text, (path_ / "a").string() + ": 5 bytes, more than the accepted 4");
}

TEST_F(ReadFileTest, MissingFilesAndFoldersAreErrorsThatNameThePath) {
  const auto missing = read_file(path_ / "missing");
  ASSERT_FALSE(missing);
  EXPECT_EQ(missing.error().code, ErrorCode::kNotFound);
  EXPECT_NE(missing.error().text.find((path_ / "missing").string()), std::string::npos);
  const auto folder = read_file(path_);
  ASSERT_FALSE(folder);
  EXPECT_EQ(folder.error().text, path_.string() + " is not a regular file");
}

TEST_F(MappedFileTest, SeesTheBytesAndOutlivesItsCopies) {
  ASSERT_TRUE(write_file(path_ / "a", "hello"));
  Result<MappedFile> copy = not_found("");
  {
    auto map = MappedFile::open(path_ / "a");
    ASSERT_TRUE(map);
    copy = *map;
  }
  const auto bytes = copy->bytes();
  EXPECT_EQ(std::string_view(reinterpret_cast<const char*>(bytes.data()), bytes.size()), "hello");
  EXPECT_EQ(copy->path(), path_ / "a");
}

TEST_F(MappedFileTest, FollowsSymbolicLinks) {
  ASSERT_TRUE(write_file(path_ / "a", "hello"));
  std::filesystem::create_symlink("a", path_ / "b");
  const auto map = MappedFile::open(path_ / "b");
  ASSERT_TRUE(map);
  EXPECT_EQ(map->bytes().size(), 5u);
}

TEST_F(MappedFileTest, AnEmptyFileHasNoBytes) {
  ASSERT_TRUE(write_file(path_ / "a", ""));
  const auto map = MappedFile::open(path_ / "a");
  ASSERT_TRUE(map);
  EXPECT_TRUE(map->bytes().empty());
}

TEST_F(MappedFileTest, RefusesFoldersAndMissingFilesByName) {
  const auto folder = MappedFile::open(path_);
  ASSERT_FALSE(folder);
  EXPECT_EQ(folder.error().text, path_.string() + " is not a regular file");
  const auto missing = MappedFile::open(path_ / "missing");
  ASSERT_FALSE(missing);
  EXPECT_NE(missing.error().text.find((path_ / "missing").string()), std::string::npos);
}

}  // namespace
}  // namespace fathom
