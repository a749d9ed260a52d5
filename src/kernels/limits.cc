#include "kernels/limits.h"

#include <algorithm>
#include <chrono>
#include <vector>

#include "base/check.h"
#include "base/spread.h"
#include "kernels/cpu/cpu.h"
#include "tensor/storage.h"

namespace fathom {
namespace {

template <class Body>
double seconds_of(Body&& body) {
  const auto start = std::chrono::steady_clock::now();
  body();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

double measure_peak(const cpu::Level& level, cpu::Peak peak, ThreadPool& pool, int num_rounds) {
  constexpr double kLongEnough = 0.008;  // seconds: far above the pool's start and the clock's steps
  constexpr int kMaxDoublings = 24;
  if (level.run_peak(peak, 1) == 0) return 0;
  const int64_t num_chunks = int64_t{8} * pool.num_threads();
  int64_t iterations = 64;
  const auto round = [&] {
    return seconds_of([&] {
      pool.parallel_for(num_chunks, 1, [&](int64_t begin, int64_t end, int) {
        for (int64_t i = begin; i < end; ++i) level.run_peak(peak, iterations);
      });
    });
  };
  for (int i = 0; i < kMaxDoublings && round() < kLongEnough; ++i) iterations *= 2;
  const double operations = level.run_peak(peak, 1) * static_cast<double>(iterations * num_chunks);
  std::vector<double> speeds;
  for (int i = 0; i < num_rounds; ++i) speeds.push_back(operations / round());
  return spread_of(std::move(speeds)).median;
}

double measure_read(const cpu::Level& level, ThreadPool& pool, int64_t num_bytes, int num_rounds) {
  const Storage block(num_bytes);  // written, so every page is there
  const auto* floats = static_cast<const float*>(block.data());
  const int64_t count = num_bytes / static_cast<int64_t>(sizeof(float));
  constexpr int64_t kPiece = int64_t{1} << 20;  // floats
  const auto round = [&] {
    return seconds_of([&] {
      pool.parallel_for(count, kPiece,
                        [&](int64_t begin, int64_t end, int) { level.read_all(floats + begin, end - begin); });
    });
  };
  round();
  std::vector<double> speeds;
  for (int i = 0; i < num_rounds; ++i) speeds.push_back(static_cast<double>(num_bytes) / round());
  return spread_of(std::move(speeds)).median;
}

}  // namespace

int64_t default_read_bytes(const Machine& machine) {
  constexpr int64_t kMost = int64_t{1} << 30, kLeast = int64_t{64} << 20;
  if (!machine.memory_available_bytes) return kMost;
  return std::clamp(*machine.memory_available_bytes / 8 / kLeast * kLeast, kLeast, kMost);
}

MachineLimits measure_limits(std::string_view kernels, ThreadPool& pool, const LimitsOptions& options) {
  check(options.num_rounds > 0, "limits are the median of at least one measurement");
  const cpu::Level& level = cpu::level_for(kernels);
  const Machine machine = inspect_machine();
  const int64_t read_bytes = options.read_bytes > 0 ? options.read_bytes : default_read_bytes(machine);
  MachineLimits out;
  out.level = level.name;
  out.num_threads = pool.num_threads();
  out.read_bytes_per_s = measure_read(level, pool, read_bytes, options.num_rounds);
  out.f32_ops_per_s = measure_peak(level, cpu::Peak::kF32, pool, options.num_rounds);
  out.bf16_ops_per_s = measure_peak(level, cpu::Peak::kBF16, pool, options.num_rounds);
  if (machine.features.avx512_vnni)
    out.int8_ops_per_s = measure_peak(level, cpu::Peak::kVnni, pool, options.num_rounds);
  if (out.int8_ops_per_s == 0) {
    out.int8_ops_per_s = measure_peak(level, cpu::Peak::kBytes, pool, options.num_rounds);
  }
  return out;
}

MachineLimits larger_of(const MachineLimits& a, const MachineLimits& b) {
  MachineLimits out = a;
  out.read_bytes_per_s = std::max(a.read_bytes_per_s, b.read_bytes_per_s);
  out.f32_ops_per_s = std::max(a.f32_ops_per_s, b.f32_ops_per_s);
  out.bf16_ops_per_s = std::max(a.bf16_ops_per_s, b.bf16_ops_per_s);
  out.int8_ops_per_s = std::max(a.int8_ops_per_s, b.int8_ops_per_s);
  return out;
}

}  // namespace fathom
