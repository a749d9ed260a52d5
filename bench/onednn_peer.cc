// oneDNN 2.6 as a peer: FP32, BF16 by BF16 into FP32, unsigned by signed bytes into 32 bits. The weights are packed
// beforehand into the layout that the library chooses.
#include <dlfcn.h>

#include <cstdio>
#include <cstring>
#include <oneapi/dnnl/dnnl.hpp>

#include "base/rng.h"
#include "bench/gemm_peers.h"

namespace fathom::bench {
namespace {

using dnnl::memory;

class OneDnn final : public GemmPeer {
 public:
  explicit OneDnn(int num_threads) : engine_(dnnl::engine::kind::cpu, 0), stream_(engine_) {
    // Debian's build runs on OpenMP, whose runtime came with it.
    using SetThreads = void (*)(int);
    if (void* found = ::dlsym(RTLD_DEFAULT, "omp_set_num_threads"); found != nullptr) {
      reinterpret_cast<SetThreads>(found)(num_threads);
    }
  }

  std::string name() const override { return "onednn"; }

  std::function<void()> gemm(GemmFormat format, int64_t t, int64_t n, int64_t k, int64_t num_weights) override {
    if (format == GemmFormat::kInt4) return {};
    using Type = memory::data_type;
    using Tag = memory::format_tag;
    const Type x_type = format == GemmFormat::kF32 ? Type::f32 : format == GemmFormat::kBF16 ? Type::bf16 : Type::u8;
    const Type w_type = format == GemmFormat::kInt8 ? Type::s8 : x_type;
    const Type y_type = format == GemmFormat::kInt8 ? Type::s32 : Type::f32;
    try {
      const dnnl::matmul::desc wanted({{t, k}, x_type, Tag::ab}, {{k, n}, w_type, Tag::any}, {{t, n}, y_type, Tag::ab});
      const dnnl::matmul::primitive_desc chosen(wanted, engine_);
      memory x = random(chosen.src_desc());
      memory stored = random({{k, n}, w_type, Tag::ba});  // [n, k], as ours
      std::vector<memory> weights;
      for (int64_t i = 0; i < num_weights; ++i) {
        weights.emplace_back(chosen.weights_desc(), engine_);
        dnnl::reorder(stored, weights.back()).execute(stream_, stored, weights.back());
      }
      stream_.wait();
      memory y(chosen.dst_desc(), engine_);
      return [this, product = dnnl::matmul(chosen), x, weights, y, next = size_t{0}]() mutable {
        const memory& w = weights[next++ % weights.size()];
        product.execute(stream_, {{DNNL_ARG_SRC, x}, {DNNL_ARG_WEIGHTS, w}, {DNNL_ARG_DST, y}});
        stream_.wait();
      };
    } catch (const dnnl::error& e) {
      std::fprintf(stderr, "bench_ops: oneDNN has no product of this format here: %s\n", e.what());
      return {};
    }
  }

 private:
  memory random(const memory::desc& desc) {
    memory out(desc, engine_);
    auto* bytes = static_cast<uint8_t*>(out.get_data_handle());
    const Rng rng(1, stream_of("peer"));
    const auto type = static_cast<memory::data_type>(desc.data.data_type);
    const size_t size = type == memory::data_type::f32 ? 4 : type == memory::data_type::bf16 ? 2 : 1;
    for (size_t i = 0; i < desc.get_size() / size; ++i) {
      const auto value = static_cast<float>(rng.uniform(i) - 0.5);
      const auto byte = static_cast<uint8_t>(rng.below(i, 128));
      if (size == 1) {
        bytes[i] = byte;
      } else {  // the upper half of an FP32 number is a BF16 number
        std::memcpy(bytes + i * size, reinterpret_cast<const uint8_t*>(&value) + 4 - size, size);
      }
    }
    return out;
  }

  dnnl::engine engine_;
  dnnl::stream stream_;
};

}  // namespace

std::unique_ptr<GemmPeer> make_onednn(int num_threads) { return std::make_unique<OneDnn>(num_threads); }

}  // namespace fathom::bench
