#include "bench/op_bench.h"

#include <chrono>
#include <cstdio>

#include "base/spread.h"
#include "report/bench_lines.h"

namespace fathom::bench {
namespace {

std::string number(const char* format, double value) {
  char text[64];
  std::snprintf(text, sizeof(text), format, value);
  return text;
}

/// How many times as fast line i is as the next line of a peer with the same operation; "-" where there is none.
std::string ratio_to(const std::vector<OpLine>& lines, size_t i, const char* peer) {
  for (size_t j = i + 1; j < lines.size(); ++j) {
    if (lines[j].kernels == peer && lines[j].op == lines[i].op) {
      return number("%.2f", lines[j].seconds / lines[i].seconds);
    }
  }
  return "-";
}

}  // namespace

double OpLine::share() const {
  if (limit_per_s <= 0) return 0;
  return (work.bytes > 0 ? work.bytes : work.operations) / seconds / limit_per_s;
}

double median_seconds(const std::function<void()>& body, int num_rounds) {
  constexpr double kLongEnough = 0.005;
  constexpr int64_t kMostCalls = 1 << 20;
  int64_t num_calls = 1;
  const auto round = [&] {
    const auto start = std::chrono::steady_clock::now();
    for (int64_t i = 0; i < num_calls; ++i) body();
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  };
  round();
  while (num_calls < kMostCalls && round() < kLongEnough) num_calls *= 2;
  std::vector<double> seconds;
  for (int i = 0; i < num_rounds; ++i) seconds.push_back(round() / static_cast<double>(num_calls));
  return spread_of(std::move(seconds)).median;
}

void OpBench::time(const std::string& name, const OpWork& work, const std::function<void()>& body) const {
  if (wants(name)) add(name, work, median_seconds(body));
}

void OpBench::add(const std::string& name, const OpWork& work, double seconds) const {
  const bool is_f32 = work.precision == Precision::kF32;  // E4M3 codes are exact in BF16
  add_peer(std::string(kernels_.name()), name, work, seconds, is_f32 ? limits_.f32_ops_per_s : limits_.bf16_ops_per_s);
}

void OpBench::add_peer(const std::string& peer, const std::string& name, const OpWork& work, double seconds,
                       double peak_per_s) const {
  lines_.push_back({.op = name,
                    .kernels = peer,
                    .num_threads = limits_.num_threads,
                    .seconds = seconds,
                    .work = work,
                    .limit_per_s = work.bytes > 0        ? limits_.read_bytes_per_s
                                   : work.operations > 0 ? peak_per_s
                                                         : 0});
}

Json to_json(const OpLine& line) {
  Json json = Json::object();
  json.set("op", line.op).set("kernels", line.kernels).set("threads", line.num_threads).set("seconds", line.seconds);
  json.set("operations", line.work.operations).set("bytes", line.work.bytes);
  json.set("limit_per_s", line.limit_per_s).set("share", line.share());
  return json;
}

std::string text_of(const std::vector<OpLine>& lines) {
  std::vector<std::vector<std::string>> rows = {
      {"op", "kernels", "threads", "us", "GFLOP/s", "GB/s", "share", "/OpenBLAS", "/oneDNN"}};
  for (size_t i = 0; i < lines.size(); ++i) {
    const OpLine& line = lines[i];
    rows.push_back({line.op, line.kernels, std::to_string(line.num_threads), number("%.2f", line.seconds * 1e6),
                    line.work.operations > 0 ? number("%.1f", line.work.operations / line.seconds * 1e-9) : "-",
                    line.work.bytes > 0 ? number("%.1f", line.work.bytes / line.seconds * 1e-9) : "-",
                    line.limit_per_s > 0 ? number("%.0f %%", 100 * line.share()) : "-", ratio_to(lines, i, "openblas"),
                    ratio_to(lines, i, "onednn")});
  }
  return aligned(rows, 2);
}

}  // namespace fathom::bench
