// ThreadPool: every index exactly once, for any number of threads, through many dispatches. Also run under TSan.
#include "base/threads.h"

#include <gtest/gtest.h>

#include <numeric>

namespace fathom {
namespace {

TEST(ThreadPool, CoversEveryIndexOnceInChunksOfTheGrain) {
  for (const int num_threads : {1, 2, 3, 8}) {
    ThreadPool pool(num_threads);
    EXPECT_EQ(pool.num_threads(), num_threads);
    for (const int64_t count : {0, 1, 2, 7, 64, 1000, 1001}) {
      for (const int64_t grain : {1, 3, 64, 5000}) {
        std::vector<int> visits(static_cast<size_t>(count), 0);  // plain: chunks are disjoint, and TSan would know
        std::atomic<int> bad_chunks{0};
        pool.parallel_for(count, grain, [&](int64_t begin, int64_t end, int thread_id) {
          const bool full = end - begin == grain || end == count || num_threads == 1;
          const bool aligned = begin % grain == 0;
          if (!full || !aligned || begin >= end || thread_id < 0 || thread_id >= num_threads) bad_chunks.fetch_add(1);
          for (int64_t i = begin; i < end; ++i) ++visits[static_cast<size_t>(i)];
        });
        EXPECT_EQ(bad_chunks.load(), 0) << num_threads << " threads, " << count << " by " << grain;
        EXPECT_EQ(visits, std::vector<int>(static_cast<size_t>(count), 1))
            << num_threads << " threads, " << count << " by " << grain;
      }
    }
  }
}

TEST(ThreadPool, ManySmallDispatchesSeeEachOthersWrites) {
  for (const int num_threads : {2, 3, 8}) {
    ThreadPool pool(num_threads);
    constexpr int64_t kCount = 16;
    constexpr int kRounds = 3000;
    std::vector<int64_t> values(kCount, 0), next(kCount, 0);
    for (int round = 0; round < kRounds; ++round) {
      // Each element reads its neighbour's value of the round before, which another thread may have written.
      pool.parallel_for(kCount, 1, [&](int64_t begin, int64_t end, int) {
        for (int64_t i = begin; i < end; ++i) {
          next[static_cast<size_t>(i)] = values[static_cast<size_t>((i + 1) % kCount)] + 1;
        }
      });
      std::swap(values, next);
    }
    EXPECT_EQ(values, std::vector<int64_t>(kCount, kRounds));
  }
}

TEST(ThreadPool, ADispatchEndsOnlyWhenAllChunksAreDone) {
  ThreadPool pool(4);
  for (int round = 0; round < 20; ++round) {
    std::atomic<int> done{0};
    pool.parallel_for(8, 1, [&](int64_t, int64_t, int) {
      std::this_thread::sleep_for(std::chrono::microseconds(200));
      done.fetch_add(1, std::memory_order_relaxed);
    });
    EXPECT_EQ(done.load(), 8);
  }
}

TEST(ThreadPool, StartsAndStopsIdleAndAfterWork) {
  for (int round = 0; round < 50; ++round) {
    ThreadPool idle(3);
    ThreadPool used(2);
    std::atomic<int64_t> sum{0};
    used.parallel_for(10, 2, [&](int64_t begin, int64_t end, int) {
      for (int64_t i = begin; i < end; ++i) sum.fetch_add(i);
    });
    EXPECT_EQ(sum.load(), 45);
  }
}

TEST(ThreadPool, WakesUpAfterSleeping) {
  ThreadPool pool(3);
  for (int round = 0; round < 3; ++round) {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));  // long past the spinning
    std::vector<int64_t> out(100, 0);
    pool.parallel_for(100, 10, [&](int64_t begin, int64_t end, int) {
      for (int64_t i = begin; i < end; ++i) out[static_cast<size_t>(i)] = i;
    });
    EXPECT_EQ(std::accumulate(out.begin(), out.end(), int64_t{0}), 4950);
  }
}

TEST(ThreadPoolDeathTest, NeedsTheCallingThread) {
  EXPECT_DEATH({ ThreadPool pool(0); }, "at least the calling thread");
}

TEST(DefaultNumThreads, IsAtLeastOne) { EXPECT_GE(default_num_threads(), 1); }

}  // namespace
}  // namespace fathom
