#include "model/weights.h"

#include <array>
#include <charconv>
#include <string>
#include <string_view>
#include <utility>

#include "base/check.h"

namespace fathom {
namespace {

/// Cuts "PREFIX<number>." off the front of `name` and returns the number.
int64_t cut_index(std::string_view& name, std::string_view prefix) {
  name.remove_prefix(prefix.size());
  int64_t index = -1;
  const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), index);
  check(error == std::errc{} && index >= 0, "a planned tensor name has its index");
  name.remove_prefix(static_cast<size_t>(end - name.data()) + 1);
  return index;
}

template <class Owner>
using NameTable = std::pair<std::string_view, Param Owner::*>;

template <class Owner, size_t N>
Param* find_in(const std::array<NameTable<Owner>, N>& table, Owner& owner, std::string_view name) {
  for (const auto& [known, member] : table) {
    if (known == name) return &(owner.*member);
  }
  return nullptr;
}

constexpr std::array<NameTable<AttentionWeights>, 8> kAttention{
    {{"q_proj.weight", &AttentionWeights::q_a},
     {"q_a_proj.weight", &AttentionWeights::q_a},
     {"q_a_layernorm.weight", &AttentionWeights::q_a_norm},
     {"q_b_proj.weight", &AttentionWeights::q_b},
     {"kv_a_proj_with_mqa.weight", &AttentionWeights::kv_a},
     {"kv_a_layernorm.weight", &AttentionWeights::kv_a_norm},
     {"kv_b_proj.weight", &AttentionWeights::kv_b},
     {"o_proj.weight", &AttentionWeights::o}}};
constexpr std::array<NameTable<FfnWeights>, 3> kFfn{{{"gate_proj.weight", &FfnWeights::gate},
                                                     {"up_proj.weight", &FfnWeights::up},
                                                     {"down_proj.weight", &FfnWeights::down}}};
constexpr std::array<NameTable<BlockWeights>, 2> kBlock{
    {{"input_layernorm.weight", &BlockWeights::input_norm},
     {"post_attention_layernorm.weight", &BlockWeights::post_attention_norm}}};
constexpr std::array<NameTable<MtpWeights>, 4> kMtp{{{"enorm.weight", &MtpWeights::embedding_norm},
                                                     {"hnorm.weight", &MtpWeights::hidden_norm},
                                                     {"eh_proj.weight", &MtpWeights::projection},
                                                     {"shared_head.norm.weight", &MtpWeights::head_norm}}};
constexpr std::array<NameTable<ModelWeights>, 3> kModel{{{"model.embed_tokens.weight", &ModelWeights::embedding},
                                                         {"model.norm.weight", &ModelWeights::norm},
                                                         {"lm_head.weight", &ModelWeights::head}}};

struct Slot {
  Weight* value = nullptr;
  Tensor* grad = nullptr;
};

Slot slot_of(Param* param) { return param == nullptr ? Slot{} : Slot{&param->value, &param->grad}; }

/// `name` is what follows "model.layers.L.".
Slot block_slot(BlockWeights& block, std::string_view name) {
  if (name.starts_with("self_attn.")) return slot_of(find_in(kAttention, block.attention, name.substr(10)));
  if (!name.starts_with("mlp.")) return slot_of(find_in(kBlock, block, name));
  name.remove_prefix(4);
  if (!block.is_moe) return slot_of(find_in(kFfn, block.dense, name));
  if (name == "gate.weight") return slot_of(&block.moe.router);
  if (name.starts_with("shared_experts.")) return slot_of(find_in(kFfn, block.moe.shared, name.substr(15)));
  if (name.starts_with("experts.")) {
    const auto expert = static_cast<size_t>(cut_index(name, "experts."));
    ExpertMatrices& matrices = name == "gate_proj.weight" ? block.moe.gate
                               : name == "up_proj.weight" ? block.moe.up
                                                          : block.moe.down;
    return {&matrices.value[expert], &matrices.grad[expert]};
  }
  return {};
}

}  // namespace

ModelWeights empty_weights(const ModelConfig& config) {
  ModelWeights weights;
  const auto shape_block = [&config](BlockWeights& block, int64_t layer) {
    block.is_moe = config.is_moe_layer(layer);
    if (!block.is_moe) return;
    for (ExpertMatrices* matrices : {&block.moe.gate, &block.moe.up, &block.moe.down}) {
      matrices->value.resize(static_cast<size_t>(config.n_routed_experts));
      matrices->grad.resize(static_cast<size_t>(config.n_routed_experts));
    }
  };
  weights.blocks.resize(static_cast<size_t>(config.num_hidden_layers));
  for (int64_t layer = 0; layer < config.num_hidden_layers; ++layer) {
    shape_block(weights.blocks[static_cast<size_t>(layer)], layer);
  }
  weights.mtp.resize(static_cast<size_t>(config.num_nextn_predict_layers));
  for (int64_t module = 0; module < config.num_nextn_predict_layers; ++module) {
    shape_block(weights.mtp[static_cast<size_t>(module)].block, config.num_hidden_layers + module);
  }
  return weights;
}

void visit_weights(const ModelConfig& config, ModelWeights& weights,
                   const std::function<void(const TensorSpec&, Weight&, Tensor*)>& bind) {
  for (const TensorSpec& spec : expected_tensors(config)) {
    if (spec.is_optional) continue;
    std::string_view name = spec.name;
    if (!name.starts_with("model.layers.")) {
      const Slot slot = slot_of(find_in(kModel, weights, name));
      check(slot.value != nullptr, "every planned tensor has a slot");
      bind(spec, *slot.value, slot.grad);
      continue;
    }
    const int64_t layer = cut_index(name, "model.layers.");
    const bool is_mtp = layer >= config.num_hidden_layers;
    MtpWeights* mtp = is_mtp ? &weights.mtp[static_cast<size_t>(layer - config.num_hidden_layers)] : nullptr;
    BlockWeights& block = is_mtp ? mtp->block : weights.blocks[static_cast<size_t>(layer)];
    if (name == "mlp.gate.e_score_correction_bias") {
      Weight bias{.codes = block.moe.bias, .scales = {}};
      bind(spec, bias, nullptr);
      block.moe.bias = bias.codes;
      continue;
    }
    Slot slot = is_mtp ? slot_of(find_in(kMtp, *mtp, name)) : Slot{};
    if (slot.value == nullptr) slot = block_slot(block, name);
    check(slot.value != nullptr, "every planned tensor has a slot");
    bind(spec, *slot.value, slot.grad);
  }
  // A tied head that was packed or quantised is a copy of its own.
  const bool is_copy =
      weights.head.value.layout == WeightLayout::kPanels || weights.head.value.groups != GroupFormat::kNone;
  if (config.tie_word_embeddings && !is_copy) weights.head = weights.embedding;
}

}  // namespace fathom
