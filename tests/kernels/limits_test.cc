// The limits that figures are held against. No test here asserts a speed.
#include "kernels/limits.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "kernels/cpu/cpu.h"
#include "kernels/registry.h"

namespace fathom {
namespace {

TEST(Limits, EveryBackEndHasThem) {
  ThreadPool pool(2);
  for (const std::string& name : available_kernels()) {
    const MachineLimits limits = measure_limits(name, pool, {.read_bytes = 1 << 20, .num_rounds = 1});
    EXPECT_EQ(limits.num_threads, 2);
    EXPECT_EQ(limits.level, name == "ref" || name == "cpu" ? available_kernels().back() : name);
    for (double one : {limits.read_bytes_per_s, limits.f32_ops_per_s, limits.bf16_ops_per_s}) {
      EXPECT_TRUE(std::isfinite(one) && one > 0) << name << " " << one;
    }
    EXPECT_EQ(limits.int8_ops_per_s > 0, limits.level.starts_with("avx") || limits.level == "amx") << name;
  }
}

TEST(Limits, TheWalkOverMemoryReadsEveryNumberOnce) {
  for (const std::string& name : available_kernels()) {
    const cpu::Level& level = cpu::level_for(name);
    for (int64_t n : {0, 1, 15, 16, 17, 127, 128, 129, 1000}) {
      std::vector<float> values(static_cast<size_t>(n + 8), 1e6f);
      for (int64_t i = 0; i < n; ++i) values[static_cast<size_t>(i)] = static_cast<float>(i);
      EXPECT_EQ(level.read_all(values.data(), n), static_cast<float>(n * (n - 1) / 2)) << name << " " << n;
    }
  }
}

TEST(Limits, OperationsGrowWithTheIterations) {
  for (const std::string& name : available_kernels()) {
    const cpu::Level& level = cpu::level_for(name);
    for (auto peak : {cpu::Peak::kF32, cpu::Peak::kBF16, cpu::Peak::kBytes}) {
      EXPECT_EQ(level.run_peak(peak, 6), 3 * level.run_peak(peak, 2)) << name;
    }
    // Two operations for each lane of a multiply-add.
    EXPECT_EQ(std::fmod(level.run_peak(cpu::Peak::kF32, 1), 32), 0) << name;
  }
}

TEST(Limits, TheBlockIsAShareOfTheMemory) {
  const auto bytes_with = [](int64_t available) {
    Machine machine;
    machine.memory_available_bytes = available;
    return default_read_bytes(machine);
  };
  constexpr int64_t kMiB = int64_t{1} << 20;
  EXPECT_EQ(bytes_with(64 << 10), 64 * kMiB);
  EXPECT_EQ(bytes_with(1024 * kMiB), 128 * kMiB);
  EXPECT_EQ(bytes_with(1100 * kMiB), 128 * kMiB);
  EXPECT_EQ(bytes_with(int64_t{1} << 40), 1024 * kMiB);
  EXPECT_EQ(default_read_bytes({}), 1024 * kMiB);
}

TEST(Limits, OfTwoMeasurementsTheLargerCounts) {
  const MachineLimits a = {.level = "x",
                           .num_threads = 2,
                           .read_bytes_per_s = 1,
                           .f32_ops_per_s = 8,
                           .bf16_ops_per_s = 3,
                           .int8_ops_per_s = 6};
  const MachineLimits b = {.level = "x",
                           .num_threads = 2,
                           .read_bytes_per_s = 5,
                           .f32_ops_per_s = 2,
                           .bf16_ops_per_s = 7,
                           .int8_ops_per_s = 4};
  const MachineLimits both = larger_of(a, b);
  EXPECT_EQ(both.level, "x");
  EXPECT_EQ(both.num_threads, 2);
  EXPECT_EQ(both.read_bytes_per_s, 5);
  EXPECT_EQ(both.f32_ops_per_s, 8);
  EXPECT_EQ(both.bf16_ops_per_s, 7);
  EXPECT_EQ(both.int8_ops_per_s, 6);
}

}  // namespace
}  // namespace fathom
