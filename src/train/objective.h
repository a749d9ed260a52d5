// The training objective of one slot (micro-batch): cross-entropy of the next token, MTP cross-entropies, sequence
// balance loss; and the whole backward pass. Every term is scaled once, by factors over the whole batch, so gradients
// of slots are simply summed.
//   L = sum_t ce_t / N + lambda / D sum_k (sum_t ce^k_t / N_k) + alpha sum_layers mean_documents L_balance
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "model/mtp.h"
#include "model/transformer.h"

namespace fathom {

/// A packed micro-batch. next_tokens[t] is the token after t in its document, -1 where there is none; targets[t] is the
/// same, or -1 where the loss leaves it out. MTP modules read next_tokens: what is not trained on is still context.
struct SlotTokens {
  std::span<const int32_t> tokens;
  std::span<const int32_t> targets;
  std::span<const int32_t> next_tokens;
  std::span<const int64_t> document_offsets;
};

/// v[t + 1] where that is the same document, else -1: targets and next tokens of the next MTP depth.
std::vector<int32_t> shift_left(std::span<const int32_t> v, std::span<const int64_t> document_offsets);

/// Number of entries >= 0.
int64_t count_valid(std::span<const int32_t> targets);

/// Counts that the losses are divided by, added up over all slots of a step.
struct BatchCounts {
  int64_t num_targets = 0;
  std::vector<int64_t> num_mtp_targets;  // per module
  int64_t num_documents = 0;
  void add(const SlotTokens& slot, int64_t num_mtp_modules);
};

struct ObjectiveSettings {
  double mtp_lambda = 0.3;
  double balance_alpha = 1e-4;
};

/// A slot's share of the batch means; sums over slots give the batch's losses, before lambda and alpha.
struct SlotLoss {
  double main = 0;
  double mtp = 0;      // mean over modules
  double balance = 0;  // summed over layers
  double total = 0;    // with lambda and alpha
};

/// Tokens sent to each expert of each MoE layer in model order (MTP modules last): [moe layers][E].
using ExpertCounts = std::vector<std::vector<int64_t>>;

/// Forward and backward of one slot. Gradients are added to the model's parameters; counts, if given, are added to.
SlotLoss run_slot(const Run& run, const Transformer& model, const SlotTokens& slot, const BatchCounts& batch,
                  const ObjectiveSettings& settings, ExpertCounts* expert_counts);

/// MoE layers of the model, MTP modules included.
int64_t num_moe_layers(const ModelConfig& config);

}  // namespace fathom
