#include "base/threads.h"

#include <algorithm>
#include <system_error>

#include "base/check.h"
#include "base/machine.h"

namespace fathom {
namespace {

inline void cpu_relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

}  // namespace

int default_num_threads() { return inspect_machine().num_usable_cpus; }

ThreadPool::ThreadPool(int num_threads) {
  check(num_threads >= 1, "a pool has at least the calling thread");
  // Spinning only pays when every thread has a CPU of its own; about 20 us of it bridges the ops of a step.
  spins_ = num_threads <= default_num_threads() ? 4000 : 0;
  workers_.reserve(static_cast<size_t>(num_threads - 1));
  try {
    for (int id = 1; id < num_threads; ++id) workers_.emplace_back([this, id] { worker(id); });
  } catch (const std::system_error&) {  // NOLINT(bugprone-empty-catch): a limit of threads or memory, fewer will do
  }
}

ThreadPool::~ThreadPool() {
  stopping_ = true;
  epoch_.fetch_add(1, std::memory_order_release);
  epoch_.notify_all();
  for (std::thread& worker : workers_) worker.join();
}

void ThreadPool::drain(int thread_id) {
  uint64_t open = open_.load(std::memory_order_acquire);
  while (static_cast<uint32_t>(open) != 0) {
    if (!open_.compare_exchange_weak(open, open - 1, std::memory_order_acq_rel, std::memory_order_acquire)) continue;
    const uint32_t num_chunks = num_chunks_;
    const int64_t begin = (num_chunks - static_cast<uint32_t>(open)) * grain_;
    call_(context_, begin, std::min(begin + grain_, count_), thread_id);
    // The call may end and this pool take the next one as soon as the last chunk is counted.
    if (finished_.fetch_add(1, std::memory_order_acq_rel) + 1 == num_chunks) finished_.notify_one();
    open = open_.load(std::memory_order_acquire);
  }
}

void ThreadPool::dispatch(int64_t count, int64_t grain, Call call, void* context) {
  call_ = call;
  context_ = context;
  count_ = count;
  grain_ = std::max<int64_t>(1, grain);
  check((count - 1) / grain_ < INT32_MAX, "the chunks of a call are counted in 31 bits");
  num_chunks_ = static_cast<uint32_t>((count - 1) / grain_ + 1);
  finished_.store(0, std::memory_order_relaxed);
  const uint64_t number = (open_.load(std::memory_order_relaxed) >> 32) + 1;
  open_.store(number << 32 | num_chunks_, std::memory_order_release);
  epoch_.store(static_cast<uint32_t>(number), std::memory_order_release);
  epoch_.notify_all();
  drain(0);
  for (int spin = 0;;) {
    const uint32_t finished = finished_.load(std::memory_order_acquire);
    if (finished == num_chunks_) return;
    if (spin++ < spins_) {
      cpu_relax();
    } else {
      finished_.wait(finished, std::memory_order_acquire);
    }
  }
}

void ThreadPool::worker(int thread_id) {
  uint32_t seen = 0;
  for (;;) {
    for (int spin = 0; epoch_.load(std::memory_order_acquire) == seen;) {
      if (spin++ < spins_) {
        cpu_relax();
      } else {
        epoch_.wait(seen, std::memory_order_acquire);
      }
    }
    seen = epoch_.load(std::memory_order_acquire);
    if (stopping_) return;
    drain(thread_id);
  }
}

}  // namespace fathom
