#include "bench/gemm_peers.h"

#include <optional>

#include "base/rng.h"
#include "tensor/storage.h"

namespace fathom::bench {
namespace {

struct Shape {
  int64_t t, n, k;
  double operations() const { return 2.0 * static_cast<double>(t * n * k); }
};

/// One token, a batch and a prompt through a projection, an expert and the way back from it.
std::vector<Shape> shapes() {
  std::vector<Shape> out;
  for (int64_t t : {1, 16, 512}) {
    for (const auto& [n, k] : {std::pair<int64_t, int64_t>{2048, 2048}, {1408, 2048}, {2048, 1408}}) {
      out.push_back({t, n, k});
    }
  }
  return out;
}

std::string gemm_name(GemmFormat format, const Shape& s) {
  const char* name = format == GemmFormat::kF32 ? "f32" : format == GemmFormat::kBF16 ? "bf16" : "int8";
  return "gemm " + std::to_string(s.t) + "x" + std::to_string(s.n) + "x" + std::to_string(s.k) + " " + name;
}

struct Format {
  GemmFormat format;
  int64_t weight_bytes;  // of a number
  std::optional<std::pair<DType, Precision>> ours;
  double MachineLimits::*peak;
};

const Format kFormats[] = {
    {GemmFormat::kF32, 4, std::pair{DType::kF32, Precision::kF32}, &MachineLimits::f32_ops_per_s},
    {GemmFormat::kBF16, 2, std::pair{DType::kBF16, Precision::kBF16}, &MachineLimits::bf16_ops_per_s},
    {GemmFormat::kInt8, 1, std::nullopt, &MachineLimits::int8_ops_per_s},
};

/// One token waits for its weights, which must then come from memory: 256 MiB of them.
int64_t num_weights_of(const Shape& s, const Format& format) {
  constexpr int64_t kBeyondCaches = int64_t{256} << 20;
  return s.t > 1 ? 1 : kBeyondCaches / (s.n * s.k * format.weight_bytes) + 1;
}

OpWork work_of(const Shape& s, const Format& format) {
  OpWork work{.operations = s.operations()};
  if (s.t == 1) work.bytes = static_cast<double>(s.n * s.k * format.weight_bytes);
  if (format.ours) work.precision = format.ours->second;
  return work;
}

void bench_ours(const OpBench& bench, const Shape& s, const Format& format) {
  const auto [dtype, precision] = *format.ours;
  const int64_t num_weights = num_weights_of(s, format);
  Tensor x, y, codes;
  const Storage storage[] = {Storage::for_tensor(DType::kF32, {s.t, s.k}, &x),
                             Storage::for_tensor(DType::kF32, {s.t, s.n}, &y),
                             Storage::for_tensor(dtype, {num_weights * s.n, s.k}, &codes)};
  const Rng rng(1, stream_of("gemm"));
  for (int64_t i = 0; i < x.numel(); ++i) {
    x.ptr<float>()[i] = static_cast<float>(rng.uniform(static_cast<uint64_t>(i)) - 0.5);
  }
  for (int64_t i = 0; i < codes.numel(); ++i) {
    const auto value = static_cast<float>(i % 1021 - 510) / 1021;
    if (dtype == DType::kF32) codes.ptr<float>()[i] = value;
    if (dtype == DType::kBF16) codes.ptr<bf16>()[i] = to_bf16(value);
  }
  int64_t next = 0;
  bench.time(gemm_name(format.format, s), work_of(s, format), [&] {
    Weight w;
    w.codes = codes.rows(next++ % num_weights * s.n, s.n);
    bench.kernels().gemm(x, w, y, precision);
  });
}

}  // namespace

std::vector<std::unique_ptr<GemmPeer>> make_peers(int num_threads) {
  std::vector<std::unique_ptr<GemmPeer>> peers;
#ifdef FATHOM_OPENBLAS
  peers.push_back(make_openblas(num_threads));
#endif
#ifdef FATHOM_ONEDNN
  peers.push_back(make_onednn(num_threads));
#endif
  (void)num_threads;
  return peers;
}

void bench_gemms(const OpBench& bench, std::span<const std::unique_ptr<GemmPeer>> peers) {
  for (const Shape& s : shapes()) {
    for (const Format& format : kFormats) {
      const std::string name = gemm_name(format.format, s);
      if (!bench.wants(name)) continue;
      if (format.ours) bench_ours(bench, s, format);
      for (const auto& peer : peers) {
        const auto call = peer->gemm(format.format, s.t, s.n, s.k, num_weights_of(s, format));
        if (!call) continue;
        bench.add_peer(peer->name(), name, work_of(s, format), median_seconds(call), bench.limits().*format.peak);
      }
    }
  }
}

}  // namespace fathom::bench
