// Products of others that ours are held against: OpenBLAS and oneDNN, where the build found them.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "bench/op_bench.h"

namespace fathom::bench {

enum class GemmFormat { kF32, kBF16, kInt8, kInt4 };

/// y[t, n] = sum_k x[t, k] w[n, k] in a library of others.
class GemmPeer {
 public:
  virtual ~GemmPeer() = default;
  virtual std::string name() const = 0;
  /// A call that computes the product once, with the next of `num_weights` matrices w; empty when the library has none
  /// of this format. What a library does with the weights beforehand (packing them) is done here, not in the call.
  virtual std::function<void()> gemm(GemmFormat format, int64_t t, int64_t n, int64_t k, int64_t num_weights) = 0;
};

std::unique_ptr<GemmPeer> make_openblas(int num_threads);
std::unique_ptr<GemmPeer> make_onednn(int num_threads);

/// Those of this build.
std::vector<std::unique_ptr<GemmPeer>> make_peers(int num_threads);

/// Products of the shapes of V2-Lite's layers in every format: ours and right after it the peers'. A product of one row
/// goes round as many matrices as no cache holds. Ours of INT8 and INT4 are of groups of 32 with their scales; a peer's
/// INT8 is a product of unsigned by signed bytes into 32 bits, without any.
void bench_gemms(const OpBench& bench, std::span<const std::unique_ptr<GemmPeer>> peers);

}  // namespace fathom::bench
