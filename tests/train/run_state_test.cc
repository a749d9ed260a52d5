// Runs on disk: resume is bit-equal, also after a kill and on a full disk; changed settings are judged.
#include "train/run_state.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <thread>

#include "tiny_run.h"

namespace fathom {
namespace {

using testing::create_error;
using testing::StepBits;
using testing::take_steps;
using testing::TemporaryDirectory;
using testing::tiny_config;
using testing::TinyRun;
using testing::write_tiny_shard;

/// A configuration with its data and a checkpoint directory in a fresh folder.
struct Scene {
  Scene() : config(tiny_config(write_tiny_shard(dir.path() / "train.shard", 60, 1))) {
    config.checkpoint_directory = dir.path() / "run";
  }
  TemporaryDirectory dir;
  TrainConfig config;
};

std::string joined(const std::vector<std::string>& lines) {
  std::string out;
  for (const std::string& line : lines) out += line + "\n";
  return out;
}

TEST(RunState, TheNextTwentyStepsAfterAResumeAreBitEqual) {
  for (const char* precision : {"f32", "bf16"}) {
    Scene scene;
    scene.config.precision = precision;
    TinyRun first(scene.config);
    take_steps(*first.trainer, 7);
    ASSERT_TRUE(first.trainer->save());
    const std::string state = testing::state_bytes(first.trainer->parameters());
    const std::vector<StepBits> expected = take_steps(*first.trainer, 20);

    TinyRun second(scene.config);
    EXPECT_EQ(second.trainer->progress().step, 7);
    EXPECT_EQ(second.trainer->progress().samples, 28);
    EXPECT_EQ(second.trainer->progress().tokens, 448);
    EXPECT_EQ(testing::state_bytes(second.trainer->parameters()), state);
    EXPECT_EQ(take_steps(*second.trainer, 20), expected) << precision;
    EXPECT_EQ(testing::state_bytes(second.trainer->parameters()), testing::state_bytes(first.trainer->parameters()));
  }
}

/// Trains in a child process that never returns; the parent kills it.
pid_t start_training(const TrainConfig& config) {
  const pid_t child = ::fork();
  if (child != 0) return child;
  ThreadPool pool(1);
  const auto kernels = make_kernels(available_kernels().back(), pool);
  const auto trainer = Trainer::create(config, **kernels, pool);
  if (!trainer) ::_exit(1);
  SilentProgress silent;
  const Status status = (*trainer)->run(silent);
  ::_exit(status ? 0 : 2);
}

TEST(RunState, ResumesBitEqualAfterKills) {
  Scene scene;
  scene.config.num_steps = 100000;
  scene.config.learning_rate.warmup_steps = 0;
  scene.config.checkpoint_every = 1;
  SequentialRng rng(static_cast<uint64_t>(::getpid()), stream_of("kill"));  // every run of the test kills elsewhere
  for (int attempt = 0; attempt < 4; ++attempt) {
    const pid_t child = start_training(scene.config);
    ASSERT_GT(child, 0);
    // A slow machine gets the time for its first snapshot; where the kill strikes after that is chance.
    for (int wait = 0;
         wait < 3000 && !std::filesystem::exists(scene.config.checkpoint_directory / "step-00000001") && attempt == 0;
         ++wait) {
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(rng.between(20, 250)));
    ASSERT_EQ(::kill(child, SIGKILL), 0);
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    ASSERT_TRUE(WIFSIGNALED(status)) << "the child ended by itself with " << WEXITSTATUS(status);
  }
  TinyRun resumed(scene.config);
  const int64_t step = resumed.trainer->progress().step;
  ASSERT_GT(step, 0) << "no snapshot was written in time";
  TrainConfig whole_config = scene.config;
  whole_config.checkpoint_directory.clear();
  TinyRun whole(whole_config);
  take_steps(*whole.trainer, static_cast<int>(step));
  EXPECT_EQ(testing::state_bytes(resumed.trainer->parameters()), testing::state_bytes(whole.trainer->parameters()));
  EXPECT_EQ(take_steps(*resumed.trainer, 20), take_steps(*whole.trainer, 20));
}

/// No file of this process may grow beyond `bytes` while it lives: writes fail as on a full disk.
class FileSizeLimit {
 public:
  explicit FileSizeLimit(rlim_t bytes) {
    ::getrlimit(RLIMIT_FSIZE, &old_);
    old_handler_ = ::signal(SIGXFSZ, SIG_IGN);
    rlimit limit = old_;
    limit.rlim_cur = bytes;
    EXPECT_EQ(::setrlimit(RLIMIT_FSIZE, &limit), 0);
  }
  ~FileSizeLimit() {
    ::setrlimit(RLIMIT_FSIZE, &old_);
    ::signal(SIGXFSZ, old_handler_);
  }

 private:
  rlimit old_{};
  sighandler_t old_handler_ = SIG_DFL;
};

TEST(RunState, AFullDiskLeavesThePreviousSnapshotAndOneLineOfError) {
  Scene scene;
  scene.config.checkpoint_keep = 1;
  TinyRun run(scene.config);
  take_steps(*run.trainer, 3);
  ASSERT_TRUE(run.trainer->save());
  const std::string state = testing::state_bytes(run.trainer->parameters());
  take_steps(*run.trainer, 2);
  Status status;
  {
    const FileSizeLimit limit(10000);
    status = run.trainer->save();
  }
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().code, ErrorCode::kIo);
  EXPECT_EQ(status.error().text.find('\n'), std::string::npos);
  EXPECT_NE(status.error().text.find("state.safetensors"), std::string::npos) << status.error().text;
  size_t entries = 0;
  for (const auto& entry : std::filesystem::directory_iterator(scene.config.checkpoint_directory)) {
    EXPECT_EQ(entry.path().filename(), "step-00000003");
    ++entries;
  }
  EXPECT_EQ(entries, 1u);
  TinyRun resumed(scene.config);
  EXPECT_EQ(resumed.trainer->progress().step, 3);
  EXPECT_EQ(testing::state_bytes(resumed.trainer->parameters()), state);
  ASSERT_TRUE(run.trainer->save());  // and with room again, the run saves
}

TEST(RunState, FallsBackToThePreviousSnapshotAndSaysSo) {
  Scene scene;
  TinyRun run(scene.config);
  take_steps(*run.trainer, 3);
  ASSERT_TRUE(run.trainer->save());
  const std::vector<StepBits> expected = take_steps(*run.trainer, 4);
  ASSERT_TRUE(run.trainer->save());
  {
    std::fstream file(scene.config.checkpoint_directory / "step-00000007" / "state.safetensors",
                      std::ios::in | std::ios::out | std::ios::binary);
    file.seekg(-1, std::ios::end);
    const int last = file.get();
    file.seekp(-1, std::ios::end);
    file.put(static_cast<char>(last ^ 1));
    ASSERT_TRUE(file.good());
  }
  TinyRun resumed(scene.config);
  EXPECT_EQ(resumed.trainer->progress().step, 3);
  EXPECT_NE(joined(resumed.trainer->notes()).find("step-00000007 is not good"), std::string::npos)
      << joined(resumed.trainer->notes());
  EXPECT_EQ(take_steps(*resumed.trainer, 4), expected);
}

TEST(RunState, RefusesChangesOfShapeSeedAndDataByName) {
  Scene scene;
  TinyRun run(scene.config);
  take_steps(*run.trainer, 1);
  ASSERT_TRUE(run.trainer->save());
  const auto error_of = [&](auto change) {
    TrainConfig config = scene.config;
    change(config);
    return create_error(config);
  };
  EXPECT_EQ(error_of([](TrainConfig&) {}), "");
  const auto mentions = [](const std::string& text, const std::string& part) {
    return text.find(part) != std::string::npos;
  };
  std::string text = error_of([](TrainConfig& c) { c.shape.hidden_size = 20; });
  EXPECT_TRUE(mentions(text, "model.hidden_size is 20") && mentions(text, "has 16")) << text;
  text = error_of([](TrainConfig& c) { c.shape.n_routed_experts = 8; });
  EXPECT_TRUE(mentions(text, "model.n_routed_experts")) << text;
  text = error_of([](TrainConfig& c) { c.shape.num_nextn_predict_layers = 0; });
  EXPECT_TRUE(mentions(text, "model.num_nextn_predict_layers")) << text;
  text = error_of([](TrainConfig& c) { c.seed = 9; });
  EXPECT_TRUE(mentions(text, "train.seed is 9")) << text;
  text = error_of([](TrainConfig& c) { c.sequence_length = 8; });
  EXPECT_TRUE(mentions(text, "train.sequence_length")) << text;
  const std::string other = write_tiny_shard(scene.dir.path() / "other.shard", 50, 4);
  text = error_of([&](TrainConfig& c) { c.train_shards = {other}; });
  EXPECT_TRUE(mentions(text, "data.train")) << text;
  // Equal counts are not equal data: the same documents, and one token another.
  const auto write_shard = [&](const char* name, int32_t token) {
    ShardWriter writer(testing::kTinyVocab, 7, false);
    for (int d = 0; d < 40; ++d) {
      EXPECT_TRUE(writer.add_document(std::vector<int32_t>{1, 2, d == 20 ? token : 3, 4, 5}, {}, 15));
    }
    EXPECT_TRUE(writer.write(scene.dir.path() / name));
    return (scene.dir.path() / name).string();
  };
  scene.config.train_shards = {write_shard("a.shard", 3)};
  scene.config.checkpoint_directory = scene.dir.path() / "twins";
  TinyRun twin(scene.config);
  take_steps(*twin.trainer, 1);
  ASSERT_TRUE(twin.trainer->save());
  const std::string twin_shard = write_shard("b.shard", 9);
  text = error_of([&](TrainConfig& c) { c.train_shards = {twin_shard}; });
  EXPECT_TRUE(mentions(text, "data.train") && mentions(text, "content_hash")) << text;
}

TEST(RunState, NotesChangesOfTheSchedule) {
  Scene scene;
  TinyRun run(scene.config);
  take_steps(*run.trainer, 1);
  ASSERT_TRUE(run.trainer->save());
  TrainConfig config = scene.config;
  config.num_steps = 80;
  config.learning_rate.peak = 5e-3;
  std::filesystem::rename(scene.dir.path() / "train.shard", scene.dir.path() / "moved.shard");
  config.train_shards = {(scene.dir.path() / "moved.shard").string()};
  TinyRun resumed(config);
  const std::string notes = joined(resumed.trainer->notes());
  EXPECT_NE(notes.find("train.steps changed: 40 -> 80"), std::string::npos) << notes;
  EXPECT_NE(notes.find("learning_rate.peak changed: 0.01 -> 0.005"), std::string::npos) << notes;
  EXPECT_NE(notes.find("data.train changed"), std::string::npos) << notes;
}

}  // namespace
}  // namespace fathom
