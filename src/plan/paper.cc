#include "plan/paper.h"

#include <cmath>

#include "base/check.h"
#include "plan/answers.h"
#include "plan/paper_rows.h"

namespace fathom {
namespace {

ModelConfig deepseek(int64_t layers, int64_t dense_layers, int64_t hidden, int64_t dense_width, int64_t expert_width,
                     int64_t experts, int64_t shared, int64_t top_k, int64_t vocab) {
  ModelConfig c;
  c.vocab_size = vocab;
  c.hidden_size = hidden;
  c.num_hidden_layers = layers;
  c.first_k_dense_replace = dense_layers;
  c.intermediate_size = dense_width;
  c.moe_intermediate_size = expert_width;
  c.n_routed_experts = experts;
  c.n_shared_experts = shared;
  c.num_experts_per_tok = top_k;
  c.num_attention_heads = 128;
  c.q_lora_rank = 1536;
  c.kv_lora_rank = 512;
  c.qk_nope_head_dim = 128;
  c.qk_rope_head_dim = 64;
  c.v_head_dim = 128;
  return c;
}

}  // namespace

PaperInput paper_input() {
  PaperInput in;
  in.v3 = deepseek(61, 3, 7168, 18432, 2048, 256, 1, 8, 129280);
  in.v3.model_type = "deepseek_v3";
  in.v3.topk_method = TopkMethod::kNoauxTc;
  in.v3.scoring_func = ScoringFunc::kSigmoid;
  in.v3.num_nextn_predict_layers = 1;
  in.v3.n_group = 8;
  in.v3.topk_group = 4;
  in.v3.norm_topk_prob = true;
  in.v3.routed_scaling_factor = 2.5;
  in.v3.max_position_embeddings = 163840;
  in.v2 = deepseek(60, 1, 5120, 12288, 1536, 160, 2, 6, 102400);
  in.v2.model_type = "deepseek_v2";
  in.qwen = {"Qwen-2.5 72B", 80, 8192, 8, 128, 152064};
  in.llama = {"LLaMA-3.1 405B", 126, 16384, 8, 128, 128256};
  return in;
}

Result<PaperInput> paper_input(const ConfigSources& sources) {
  auto in = load_config<PaperInput>(sources, paper_input());
  if (!in) return in.error();
  if (8 % in->planes != 0) {
    return invalid("fabric.planes is " + std::to_string(in->planes) +
                   "; accepted: 1, 2, 4 or 8, over which the 8 NICs of a node spread evenly");
  }
  if (auto ok = check_effective_rate("nic_effective_gbps", in->nic_effective_gbps, "nic_gbps", in->nic_gbps); !ok) {
    return ok.error();
  }
  // Bounds and what must divide what are the model's to know.
  if (auto model = ModelConfig::parse(in->v3.to_json(), "--paper"); !model) return model.error();
  return in;
}

bool PaperFigure::holds() const {
  switch (agreement) {
    case Agreement::kExact: return ours.value == published;
    case Agreement::kWithin:
    case Agreement::kEstimate: return std::abs(difference()) <= tolerance;
    case Agreement::kAtLeast: return ours.value >= published;
    case Agreement::kAtMost: return ours.value <= published;
    case Agreement::kOrder: return (ours.value < 1) == (published < 1);
    case Agreement::kRetelling: return std::abs(difference()) > 0.01;
  }
  return false;
}

namespace {

Result<paper::Figures> all_rows(const PaperInput& in) {
  paper::Figures out;
  const CountedModel v3(in.v3);  // its gate takes a moment to draw
  paper::add_kv_cache(in, out);
  paper::add_parameters(in, out);
  paper::add_training_cost(in, out);
  paper::add_expert_parallel_bounds(in, out);
  if (auto s = paper::add_networks(in, out); !s) return s.error();
  if (auto s = paper::add_training_run(in, out); !s) return s.error();
  if (auto s = paper::add_step_parts(in, v3, out); !s) return s.error();
  if (auto s = paper::add_schedules(out); !s) return s.error();
  if (auto s = paper::add_measured_fabrics(in, out); !s) return s.error();
  paper::add_deepep(in, out);
  paper::add_deepep_bandwidth(in, out);
  paper::add_money(in, out);
  if (auto s = paper::add_service(in, v3, out); !s) return s.error();
  if (auto s = paper::add_others(out); !s) return s.error();
  if (auto s = paper::add_retellings(in, out); !s) return s.error();
  return out;
}

}  // namespace

Result<std::vector<PaperFigure>> paper_figures(const PaperInput& in) {
  auto rows = all_rows(in);
  static const auto published = all_rows(paper_input());
  if (!rows) return rows.error();
  if (!published) return published.error();
  check(rows->size() == published->size(), "the inputs change values, not rows");
  for (size_t i = 0; i < rows->size(); ++i) {
    const double before = (*published)[i].ours.value;
    constexpr double kRounding = 1e-9;  // of a sum in another order
    if (std::abs((*rows)[i].ours.value - before) <= kRounding * std::abs(before)) continue;
    (*rows)[i].is_comparable = false;
    (*rows)[i].with_published_inputs = before;
  }
  return rows;
}

}  // namespace fathom
