#include "bench/gemm_peers.h"

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

/// One token waits for its weights.
OpWork work_of(const Shape& s, double weight_bytes, Precision precision) {
  return {.operations = s.operations(),
          .bytes = s.t == 1 ? static_cast<double>(s.n * s.k) * weight_bytes : 0,
          .precision = precision};
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

void bench_gemms(const OpBench& bench) {
  for (const Shape& s : shapes()) {
    for (const auto& [format, dtype, precision] : {std::tuple{GemmFormat::kF32, DType::kF32, Precision::kF32},
                                                   {GemmFormat::kBF16, DType::kBF16, Precision::kBF16}}) {
      Tensor x, y;
      Weight w;
      const Storage storage[] = {Storage::for_tensor(DType::kF32, {s.t, s.k}, &x),
                                 Storage::for_tensor(DType::kF32, {s.t, s.n}, &y),
                                 Storage::for_tensor(dtype, {s.n, s.k}, &w.codes)};
      const Rng rng(1, stream_of("gemm"));
      for (int64_t i = 0; i < x.numel(); ++i) {
        x.ptr<float>()[i] = static_cast<float>(rng.uniform(static_cast<uint64_t>(i)) - 0.5);
      }
      for (int64_t i = 0; i < w.codes.numel(); ++i) {
        const auto value = static_cast<float>(rng.uniform(static_cast<uint64_t>(i)) - 0.5);
        if (dtype == DType::kF32) w.codes.ptr<float>()[i] = value;
        if (dtype == DType::kBF16) w.codes.ptr<bf16>()[i] = to_bf16(value);
      }
      bench.time(gemm_name(format, s), work_of(s, static_cast<double>(size_of(dtype)), precision),
                 [&] { bench.kernels().gemm(x, w, y, precision); });
    }
  }
}

void bench_peer_gemms(GemmPeer& peer, const MachineLimits& limits, const std::string& filter,
                      std::vector<OpLine>& lines) {
  for (const Shape& s : shapes()) {
    for (const auto& [format, bytes, precision, peak] :
         {std::tuple{GemmFormat::kF32, 4.0, Precision::kF32, limits.f32_ops_per_s},
          {GemmFormat::kBF16, 2.0, Precision::kBF16, limits.bf16_ops_per_s},
          {GemmFormat::kInt8, 1.0, Precision::kBF16, limits.int8_ops_per_s}}) {
      const std::string name = gemm_name(format, s);
      if (name.find(filter) == std::string::npos) continue;
      const auto call = peer.gemm(format, s.t, s.n, s.k);
      if (!call) continue;
      const OpWork work = work_of(s, bytes, precision);
      lines.push_back({.op = name,
                       .kernels = peer.name(),
                       .num_threads = limits.num_threads,
                       .seconds = median_seconds(call),
                       .work = work,
                       .limit_per_s = work.bytes > 0 ? limits.read_bytes_per_s : peak});
    }
  }
}

}  // namespace fathom::bench
