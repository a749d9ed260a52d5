#include "checkpoint/hf_index.h"

#include <gtest/gtest.h>

#include <cstring>
#include <set>

#include "base/json.h"
#include "checkpoint/bytes.h"
#include "checkpoint/checkpoint_writer.h"
#include "checkpoint/temp_dir.h"

namespace fathom {
namespace {

constexpr char kShard1[] = "model-00001-of-00002.safetensors";
constexpr char kShard2[] = "model-00002-of-00002.safetensors";

// A safetensors file of U8 tensors with one byte each.
void write_shard(const Path& path, const std::vector<std::string>& names) {
  std::vector<TensorDecl> decls;
  for (const std::string& name : names) decls.push_back({name, DType::kU8, {1}});
  auto writer = SafetensorsWriter::create(path, decls);
  ASSERT_TRUE(writer) << writer.error().text;
  for (const std::string& name : names) ASSERT_TRUE(writer->append(name, bytes_of("x")));
  ASSERT_TRUE(writer->commit());
}

std::string index_text(const std::vector<std::pair<std::string, std::string>>& weight_map) {
  Json map = Json::object();
  for (const auto& [name, file] : weight_map) map.set(name, file);
  Json index = Json::object();
  index.set("weight_map", std::move(map));
  return index.dump();
}

std::string open_error(const Path& dir) {
  const auto checkpoint = Checkpoint::open(dir);
  if (checkpoint) return "accepted";
  std::string text = checkpoint.error().text;
  for (size_t at; (at = text.find(dir.string())) != std::string::npos;) text.replace(at, dir.string().size(), "DIR");
  return text;
}

TEST(Checkpoint, ReadsASingleFile) {
  const TempDir dir;
  write_shard(dir.path() / "model.safetensors", {"a", "b"});
  const auto checkpoint = Checkpoint::open(dir.path());
  ASSERT_TRUE(checkpoint) << checkpoint.error().text;
  EXPECT_EQ(checkpoint->names(), (std::vector<std::string_view>{"a", "b"}));
  EXPECT_EQ(checkpoint->total_bytes(), 2);
  EXPECT_EQ(checkpoint->find("c"), nullptr);
  EXPECT_EQ(checkpoint->tensor("c").error().text, dir.path().string() + ": no tensor \"c\"");
}

TEST(Checkpoint, ReadsShardsThroughTheIndexAndSurvivesACopy) {
  const TempDir dir;
  write_shard(dir.path() / kShard1, {"a", "b"});
  write_shard(dir.path() / kShard2, {"c"});
  dir.write("model.safetensors.index.json", index_text({{"c", kShard2}, {"a", kShard1}, {"b", kShard1}}));
  Result<Checkpoint> checkpoint = Checkpoint::open(dir.path());
  ASSERT_TRUE(checkpoint) << checkpoint.error().text;
  const Checkpoint copy = *checkpoint;
  checkpoint = not_found("gone");
  EXPECT_EQ(copy.names(), (std::vector<std::string_view>{"a", "b", "c"}));
  EXPECT_EQ(copy.num_tensors(), 3);
  EXPECT_EQ(copy.shards().size(), 2u);
  const auto c = copy.tensor("c");
  ASSERT_TRUE(c);
  EXPECT_EQ(*c->ptr<uint8_t>(), 'x');
}

TEST(Checkpoint, FollowsTheLinksOfTheHuggingFaceCache) {
  const TempDir dir;
  std::filesystem::create_directories(dir.path() / "blobs");
  std::filesystem::create_directories(dir.path() / "snapshots" / "rev");
  write_shard(dir.path() / "blobs" / "0123", {"a"});
  std::filesystem::create_symlink("../../blobs/0123", dir.path() / "snapshots" / "rev" / "model.safetensors");
  const auto checkpoint = Checkpoint::open(dir.path() / "snapshots" / "rev");
  ASSERT_TRUE(checkpoint) << checkpoint.error().text;
  EXPECT_NE(checkpoint->find("a"), nullptr);
}

TEST(Checkpoint, SaysWhatIsMissingOrTooMuch) {
  const TempDir dir;
  EXPECT_EQ(open_error(dir.path()), "DIR holds neither model.safetensors nor model.safetensors.index.json");
  write_shard(dir.path() / kShard1, {"a", "b"});
  dir.write("model.safetensors.index.json", index_text({{"a", kShard1}, {"b", kShard1}, {"c", kShard2}}));
  EXPECT_EQ(open_error(dir.path()),
            "DIR: shard \"model-00002-of-00002.safetensors\" is missing, though "
            "model.safetensors.index.json names it; is the download complete?");
  write_shard(dir.path() / kShard2, {"d"});
  EXPECT_EQ(open_error(dir.path()),
            "DIR/model-00002-of-00002.safetensors: tensor \"c\" is missing, though "
            "model.safetensors.index.json lists it there");
  write_shard(dir.path() / kShard2, {"c", "d", "e"});
  EXPECT_EQ(open_error(dir.path()),
            "DIR/model-00002-of-00002.safetensors: 2 tensors that "
            "model.safetensors.index.json does not list there; the first is \"d\"");
  // The same tensor in two shards: only one of them is the listed one.
  write_shard(dir.path() / kShard2, {"c", "a"});
  EXPECT_EQ(open_error(dir.path()),
            "DIR/model-00002-of-00002.safetensors: 1 tensors that "
            "model.safetensors.index.json does not list there; the first is \"a\"");
  write_shard(dir.path() / kShard2, {"c"});
  EXPECT_EQ(open_error(dir.path()), "accepted");
  write_shard(dir.path() / "model.safetensors", {"a"});
  EXPECT_EQ(open_error(dir.path()),
            "DIR holds both model.safetensors and model.safetensors.index.json; remove the one "
            "that is out of date");
}

TEST(Checkpoint, RefusesIndexesThatLeaveTheDirectoryOrAreBroken) {
  const TempDir dir;
  const auto with = [&](std::string_view text) {
    dir.write("model.safetensors.index.json", text);
    return open_error(dir.path());
  };
  for (const char* name :
       {"../x.safetensors", "/x.safetensors", "a/x.safetensors", "..", "", "x.bin", ".safetensors"}) {
    EXPECT_EQ(with(index_text({{"a", name}})), "DIR/model.safetensors.index.json: weight_map \"a\" names \"" +
                                                   std::string(name) +
                                                   "\"; accepted are plain names *.safetensors inside the directory");
  }
  EXPECT_EQ(with("{}"),
            "DIR/model.safetensors.index.json: \"weight_map\" must be an object of tensor name to file name");
  EXPECT_EQ(with(R"({"weight_map":{}})"), "DIR/model.safetensors.index.json: \"weight_map\" is empty");
  EXPECT_EQ(with(R"({"weight_map":{"a":1}})"),
            "DIR/model.safetensors.index.json: weight_map \"a\" must be a file name, found integer");
  EXPECT_NE(with(R"({"weight_map":{"a":"x.safetensors","a":"y.safetensors"}})").find("duplicate key"),
            std::string::npos);
  EXPECT_NE(with("{").find("not valid JSON"), std::string::npos);
}

// Two tensors of four bytes and one of six.
const std::vector<TensorDecl> kDecls = {{"a", DType::kF32, {1}}, {"b", DType::kBF16, {2}}, {"c", DType::kU8, {6}}};

Status write_all(CheckpointWriter& writer) {
  if (auto s = writer.append("a", bytes_of("aa")); !s) return s;
  if (auto s = writer.append("a", bytes_of("aa")); !s) return s;
  if (auto s = writer.append("b", bytes_of("bbbb")); !s) return s;
  if (auto s = writer.append("c", bytes_of("cccccc")); !s) return s;
  return writer.add_file("config.json", "{}");
}

TEST(CheckpointWriter, WritesOneFileOrShardsThatReadBack) {
  for (const auto& [max_bytes, num_shards] :
       {std::pair<int64_t, size_t>{100, 1}, {14, 1}, {13, 2}, {8, 2}, {5, 3}, {1, 3}}) {
    const TempDir dir;
    const Path target = dir.path() / "out";
    auto writer = CheckpointWriter::create(target, kDecls, {.max_shard_bytes = max_bytes});
    ASSERT_TRUE(writer) << writer.error().text;
    ASSERT_TRUE(write_all(*writer));
    EXPECT_FALSE(std::filesystem::exists(target)) << "visible before commit";
    const auto done = writer->commit();
    ASSERT_TRUE(done) << done.error().text;
    const auto checkpoint = Checkpoint::open(target);
    ASSERT_TRUE(checkpoint) << checkpoint.error().text;
    EXPECT_EQ(checkpoint->shards().size(), num_shards) << max_bytes;
    EXPECT_EQ(std::filesystem::exists(target / "model.safetensors.index.json"), num_shards > 1);
    EXPECT_EQ(checkpoint->total_bytes(), 14);
    EXPECT_EQ(checkpoint->names(), (std::vector<std::string_view>{"a", "b", "c"}));
    EXPECT_EQ(std::memcmp(checkpoint->find("c")->bytes.data(), "cccccc", 6), 0);
    EXPECT_EQ(*read_file(target / "config.json"), "{}");
    EXPECT_FALSE(std::filesystem::exists(dir.path() / "out.partial"));
  }
}

TEST(CheckpointWriter, WritesACheckpointWithoutTensors) {
  const TempDir dir;
  auto writer = CheckpointWriter::create(dir.path() / "out", {});
  ASSERT_TRUE(writer) << writer.error().text;
  ASSERT_TRUE(writer->commit());
  const auto checkpoint = Checkpoint::open(dir.path() / "out");
  ASSERT_TRUE(checkpoint) << checkpoint.error().text;
  EXPECT_EQ(checkpoint->num_tensors(), 0);
}

TEST(CheckpointWriter, LeavesNothingWithoutCommit) {
  const TempDir dir;
  {
    auto writer = CheckpointWriter::create(dir.path() / "out", kDecls, {.max_shard_bytes = 5});
    ASSERT_TRUE(writer);
    ASSERT_TRUE(writer->append("a", bytes_of("aaaa")));
  }
  EXPECT_TRUE(std::filesystem::is_empty(dir.path()));
}

TEST(CheckpointWriter, GoesOnBehindCompleteShardsOfTheSameIdentity) {
  const TempDir dir;
  const Path target = dir.path() / "out", partial = dir.path() / "out.partial";
  const CheckpointWriterOptions options{.max_shard_bytes = 8, .resume_identity = "one"};
  {
    auto writer = CheckpointWriter::create(target, kDecls, options);
    ASSERT_TRUE(writer) << writer.error().text;
    EXPECT_EQ(writer->num_resumed(), 0u);
    ASSERT_TRUE(writer->append("a", bytes_of("aaaa")));
    ASSERT_TRUE(writer->append("b", bytes_of("bb")));
    const auto second = CheckpointWriter::create(target, kDecls, options);
    ASSERT_FALSE(second);
    EXPECT_NE(second.error().text.find("another run is writing"), std::string::npos) << second.error().text;
  }
  EXPECT_FALSE(std::filesystem::exists(partial)) << "no shard was complete";
  {
    auto writer = CheckpointWriter::create(target, kDecls, options);
    ASSERT_TRUE(writer) << writer.error().text;
    ASSERT_TRUE(writer->append("a", bytes_of("aaaa")));
    ASSERT_TRUE(writer->append("b", bytes_of("bbbb")));
    ASSERT_TRUE(writer->append("c", bytes_of("ccc")));
  }
  EXPECT_TRUE(std::filesystem::exists(partial));
  EXPECT_FALSE(CheckpointWriter::create(target, kDecls, {.max_shard_bytes = 8, .resume_identity = "two"}));
  EXPECT_FALSE(CheckpointWriter::create(target, kDecls)) << "one that cannot resume leaves it alone";
  auto writer = CheckpointWriter::create(target, kDecls, options);
  ASSERT_TRUE(writer) << writer.error().text;
  EXPECT_EQ(writer->num_resumed(), 2u);
  ASSERT_TRUE(writer->append("c", bytes_of("cccccc")));
  { const CheckpointWriter ends = std::move(*writer); }  // between the last shard and the commit
  auto last = CheckpointWriter::create(target, kDecls, options);
  ASSERT_TRUE(last) << last.error().text;
  EXPECT_EQ(last->num_resumed(), 3u);
  ASSERT_TRUE(last->add_file("config.json", "{}"));
  ASSERT_TRUE(last->commit());
  EXPECT_FALSE(std::filesystem::exists(partial));
  std::set<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(target)) names.insert(entry.path().filename());
  EXPECT_EQ(names, (std::set<std::string>{"config.json", "model-00001-of-00002.safetensors",
                                          "model-00002-of-00002.safetensors", "model.safetensors.index.json"}));
  EXPECT_TRUE(Checkpoint::open(target));
  EXPECT_FALSE(CheckpointWriter::create(target, kDecls, options)) << "it exists";
}

TEST(CheckpointWriter, ClearsWhatAKilledWriterLeft) {
  const TempDir dir;
  const Path target = dir.path() / "out", partial = dir.path() / "out.partial";
  const auto write = [&] {
    auto writer = CheckpointWriter::create(target, kDecls);
    const Status written = writer ? write_all(*writer) : Status(writer.error());
    return written ? writer->commit() : written;
  };
  std::filesystem::create_directory(partial);  // killed before it had the lock
  EXPECT_TRUE(write());
  std::filesystem::remove_all(target);
  std::filesystem::create_directory(partial);
  ASSERT_TRUE(write_file(partial / "fathom.lock", ""));
  ASSERT_TRUE(write_file(partial / "model.safetensors", "half"));
  ASSERT_TRUE(write_file(partial / "notes.json", "of another attempt"));
  {
    const auto lock = FileLock::try_acquire(partial / "fathom.lock");
    ASSERT_TRUE(lock && *lock);
    const Status second = write();
    ASSERT_FALSE(second);
    EXPECT_NE(second.error().text.find("another run is writing"), std::string::npos) << second.error().text;
    EXPECT_TRUE(std::filesystem::exists(partial / "notes.json"));
  }
  EXPECT_TRUE(write());
  EXPECT_FALSE(std::filesystem::exists(partial));
  EXPECT_FALSE(std::filesystem::exists(target / "notes.json"));
  ASSERT_TRUE(write_file(target / "fathom.lock", ""));  // killed right after the renaming
  EXPECT_FALSE(write()) << "it exists";
  EXPECT_FALSE(std::filesystem::exists(target / "fathom.lock"));
  std::filesystem::remove_all(target);
  std::filesystem::create_directory(partial);
  ASSERT_TRUE(write_file(partial / "model.safetensors", "somebody's"));  // without the lock it is none of ours
  EXPECT_FALSE(write());
  EXPECT_TRUE(std::filesystem::exists(partial / "model.safetensors"));
}

TEST(CheckpointWriter, ReplacesOnlyOldCheckpointsAndOnlyWhenAsked) {
  const TempDir dir;
  const Path target = dir.path() / "out";
  const auto save = [&](bool overwrite) -> std::string {
    auto writer = CheckpointWriter::create(target, kDecls, {.overwrite = overwrite});
    if (!writer) return writer.error().text.substr(dir.path().string().size());
    EXPECT_TRUE(write_all(*writer));
    const auto s = writer->commit();
    return s ? "saved" : s.error().text;
  };
  EXPECT_EQ(save(false), "saved");
  dir.write("out/stale.txt", "old");
  EXPECT_EQ(save(false), "/out exists; remove it or name another directory");
  EXPECT_EQ(save(true), "saved");
  EXPECT_FALSE(std::filesystem::exists(target / "stale.txt"));
  EXPECT_FALSE(std::filesystem::exists(dir.path() / "out.replaced"));

  dir.write("out/photos/me.jpg", "precious");
  EXPECT_NE(save(true).find("not a checkpoint directory"), std::string::npos);
  EXPECT_TRUE(std::filesystem::exists(target / "photos" / "me.jpg"));
  std::filesystem::remove_all(target);
  dir.write("out/notes.txt", "precious");
  EXPECT_NE(save(true).find("not a checkpoint directory"), std::string::npos);
  std::filesystem::remove_all(target);

  dir.write("out.partial/model.safetensors.partial", "torn");
  EXPECT_NE(save(false).find("/out.partial is in the way"), std::string::npos);
  EXPECT_EQ(save(true), "saved");
  std::filesystem::remove_all(target);
  dir.write("out.replaced/config.json", "{}");
  EXPECT_NE(save(true).find("older checkpoint of an interrupted save"), std::string::npos);
  EXPECT_TRUE(std::filesystem::exists(dir.path() / "out.replaced" / "config.json"));
}

TEST(CheckpointWriter, DoesNotReplaceADirectoryThatAppearsMeanwhile) {
  const TempDir dir;
  auto writer = CheckpointWriter::create(dir.path() / "out", kDecls);
  ASSERT_TRUE(writer);
  ASSERT_TRUE(write_all(*writer));
  dir.write("out/config.json", "theirs");
  EXPECT_FALSE(writer->commit());
  EXPECT_EQ(*read_file(dir.path() / "out" / "config.json"), "theirs");
}

TEST(CheckpointWriter, RefusesBadNamesAndSizes) {
  const TempDir dir;
  EXPECT_FALSE(CheckpointWriter::create("..", kDecls));
  EXPECT_FALSE(CheckpointWriter::create("", kDecls));
  EXPECT_FALSE(CheckpointWriter::create(dir.path() / "none" / "out", kDecls));
  EXPECT_FALSE(CheckpointWriter::create(dir.path() / "out", kDecls, {.max_shard_bytes = 0}));
  EXPECT_FALSE(CheckpointWriter::create(dir.path() / "out", {{"a", DType::kU8, {1}}, {"a", DType::kU8, {1}}}));
  EXPECT_FALSE(CheckpointWriter::create(dir.path() / "out", {{"a", DType::kU8, {-1}}}));
  EXPECT_FALSE(CheckpointWriter::create(dir.path() / "out", {{"a", DType::kU8, {1}}, {"\n", DType::kU8, {1}}},
                                        {.max_shard_bytes = 1}))
      << "found before anything is written, though it is in the second shard";
  auto writer = CheckpointWriter::create(dir.path() / "out" / "", kDecls);
  ASSERT_TRUE(writer) << "a trailing slash is fine";
  EXPECT_FALSE(writer->add_file("../x", ""));
  EXPECT_FALSE(writer->add_file("model.safetensors", ""));
}

}  // namespace
}  // namespace fathom
