#include "checkpoint/hf_hub.h"

#include <gtest/gtest.h>

#include "checkpoint/temp_dir.h"

namespace fathom {
namespace {

TEST(HubEnvironment, TakesTheFirstVariableThatIsSet) {
  HubEnvironment e{"/cache", "/hf", "/xdg", "/home/me"};
  EXPECT_EQ(e.hub_cache(), "/cache");
  e.hf_hub_cache.clear();
  EXPECT_EQ(e.hub_cache(), "/hf/hub");
  e.hf_home = "~/models";
  EXPECT_EQ(e.hub_cache(), "/home/me/models/hub");
  e.hf_home.clear();
  EXPECT_EQ(e.hub_cache(), "/xdg/huggingface/hub");
  e.xdg_cache_home.clear();
  EXPECT_EQ(e.hub_cache(), "/home/me/.cache/huggingface/hub");
  EXPECT_EQ(HubEnvironment{}.hub_cache(), "");
}

TEST(ResolveModelDir, FindsDirectoriesAndCachedSnapshots) {
  const TempDir dir;
  const HubEnvironment env{.hf_hub_cache = dir.path().string()};
  EXPECT_EQ(*resolve_model_dir(dir.path().string(), env), dir.path());
  dir.write("models--org--name/refs/main", "abc123\n");
  dir.write("models--org--name/snapshots/abc123/config.json", "{}");
  EXPECT_EQ(*resolve_model_dir("org/name", env), dir.path() / "models--org--name" / "snapshots" / "abc123");
}

TEST(ResolveModelDir, SaysWhereItLookedAndWhatToType) {
  const TempDir dir;
  const HubEnvironment env{.hf_hub_cache = dir.path().string()};
  const auto error = [&](std::string_view name) { return resolve_model_dir(name, env).error().text; };
  EXPECT_EQ(error("org/name"), "model \"org/name\": neither a directory nor in the cache (looked for " +
                                   (dir.path() / "models--org--name").string() + "); type: hf download org/name");
  EXPECT_EQ(error("no/such/dir"),
            "model \"no/such/dir\": no such directory, and not an ORG/NAME of the Hugging Face hub");
  EXPECT_EQ(error("../name"), "model \"../name\": no such directory, and not an ORG/NAME of the Hugging Face hub");
  EXPECT_EQ(error(""), "the model is empty; give a directory or ORG/NAME");
  const Path file = dir.write("config.json", "{}");
  EXPECT_EQ(error(file.string()),
            "model \"" + file.string() + "\" is a file; give a *.gguf file or the directory that holds config.json");
  EXPECT_EQ(error("dir/model.gguf"), "model \"dir/model.gguf\": no such file");
  const Path gguf = dir.write("model.gguf", "");
  EXPECT_EQ(*resolve_model_dir(gguf.string(), env), gguf);
  EXPECT_EQ(resolve_model_dir("org/name", {}).error().text,
            "model \"org/name\": no such directory, and no Hugging Face cache is known; set HF_HOME or HF_HUB_CACHE");

  std::filesystem::create_directories(dir.path() / "models--org--name");
  EXPECT_NE(error("org/name").find("refs/main"), std::string::npos);
  dir.write("models--org--name/refs/main", "../../..");
  EXPECT_NE(error("org/name").find("is not a revision"), std::string::npos);
  dir.write("models--org--name/refs/main", "");
  EXPECT_NE(error("org/name").find("is not a revision"), std::string::npos);
  dir.write("models--org--name/refs/main", "gone");
  EXPECT_NE(error("org/name").find("the cache has no "), std::string::npos);
}

}  // namespace
}  // namespace fathom
