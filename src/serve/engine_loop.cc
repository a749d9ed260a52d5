#include "serve/engine_loop.h"

#include <algorithm>

namespace fathom::serve {
namespace {

// The counts of a large model are a hundred kilobytes: not to be copied in every step.
constexpr auto kLoadInterval = std::chrono::milliseconds(250);

}  // namespace

EngineLoop::EngineLoop(Engine& engine, EngineLoopLimits limits) : engine_(engine), limits_(limits) {
  static_cast<EngineStats&>(stats_) = engine.stats();
  expert_load_ = engine.expert_load();
  thread_ = std::thread([this] { run(); });
}

EngineLoop::~EngineLoop() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

std::optional<std::vector<int64_t>> EngineLoop::submit(std::vector<GenerationJob> jobs) {
  std::vector<int64_t> ids;
  {
    const std::lock_guard lock(mutex_);
    if (static_cast<int64_t>(waiting_.size() + jobs.size()) > limits_.max_waiting) return std::nullopt;
    for (GenerationJob& job : jobs) {
      ids.push_back(next_id_);
      waiting_.push_back({next_id_++, std::move(job)});
      ++stats_.waiting;
    }
  }
  changed_.notify_all();
  return ids;
}

void EngineLoop::cancel(int64_t job_id) {
  {
    const std::lock_guard lock(mutex_);
    stats_.waiting -= std::ssize(waiting_);
    std::erase_if(waiting_, [job_id](const Waiting& w) { return w.id == job_id; });
    stats_.waiting += std::ssize(waiting_);
    cancelled_.push_back(job_id);
  }
  changed_.notify_all();
}

EngineLoopStats EngineLoop::stats() const {
  const std::lock_guard lock(mutex_);
  return stats_;
}

ExpertLoad EngineLoop::expert_load() const {
  const std::lock_guard lock(mutex_);
  return expert_load_;
}

void EngineLoop::run() {
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait(lock, [this] { return stopping_ || !waiting_.empty() || !cancelled_.empty() || engine_.has_work(); });
    if (stopping_) return;
    const std::vector<int64_t> cancelled = std::exchange(cancelled_, {});
    drop_cancelled(cancelled);
    admit(lock);
    publish();
    lock.unlock();
    step();
    lock.lock();
    publish();
  }
}

void EngineLoop::drop_cancelled(const std::vector<int64_t>& cancelled) {
  for (const int64_t id : cancelled) {
    const auto found =
        std::find_if(running_.begin(), running_.end(), [id](const auto& entry) { return entry.second.id == id; });
    if (found != running_.end()) finish(found->first);
  }
}

/// First come, first served, up to max_running: among these the engine shares out its pages. `lock` is held; it is let
/// go for sinks.
void EngineLoop::admit(std::unique_lock<std::mutex>& lock) {
  while (!waiting_.empty() && static_cast<int64_t>(running_.size()) < limits_.max_running) {
    Waiting next = std::move(waiting_.front());
    waiting_.pop_front();
    const auto sequence = engine_.submit(next.job.prompt, next.job.sampling, next.job.max_new_tokens);
    if (sequence) {
      running_.emplace(*sequence, Running{next.id, std::move(next.job.sink)});
      continue;
    }
    lock.unlock();
    next.job.sink({.error = sequence.error()});
    lock.lock();
  }
}

void EngineLoop::step() {
  if (!engine_.has_work()) return;
  const auto events = engine_.step();
  ++num_steps_;
  if (!events) {  // nothing was computed: the youngest makes room for the others
    const auto youngest = std::prev(running_.end());
    youngest->second.sink({.error = events.error()});
    finish(youngest->first);
    return;
  }
  for (const TokenEvent& event : *events) {
    const auto found = running_.find(event.sequence_id);
    if (found == running_.end()) continue;
    found->second.sink({.token = event.token, .finish = event.finish});
    if (event.finish != FinishReason::kNone) finish(event.sequence_id);
  }
}

void EngineLoop::finish(int64_t sequence_id) {
  running_.erase(sequence_id);
  engine_.remove(sequence_id);
}

/// Makes the numbers of this thread visible; mutex_ is held.
void EngineLoop::publish() {
  static_cast<EngineStats&>(stats_) = engine_.stats();
  stats_.waiting += std::ssize(waiting_);
  stats_.steps = num_steps_;
  const auto now = Clock::now();
  if (engine_.has_work() && now - load_published_ < kLoadInterval) return;
  load_published_ = now;
  expert_load_ = engine_.expert_load();
}

}  // namespace fathom::serve
