// ThreadPool: the threads of one engine or rank. Work is split over outputs, never over a reduction, so which thread
// computes a chunk cannot change a bit. Between the operations of a step the workers spin for a moment instead of
// sleeping: a barrier costs well under a microsecond; idle pools sleep. A call waits for chunks, not for threads: a
// worker whose CPU is busy with something else takes no chunk and delays nobody.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <thread>
#include <type_traits>
#include <vector>

namespace fathom {

class ThreadPool {
 public:
  /// `num_threads` >= 1 counts the calling thread. Where the system grants fewer, num_threads() says how many there
  /// are.
  explicit ThreadPool(int num_threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int num_threads() const { return static_cast<int>(workers_.size()) + 1; }

  /// Calls body(begin, end, thread_id) on disjoint chunks that cover [0, count); chunks have `grain` items (the last
  /// may be shorter). Returns when all are done. Not reentrant; body must not throw.
  template <class Body>
  void parallel_for(int64_t count, int64_t grain, Body&& body) {
    if (count <= 0) return;
    if (workers_.empty() || count <= grain) {
      body(int64_t{0}, count, 0);
      return;
    }
    auto call = [](void* context, int64_t begin, int64_t end, int thread_id) {
      (*static_cast<std::remove_reference_t<Body>*>(context))(begin, end, thread_id);
    };
    dispatch(count, grain, call, const_cast<void*>(static_cast<const void*>(&body)));
  }

 private:
  using Call = void (*)(void* context, int64_t begin, int64_t end, int thread_id);

  void dispatch(int64_t count, int64_t grain, Call call, void* context);
  void drain(int thread_id);
  void worker(int thread_id);

  std::vector<std::thread> workers_;
  int spins_ = 0;

  Call call_ = nullptr;
  void* context_ = nullptr;
  int64_t count_ = 0;
  int64_t grain_ = 1;
  uint32_t num_chunks_ = 0;
  std::atomic<bool> stopping_{false};
  // The number of the call (high half) and its chunks that nobody has taken yet (low half). Whoever takes a chunk keeps
  // the call alive, so the fields above are this call's; a late worker finds no chunk and touches nothing.
  alignas(64) std::atomic<uint64_t> open_{0};
  alignas(64) std::atomic<uint32_t> epoch_{0};  // the number of the call, for sleeping on
  alignas(64) std::atomic<uint32_t> finished_{0};
};

/// Threads worth using on this machine: the CPUs this process may run on, by affinity and by cgroup quota.
int default_num_threads();

}  // namespace fathom
