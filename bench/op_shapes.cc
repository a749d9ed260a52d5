// The shapes that steps of models and of training spend themselves in.
#include <array>

#include "base/rng.h"
#include "bench/op_bench.h"
#include "tensor/storage.h"

namespace fathom::bench {
namespace {

/// Tensors of random values that live as long as the bench.
class Pool {
 public:
  Tensor make(DType dtype, std::initializer_list<int64_t> extents) {
    Tensor t;
    storage_.push_back(Storage::for_tensor(dtype, extents, &t));
    const Rng rng(1, storage_.size());
    for (int64_t i = 0; i < t.numel(); ++i) {
      const double v = rng.uniform(static_cast<uint64_t>(i)) - 0.5;
      if (dtype == DType::kF32) static_cast<float*>(t.data)[i] = static_cast<float>(v);
      if (dtype == DType::kBF16) static_cast<bf16*>(t.data)[i] = to_bf16(static_cast<float>(v));
      if (dtype == DType::kE4M3) static_cast<uint8_t*>(t.data)[i] = static_cast<uint8_t>(0x30 + i % 16);
    }
    return t;
  }
  Weight weight(DType dtype, int64_t rows, int64_t columns) {
    Weight w{make(dtype, {rows, columns}), {}};
    if (dtype == DType::kE4M3) w.scales = make(DType::kF32, {(rows + 127) / 128, (columns + 127) / 128});
    return w;
  }

 private:
  std::vector<Storage> storage_;
};

void bench_products(const OpBench& bench) {
  Kernels& k = bench.kernels();
  const std::pair<Precision, const char*> precisions[] = {{Precision::kF32, "f32"}, {Precision::kBF16, "bf16"}};
  const int64_t shapes[][3] = {{512, 256, 256}, {4096, 2048, 256}, {512, 256, 2048}};
  for (const auto& s : shapes) {
    const int64_t t = s[0], n = s[1], d = s[2];
    const double flops = 2.0 * static_cast<double>(t * n * d);
    Pool pool;
    const Tensor x = pool.make(DType::kF32, {t, d}), y = pool.make(DType::kF32, {t, n});
    const Tensor dw = pool.make(DType::kF32, {n, d});
    const std::string shape = std::to_string(t) + "x" + std::to_string(n) + "x" + std::to_string(d);
    for (const auto& [precision, label] : precisions) {
      for (DType dtype : {DType::kF32, DType::kBF16}) {
        const Weight w = pool.weight(dtype, n, d);
        const std::string name = shape + " " + label + ", " + std::string(name_of(dtype)) + " weights";
        bench.time("gemm " + name, {.operations = flops, .precision = precision}, [&] { k.gemm(x, w, y, precision); });
        if (dtype == DType::kBF16) continue;
        bench.time("backward_input " + name, {.operations = flops, .precision = precision},
                   [&] { k.gemm_backward_input(y, w, x, precision, Into::kAssign); });
        bench.time("backward_weight " + name, {.operations = flops, .precision = precision},
                   [&] { k.gemm_backward_weight(y, x, dw, precision); });
      }
    }
    const Weight w = pool.weight(DType::kE4M3, n, d);
    bench.time("gemm " + shape + " fp8", {.operations = flops, .precision = Precision::kFp8},
               [&] { k.gemm(x, w, y, Precision::kFp8); });
  }
}

void bench_grouped(const OpBench& bench) {
  Kernels& k = bench.kernels();
  constexpr int64_t kExperts = 16, kN = 128, kK = 256, kRows = 512;
  Pool pool;
  const Tensor x = pool.make(DType::kF32, {kExperts * kRows, kK}), y = pool.make(DType::kF32, {kExperts * kRows, kN});
  std::vector<Weight> w;
  std::vector<Tensor> dw;
  std::vector<int64_t> offsets, decode;
  for (int64_t e = 0; e < kExperts; ++e) w.push_back(pool.weight(DType::kF32, kN, kK));
  for (int64_t e = 0; e < kExperts; ++e) dw.push_back(pool.make(DType::kF32, {kN, kK}));
  for (int64_t e = 0; e <= kExperts; ++e) offsets.push_back(e * kRows), decode.push_back(e / 2);
  const double flops = 2.0 * kExperts * kN * kK * kRows;
  for (const auto& [p, label] : {std::pair{Precision::kF32, "f32"}, std::pair{Precision::kBF16, "bf16"}}) {
    const std::string name = std::string(" 16 x 512x128x256 ") + label;
    bench.time("grouped" + name, {.operations = flops, .precision = p}, [&] { k.grouped_gemm(x, offsets, w, y, p); });
    bench.time("grouped_backward_input" + name, {.operations = flops, .precision = p},
               [&] { k.grouped_gemm_backward_input(y, offsets, w, x, p, Into::kAssign); });
    bench.time("grouped_backward_weight" + name, {.operations = flops, .precision = p},
               [&] { k.grouped_gemm_backward_weight(y, x, offsets, dw, p); });
  }
  std::vector<Weight> small;
  for (int64_t e = 0; e < kExperts; ++e) small.push_back(pool.weight(DType::kBF16, kN, kK));
  bench.time("grouped decode 8 x 1x128x256 bf16", {.operations = 2.0 * 8 * kN * kK, .bytes = 8.0 * kN * kK * 2},
             [&] { k.grouped_gemm(x.rows(0, 8), decode, small, y.rows(0, 8), Precision::kBF16); });
}

void bench_decode(const OpBench& bench) {
  Kernels& k = bench.kernels();
  for (const auto& [n, d] : {std::pair<int64_t, int64_t>{256, 256}, {2048, 256}, {4096, 2048}, {32768, 2048}}) {
    for (const auto& [p, dtype] : {std::pair{Precision::kF32, DType::kF32}, std::pair{Precision::kF32, DType::kBF16},
                                   std::pair{Precision::kBF16, DType::kBF16}, std::pair{Precision::kF32, DType::kE4M3},
                                   std::pair{Precision::kFp8, DType::kE4M3}}) {
      Pool pool;
      const Tensor x = pool.make(DType::kF32, {1, d}), y = pool.make(DType::kF32, {1, n});
      const Weight w = pool.weight(dtype, n, d);
      const char* label = p == Precision::kF32 ? "f32 " : p == Precision::kBF16 ? "bf16 " : "fp8 ";
      bench.time("gemv 1x" + std::to_string(n) + "x" + std::to_string(d) + " " + label + std::string(name_of(dtype)),
                 {.operations = 2.0 * static_cast<double>(n * d), .bytes = static_cast<double>(n * d * size_of(dtype))},
                 [&] { k.gemm(x, w, y, p); });
    }
  }
}

void bench_attention(const OpBench& bench) {
  Kernels& k = bench.kernels();
  for (const auto& [s, h, nope, rope, value] :
       {std::array<int64_t, 5>{512, 8, 32, 16, 32}, {512, 8, 64, 32, 64}, {2048, 8, 128, 64, 128}}) {
    Pool pool;
    MlaPrefillArgs a;
    a.q = pool.make(DType::kF32, {s, h, nope + rope});
    a.kv = pool.make(DType::kF32, {s, h, nope + value});
    a.k_rope = pool.make(DType::kF32, {s, rope});
    a.qk_nope_head_dim = nope;
    a.softmax_scale = 0.1;
    a.out = pool.make(DType::kF32, {s, h, value});
    a.lse = pool.make(DType::kF32, {s, h});
    const MlaPrefillBackwardArgs b = {a, pool.make(DType::kF32, {s, h, value}),
                                      pool.make(DType::kF32, {s, h, nope + rope}),
                                      pool.make(DType::kF32, {s, h, nope + value}), pool.make(DType::kF32, {s, rope})};
    const double pairs = static_cast<double>(h * s * (s + 1) / 2);
    const std::string shape = std::to_string(s) + " tokens " + std::to_string(h) + " heads " + std::to_string(nope) +
                              "+" + std::to_string(rope) + "/" + std::to_string(value);
    for (const auto& [precision, label] :
         {std::pair{Precision::kF32, "prefill "}, {Precision::kBF16, "prefill bf16 "}}) {
      a.precision = precision;
      bench.time(label + shape,
                 {.operations = 2 * pairs * static_cast<double>(nope + rope + value), .precision = precision},
                 [&] { k.mla_prefill(a); });
    }
    bench.time("prefill_backward " + shape,
               {.operations = 2 * pairs * static_cast<double>(3 * (nope + rope) + 2 * value)},
               [&] { k.mla_prefill_backward(b); });
  }
  for (const auto& [h, latent, rope, length] :
       {std::array<int64_t, 4>{8, 64, 16, 256}, {16, 512, 64, 4096}, {128, 512, 64, 4096}}) {
    Pool pool;
    const std::vector<int64_t> positions = {length - 1};
    MlaDecodeArgs a = {pool.make(DType::kF32, {1, h, latent}), pool.make(DType::kF32, {1, h, rope}), {}, positions, 0.1,
                       pool.make(DType::kF32, {1, h, latent})};
    const std::string shape = std::to_string(length) + " keys " + std::to_string(h) + " heads " +
                              std::to_string(latent) + "+" + std::to_string(rope);
    for (const auto& [precision, stored, label] : {std::tuple{Precision::kF32, DType::kBF16, "mla_decode "},
                                                   {Precision::kBF16, DType::kBF16, "mla_decode bf16 "},
                                                   {Precision::kBF16, DType::kE4M3, "mla_decode bf16, fp8 cache "}}) {
      const int64_t token_bytes = LatentPages::token_bytes(stored, latent, rope);
      const Tensor cache = pool.make(DType::kU8, {length, token_bytes});
      std::vector<void*> pages;
      for (int64_t p = 0; p < length; p += 64) pages.push_back(cache.ptr<uint8_t>() + p * token_bytes);
      const std::vector<LatentPages> caches = {{pages, stored, latent, rope}};
      const Tensor latents = pool.make(DType::kF32, {1, latent}), keys = pool.make(DType::kF32, {1, rope});
      for (int64_t p = 0; p < length; ++p) k.append_latents(latents, keys, {&p, 1}, caches.front());
      a.sequences = caches;
      a.precision = precision;
      bench.time(label + shape,
                 {.operations = 2.0 * static_cast<double>(h * length * (2 * latent + rope)),
                  .bytes = static_cast<double>(cache.num_bytes()),
                  .precision = precision},
                 [&] { k.mla_decode(a); });
    }
  }
}

void bench_rows(const OpBench& bench) {
  Kernels& k = bench.kernels();
  for (int64_t t : {1, 2048}) {
    constexpr int64_t kD = 512, kV = 8192;
    Pool pool;
    const Tensor x = pool.make(DType::kF32, {t, kD}), y = pool.make(DType::kF32, {t, kD});
    const Tensor z = pool.make(DType::kF32, {t, kD}), g = pool.make(DType::kF32, {kD});
    const auto bytes = static_cast<double>(x.num_bytes());
    const std::string shape = " " + std::to_string(t) + "x512";
    bench.time("rms_norm" + shape, {.bytes = 2 * bytes}, [&] { k.rms_norm(x, g, 1e-6, y); });
    bench.time("swiglu" + shape, {.bytes = 3 * bytes}, [&] { k.swiglu(x, y, z); });
    bench.time("add" + shape, {.bytes = 3 * bytes}, [&] { k.add(x, y); });
    const Tensor logits = pool.make(DType::kF32, {t, kV}), loss = pool.make(DType::kF32, {t});
    const std::vector<int32_t> targets(static_cast<size_t>(t), 5);
    const Tensor dlogits = pool.make(DType::kF32, {t, kV});
    bench.time("cross_entropy " + std::to_string(t) + "x8192", {.bytes = static_cast<double>(3 * logits.num_bytes())},
               [&] { k.cross_entropy(logits, targets, 1, loss, dlogits); });
    const Tensor scores = pool.make(DType::kF32, {t, 64}), ids = pool.make(DType::kI32, {t, 8});
    const Tensor weights = pool.make(DType::kF32, {t, 8}), bias = pool.make(DType::kF32, {64});
    const RouterSpec spec = {true, true, 8, 4, 8, true, 2.5};
    bench.time("router " + std::to_string(t) + " of 64 experts",
               {.bytes = 2.0 * static_cast<double>(scores.num_bytes())}, [&] {
                 k.router({scores, bias, spec, scores, ids, weights});
               });
  }
  Pool pool;
  constexpr int64_t kN = 1 << 22;
  const AdamWArgs a = {.master = pool.make(DType::kF32, {kN}),
                       .grad = pool.make(DType::kF32, {kN}),
                       .first_moment = pool.make(DType::kBF16, {kN}),
                       .second_moment = pool.make(DType::kBF16, {kN}),
                       .learning_rate = 1e-9};
  for (int64_t i = 0; i < kN; ++i) a.second_moment.ptr<bf16>()[i].bits &= 0x7FFF;
  bench.time("adamw 4M", {.bytes = 20.0 * kN}, [&] { k.adamw(a); });
}

}  // namespace

void bench_shapes(const OpBench& bench) {
  bench_products(bench);
  bench_grouped(bench);
  bench_decode(bench);
  bench_attention(bench);
  bench_rows(bench);
}

}  // namespace fathom::bench
