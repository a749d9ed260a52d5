// API keys: which are accepted, and how the file is read and read again.
#include "serve/keys.h"

#include <gtest/gtest.h>

#include "shared_data.h"

namespace fathom::serve {
namespace {

using fathom::testing::TemporaryDirectory;

TEST(ApiKeys, NoneMeansEverybody) {
  const auto keys = ApiKeys::create({}, {});
  ASSERT_TRUE(keys);
  EXPECT_FALSE(keys->required());
}

TEST(ApiKeys, AcceptsExactlyItsKeys) {
  const auto keys = ApiKeys::create({"sk-one", "sk-two"}, {});
  ASSERT_TRUE(keys);
  EXPECT_TRUE(keys->required());
  for (const char* good : {"sk-one", "sk-two"}) EXPECT_TRUE(keys->accepts(good));
  for (const char* bad : {"", "sk-on", "sk-onee", "SK-ONE", "sk-one "}) EXPECT_FALSE(keys->accepts(bad)) << bad;
  EXPECT_FALSE(keys->accepts(std::string(100000, 'x')));
}

TEST(ApiKeys, ReadsTheFileAgainWhenItChanges) {
  const TemporaryDirectory dir;
  const Path file = dir.path() / "keys";
  ASSERT_TRUE(write_file(file, "# ours\n  first \r\n\nsecond"));
  auto keys = ApiKeys::create({"own"}, file);
  ASSERT_TRUE(keys) << keys.error().text;
  for (const char* good : {"own", "first", "second"}) EXPECT_TRUE(keys->accepts(good));
  EXPECT_FALSE(keys->accepts("# ours"));
  EXPECT_FALSE(keys->accepts(""));
  auto again = keys->reload();
  ASSERT_TRUE(again);
  EXPECT_FALSE(*again) << "nothing has changed";
  ASSERT_TRUE(write_file(file, "third\n"));  // a new inode
  again = keys->reload();
  ASSERT_TRUE(again);
  EXPECT_TRUE(*again);
  EXPECT_TRUE(keys->accepts("third"));
  EXPECT_TRUE(keys->accepts("own"));
  EXPECT_FALSE(keys->accepts("first"));
}

TEST(ApiKeys, ABrokenFileKeepsTheOldKeys) {
  const TemporaryDirectory dir;
  const Path file = dir.path() / "keys";
  ASSERT_TRUE(write_file(file, "first\n"));
  auto keys = ApiKeys::create({}, file);
  ASSERT_TRUE(keys);
  ASSERT_TRUE(write_file(file, "# nothing\n"));
  const auto empty = keys->reload();
  ASSERT_FALSE(empty);
  EXPECT_NE(empty.error().text.find(file.string()), std::string::npos);
  EXPECT_TRUE(keys->accepts("first"));
  std::filesystem::remove(file);
  EXPECT_FALSE(keys->reload(true));
  EXPECT_TRUE(keys->required());
  EXPECT_TRUE(keys->accepts("first"));
}

TEST(ApiKeys, RefusesWhatCannotBeAKey) {
  EXPECT_FALSE(ApiKeys::create({""}, {}));
  EXPECT_FALSE(ApiKeys::create({" a"}, {}));
  EXPECT_FALSE(ApiKeys::create({}, "/nonexistent/keys"));
}

TEST(BearerKey, IsWhatFollowsTheScheme) {
  EXPECT_EQ(bearer_key("Bearer abc"), "abc");
  EXPECT_EQ(bearer_key("bearer  abc "), "abc");
  EXPECT_EQ(bearer_key("Basic abc"), "");
  EXPECT_EQ(bearer_key("Bearer "), "");
  EXPECT_EQ(bearer_key(""), "");
}

}  // namespace
}  // namespace fathom::serve
