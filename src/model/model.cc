#include "model/model.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <set>

#include "model/gguf_config.h"
#include "model/gguf_weights.h"
#include "model/stored_groups.h"
#include "numerics/decode.h"
#include "numerics/fp8.h"

namespace fathom {
namespace {

/// Norm gains, router bias: anything that is a vector.
bool is_vector(const TensorSpec& spec) { return spec.shape.size() == 1; }

/// A vector of the checkpoint as FP32 in storage of its own.
Tensor widen_vector(const Tensor& stored, std::vector<Storage>& storage) {
  Tensor wide;
  storage.push_back(Storage::for_tensor(DType::kF32, {stored.extent(0)}, &wide));
  Weight row{.codes = stored, .scales = {}};
  row.codes.rank = 2;
  row.codes.extents = {1, stored.extent(0), 0};
  row.codes.strides = {stored.extent(0), 1, 0};
  decode_row(row, 0, wide.ptr<float>());
  return wide;
}

/// FP8 block scales as FP32: their own tensor if they are stored so, else widened (exactly) into `storage`.
Tensor widen_scales(const Tensor& stored, std::vector<Storage>& storage) {
  if (stored.dtype == DType::kF32) return stored;
  Tensor wide;
  storage.push_back(Storage::for_tensor(DType::kF32, {stored.extent(0), stored.extent(1)}, &wide));
  float* out = wide.ptr<float>();
  for (int64_t i = 0; i < stored.numel(); ++i) {
    out[i] =
        stored.dtype == DType::kBF16 ? to_float(stored.ptr<const bf16>()[i]) : to_float(stored.ptr<const e8m0>()[i]);
  }
  return wide;
}

std::string dtype_problem(const std::string& name, DType dtype, std::string_view accepted) {
  return name + " has dtype " + std::string(name_of(dtype)) + "; accepted: " + std::string(accepted);
}

/// Present and of the shape that the config asks for.
Status check_stored(const Checkpoint& checkpoint, const std::string& name, std::span<const int64_t> shape) {
  const StoredTensor* stored = checkpoint.find(name);
  if (stored == nullptr) return corrupt(name + " is missing");
  if (std::equal(shape.begin(), shape.end(), stored->shape.begin(), stored->shape.end())) return {};
  return corrupt(name + " has shape " + shape_text(stored->shape) + ", config.json asks for " + shape_text(shape));
}

/// The integer format that config.json gives a tensor of the plan.
GroupFormat stored_groups(const ModelConfig& config, const TensorSpec& spec) {
  return config.stored_formats ? groups_of(config.stored_formats->format_of(spec)) : GroupFormat::kNone;
}

/// The head of a checkpoint whose tied head was quantised: the embedding is not.
std::optional<TensorSpec> own_tied_head(const ModelConfig& config) {
  if (!config.tie_word_embeddings) return std::nullopt;
  TensorSpec head = tied_head(config);
  if (stored_groups(config, head) == GroupFormat::kNone) return std::nullopt;
  return head;
}

/// Whether a tensor of the plan, with its scales, can be used. Errors begin with the tensor's name.
Status check_tensor(const ModelConfig& config, const Checkpoint& checkpoint, const TensorSpec& spec) {
  if (const GroupFormat groups = stored_groups(config, spec); groups != GroupFormat::kNone) {
    return check_groups(checkpoint, spec, groups);
  }
  if (auto s = check_stored(checkpoint, spec.name, spec.shape); !s) return s;
  const DType dtype = checkpoint.find(spec.name)->dtype;
  if (dtype == DType::kF32 || dtype == DType::kBF16 || dtype == DType::kF16) return {};
  if (is_vector(spec)) return unsupported(dtype_problem(spec.name, dtype, "F32, BF16, F16"));
  if (dtype != DType::kE4M3) return unsupported(dtype_problem(spec.name, dtype, "F32, BF16, F16, F8_E4M3"));
  const std::string scales = scale_name(spec.name);
  if (auto s = check_stored(checkpoint, scales, scale_shape(spec.shape)); !s) return s;
  const DType scale_dtype = checkpoint.find(scales)->dtype;
  if (scale_dtype == DType::kF32 || scale_dtype == DType::kBF16 || scale_dtype == DType::kE8M0) return {};
  return unsupported(dtype_problem(scales, scale_dtype, "F32, BF16, F8_E8M0"));
}

/// Points `value` at the stored tensor, or at a copy in FP32 where the code needs one.
Status bind(const Checkpoint& checkpoint, const TensorSpec& spec, Model& model, Weight& value) {
  if (const GroupFormat groups = stored_groups(model.config, spec); groups != GroupFormat::kNone) {
    const auto weight = bind_groups(checkpoint, spec, groups);
    if (!weight) return weight.error();
    value = *weight;
    return {};
  }
  if (auto s = check_tensor(model.config, checkpoint, spec); !s) return s;
  const auto stored = checkpoint.tensor(spec.name);
  if (!stored) return stored.error();
  if (is_vector(spec)) {
    value.codes = widen_vector(*stored, model.storage);
    return {};
  }
  value.codes = *stored;
  if (stored->dtype != DType::kE4M3) return {};
  const auto scales = checkpoint.tensor(scale_name(spec.name));
  if (!scales) return scales.error();
  value.scales = widen_scales(*scales, model.storage);
  for (int64_t i = 0; i < value.scales.numel(); ++i) {
    if (std::isfinite(value.scales.ptr<const float>()[i])) continue;
    return corrupt(scale_name(spec.name) + " holds a scale that is not finite (block " + std::to_string(i) + ")");
  }
  const auto& quantization = model.config.quantization;
  if (scales->dtype == DType::kE8M0 || (quantization && quantization->ue8m0_scales)) {
    value.scale_format = ScaleFormat::kUe8m0;
  }
  return {};
}

bool has_mtp_tensors(const ModelConfig& config, const Checkpoint& checkpoint) {
  const auto plan = expected_tensors(config);
  return std::any_of(plan.begin(), plan.end(), [&](const TensorSpec& spec) {
    return spec.layer >= config.num_hidden_layers && checkpoint.find(spec.name) != nullptr;
  });
}

Result<std::unique_ptr<Model>> load_directory(const Path& model_dir) {
  auto config = ModelConfig::load(model_dir);
  if (!config) return config.error();
  auto checkpoint = Checkpoint::open(model_dir);
  if (!checkpoint) return checkpoint.error();
  auto model = std::make_unique<Model>();
  model->config = std::move(*config);
  if (!has_mtp_tensors(model->config, *checkpoint)) model->config.num_nextn_predict_layers = 0;
  model->checkpoints.push_back(*checkpoint);
  model->weights = empty_weights(model->config);
  Status status;
  visit_weights(model->config, model->weights, [&](const TensorSpec& spec, Weight& value, Tensor*) {
    if (status) status = bind(*checkpoint, spec, *model, value);
  });
  if (const auto head = own_tied_head(model->config); status && head) {
    status = bind(*checkpoint, *head, *model, model->weights.head.value);
  }
  if (!status) return Error{status.error().code, model_dir.string() + ": tensor " + status.error().text};
  return model;
}

Result<std::unique_ptr<Model>> load_gguf_file(const Path& path) {
  const auto file = GgufModel::open(path);
  if (!file) return file.error();
  const auto config = config_from_gguf(*file);
  if (!config) return config.error();
  ThreadPool pool(default_num_threads());
  return load_gguf(*file, *config, pool);
}

}  // namespace

CheckpointDifference compare_with_plan(const ModelConfig& config, const Checkpoint& checkpoint) {
  CheckpointDifference difference;
  std::set<std::string, std::less<>> known;
  std::vector<TensorSpec> plan = expected_tensors(config);
  if (auto head = own_tied_head(config)) plan.push_back(std::move(*head));
  for (const TensorSpec& spec : plan) {
    known.insert(spec.name);
    if (stored_groups(config, spec) != GroupFormat::kNone) known.insert(group_scale_name(spec.name));
    const StoredTensor* stored = checkpoint.find(spec.name);
    if (stored == nullptr) {
      if (!spec.is_optional) difference.missing.push_back(spec.name);
      continue;
    }
    if (stored->dtype == DType::kE4M3) {
      known.insert(scale_name(spec.name));
      if (checkpoint.find(scale_name(spec.name)) == nullptr) {
        difference.missing.push_back(scale_name(spec.name));
        continue;
      }
    }
    if (auto s = check_tensor(config, checkpoint, spec); !s) difference.wrong.push_back(s.error().text);
  }
  for (std::string_view name : checkpoint.names()) {
    if (known.find(name) != known.end()) continue;
    const bool is_indexer = config.index_topk > 0 && name.find(".self_attn.indexer.") != std::string_view::npos;
    (is_indexer ? difference.skipped : difference.unexpected).emplace_back(name);
  }
  return difference;
}

Result<ModelConfig> load_model_config(const Path& model) {
  const auto gguf = find_gguf(model);
  if (!gguf) return gguf.error();
  if (!*gguf) return ModelConfig::load(model);
  const auto file = GgufModel::open(**gguf);
  if (!file) return file.error();
  return config_from_gguf(*file);
}

Result<std::unique_ptr<Model>> load_model(const Path& model_path) {
  const auto gguf = find_gguf(model_path);
  if (!gguf) return gguf.error();
  return *gguf ? load_gguf_file(**gguf) : load_directory(model_path);
}

std::unique_ptr<Model> make_model(const ModelConfig& config, DType dtype, bool with_gradients) {
  auto model = std::make_unique<Model>();
  model->config = config;
  model->weights = empty_weights(config);
  const auto allocate = [&](const TensorSpec& spec, DType type) {
    Tensor tensor;
    model->storage.push_back(is_vector(spec) ? Storage::for_tensor(type, {spec.shape[0]}, &tensor)
                                             : Storage::for_tensor(type, {spec.shape[0], spec.shape[1]}, &tensor));
    return tensor;
  };
  visit_weights(model->config, model->weights, [&](const TensorSpec& spec, Weight& value, Tensor* grad) {
    // The router bias decides, it is not differentiated: FP32 whatever the rest is.
    value.codes = allocate(spec, grad == nullptr ? DType::kF32 : dtype);
    if (with_gradients && grad != nullptr) *grad = allocate(spec, dtype);
  });
  return model;
}

void copy_weights(const Model& from, Model& to) {
  std::vector<Weight> sources;
  // Visiting does not change the weights of a bound model; the signature serves loading too.
  auto& source_weights = const_cast<ModelWeights&>(from.weights);
  visit_weights(from.config, source_weights,
                [&](const TensorSpec&, Weight& value, Tensor*) { sources.push_back(value); });
  size_t next = 0;
  visit_weights(to.config, to.weights, [&](const TensorSpec& spec, Weight& value, Tensor*) {
    check(next < sources.size(), "weights are copied between models of one config");
    Weight source = sources[next++];
    Weight target = value;
    for (Weight* w : {&source, &target}) {
      if (w->codes.rank == 1) {
        w->codes.rank = 2;
        w->codes.extents = {1, spec.shape[0], 0};
        w->codes.strides = {spec.shape[0], 1, 0};
      }
    }
    std::vector<float> row(static_cast<size_t>(source.codes.extent(1)));
    check(source.codes.extents == target.codes.extents, "copied weights have one shape");
    for (int64_t n = 0; n < source.codes.extent(0); ++n) {
      if (source.codes.dtype == DType::kF64 && target.codes.dtype == DType::kF64) {  // FP32 in between would round
        std::copy_n(source.codes.ptr<double>() + n * source.codes.stride(0), source.codes.extent(1),
                    target.codes.ptr<double>() + n * target.codes.stride(0));
        continue;
      }
      decode_row(source, n, row.data());
      for (int64_t k = 0; k < source.codes.extent(1); ++k) {
        const int64_t at = n * target.codes.stride(0) + k;
        const float v = row[static_cast<size_t>(k)];
        switch (target.codes.dtype) {
          case DType::kF64: target.codes.ptr<double>()[at] = v; break;
          case DType::kF32: target.codes.ptr<float>()[at] = v; break;
          case DType::kBF16: target.codes.ptr<bf16>()[at] = to_bf16(v); break;
          default: check(false, "weights are copied to F64, F32 or BF16");
        }
      }
    }
  });
}

}  // namespace fathom
