#include "serve/engine_loop.h"

#include <algorithm>
#include <cmath>

namespace fathom::serve {
namespace {

// The counts of a large model are a hundred kilobytes: not to be copied in every step.
constexpr auto kLoadInterval = std::chrono::milliseconds(250);

/// Replays at the same time: twice their share, because they find no pages of others and take longer, but never more
/// than half of the places.
int64_t max_replays(double share, int64_t max_running) {
  const auto wanted = static_cast<int64_t>(std::ceil(2 * share * static_cast<double>(max_running)));
  return std::clamp<int64_t>(wanted, 1, std::max<int64_t>(1, max_running / 2));
}

}  // namespace

void StepSizes::observe(int64_t tokens) {
  size_t bucket = 0;
  while (bucket < kNumBounds && (int64_t{1} << bucket) < tokens) ++bucket;
  ++counts[bucket];
  sum += tokens;
}

EngineLoop::EngineLoop(Engine& engine, EngineLoopLimits limits, EngineLoopChecks checks)
    : engine_(engine), limits_(limits), checks_(std::move(checks)), verifier_(checks_.verify_share) {
  next_check_beside_work_ = next_weight_check_ = Clock::now();
  if (checks_.weights != nullptr && checks_.weights->is_complete()) {
    next_check_beside_work_ = next_weight_check_ += std::chrono::milliseconds(checks_.weight_pause_ms);
  }
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
      const int64_t priority = job.request.priority;
      const auto place = std::find_if(waiting_.rbegin(), waiting_.rend(), [priority](const Waiting& before) {
                           return before.job.request.priority >= priority;
                         }).base();
      waiting_.insert(place, {.id = next_id_++, .job = std::move(job)});
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
    if (!wait_for_work(lock)) continue;
    if (stopping_) return;
    const std::vector<int64_t> cancelled = std::exchange(cancelled_, {});
    drop_cancelled(cancelled);
    expire(lock);
    admit(lock);
    publish();
    lock.unlock();
    step();
    check_weights_beside_work();
    lock.lock();
    publish();
  }
}

bool EngineLoop::has_work() const {
  return stopping_ || !waiting_.empty() || !cancelled_.empty() || engine_.has_work() || verifier_.has_pending();
}

/// Waits until there is something to do; while there is nothing, the weights are checked piece by piece, and false says
/// that a piece has been. `lock` is held on return.
bool EngineLoop::wait_for_work(std::unique_lock<std::mutex>& lock) {
  const auto ready = [this] { return has_work(); };
  if (checks_.weights == nullptr) {
    changed_.wait(lock, ready);
    return true;
  }
  if (changed_.wait_until(lock, next_weight_check_, ready)) return true;
  lock.unlock();
  check_weights();
  lock.lock();
  publish();
  return false;
}

void EngineLoop::check_weights() {
  if (const auto damage = checks_.weights->check_next()) {
    ++num_damages_;
    engine_.discard_prefix_store();  // what damaged weights compute must not outlive them
    if (checks_.alarm) checks_.alarm(*damage);
  }
  // One pass at a stretch, then a pause; a pass goes on where work interrupted it.
  if (checks_.weights->at_start()) {
    next_check_beside_work_ = next_weight_check_ = Clock::now() + std::chrono::milliseconds(checks_.weight_pause_ms);
  }
}

/// The pieces that are due by now, if the pass is to end in time.
void EngineLoop::check_weights_beside_work() {
  if (checks_.weights == nullptr) return;
  const auto each =
      std::chrono::microseconds(checks_.weight_pause_ms * 1000 / std::max<int64_t>(1, checks_.weights->num_pieces()));
  while (Clock::now() >= next_check_beside_work_) {
    check_weights();
    if (checks_.weights->at_start()) return;
    next_check_beside_work_ += each;
  }
}

/// Submits replays: where nobody waits before the engine at once, else when they are due, before those who wait.
void EngineLoop::begin_replays() {
  const int64_t most = max_replays(checks_.verify_share, limits_.max_running);
  while (verifier_.has_pending() && verifier_.num_replays() < most) {
    if (static_cast<int64_t>(running_.size()) >= limits_.max_running) return;
    if (!waiting_.empty() && !verifier_.is_due(num_steps_)) return;
    const auto sequence = engine_.submit(verifier_.next(num_steps_));
    if (!sequence) {
      verifier_.drop_next();
      continue;
    }
    verifier_.begin_replay(*sequence);
    running_.emplace(*sequence, Running{.id = -1, .sink = {}, .is_replay = true});
  }
}

void EngineLoop::compare(TokenEvent& event) {
  if (checks_.falsify) checks_.falsify(event);
  const auto difference = verifier_.compare(event);
  if (difference) {
    ++num_mismatches_;
    engine_.discard_prefix_store();  // the wrong answer may have been the one that filled its pages
    if (checks_.alarm) checks_.alarm("verification failed: " + *difference);
  }
  if (difference || event.finish != FinishReason::kNone) finish(event.sequence_id);
}

void EngineLoop::drop_cancelled(const std::vector<int64_t>& cancelled) {
  for (const int64_t id : cancelled) {
    const auto found =
        std::find_if(running_.begin(), running_.end(), [id](const auto& entry) { return entry.second.id == id; });
    if (found != running_.end()) finish(found->first);
  }
}

/// Ends what waits before the engine and has missed its deadline. `lock` is held; it is let go for sinks.
void EngineLoop::expire(std::unique_lock<std::mutex>& lock) {
  const auto now = Clock::now();
  std::vector<Waiting> late;
  for (Waiting& waiting : waiting_) {
    const auto& deadline = waiting.job.request.deadline;
    if (deadline && *deadline <= now) late.push_back(std::move(waiting));
  }
  if (late.empty()) return;
  for (const Waiting& ended : late) {
    std::erase_if(waiting_, [&](const Waiting& waiting) { return waiting.id == ended.id; });
  }
  lock.unlock();
  for (const Waiting& ended : late) ended.job.sink({.finish = FinishReason::kDeadline});
  lock.lock();
}

/// The job that is to begin: the first that was overtaken too often, else the first of the highest priority.
EngineLoop::Waiting EngineLoop::take_waiting() {
  auto next = waiting_.begin();
  for (auto it = waiting_.begin(); it != waiting_.end(); ++it) {
    if (it->num_overtaken < limits_.max_overtaken) continue;
    if (next->num_overtaken < limits_.max_overtaken || it->id < next->id) next = it;
  }
  Waiting taken = std::move(*next);
  waiting_.erase(next);
  for (Waiting& other : waiting_) {
    other.num_overtaken += other.id < taken.id && other.job.request.priority < taken.job.request.priority;
  }
  return taken;
}

/// By priority, then first come, first served, up to max_running: among these the engine shares out its pages. `lock`
/// is held; it is let go for sinks.
void EngineLoop::admit(std::unique_lock<std::mutex>& lock) {
  begin_replays();
  while (!waiting_.empty() && static_cast<int64_t>(running_.size()) < limits_.max_running) {
    Waiting next = take_waiting();
    Request& request = next.job.request;
    const bool verified = request.max_new_tokens > 0 && verifier_.choose();
    const bool hides_logprobs = verified && request.num_logprobs < 0;
    if (hides_logprobs) request.num_logprobs = 0;
    const auto sequence = engine_.submit(request);
    if (sequence) {
      if (verified) verifier_.begin(*sequence, request);
      running_.emplace(*sequence,
                       Running{.id = next.id, .sink = std::move(next.job.sink), .hides_logprobs = hides_logprobs});
      continue;
    }
    lock.unlock();
    next.job.sink({.error = sequence.error()});
    lock.lock();
  }
  begin_replays();
}

void EngineLoop::step() {
  if (!engine_.has_work()) return;
  auto events = engine_.step();
  ++num_steps_;
  const int64_t computed = engine_.stats().computed_tokens;
  if (computed > num_computed_) step_sizes_.observe(computed - std::exchange(num_computed_, computed));
  if (!events) {  // nothing was computed: the youngest makes room for the others
    const auto youngest = std::prev(running_.end());
    if (!youngest->second.is_replay) youngest->second.sink({.error = events.error()});
    return finish(youngest->first);
  }
  for (TokenEvent& event : *events) {
    const auto found = running_.find(event.sequence_id);
    if (found == running_.end()) continue;
    if (found->second.is_replay) {
      compare(event);
      continue;
    }
    verifier_.record(event);
    if (found->second.hides_logprobs) event.logprobs.reset();
    found->second.sink({.token = event.token,
                        .finish = event.finish,
                        .logprobs = std::move(event.logprobs),
                        .prompt_logprobs = std::move(event.prompt_logprobs),
                        .embedding = std::move(event.embedding),
                        .prefix_hit_tokens = event.prefix_hit_tokens,
                        .draft_tokens = event.draft_tokens,
                        .draft_accepted = event.draft_accepted,
                        .begun = event.begun});
    if (event.finish != FinishReason::kNone) finish(event.sequence_id);
  }
}

void EngineLoop::finish(int64_t sequence_id) {
  running_.erase(sequence_id);
  verifier_.end(sequence_id, num_steps_);
  verifier_.finish_replay(sequence_id);
  engine_.remove(sequence_id);
}

/// Makes the numbers of this thread visible; mutex_ is held.
void EngineLoop::publish() {
  static_cast<EngineStats&>(stats_) = engine_.stats();
  stats_.waiting += std::ssize(waiting_);
  stats_.steps = num_steps_;
  stats_.step_sizes = step_sizes_;
  stats_.verified = verifier_.num_verified();
  stats_.verify_skipped = verifier_.num_skipped();
  stats_.verify_mismatches = num_mismatches_;
  stats_.weight_passes = checks_.weights == nullptr ? 0 : checks_.weights->num_passes();
  stats_.weight_damages = num_damages_;
  const auto now = Clock::now();
  if (engine_.has_work() && now - load_published_ < kLoadInterval) return;
  load_published_ = now;
  expert_load_ = engine_.expert_load();
}

}  // namespace fathom::serve
