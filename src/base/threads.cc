#include "base/threads.h"

#include <algorithm>

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
  for (int id = 1; id < num_threads; ++id) workers_.emplace_back([this, id] { worker(id); });
}

ThreadPool::~ThreadPool() {
  stopping_ = true;
  epoch_.fetch_add(1, std::memory_order_release);
  epoch_.notify_all();
  for (std::thread& worker : workers_) worker.join();
}

void ThreadPool::drain(int thread_id) {
  for (;;) {
    const int64_t begin = next_.fetch_add(grain_, std::memory_order_relaxed);
    if (begin >= count_) return;
    call_(context_, begin, std::min(begin + grain_, count_), thread_id);
  }
}

void ThreadPool::dispatch(int64_t count, int64_t grain, Call call, void* context) {
  call_ = call;
  context_ = context;
  count_ = count;
  grain_ = std::max<int64_t>(1, grain);
  next_.store(0, std::memory_order_relaxed);
  running_.store(static_cast<int>(workers_.size()), std::memory_order_relaxed);
  epoch_.fetch_add(1, std::memory_order_release);
  epoch_.notify_all();
  drain(0);
  for (int spin = 0;;) {
    const int left = running_.load(std::memory_order_acquire);
    if (left == 0) return;
    if (spin++ < spins_) {
      cpu_relax();
    } else {
      running_.wait(left, std::memory_order_acquire);
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
    ++seen;
    if (stopping_) return;
    drain(thread_id);
    if (running_.fetch_sub(1, std::memory_order_release) == 1) running_.notify_one();
  }
}

}  // namespace fathom
