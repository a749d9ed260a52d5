#include "train/objective.h"

#include <algorithm>

namespace fathom {
namespace {

/// The balance loss of one MoE layer, its gradient left for the router's backward; counts its experts' tokens.
double balance_layer(const Run& run, const ModelConfig& config, MoeSaved& moe, std::span<const int64_t> offsets,
                     double coefficient, std::vector<int64_t>* counts) {
  if (counts != nullptr) {
    for (size_t e = 0; e < counts->size(); ++e) (*counts)[e] += moe.plan.offsets[e + 1] - moe.plan.offsets[e];
  }
  if (coefficient == 0) return 0;
  moe.dscores = run.make({moe.scores.extent(0), moe.scores.extent(1)});
  return run.k.balance_loss({.scores = moe.scores,
                             .document_offsets = offsets,
                             .num_experts_per_tok = config.num_experts_per_tok,
                             .coefficient = coefficient,
                             .dscores = moe.dscores});
}

}  // namespace

std::vector<int32_t> shift_left(std::span<const int32_t> v, std::span<const int64_t> document_offsets) {
  std::vector<int32_t> out(v.size(), -1);
  for (size_t d = 0; d + 1 < document_offsets.size(); ++d) {
    for (int64_t t = document_offsets[d]; t + 1 < document_offsets[d + 1]; ++t) {
      out[static_cast<size_t>(t)] = v[static_cast<size_t>(t + 1)];
    }
  }
  return out;
}

int64_t count_valid(std::span<const int32_t> targets) {
  return std::count_if(targets.begin(), targets.end(), [](int32_t id) { return id >= 0; });
}

void BatchCounts::add(const SlotTokens& slot, int64_t num_mtp_modules) {
  num_targets += count_valid(slot.targets);
  num_documents += static_cast<int64_t>(slot.document_offsets.size()) - 1;
  num_mtp_targets.resize(static_cast<size_t>(num_mtp_modules));
  std::vector<int32_t> targets(slot.targets.begin(), slot.targets.end());
  for (int64_t& count : num_mtp_targets) {
    targets = shift_left(targets, slot.document_offsets);
    count += count_valid(targets);
  }
}

int64_t num_moe_layers(const ModelConfig& config) {
  int64_t count = 0;
  for (int64_t l = 0; l < config.num_hidden_layers + config.num_nextn_predict_layers; ++l)
    count += config.is_moe_layer(l);
  return count;
}

SlotLoss run_slot(const Run& run, const Transformer& model, const SlotTokens& slot, const BatchCounts& batch,
                  const ObjectiveSettings& settings, ExpertCounts* expert_counts) {
  const ModelConfig& config = model.config();
  const auto T = static_cast<int64_t>(slot.tokens.size());
  const int64_t D = config.hidden_size, modules = config.num_nextn_predict_layers;
  const DocumentLayout layout(slot.document_offsets);
  const PackedTokens packed{.tokens = slot.tokens, .positions = layout.positions, .segments = layout.segments};
  const auto mean_factor = [](int64_t count) { return count > 0 ? 1.0 / static_cast<double>(count) : 0.0; };
  const double main_factor = mean_factor(batch.num_targets);
  const double balance_factor = settings.balance_alpha * mean_factor(batch.num_documents);
  SlotLoss loss;

  TransformerSaved saved;
  const Tensor hidden = model.forward(run, packed, &saved);
  size_t moe_layer = 0;
  const auto balance = [&](bool is_moe, MoeSaved& moe) {
    if (!is_moe) return;
    loss.balance += balance_layer(run, config, moe, slot.document_offsets, balance_factor,
                                  expert_counts != nullptr ? &(*expert_counts)[moe_layer] : nullptr);
    ++moe_layer;
  };
  for (size_t l = 0; l < saved.blocks.size(); ++l) balance(model.weights().blocks[l].is_moe, saved.blocks[l].moe);

  const Tensor dhidden = run.make({T, D});
  loss.main = main_factor * model.head().loss(run, hidden, slot.targets, main_factor, dhidden);

  // MTP modules, each on the hidden states of the one before it.
  std::vector<MtpSaved> mtp_saved(static_cast<size_t>(modules));
  std::vector<Tensor> mtp_hidden{hidden}, mtp_dhidden{dhidden};
  std::vector<int32_t> next_tokens(slot.next_tokens.begin(), slot.next_tokens.end());
  std::vector<int32_t> targets(slot.targets.begin(), slot.targets.end());
  const auto mtp_context = [&](int64_t module) {
    return AttentionContext{
        .segments = layout.segments, .rotary = saved.rotary, .layer = config.num_hidden_layers + module};
  };
  for (int64_t module = 0; module < modules; ++module) {
    MtpSaved& s = mtp_saved[static_cast<size_t>(module)];
    targets = shift_left(targets, slot.document_offsets);
    mtp_hidden.push_back(Mtp(model, module).forward(run, mtp_hidden.back(), next_tokens, mtp_context(module), &s));
    balance(model.weights().mtp[static_cast<size_t>(module)].block.is_moe, s.block.moe);
    const double module_factor =
        mean_factor(batch.num_mtp_targets[static_cast<size_t>(module)]) / static_cast<double>(modules);
    const Tensor d = run.make({T, D});
    loss.mtp +=
        module_factor * model.head().loss(run, mtp_hidden.back(), targets, settings.mtp_lambda * module_factor, d);
    mtp_dhidden.push_back(d);
    next_tokens = shift_left(next_tokens, slot.document_offsets);
  }
  for (int64_t module = modules; module-- > 0;) {
    const auto m = static_cast<size_t>(module);
    Mtp(model, module).backward_input(run, mtp_context(module), mtp_dhidden[m + 1], mtp_saved[m], mtp_dhidden[m]);
    Mtp(model, module).backward_weight(run, mtp_saved[m]);
  }
  model.backward_input(run, packed, dhidden, saved);
  model.backward_weight(run, saved);

  if (settings.balance_alpha != 0) loss.balance /= settings.balance_alpha;
  loss.total = loss.main + settings.mtp_lambda * loss.mtp + settings.balance_alpha * loss.balance;
  return loss;
}

}  // namespace fathom
