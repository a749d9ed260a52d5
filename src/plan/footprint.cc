#include "plan/footprint.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "base/figure.h"
#include "model/traffic.h"

namespace fathom {
namespace {

// The divisors of n next to `wanted`, as "8 or 16".
std::string divisors_near(int64_t n, int64_t wanted) {
  int64_t below = 0, above = 0;
  for (int64_t d = 1; d <= n; ++d) {
    if (n % d != 0) continue;
    if (d < wanted) below = d;
    if (d > wanted && above == 0) above = d;
  }
  std::string text;
  if (below > 0) text = std::to_string(below);
  if (above > 0) text += (text.empty() ? "" : " or ") + std::to_string(above);
  return text;
}

Status check_experts(const ModelConfig& c, int64_t ranks, int64_t redundant_experts) {
  const int64_t experts = c.n_routed_experts + redundant_experts;
  if (ranks < 1 || redundant_experts < 0 || redundant_experts > 1 << 20) {
    return invalid("serving: " + std::to_string(ranks) + " ranks, " + std::to_string(redundant_experts) +
                   " redundant experts; accepted: at least 1 rank, 0 to 1048576 experts");
  }
  if (experts % ranks != 0) {
    const int64_t lacking = ranks - experts % ranks;
    return invalid("serving: " + std::to_string(experts) + " routed experts do not spread evenly over " +
                   std::to_string(ranks) + " ranks; possible with " + std::to_string(redundant_experts + lacking) +
                   " redundant experts");
  }
  return {};
}

// Of the routed experts of each layer as many as given, everything else whole; what FP8 leaves out in BF16.
double bytes_of_rank(const ModelConfig& c, const LayerElements& elements, double experts, double embedding,
                     double bytes_per_weight, bool with_mtp) {
  double expert = 0, other = 0, kept = 0;
  const size_t num_layers = with_mtp ? elements.layers.size() : static_cast<size_t>(c.num_hidden_layers);
  for (size_t layer = 0; layer < num_layers; ++layer) {
    const LayerElements::Layer& e = elements.layers[layer];
    if (c.n_routed_experts > 0) expert += e.expert / as_double(c.n_routed_experts) * experts;
    other += e.other - e.kept;
    kept += e.kept;
  }
  return bytes_per_weight * (expert + other) + 2 * (kept + embedding + elements.head);
}

}  // namespace

double bytes_on_wire(std::string_view format) {
  constexpr double kScales = 4.0 / 128;
  if (format == "fp8" || format == "logfmt8") return 1 + kScales;
  return format == "logfmt10" ? 10.0 / 8 + kScales : 2;
}

double bytes_of_weight(std::string_view format) { return format == "fp4" ? 4.25 / 8 : 1; }

LayerElements count_elements(const ModelConfig& config) {
  LayerElements out;
  out.layers.resize(static_cast<size_t>(config.num_hidden_layers + config.num_nextn_predict_layers));
  for (const TensorSpec& spec : expected_tensors(config)) {
    if (spec.is_optional) continue;
    const double n = as_double(spec.num_elements());
    if (spec.layer >= 0) {
      LayerElements::Layer& e = out.layers[static_cast<size_t>(spec.layer)];
      (spec.tensor_class == TensorClass::kRoutedExpert ? e.expert : e.other) += n;
      if (!spec.fp8_when_quantized) e.kept += n;
    } else {
      (spec.tensor_class == TensorClass::kEmbedding ? out.embedding : out.head) += n;
    }
  }
  return out;
}

int64_t kv_cache_bytes_per_token(const DenseShape& s, int64_t bytes_per_number) {
  return 2 * s.kv_heads * s.head_dim * s.layers * bytes_per_number;
}

TrainingFlops training_flops(const ModelConfig& c, int64_t sequence_tokens) {
  return training_flops(count_parameters(c), c, sequence_tokens);
}

TrainingFlops training_flops(const ParameterCount& parameters, const ModelConfig& c, int64_t sequence_tokens) {
  const double forward = as_double(c.num_hidden_layers) * as_double(c.num_attention_heads) *
                         as_double(sequence_tokens) * as_double(c.qk_head_dim() + c.v_head_dim);
  return {6 * as_double(parameters.active_with_head), 3 * forward};
}

double dense_training_flops(const DenseShape& s) {
  const double hidden = as_double(s.hidden);
  return 72 * as_double(s.layers) * hidden * hidden + 6 * as_double(s.vocab) * hidden;
}

double saved_bytes_per_token(const ModelConfig& c, int64_t layer) {
  const double hidden = as_double(c.hidden_size);
  const double attention = 2 * hidden + 2 * as_double(c.q_lora_rank) + 2 * as_double(c.latent_width()) +
                           1.5 * as_double(c.num_attention_heads * c.v_head_dim) + 4 * as_double(c.num_attention_heads);
  if (!c.is_moe_layer(layer)) return attention + 2 * hidden + hidden + 2 * as_double(c.intermediate_size);
  const double routed = as_double(c.num_experts_per_tok) * (hidden + 2 * as_double(c.moe_intermediate_size));
  const double shared = c.n_shared_experts > 0 ? hidden + 2 * as_double(c.shared_intermediate_size()) : 0;
  return attention + 2 * hidden + 4 * as_double(c.n_routed_experts) + routed + shared;
}

double logit_bytes(const ModelConfig& c, double tokens) { return 4 * tokens * as_double(c.vocab_size); }

double training_buffer_bytes(const ModelConfig& c, const TrainingLayout& layout) {
  const double token = as_double(layout.micro_batch_tokens) * as_double(c.hidden_size);
  const bool exchanges = layout.expert > 1 && c.n_routed_experts > 0;
  return (exchanges ? 2 * token * as_double(c.num_experts_per_tok) * (bytes_on_wire("fp8") + bytes_on_wire("bf16"))
                    : 0) +
         (layout.pipeline > 1 ? 4 * 2 * token : 0);
}

double low_latency_buffer_bytes(double tokens, double experts, double hidden) {
  const double dispatch = 2 * hidden + 16, combine = 2 * hidden + 4 * hidden / 128;
  const double signals = std::ceil(4 * experts / 128) * 128;
  return 2 * (std::max(tokens * dispatch, experts * tokens * combine) +
              experts * tokens * std::max(dispatch, combine)) +
         2 * signals;
}

Status check_layout(const ModelConfig& config, const TrainingLayout& layout) {
  constexpr int64_t kMostRanks = 1 << 20;
  const std::pair<const char*, int64_t> sizes[] = {{"pipeline", layout.pipeline},
                                                   {"expert", layout.expert},
                                                   {"data", layout.data},
                                                   {"micro_batch_tokens", layout.micro_batch_tokens},
                                                   {"num_micro_batches", layout.num_micro_batches}};
  for (const auto& [name, value] : sizes) {
    if (value < 1 || value > kMostRanks) {
      return invalid("layout: " + std::string(name) + " is " + std::to_string(value) + "; accepted: 1 to " +
                     std::to_string(kMostRanks));
    }
  }
  const int64_t experts = std::max<int64_t>(config.n_routed_experts, 1);
  // Whatever is named divides both, so that taking it does not lead to the other error.
  const std::string possible = divisors_near(std::gcd(layout.data, experts), layout.expert);
  if (layout.data % layout.expert != 0) {
    return invalid("layout: expert " + std::to_string(layout.expert) + " does not divide data " +
                   std::to_string(layout.data) + "; possible: " + possible);
  }
  if (experts % layout.expert != 0) {
    return invalid("layout: expert " + std::to_string(layout.expert) + " does not divide the " +
                   std::to_string(experts) + " routed experts; possible: " + possible);
  }
  return {};
}

std::vector<int64_t> layers_of_stages(int64_t layers, int64_t stages) {
  std::vector<int64_t> out(static_cast<size_t>(stages), layers / stages);
  for (int64_t stage = 0; stage < layers % stages; ++stage) ++out[static_cast<size_t>(stage)];
  return out;
}

Result<std::vector<RankBytes>> training_bytes_by_rank(const ModelConfig& c, const LayerElements& elements,
                                                      const Schedule& schedule, const TrainingLayout& layout,
                                                      const TrainingPrecision& precision) {
  if (auto s = check_layout(c, layout); !s) return s.error();
  const int64_t stages = schedule.num_stages;
  if (stages > c.num_hidden_layers) {
    return invalid("layout: " + std::to_string(stages) + " pipeline stages for " + std::to_string(c.num_hidden_layers) +
                   " layers; accepted: at most one stage a layer");
  }
  struct Stage {
    double expert = 0, other = 0, saved = 0;
  };
  std::vector<Stage> parts(static_cast<size_t>(stages));
  int64_t layer = 0;
  const auto add_layer = [&](Stage& part, int64_t at) {
    part.expert += elements.layers[static_cast<size_t>(at)].expert / as_double(layout.expert);
    part.other += elements.layers[static_cast<size_t>(at)].other;
    part.saved += saved_bytes_per_token(c, at);
  };
  const std::vector<int64_t> split = layers_of_stages(c.num_hidden_layers, stages);
  for (size_t stage = 0; stage < split.size(); ++stage) {
    for (int64_t i = 0; i < split[stage]; ++i) add_layer(parts[stage], layer++);
  }
  for (; layer < static_cast<int64_t>(elements.layers.size()); ++layer) add_layer(parts.back(), layer);
  parts.front().other += elements.embedding;
  parts.back().other += elements.head;

  std::vector<RankBytes> out;
  for (int rank = 0; rank < schedule.num_ranks(); ++rank) {
    Stage held;
    double saved = 0;
    int num_held = 0;
    bool has_head = false;
    for (int stream = 0; stream < schedule.num_streams(); ++stream) {
      for (int64_t stage = 0; stage < stages; ++stage) {
        if (schedule.rank_of[static_cast<size_t>(stream)][static_cast<size_t>(stage)] != rank) continue;
        held.expert += parts[static_cast<size_t>(stage)].expert;
        held.other += parts[static_cast<size_t>(stage)].other;
        saved += parts[static_cast<size_t>(stage)].saved;
        ++num_held;
        has_head = has_head || stage == stages - 1;
      }
    }
    RankBytes bytes;
    bytes.rank = rank;
    bytes.weights = precision.weight * (held.expert + held.other);
    bytes.gradients = precision.gradient * (held.expert + held.other);
    bytes.optimizer = (precision.master + precision.moments) *
                      (held.expert / as_double(layout.data / layout.expert) + held.other / as_double(layout.data)) /
                      as_double(schedule.num_streams());
    // A live activation is of one of the stages that the rank holds; they are alive in equal parts, or nearly.
    bytes.activations = saved / num_held * max_live(schedule, rank) * as_double(layout.micro_batch_tokens);
    if (has_head) bytes.activations += logit_bytes(c, as_double(layout.micro_batch_tokens));
    bytes.expert_share = held.expert / (held.expert + held.other);
    bytes.buffers = training_buffer_bytes(c, layout);
    out.push_back(bytes);
  }
  return out;
}

Result<RankBytes> training_bytes(const ModelConfig& c, const TrainingLayout& layout,
                                 const TrainingPrecision& precision) {
  if (auto s = check_layout(c, layout); !s) return s.error();
  const auto schedule =
      make_schedule(layout.schedule, static_cast<int>(layout.pipeline), static_cast<int>(layout.num_micro_batches));
  if (!schedule) return schedule.error();
  return training_bytes(c, count_elements(c), *schedule, layout, precision);
}

Result<RankBytes> training_bytes(const ModelConfig& c, const LayerElements& elements, const Schedule& schedule,
                                 const TrainingLayout& layout, const TrainingPrecision& precision) {
  const auto ranks = training_bytes_by_rank(c, elements, schedule, layout, precision);
  if (!ranks) return ranks.error();
  return *std::max_element(ranks->begin(), ranks->end(),
                           [](const RankBytes& a, const RankBytes& b) { return a.total() < b.total(); });
}

Result<double> serving_weight_bytes(const ModelConfig& c, int64_t ranks, int64_t redundant_experts) {
  return serving_weight_bytes(c, count_elements(c), ranks, redundant_experts);
}

Result<double> serving_weight_bytes(const ModelConfig& c, const LayerElements& elements, int64_t ranks,
                                    int64_t redundant_experts, double bytes_per_weight, bool with_mtp) {
  if (auto ok = check_experts(c, ranks, redundant_experts); !ok) return ok.error();
  const double experts = as_double((c.n_routed_experts + redundant_experts) / ranks);
  return bytes_of_rank(c, elements, experts, elements.embedding, bytes_per_weight, with_mtp);
}

Result<double> serving_read_bytes(const ModelConfig& c, const LayerElements& elements, int64_t ranks,
                                  int64_t redundant_experts, double bytes_per_weight, bool with_mtp,
                                  double group_tokens, double rank_tokens) {
  if (auto ok = check_experts(c, ranks, redundant_experts); !ok) return ok.error();
  const double hit = expected_experts(c.n_routed_experts + redundant_experts, c.num_experts_per_tok, group_tokens);
  // A tied embedding is the head too, and so read whole.
  const double rows =
      c.tie_word_embeddings ? elements.embedding : std::min(elements.embedding, rank_tokens * as_double(c.hidden_size));
  return bytes_of_rank(c, elements, hit / as_double(ranks), rows, bytes_per_weight, with_mtp);
}

}  // namespace fathom
