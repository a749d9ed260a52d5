#include "bench/gemm_peers.h"

#include <cstring>

#include "base/rng.h"
#include "numerics/panels.h"
#include "tensor/storage.h"

namespace fathom::bench {
namespace {

struct Shape {
  int64_t t, n, k;
  double operations() const { return 2.0 * static_cast<double>(t * n * k); }
};

/// One token, small batches, an expert's share of a prompt, and a prompt through a projection, an expert and the way
/// back from it.
std::vector<Shape> shapes() {
  std::vector<Shape> out;
  for (int64_t t : {1, 4, 16, 48, 512}) {
    for (const auto& [n, k] : {std::pair<int64_t, int64_t>{2048, 2048}, {1408, 2048}, {2048, 1408}}) {
      out.push_back({t, n, k});
    }
  }
  return out;
}

struct Format {
  GemmFormat format;
  const char* name;
  Precision precision;
  Weight (*ours)(int64_t n, int64_t k);  // without memory, as inference keeps it: F32 in rows, the rest in panels
  double MachineLimits::*peak;
};

const Format kFormats[] = {
    {GemmFormat::kF32, "f32", Precision::kF32,
     [](int64_t n, int64_t k) {
       Weight w;
       w.codes = Tensor::contiguous(nullptr, DType::kF32, {n, k});
       return w;
     },
     &MachineLimits::f32_ops_per_s},
    {GemmFormat::kBF16, "bf16", Precision::kBF16, [](int64_t n, int64_t k) { return panels_of(DType::kBF16, n, k); },
     &MachineLimits::bf16_ops_per_s},
    {GemmFormat::kInt8, "int8", Precision::kBF16,
     [](int64_t n, int64_t k) { return panels_of(GroupFormat::kInt8, n, k); }, &MachineLimits::int8_ops_per_s},
    {GemmFormat::kInt4, "int4", Precision::kBF16,
     [](int64_t n, int64_t k) { return panels_of(GroupFormat::kInt4, n, k); }, &MachineLimits::int8_ops_per_s},
};

std::string gemm_name(const Format& format, const Shape& s) {
  return "gemm " + std::to_string(s.t) + "x" + std::to_string(s.n) + "x" + std::to_string(s.k) + " " + format.name;
}

/// What waits for its weights, which must then come from memory: 256 MiB of them. Of a prompt they stay in the cache.
int64_t num_weights_of(const Shape& s, const Format& format) {
  constexpr int64_t kBeyondCaches = int64_t{256} << 20;
  return s.t > 48 ? 1 : kBeyondCaches / weight_bytes(format.ours(s.n, s.k)) + 1;
}

OpWork work_of(const Shape& s, const Format& format) {
  OpWork work{.operations = s.operations(), .precision = format.precision};
  if (s.t == 1) work.bytes = static_cast<double>(weight_bytes(format.ours(s.n, s.k)));
  return work;
}

void bench_ours(const OpBench& bench, const Shape& s, const Format& format) {
  const int64_t num_weights = num_weights_of(s, format);
  Tensor x, y;
  Weight rows;
  const Storage storage[] = {Storage::for_tensor(DType::kF32, {s.t, s.k}, &x),
                             Storage::for_tensor(DType::kF32, {s.t, s.n}, &y),
                             Storage::for_tensor(DType::kF32, {s.n, s.k}, &rows.codes)};
  const Rng rng(1, stream_of("gemm"));
  for (int64_t i = 0; i < x.numel(); ++i) {
    x.ptr<float>()[i] = static_cast<float>(rng.uniform(static_cast<uint64_t>(i)) - 0.5);
  }
  for (int64_t i = 0; i < rows.codes.numel(); ++i) {
    rows.codes.ptr<float>()[i] = static_cast<float>(i % 1021 - 510) / 1021;
  }
  std::vector<Weight> weights;
  const int64_t bytes = weight_bytes(format.ours(s.n, s.k));
  const Storage memory(num_weights * bytes);  // one piece, as large as huge pages
  for (int64_t i = 0; i < num_weights; ++i) {
    Weight w = format.ours(s.n, s.k);
    w.codes.data = static_cast<std::byte*>(memory.data()) + i * bytes;
    if (w.layout == WeightLayout::kPanels) {
      bench.kernels().pack(rows, w);
    } else {
      std::memcpy(w.codes.data, rows.codes.data, static_cast<size_t>(bytes));
    }
    weights.push_back(w);
  }
  size_t next = 0;
  const double seconds =
      median_seconds([&] { bench.kernels().gemm(x, weights[next++ % weights.size()], y, format.precision); });
  bench.add_peer(std::string(bench.kernels().name()), gemm_name(format, s), work_of(s, format), seconds,
                 bench.limits().*format.peak);
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
      const std::string name = gemm_name(format, s);
      if (!bench.wants(name)) continue;
      bench_ours(bench, s, format);
      for (const auto& peer : peers) {
        const auto call = peer->gemm(format.format, s.t, s.n, s.k, num_weights_of(s, format));
        if (!call) continue;
        bench.add_peer(peer->name(), name, work_of(s, format), median_seconds(call), bench.limits().*format.peak);
      }
    }
  }
}

}  // namespace fathom::bench
