// The engine loop: the one thread that owns the engine. Requests come in through a queue, tokens go out through the
// sink of each request, and a cancelled request gives its pages back before the next step.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "engine/engine.h"

namespace fathom::serve {

/// What happens to a sequence: a token, its end, or the error that ended it.
struct GenerationEvent {
  int32_t token = TokenEvent::kNoToken;
  FinishReason finish = FinishReason::kNone;
  std::optional<Error> error{};

  bool ends() const { return finish != FinishReason::kNone || error.has_value(); }
};

/// One sequence to generate. `sink` is called on the engine's thread and must hand the event on quickly.
struct GenerationJob {
  std::vector<int32_t> prompt;
  SamplingParams sampling;
  int64_t max_new_tokens = 1;
  std::function<void(const GenerationEvent&)> sink;
};

struct EngineLoopLimits {
  int64_t max_running = 256;   // sequences in the engine
  int64_t max_waiting = 1024;  // sequences before it
};

/// A snapshot for metrics and tests: the engine's, where `waiting` counts those before it as well.
struct EngineLoopStats : EngineStats {
  int64_t steps = 0;  // of the model
};

class EngineLoop {
 public:
  /// The engine must outlive the loop, and nobody else may touch it.
  EngineLoop(Engine& engine, EngineLoopLimits limits);
  /// Stops after the step in progress; sequences that are not done end without a word.
  ~EngineLoop();
  EngineLoop(const EngineLoop&) = delete;
  EngineLoop& operator=(const EngineLoop&) = delete;

  /// Queues all jobs or none; their ids in order, or nothing when the queue has no room. Any thread.
  std::optional<std::vector<int64_t>> submit(std::vector<GenerationJob> jobs);
  /// Ends a job; unknown ids are fine. Its sink may still see what a step in progress produced. Any thread.
  void cancel(int64_t job_id);
  EngineLoopStats stats() const;
  /// Engine::expert_load() as it was not long ago; exact once there is no work. Any thread.
  ExpertLoad expert_load() const;

 private:
  struct Waiting {
    int64_t id;
    GenerationJob job;
  };
  struct Running {
    int64_t id;
    std::function<void(const GenerationEvent&)> sink;
  };

  void run();
  void drop_cancelled(const std::vector<int64_t>& cancelled);
  void admit(std::unique_lock<std::mutex>& lock);
  void step();
  void finish(int64_t sequence_id);
  void publish();

  Engine& engine_;
  const EngineLoopLimits limits_;
  std::map<int64_t, Running> running_;  // by sequence id; this and the next are that thread's alone
  int64_t num_steps_ = 0;

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Waiting> waiting_;
  std::vector<int64_t> cancelled_;
  EngineLoopStats stats_;
  ExpertLoad expert_load_;
  Clock::time_point load_published_{};
  int64_t next_id_ = 0;
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace fathom::serve
