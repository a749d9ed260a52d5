// Paper: every figure of the DeepSeek-V3 system's publications that a formula gives, beside what ours gives, and why
// they differ where they do.
#pragma once

#include <string>
#include <vector>

#include "base/config.h"
#include "base/figure.h"
#include "base/result.h"
#include "model/config.h"
#include "plan/footprint.h"

namespace fathom {

/// What the published figures depend on. Changing a value changes every figure that follows from it. What was measured
/// (the seconds of a step, DeepEP's efficiency and latencies, the service's counts) stays as it was published.
struct PaperInput {
  ModelConfig v3, v2;
  DenseShape qwen, llama;
  int64_t radix = 64;
  int64_t planes = 8;
  int64_t slim_fly_q = 0;                             // 0: the largest for which the formulas need at most radix ports
  int64_t dragonfly_groups = 0;                       // 0: two fewer than the most, as published
  double nic_gbps = 50;                               // one 400G port
  double nic_effective_gbps = 40, nvlink_gbps = 160;  // of H800, as section 4.3 takes them
  double scale_up_gbps = 900;                         // GB200 NVL72, one direction
  double peak_tflops = 989.4;                         // BF16, H800
  int64_t num_gpus = 2048;
  double step_s = 19.926, step_mrft_s = 19.946;  // table 4
  double tokens = 14.8e12, gpu_hour_dollars = 2;

  /// Keys as PlanSettings and config.json have them.
  template <class V>
  void fields(V& v) {
    v("model.vocab_size", v3.vocab_size, "of V3, as all of model; its config.json has the same keys");
    v("model.hidden_size", v3.hidden_size, "width of the residual stream");
    v("model.num_hidden_layers", v3.num_hidden_layers, "layers, without MTP modules");
    v("model.num_nextn_predict_layers", v3.num_nextn_predict_layers, "MTP modules");
    v("model.first_k_dense_replace", v3.first_k_dense_replace, "layers without experts");
    v("model.intermediate_size", v3.intermediate_size, "width of a dense feed-forward");
    v("model.moe_intermediate_size", v3.moe_intermediate_size, "width of an expert");
    v("model.n_routed_experts", v3.n_routed_experts, "experts of a layer");
    v("model.n_shared_experts", v3.n_shared_experts, "experts that every token takes");
    v("model.num_experts_per_tok", v3.num_experts_per_tok, "routed experts that a token takes");
    v("model.n_group", v3.n_group, "groups of experts");
    v("model.topk_group", v3.topk_group, "groups that a token may take experts of");
    v("model.num_attention_heads", v3.num_attention_heads, "heads");
    v("model.q_lora_rank", v3.q_lora_rank, "latent of queries; 0: none");
    v("model.kv_lora_rank", v3.kv_lora_rank, "latent of keys and values");
    v("model.qk_nope_head_dim", v3.qk_nope_head_dim, "of a head's key, without position");
    v("model.qk_rope_head_dim", v3.qk_rope_head_dim, "of a head's key, with position");
    v("model.v_head_dim", v3.v_head_dim, "of a head's value");
    v("fabric.radix", radix, "ports of a switch; a leaf has room for a node's 8 NICs", between(16, 1024));
    v("fabric.planes", planes, "of MPFT, rails of MRFT: 1, 2, 4 or 8", between(1, 8));
    v("fabric.q", slim_fly_q, "of the Slim Fly; 0: the largest that radix has ports for", between(0, 512));
    v("fabric.groups", dragonfly_groups, "of the dragonfly; 0: two fewer than the most, as published", between(0, 1e6));
    v("hardware.nic_gbps", nic_gbps, "line rate of a NIC, GB/s", between(1e-6, 1e9));
    v("hardware.nic_effective_gbps", nic_effective_gbps, "NIC as measured, GB/s", between(1e-6, 1e9));
    v("hardware.scale_up_effective_gbps", nvlink_gbps, "NVLink of H800 as measured, GB/s", between(1e-6, 1e9));
    v("hardware.bf16_tflops", peak_tflops, "dense BF16 peak, TFLOP/s", between(1e-6, 1e9));
    v("nvl72.scale_up_gbps", scale_up_gbps, "NVLink of GB200 NVL72, one direction, GB/s", between(1e-6, 1e9));
    v("training.gpus", num_gpus, "of the published run", between(1, 1 << 20));
    v("training.step_s", step_s, "seconds of a step on MPFT, as measured", between(1e-6, 1e9));
    v("training.step_mrft_s", step_mrft_s, "seconds of a step on MRFT, as measured", between(1e-6, 1e9));
    v("training.tokens", tokens, "to train on", between(1, 1e18));
    v("training.gpu_hour_dollars", gpu_hour_dollars, "price of a GPU-hour", between(1e-6, 1e6));
  }
};

/// The values of the publications.
PaperInput paper_input();

/// Those with a file's or flags' settings laid over them. Errors: load_config's; a model that ModelConfig refuses.
Result<PaperInput> paper_input(const ConfigSources& sources);

enum class Agreement {
  kExact,      // equal as printed
  kWithin,     // within `tolerance`
  kEstimate,   // ours leaves out what the note names: within `tolerance`, which is wide, and no more is claimed
  kAtLeast,    // ours is a bound that nothing exceeds, `published` was measured: ours is no less
  kAtMost,     // the same the other way round: ours is no more
  kOrder,      // `published` is a reading of a plot: ours lies on the same side of 1
  kRetelling,  // `published` is a popular retelling that is wrong; ours is what the sources say
};

struct PaperFigure {
  std::string where;  // "table 1"
  double published = 0;
  Figure ours;
  Agreement agreement = Agreement::kWithin;
  double tolerance = 0;              // relative; of kWithin and kEstimate
  std::string note;                  // why they differ, or what the figure rests on
  double with_published_inputs = 0;  // ours before other inputs moved it
  bool is_comparable = true;         // with `published`: not if they did

  /// ours / published - 1.
  double difference() const { return ours.value / published - 1; }
  /// Whether ours is what `agreement` says (a retelling differs by more than 1 %).
  bool holds() const;
};

/// All of them, in the order of the paper; those that differ from what paper_input() gives are marked. Errors: an input
/// that no fabric or layout has.
Result<std::vector<PaperFigure>> paper_figures(const PaperInput& input = paper_input());

}  // namespace fathom
