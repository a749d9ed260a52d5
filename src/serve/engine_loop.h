// The engine loop: the one thread that owns the engine. Requests come in through a queue, tokens go out through the
// sink of each request, and a cancelled request gives its pages back before the next step.
#pragma once

#include <array>
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
#include "serve/verifier.h"
#include "serve/weight_guard.h"

namespace fathom::serve {

/// What happens to a sequence: a token, its end, or the error that ended it.
struct GenerationEvent {
  int32_t token = TokenEvent::kNoToken;
  FinishReason finish = FinishReason::kNone;
  std::optional<Error> error{};
  std::optional<Logprobs> logprobs{};  // as in TokenEvent, like everything below
  std::vector<Logprobs> prompt_logprobs{};
  std::vector<float> embedding{};
  int64_t prefix_hit_tokens = 0;
  int64_t draft_tokens = 0;
  int64_t draft_accepted = 0;
  Clock::time_point begun{};

  bool ends() const { return finish != FinishReason::kNone || error.has_value(); }
};

/// One sequence to generate. `sink` is called on the engine's thread and must hand the event on quickly.
struct GenerationJob {
  Request request;  // for which the engine has an event: a token, log-probabilities of the prompt or an embedding
  std::function<void(const GenerationEvent&)> sink;
};

struct EngineLoopLimits {
  int64_t max_running = 256;   // sequences in the engine
  int64_t max_waiting = 1024;  // sequences before it
  /// Jobs of higher priority that may overtake one that waits; then it is next. >= 1.
  int64_t max_overtaken = 1024;
};

/// What the loop looks after beside its work.
struct EngineLoopChecks {
  double verify_share = 0;         // of the sequences is computed again, and every bit compared
  WeightGuard* weights = nullptr;  // checked at a stretch when there is no work, else in slices; outlives the loop
  /// Between two passes over all weights. Beside work a pass is spread over as much time, so that no change stays
  /// unknown for longer than twice this.
  int64_t weight_pause_ms = 600'000;
  /// Told of every difference, on the engine's thread.
  std::function<void(const std::string&)> alarm;
  /// For tests: a machine that errs. It sees what a replay computes before it is compared, on the engine's thread.
  std::function<void(TokenEvent&)> falsify;
};

/// Steps of the model by the tokens that they computed: up to 1, 2, 4, ..., 16384, and more.
struct StepSizes {
  static constexpr size_t kNumBounds = 15;
  std::array<int64_t, kNumBounds + 1> counts{};
  int64_t sum = 0;
  void observe(int64_t tokens);
};

/// A snapshot for metrics and tests: the engine's, where `waiting` counts those before it as well.
struct EngineLoopStats : EngineStats {
  int64_t steps = 0;  // of the model
  StepSizes step_sizes;
  int64_t verified = 0, verify_mismatches = 0, verify_skipped = 0;  // replays
  int64_t weight_passes = 0, weight_damages = 0;                    // checks of all weights; pieces that had changed

  bool healthy() const { return verify_mismatches == 0 && weight_damages == 0; }
};

class EngineLoop {
 public:
  /// The engine must outlive the loop, and nobody else may touch it.
  EngineLoop(Engine& engine, EngineLoopLimits limits, EngineLoopChecks checks = {});
  /// Stops after the step in progress; sequences that are not done end without a word.
  ~EngineLoop();
  EngineLoop(const EngineLoop&) = delete;
  EngineLoop& operator=(const EngineLoop&) = delete;

  /// Queues all jobs or none, behind those of their priority; their ids in order, or nothing when the queue has no
  /// room. Any thread.
  std::optional<std::vector<int64_t>> submit(std::vector<GenerationJob> jobs);
  /// Ends a job; unknown ids are fine. Its sink may still see what a step in progress produced. Any thread.
  void cancel(int64_t job_id);
  EngineLoopStats stats() const;
  /// The most jobs that one submit() can ever queue.
  int64_t max_waiting() const { return limits_.max_waiting; }
  /// Engine::expert_load() as it was not long ago; exact once there is no work. Any thread.
  ExpertLoad expert_load() const;

 private:
  struct Waiting {
    int64_t id;
    GenerationJob job;
    int64_t num_overtaken = 0;  // jobs of higher priority that came after it and began before it
  };
  struct Running {
    int64_t id;
    std::function<void(const GenerationEvent&)> sink;
    bool hides_logprobs = false;  // they are for the verifier
    bool is_replay = false;
  };

  void run();
  bool has_work() const;
  bool wait_for_work(std::unique_lock<std::mutex>& lock);
  void check_weights();
  void check_weights_beside_work();
  void begin_replays();
  void compare(TokenEvent& event);
  Waiting take_waiting();
  void expire(std::unique_lock<std::mutex>& lock);
  void drop_cancelled(const std::vector<int64_t>& cancelled);
  void admit(std::unique_lock<std::mutex>& lock);
  void step();
  void finish(int64_t sequence_id);
  void publish();

  Engine& engine_;
  const EngineLoopLimits limits_;
  std::map<int64_t, Running> running_;  // by sequence id; this and the next are that thread's alone
  int64_t num_steps_ = 0;
  StepSizes step_sizes_;
  int64_t num_computed_ = 0;  // tokens of all steps
  const EngineLoopChecks checks_;
  Verifier verifier_;
  Clock::time_point next_weight_check_;       // when there is no work
  Clock::time_point next_check_beside_work_;  // of a piece
  int64_t num_mismatches_ = 0, num_damages_ = 0;

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Waiting> waiting_;  // higher priorities first
  std::vector<int64_t> cancelled_;
  EngineLoopStats stats_;
  ExpertLoad expert_load_;
  Clock::time_point load_published_{};
  int64_t next_id_ = 0;
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace fathom::serve
