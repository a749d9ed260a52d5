#include "model/traffic.h"

#include <cmath>

#include "numerics/panels.h"

namespace fathom {
namespace {

/// Also of experts that have no memory of their own (model/expert_store).
int64_t bytes_of(const Weight& weight) { return weight.codes.rank > 0 ? weight_bytes(weight) : 0; }

}  // namespace

ModelTraffic traffic_of(const Model& model) {
  const ModelConfig& config = model.config;
  ModelTraffic out;
  ModelWeights weights = model.weights;  // views; visiting takes them writable
  int64_t module_expert_bytes = 0, last_expert_macs = 0;
  visit_weights(config, weights, [&](const TensorSpec& spec, Weight& value, Tensor*) {
    const bool is_ffn = spec.tensor_class == TensorClass::kRoutedExpert || spec.tensor_class == TensorClass::kDenseFfn;
    out.has_integer_products |= is_ffn && value.groups != GroupFormat::kNone;
    const int64_t macs = spec.shape.size() == 2 ? spec.shape[0] * spec.shape[1] : 0;
    if (spec.layer == config.num_hidden_layers - 1) {
      if (spec.tensor_class == TensorClass::kRoutedExpert) last_expert_macs += macs;
      // Latents are kept of all tokens, and kv_b expands them all.
      const bool asks = spec.tensor_class == TensorClass::kAttention && spec.name.find(".kv_") == std::string::npos;
      if (asks || spec.tensor_class == TensorClass::kDenseFfn || spec.tensor_class == TensorClass::kSharedExpert ||
          spec.tensor_class == TensorClass::kRouter) {
        out.last_layer_macs += macs;
      }
    }
    if (spec.layer < config.num_hidden_layers) {
      out.class_bytes[spec.tensor_class] += bytes_of(value);
    } else if (spec.layer == config.num_hidden_layers) {
      (spec.tensor_class == TensorClass::kRoutedExpert ? module_expert_bytes : out.guess_bytes) += bytes_of(value);
    }
  });
  for (const auto& [tensor_class, bytes] : out.class_bytes) {
    if (tensor_class == TensorClass::kRoutedExpert) {
      out.routed_expert_bytes = bytes;
    } else if (tensor_class != TensorClass::kEmbedding && tensor_class != TensorClass::kHead) {
      out.step_bytes += bytes;
    }
  }
  out.step_bytes += bytes_of(weights.head.value);
  if (out.guess_bytes > 0) out.guess_bytes += bytes_of(weights.head.value);
  if (module_expert_bytes > 0) {
    out.guess_bytes += module_expert_bytes / config.n_routed_experts * config.num_experts_per_tok;
  }
  out.embedding_row_bytes = bytes_of(weights.embedding.value) / config.vocab_size;
  out.n_routed_experts = config.n_routed_experts;
  out.num_experts_per_tok = config.num_experts_per_tok;
  if (last_expert_macs > 0) {
    out.last_layer_macs += last_expert_macs / config.n_routed_experts * config.num_experts_per_tok;
  }
  const ParameterCount parameters = count_parameters(config);
  out.macs_per_token = parameters.active;
  out.head_macs = parameters.active_with_head - parameters.active;
  return out;
}

double expected_experts(int64_t num_experts, int64_t num_chosen, double num_tokens) {
  if (num_experts == 0) return 0;
  const auto experts = static_cast<double>(num_experts);
  return experts * (1 - std::pow(1 - static_cast<double>(num_chosen) / experts, num_tokens));
}

double decode_step_bytes(const ModelTraffic& traffic, int64_t batch, double depth, int64_t cache_token_bytes) {
  double bytes = static_cast<double>(traffic.step_bytes);
  if (traffic.n_routed_experts > 0) {
    bytes += static_cast<double>(traffic.routed_expert_bytes) *
             expected_experts(traffic.n_routed_experts, traffic.num_experts_per_tok, static_cast<double>(batch)) /
             static_cast<double>(traffic.n_routed_experts);
  }
  const double per_sequence =
      static_cast<double>(traffic.embedding_row_bytes) + depth * static_cast<double>(cache_token_bytes);
  return bytes + static_cast<double>(batch) * per_sequence;
}

GuessCost guess_cost(const ModelTraffic& traffic, double num_guesses, bool by_mtp) {
  const double step = decode_step_bytes(traffic, 1, 0, 0);
  GuessCost cost;
  if (by_mtp) cost.guess = num_guesses * static_cast<double>(traffic.guess_bytes) / step;
  if (traffic.n_routed_experts > 0) {
    const double added = expected_experts(traffic.n_routed_experts, traffic.num_experts_per_tok, 1 + num_guesses) -
                         static_cast<double>(traffic.num_experts_per_tok);
    cost.rows =
        added * static_cast<double>(traffic.routed_expert_bytes) / static_cast<double>(traffic.n_routed_experts) / step;
  }
  return cost;
}

double prompt_operations(const ModelTraffic& traffic, int64_t num_tokens) {
  return 2.0 *
         (static_cast<double>(traffic.macs_per_token - traffic.last_layer_macs) * static_cast<double>(num_tokens) +
          static_cast<double>(traffic.last_layer_macs + traffic.head_macs));
}

}  // namespace fathom
