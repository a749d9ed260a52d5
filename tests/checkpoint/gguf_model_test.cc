// Models of one and of several GGUF files, and which file a path means.
#include "checkpoint/gguf_model.h"

#include <gtest/gtest.h>

#include <string>

#include "gguf_builder.h"
#include "temp_dir.h"

namespace fathom {
namespace {

using testing::GgufBuilder;

std::string part(int number, int count, int total, const std::string& tensor) {
  GgufBuilder builder;
  builder.pair("split.no", GgufBuilder::kU16, GgufBuilder::raw(static_cast<uint16_t>(number)));
  builder.pair("split.count", GgufBuilder::kU16, GgufBuilder::raw(static_cast<uint16_t>(count)));
  builder.pair("split.tensors.count", GgufBuilder::kI32, GgufBuilder::raw(int32_t{total}));
  if (!tensor.empty()) builder.tensor(tensor, 0, {1}, std::string(4, static_cast<char>('0' + number)));
  return builder.build();
}

TEST(GgufModel, OneFile) {
  const TempDir dir;
  const Path path = dir.write("m.gguf", GgufBuilder().text("k", "v").tensor("t", 0, {1}, "abcd").build());
  const auto model = GgufModel::open(path);
  ASSERT_TRUE(model) << model.error().text;
  EXPECT_EQ(*model->metadata().text("k"), "v");
  ASSERT_NE(model->find("t"), nullptr);
  EXPECT_EQ(model->find("u"), nullptr);
  EXPECT_EQ(GgufModel::open(dir.path() / "none.gguf").error().code, ErrorCode::kNotFound);
  const std::string text = GgufModel::open(dir.write("bad.gguf", "GGUF")).error().text;
  EXPECT_EQ(text.rfind((dir.path() / "bad.gguf").string() + ": ", 0), 0u) << text;
}

TEST(GgufModel, ASplitModelIsOne) {
  const TempDir dir;
  const Path first = dir.write("m-00001-of-00003.gguf", part(0, 3, 3, "a"));
  const Path second = dir.write("m-00002-of-00003.gguf", part(1, 3, 3, "b"));
  const auto error = [&] { return GgufModel::open(first).error().text; };
  EXPECT_EQ(error(), first.string() + ": part \"m-00003-of-00003.gguf\" is missing; is the download complete?");
  dir.write("m-00003-of-00003.gguf", part(2, 3, 3, "c"));
  const auto model = GgufModel::open(first);
  ASSERT_TRUE(model) << model.error().text;
  EXPECT_EQ(model->tensors().size(), 3u);
  EXPECT_EQ(static_cast<char>(model->find("c")->bytes[0]), '2');

  EXPECT_EQ(GgufModel::open(second).error().text, second.string() + " is not the first part; give " + first.string());
  dir.write("m-00003-of-00003.gguf", part(2, 3, 3, "a"));
  EXPECT_EQ(error(), (dir.path() / "m-00003-of-00003.gguf").string() + ": tensor \"a\" is in two parts");
  dir.write("m-00003-of-00003.gguf", part(2, 3, 3, ""));
  EXPECT_EQ(error(), first.string() + ": split.tensors.count is 3, but the parts hold 2 tensors");
  dir.write("m-00003-of-00003.gguf", part(1, 3, 3, "c"));
  EXPECT_EQ(error(), (dir.path() / "m-00003-of-00003.gguf").string() + ": split.no is 1, but part 3 of 3 needs 2");
  dir.write("m-00003-of-00003.gguf", part(2, 4, 3, "c"));
  EXPECT_EQ(error(), (dir.path() / "m-00003-of-00003.gguf").string() + ": split.count is 4, but part 3 of 3 needs 3");
  const Path renamed = dir.write("other.gguf", part(0, 3, 3, "a"));
  EXPECT_EQ(
      GgufModel::open(renamed).error().text,
      renamed.string() + " is part of a model in 3 files, whose names must end in -00001-of-NNNNN.gguf and so on");
}

TEST(GgufModel, FindsTheFileThatAPathMeans) {
  const TempDir dir;
  const auto found = [&](const std::string& name) { return *find_gguf(dir.path() / name); };
  const Path one = dir.write("one/m.gguf", "");
  dir.write("one/notes.txt", "");
  EXPECT_EQ(found("one"), one);
  EXPECT_EQ(found("one/m.gguf"), one);
  EXPECT_EQ(found("one/notes.txt"), std::nullopt);
  EXPECT_EQ(found("none"), std::nullopt);
  const Path first = dir.write("split/m-00001-of-00002.gguf", "");
  dir.write("split/m-00002-of-00002.gguf", "");
  EXPECT_EQ(found("split"), first);
  dir.write("two/a.gguf", "");
  dir.write("two/b.gguf", "");
  EXPECT_EQ(find_gguf(dir.path() / "two").error().text,
            (dir.path() / "two").string() + " holds several GGUF models (\"a.gguf\", \"b.gguf\"); give the file");
  dir.write("two/config.json", "{}");  // then the directory is a Hugging Face model
  EXPECT_EQ(found("two"), std::nullopt);
}

}  // namespace
}  // namespace fathom
