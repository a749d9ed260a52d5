// OpenBLAS as a peer: FP32 alone.
#include <cblas.h>

#include "base/rng.h"
#include "bench/gemm_peers.h"

namespace fathom::bench {
namespace {

class OpenBlas final : public GemmPeer {
 public:
  explicit OpenBlas(int num_threads) { openblas_set_num_threads(num_threads); }

  std::string name() const override { return "openblas"; }

  std::function<void()> gemm(GemmFormat format, int64_t t, int64_t n, int64_t k, int64_t num_weights) override {
    if (format != GemmFormat::kF32) return {};
    const auto random = [](int64_t count) {
      std::vector<float> out(static_cast<size_t>(count));
      const Rng rng(1, stream_of("peer"));
      for (size_t i = 0; i < out.size(); ++i) out[i] = static_cast<float>(rng.uniform(i % 4099) - 0.5);
      return std::make_shared<std::vector<float>>(std::move(out));
    };
    const auto x = random(t * k), w = random(num_weights * n * k), y = random(t * n);
    return [=, next = int64_t{0}]() mutable {
      const float* weights = w->data() + next++ % num_weights * n * k;
      cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, static_cast<blasint>(t), static_cast<blasint>(n),
                  static_cast<blasint>(k), 1, x->data(), static_cast<blasint>(k), weights, static_cast<blasint>(k), 0,
                  y->data(), static_cast<blasint>(n));
    };
  }
};

}  // namespace

std::unique_ptr<GemmPeer> make_openblas(int num_threads) { return std::make_unique<OpenBlas>(num_threads); }

}  // namespace fathom::bench
