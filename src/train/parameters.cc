// Layout and filling of the parameters. Each kind (masters, gradients, ...) is one block of memory in plan order.
#include "train/parameters.h"

#include <cstring>

#include "base/check.h"
#include "base/rng.h"
#include "numerics/decode.h"
#include "numerics/fp8.h"

namespace fathom {
namespace {

constexpr int64_t kGradientRow = 1024;
constexpr int64_t kAlignment = 32;  // elements: 64 bytes of BF16, 128 of FP32
constexpr int64_t kGrain = 16384;

int64_t padded(int64_t count, int64_t unit) { return (count + unit - 1) / unit * unit; }

Tensor tensor_at(void* base, DType dtype, int64_t offset, const TensorSpec& spec) {
  void* data = static_cast<std::byte*>(base) + offset * size_of(dtype);
  return spec.shape.size() == 1 ? Tensor::contiguous(data, dtype, {spec.shape[0]})
                                : Tensor::contiguous(data, dtype, {spec.shape[0], spec.shape[1]});
}

void zero(const Tensor& t) {
  if (t) std::memset(t.data, 0, static_cast<size_t>(t.num_bytes()));
}

int64_t padded_elements(const ModelConfig& config, ModelWeights& weights) {
  int64_t total = 0;
  visit_weights(config, weights,
                [&](const TensorSpec& spec, Weight&, Tensor*) { total += padded(spec.num_elements(), kAlignment); });
  return padded(total, kGradientRow);
}

}  // namespace

int64_t Parameters::num_bytes(const ModelConfig& config, ComputeType compute) {
  ModelWeights weights = empty_weights(config);
  // Master and gradient, two moments, the copy to compute with.
  return padded_elements(config, weights) * (4 + 4 + 2 + 2 + (compute == ComputeType::kBF16 ? 2 : 0));
}

Parameters::Parameters(const ModelConfig& config, ComputeType compute) : config_(config) {
  weights_ = empty_weights(config_);
  const int64_t total = padded_elements(config_, weights_);
  const auto block = [&](DType dtype) -> void* {
    storage_.emplace_back(total * size_of(dtype));
    return storage_.back().data();
  };
  void* const masters = block(DType::kF32);
  void* const grads = block(DType::kF32);
  void* const first = block(DType::kBF16);
  void* const second = block(DType::kBF16);
  void* const matrices = compute == ComputeType::kBF16 ? block(DType::kBF16) : nullptr;
  gradients_ = Tensor::contiguous(grads, DType::kF32, {total / kGradientRow, kGradientRow});

  int64_t offset = 0;
  visit_weights(config_, weights_, [&](const TensorSpec& spec, Weight& value, Tensor* grad) {
    Entry entry{.spec = spec,
                .master = tensor_at(masters, DType::kF32, offset, spec),
                .grad = {},
                .first_moment = {},
                .second_moment = {},
                .compute = {}};
    if (grad != nullptr) {
      entry.grad = tensor_at(grads, DType::kF32, offset, spec);
      entry.first_moment = tensor_at(first, DType::kBF16, offset, spec);
      entry.second_moment = tensor_at(second, DType::kBF16, offset, spec);
      *grad = entry.grad;
    }
    if (compute == ComputeType::kF32 || grad == nullptr) {
      entry.compute = entry.master;
    } else if (entry.is_matrix()) {
      entry.compute = tensor_at(matrices, DType::kBF16, offset, spec);
    } else {
      storage_.push_back(Storage::for_tensor(DType::kF32, {spec.shape[0]}, &entry.compute));
    }
    value.codes = entry.compute;
    entries_.push_back(std::move(entry));
    offset += padded(spec.num_elements(), kAlignment);
  });
}

std::vector<Tensor> Parameters::router_biases() const {
  std::vector<Tensor> biases;
  for (const Entry& entry : entries_) {
    if (entry.is_router_bias()) biases.push_back(entry.master);
  }
  return biases;
}

void Parameters::initialize(uint64_t seed, ThreadPool& pool) {
  for (const Entry& entry : entries_) {
    float* out = entry.master.ptr<float>();
    zero(entry.first_moment);
    zero(entry.second_moment);
    if (!entry.is_matrix()) {
      std::fill_n(out, entry.master.numel(), entry.is_router_bias() ? 0.0f : 1.0f);
      continue;
    }
    const Rng rng(seed, stream_of(entry.spec.name));
    pool.parallel_for(entry.master.numel(), kGrain, [&](int64_t begin, int64_t end, int) {
      for (int64_t i = begin; i < end; ++i) {
        out[i] = static_cast<float>(config_.initializer_range * rng.normal(static_cast<uint64_t>(i)));
      }
    });
  }
  refresh(pool);
}

void Parameters::copy_from(const Model& model, ThreadPool& pool) {
  size_t next = 0;
  // Visiting does not change the weights of a bound model; the signature serves loading too.
  auto& weights = const_cast<ModelWeights&>(model.weights);
  visit_weights(model.config, weights, [&](const TensorSpec& spec, Weight& value, Tensor*) {
    check(next < entries_.size(), "the model has the plan of the parameters");
    const Entry& entry = entries_[next++];
    check(entry.spec.name == spec.name && entry.spec.shape == spec.shape, "the model has the plan of the parameters");
    zero(entry.first_moment);
    zero(entry.second_moment);
    float* out = entry.master.ptr<float>();
    if (!entry.is_matrix()) {
      std::memcpy(out, value.codes.ptr<const float>(), static_cast<size_t>(entry.master.num_bytes()));
      return;
    }
    const int64_t width = spec.shape[1];
    for (int64_t n = 0; n < spec.shape[0]; ++n) decode_row(value, n, out + n * width);
  });
  check(next == entries_.size(), "the model has the plan of the parameters");
  refresh(pool);
}

void Parameters::refresh(ThreadPool& pool) {
  for (const Entry& entry : entries_) {
    if (entry.compute.data == entry.master.data) continue;
    const float* master = entry.master.ptr<const float>();
    pool.parallel_for(entry.master.numel(), kGrain, [&](int64_t begin, int64_t end, int) {
      if (entry.compute.dtype == DType::kBF16) {
        bf16* out = entry.compute.ptr<bf16>();
        for (int64_t i = begin; i < end; ++i) out[i] = to_bf16(master[i]);
      } else {
        float* out = entry.compute.ptr<float>();
        for (int64_t i = begin; i < end; ++i) out[i] = to_float(to_bf16(master[i]));
      }
    });
  }
}

void Parameters::zero_gradients() { zero(gradients_); }

}  // namespace fathom
