// Snapshots: whole or absent, verified, the newest good one wins.
#include "checkpoint/snapshot.h"

#include <gtest/gtest.h>

#include <cstring>
#include <set>

#include "temp_dir.h"

namespace fathom {
namespace {

namespace fs = std::filesystem;

/// One F32 and one BF16 tensor whose values tell the step they were saved at.
struct Numbers {
  explicit Numbers(int64_t step) {
    for (size_t i = 0; i < 6; ++i) f32[i] = static_cast<float>(step) + 0.5f * static_cast<float>(i);
    for (size_t i = 0; i < 3; ++i) half[i] = to_bf16(static_cast<float>(step));
  }
  std::vector<SnapshotTensor> tensors() {
    return {{"w", Tensor::contiguous(f32, DType::kF32, {2, 3})},
            {"w.exp_avg", Tensor::contiguous(half, DType::kBF16, {3})}};
  }
  float f32[6] = {};
  bf16 half[3] = {};
};

Status save(const Path& dir, int64_t step, int64_t keep = 10) {
  Numbers numbers(step);
  Json state = Json::object();
  state.set("tokens", step * 100);
  state.set("rate", 0.1);
  return save_snapshot(dir, step, state, numbers.tensors(), keep);
}

std::set<std::string> names_in(const Path& dir) {
  std::set<std::string> out;
  for (const auto& entry : fs::directory_iterator(dir)) out.insert(entry.path().filename());
  return out;
}

void expect_step(const Path& dir, int64_t step, size_t num_notes = 0) {
  const auto loaded = load_snapshot(dir);
  ASSERT_TRUE(loaded) << loaded.error().text;
  ASSERT_TRUE(*loaded);
  const Snapshot& snapshot = **loaded;
  EXPECT_EQ(snapshot.step, step);
  EXPECT_EQ(snapshot.notes.size(), num_notes);
  EXPECT_EQ(snapshot.state.find("tokens")->as_int(), step * 100);
  EXPECT_EQ(snapshot.state.find("rate")->as_double(), 0.1);
  Numbers expected(step);
  const StoredTensor* w = snapshot.tensors.find("w");
  ASSERT_NE(w, nullptr);
  EXPECT_EQ(w->shape, (std::vector<int64_t>{2, 3}));
  EXPECT_EQ(std::memcmp(w->bytes.data(), expected.f32, sizeof expected.f32), 0);
  EXPECT_EQ(std::memcmp(snapshot.tensors.find("w.exp_avg")->bytes.data(), expected.half, sizeof expected.half), 0);
}

/// Changes one byte of a file.
void damage(const Path& file, std::streamoff at) {
  std::fstream f(file, std::ios::in | std::ios::out | std::ios::binary);
  f.seekg(at);
  const int byte = f.get();
  f.seekp(at);
  f.put(static_cast<char>(byte ^ 4));
  ASSERT_TRUE(f.good());
}

TEST(Snapshot, IsThereOnceSavedAndNothingElseIs) {
  const TempDir temp;
  const Path dir = temp.path() / "deep" / "run";
  ASSERT_TRUE(load_snapshot(dir));
  EXPECT_FALSE(*load_snapshot(dir));
  ASSERT_TRUE(save(dir, 5));
  expect_step(dir, 5);
  EXPECT_EQ(names_in(dir), (std::set<std::string>{"step-00000005"}));
  EXPECT_EQ(names_in(dir / "step-00000005"), (std::set<std::string>{"manifest.json", "state.safetensors"}));
}

TEST(Snapshot, KeepsTheLastOnes) {
  const TempDir temp;
  for (int64_t step : {1, 2, 3, 100000000}) ASSERT_TRUE(save(temp.path(), step, 2));
  EXPECT_EQ(names_in(temp.path()), (std::set<std::string>{"step-00000003", "step-100000000"}));
  expect_step(temp.path(), 100000000);
}

TEST(Snapshot, DeletesNothingThatIsNotASnapshot) {
  const TempDir temp;
  temp.write("notes.txt", "mine");
  temp.write("step-3/file", "not our name");
  temp.write("step-0000000x/file", "not our name");
  for (int64_t step : {1, 2}) ASSERT_TRUE(save(temp.path(), step, 1));
  EXPECT_EQ(names_in(temp.path()), (std::set<std::string>{"notes.txt", "step-3", "step-0000000x", "step-00000002"}));
}

TEST(Snapshot, EveryDamagedByteIsSeenAndThePreviousOneLoads) {
  const TempDir temp;
  ASSERT_TRUE(save(temp.path(), 1));
  ASSERT_TRUE(save(temp.path(), 2));
  for (const char* name : {"state.safetensors", "manifest.json"}) {
    const Path file = temp.path() / "step-00000002" / name;
    const auto size = static_cast<std::streamoff>(fs::file_size(file));
    for (std::streamoff at = 0; at < size; ++at) {
      damage(file, at);
      const auto loaded = load_snapshot(temp.path());
      ASSERT_TRUE(loaded && *loaded) << name << " byte " << at;
      // White space of the manifest may change without harm; everything else must be noticed.
      if ((*loaded)->step == 2) {
        EXPECT_STREQ(name, "manifest.json");
        expect_step(temp.path(), 2);
      } else {
        ASSERT_EQ((*loaded)->notes.size(), 1u);
        EXPECT_NE((*loaded)->notes[0].find("step-00000002"), std::string::npos);
      }
      damage(file, at);
    }
  }
  expect_step(temp.path(), 2);
  fs::resize_file(temp.path() / "step-00000002" / "state.safetensors", 10);
  expect_step(temp.path(), 1, 1);
  fs::remove(temp.path() / "step-00000002" / "state.safetensors");
  expect_step(temp.path(), 1, 1);
  fs::remove(temp.path() / "step-00000002" / "manifest.json");
  expect_step(temp.path(), 1, 1);
}

TEST(Snapshot, OnlyBadOnesAreAnError) {
  const TempDir temp;
  ASSERT_TRUE(save(temp.path(), 1));
  damage(temp.path() / "step-00000001" / "state.safetensors", 100);
  const auto loaded = load_snapshot(temp.path());
  ASSERT_FALSE(loaded);
  EXPECT_EQ(loaded.error().code, ErrorCode::kCorrupt);
  EXPECT_EQ(loaded.error().text.find('\n'), std::string::npos);
}

TEST(Snapshot, AStepCanBeSavedAgainAndALaterBadOneGoes) {
  const TempDir temp;
  for (int64_t step : {1, 2, 3}) ASSERT_TRUE(save(temp.path(), step));
  damage(temp.path() / "step-00000003" / "state.safetensors", 100);
  damage(temp.path() / "step-00000002" / "state.safetensors", 100);
  expect_step(temp.path(), 1, 2);
  ASSERT_TRUE(save(temp.path(), 2));
  expect_step(temp.path(), 2);
  EXPECT_EQ(names_in(temp.path()), (std::set<std::string>{"step-00000001", "step-00000002"}));
}

TEST(Snapshot, WhatACrashLeavesIsNotLoadedAndIsClearedAway) {
  const TempDir temp;
  ASSERT_TRUE(save(temp.path(), 1));
  temp.write("step-00000002.partial/state.safetensors", "half");
  expect_step(temp.path(), 1);
  ASSERT_TRUE(save(temp.path(), 2));
  EXPECT_EQ(names_in(temp.path()), (std::set<std::string>{"step-00000001", "step-00000002"}));
}

TEST(Snapshot, OneThatWasMovedAsideIsStillGood) {
  const TempDir temp;
  ASSERT_TRUE(save(temp.path(), 4));
  // A crash between the two renames of a second save of step 4.
  fs::rename(temp.path() / "step-00000004", temp.path() / "step-00000004.replaced");
  expect_step(temp.path(), 4);
  ASSERT_TRUE(save(temp.path(), 4));
  expect_step(temp.path(), 4);
  EXPECT_EQ(names_in(temp.path()), (std::set<std::string>{"step-00000004"}));
}

TEST(Snapshot, ADirectoryThatCannotBeWrittenIsOneLineOfError) {
  const TempDir temp;
  temp.write("file", "in the way");
  const Status status = save(temp.path() / "file" / "run", 1);
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().code, ErrorCode::kIo);
  EXPECT_EQ(status.error().text.find('\n'), std::string::npos);
}

}  // namespace
}  // namespace fathom
