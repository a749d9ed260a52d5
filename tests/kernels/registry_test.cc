// Back ends by name.
#include "kernels/registry.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>

namespace fathom {
namespace {

TEST(Registry, MakesEveryBackEndThatItLists) {
  ThreadPool pool(1);
  const auto names = available_kernels();
  ASSERT_GE(names.size(), 3u);
  EXPECT_EQ(names[0], "ref");
  EXPECT_EQ(names[1], "cpu");
  EXPECT_EQ(names[2], "generic");
  EXPECT_EQ(std::set<std::string>(names.begin(), names.end()).size(), names.size());
  for (const std::string& name : names) {
    const auto kernels = make_kernels(name, pool);
    ASSERT_TRUE(kernels) << kernels.error().text;
    // "cpu" stands for the best level, the last one listed.
    EXPECT_EQ((*kernels)->name(), name == "cpu" ? names.back() : name);
  }
}

TEST(Registry, NamesWhatItAcceptsWhenAskedForSomethingElse) {
  ThreadPool pool(1);
  for (const char* name : {"", "CPU", "avx", "cuda", "ref "}) {
    const auto kernels = make_kernels(name, pool);
    ASSERT_FALSE(kernels) << name;
    EXPECT_EQ(kernels.error().code, ErrorCode::kInvalidArgument);
    EXPECT_NE(kernels.error().text.find("\"" + std::string(name) + "\""), std::string::npos) << kernels.error().text;
    for (const std::string& accepted : available_kernels()) {
      EXPECT_NE(kernels.error().text.find(accepted), std::string::npos) << kernels.error().text;
    }
  }
}

TEST(Registry, SaysWhenALevelCannotRunHere) {
  ThreadPool pool(1);
  const auto names = available_kernels();
  for (const char* level : {"avx2", "avx512", "avx512bf16", "amx"}) {
    const auto kernels = make_kernels(level, pool);
    if (std::find(names.begin(), names.end(), level) != names.end()) {
      EXPECT_TRUE(kernels) << level;
    } else {
      ASSERT_FALSE(kernels) << level;
      EXPECT_EQ(kernels.error().code, ErrorCode::kUnsupported);
    }
  }
}

}  // namespace
}  // namespace fathom
