#include "model/stream_experts.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "base/check.h"
#include "base/direct_file.h"
#include "model/prepare_weights.h"
#include "model/prepared_file.h"
#include "numerics/panels.h"

namespace fathom {
namespace {

int64_t rounded_up(int64_t bytes, int64_t to) { return (bytes + to - 1) / to * to; }

int64_t scale_bytes(const Weight& w) { return w.scales.rank > 0 ? w.scales.num_bytes() : 0; }

/// Where codes and scales of the three matrices are in a record, and where it ends.
struct Places {
  int64_t codes[3];
  int64_t scales[3];
  int64_t end = 0;
};
Places places_in(const Weight* const (&matrices)[3]) {
  constexpr int64_t kLine = 64;
  Places places{};
  for (int i = 0; i < 3; ++i) {
    places.codes[i] = places.end;
    places.end += rounded_up(code_bytes(*matrices[i]), kLine);
  }
  for (int i = 0; i < 3; ++i) {
    places.scales[i] = places.end;
    places.end += rounded_up(scale_bytes(*matrices[i]), kLine);
  }
  places.end = rounded_up(places.end, DirectFile::kAlignment);
  return places;
}

/// A layer of experts: its weights, the specs of their tensors and the forms that they become.
struct Layer {
  MoeWeights* moe = nullptr;
  std::vector<TensorSpec> specs[3];  // of gate, up and down, by expert
  std::vector<Weight> forms[3];
  int64_t offset = 0;
  int64_t record_bytes = 0;
};

const Weight& source_of(const Layer& layer, int matrix, size_t expert) {
  const ExpertMatrices* matrices[3] = {&layer.moe->gate, &layer.moe->up, &layer.moe->down};
  return matrices[matrix]->value[expert];
}

Weight form_of(const Weight& from, const TensorSpec& spec, const QuantPolicy& policy, Precision precision) {
  Weight form = prepared_form(from, spec, policy, precision);
  form.codes.data = form.scales.data = nullptr;
  return form;
}

std::vector<Layer> layers_of(Model& model, const QuantPolicy& policy, Precision precision) {
  std::vector<Layer> layers;
  int64_t layer_number = -1;
  visit_weights(model.config, model.weights, [&](const TensorSpec& spec, Weight& value, Tensor*) {
    if (spec.tensor_class != TensorClass::kRoutedExpert) return;
    if (spec.layer != layer_number) {
      layer_number = spec.layer;
      const int64_t module = layer_number - model.config.num_hidden_layers;
      BlockWeights& block = module >= 0 ? model.weights.mtp[static_cast<size_t>(module)].block
                                        : model.weights.blocks[static_cast<size_t>(layer_number)];
      layers.emplace_back().moe = &block.moe;
    }
    const int matrix = spec.name.ends_with("gate_proj.weight") ? 0 : spec.name.ends_with("up_proj.weight") ? 1 : 2;
    layers.back().forms[matrix].push_back(form_of(value, spec, policy, precision));
    layers.back().specs[matrix].push_back(spec);
  });
  return layers;
}

/// Offsets and sizes of the records; returns where the file ends. A checkpoint may keep some tensors in another dtype:
/// records of a layer are as long as its longest.
int64_t place_records(std::vector<Layer>& layers, int64_t header_bytes) {
  int64_t at = header_bytes;
  for (Layer& layer : layers) {
    for (size_t e = 0; e < layer.forms[0].size(); ++e) {
      const Places places = places_in({&layer.forms[0][e], &layer.forms[1][e], &layer.forms[2][e]});
      layer.record_bytes = std::max(layer.record_bytes, places.end);
    }
    layer.offset = at;
    at += layer.record_bytes * std::ssize(layer.forms[0]);
  }
  return at;
}

/// What becomes of each expert, a line each: what changes when the records do.
std::string layout_text(const std::vector<Layer>& layers) {
  std::string text;
  for (const Layer& layer : layers) {
    for (size_t e = 0; e < layer.forms[0].size(); ++e) {
      for (int i = 0; i < 3; ++i) text += form_text(source_of(layer, i, e), layer.forms[i][e]) + " ";
    }
    text += std::to_string(layer.record_bytes) + "\n";
  }
  return text;
}

struct Plan {
  std::vector<Layer> layers;
  PreparedFile file;
};

Result<Plan> plan_of(Model& model, const QuantPolicy& policy, Precision precision, const Path& directory) {
  std::vector<Layer> layers = layers_of(model, policy, precision);
  if (layers.empty()) return invalid("the model has no routed experts that could be read from a file");
  if (!model.ggufs.empty()) {
    return unsupported(
        "experts of a GGUF file are decoded in memory; reading them as needed takes a safetensors model");
  }
  const int64_t content_bytes = place_records(layers, 0);
  auto file = PreparedFile::of(kPreparedExperts, model, layout_text(layers), content_bytes, directory);
  if (!file) return file.error();
  place_records(layers, file->head_bytes());
  return Plan{.layers = std::move(layers), .file = std::move(*file)};
}

/// One expert into the zeroed memory of its record.
Status fill_record(const Layer& layer, size_t expert, const QuantPolicy& policy, Kernels& kernels, std::byte* record) {
  const Places places = places_in({&layer.forms[0][expert], &layer.forms[1][expert], &layer.forms[2][expert]});
  for (int i = 0; i < 3; ++i) {
    const Weight& from = source_of(layer, i, expert);
    Weight to = layer.forms[i][expert];
    to.codes.data = record + places.codes[i];
    if (to.scales.rank > 0) to.scales.data = record + places.scales[i];
    if (to.layout == WeightLayout::kPanels) {
      if (auto s = pack_weight(from, layer.specs[i][expert], policy, kernels, to); !s) return s;
    } else {
      check(from.codes.is_contiguous(), "rows of a checkpoint follow each other");
      std::memcpy(to.codes.data, from.codes.data, static_cast<size_t>(from.codes.num_bytes()));
      copy_scales(from, to);
    }
    release_pages(from.codes.data, from.codes.num_bytes());
  }
  return {};
}

Status write_records(const Plan& plan, const QuantPolicy& policy, Kernels& kernels, Progress& progress) {
  auto out = plan.file.create();
  if (!out) return out.error();
  int64_t done = plan.file.head_bytes();
  for (const Layer& layer : plan.layers) {
    Storage record(layer.record_bytes);
    for (size_t e = 0; e < layer.forms[0].size(); ++e) {
      if (progress.stop_requested()) return cancelled("stopped while preparing the experts");
      std::memset(record.data(), 0, static_cast<size_t>(layer.record_bytes));
      if (auto s = fill_record(layer, e, policy, kernels, static_cast<std::byte*>(record.data())); !s) return s;
      if (auto s = out->write(record.data(), static_cast<size_t>(layer.record_bytes)); !s) return s;
      done += layer.record_bytes;
      progress.update("preparing experts", done / 1000000, plan.file.num_bytes() / 1000000, "MB");
    }
  }
  return out->commit();
}

}  // namespace

Result<ExpertFile> expert_file(const Model& model, const QuantPolicy& policy, Precision precision,
                               const Path& directory) {
  // Visiting does not change the weights; the signature serves loading too.
  auto plan = plan_of(const_cast<Model&>(model), policy, precision, directory);
  if (!plan) return plan.error();
  ExpertFile file{.path = plan->file.path(), .num_bytes = plan->file.num_bytes(), .is_there = plan->file.is_there()};
  for (const Layer& layer : plan->layers) {
    file.record_bytes = std::max(file.record_bytes, layer.record_bytes);
    file.num_records += std::ssize(layer.forms[0]);
  }
  return file;
}

Status stream_experts(Model& model, const QuantPolicy& policy, Precision precision, Kernels& kernels,
                      const Path& directory, Progress& progress) {
  auto plan = plan_of(model, policy, precision, directory);
  if (!plan) return plan.error();
  const auto claim = plan->file.claim(progress);
  if (!claim) return claim.error();
  if (*claim) {
    if (auto s = write_records(*plan, policy, kernels, progress); !s) return s;
  }
  std::vector<ExpertLayer> places;
  for (const Layer& layer : plan->layers) places.push_back({layer.offset, layer.record_bytes});
  auto store = ExpertStore::open(plan->file.path(), std::move(places), model.config.n_routed_experts);
  if (!store) return store.error();
  model.experts = std::move(*store);
  for (size_t l = 0; l < plan->layers.size(); ++l) {
    Layer& layer = plan->layers[l];
    layer.moe->store = model.experts.get();
    layer.moe->store_layer = static_cast<int64_t>(l);
    layer.moe->gate.value = std::move(layer.forms[0]);
    layer.moe->up.value = std::move(layer.forms[1]);
    layer.moe->down.value = std::move(layer.forms[2]);
  }
  return {};
}

ExpertWeights expert_weights(const MoeWeights& moe, int64_t expert, std::byte* record) {
  const auto e = static_cast<size_t>(expert);
  ExpertWeights out{.gate = moe.gate.value[e], .up = moe.up.value[e], .down = moe.down.value[e]};
  Weight* const matrices[3] = {&out.gate, &out.up, &out.down};
  const Places places = places_in({&out.gate, &out.up, &out.down});
  for (int i = 0; i < 3; ++i) {
    matrices[i]->codes.data = record + places.codes[i];
    if (matrices[i]->scales.rank > 0) matrices[i]->scales.data = record + places.scales[i];
  }
  return out;
}

}  // namespace fathom
