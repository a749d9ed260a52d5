#include "base/git_lfs.h"

#include <gtest/gtest.h>

#include "base/json.h"

namespace fathom {
namespace {

constexpr const char* kPointer =
    "version https://git-lfs.github.com/spec/v1\n"
    "oid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\n"
    "size 12345\n";

TEST(GitLfs, KnowsAPointerByItsFirstLine) {
  EXPECT_TRUE(is_git_lfs_pointer(kPointer));
  for (const char* other : {"", "version", "version https://example.com/spec/v1\n", "{\"version\": 1}", "GGUF"}) {
    EXPECT_FALSE(is_git_lfs_pointer(other)) << other;
  }
}

TEST(GitLfs, JsonThatIsOneSaysHowToGetIt) {
  const auto json = Json::parse(kPointer, "dir/tokenizer.json");
  ASSERT_FALSE(json);
  EXPECT_EQ(json.error().text,
            "dir/tokenizer.json: a Git LFS pointer, not the file itself; run git lfs install and git lfs pull in its "
            "directory");
}

}  // namespace
}  // namespace fathom
