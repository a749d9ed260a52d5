#include "model/tensor_plan.h"
#include "plan/paper_rows.h"

namespace fathom::paper {
namespace {}  // namespace

void add_kv_cache(const PaperInput& in, Figures& out) {
  const std::string where = "table 1";
  const double v3 = as_double(kv_cache_bytes_per_token(in.v3)), llama = as_double(kv_cache_bytes_per_token(in.llama));
  out.push_back({where,
                 70272,
                 {"KV per token, DeepSeek-V3", v3, "B", "(kv_lora_rank + qk_rope_head_dim) * layers * 2", kPaper},
                 Agreement::kExact,
                 0,
                 ""});
  for (const auto& [shape, published] : {std::pair{&in.qwen, 327680.0}, {&in.llama, 516096.0}}) {
    out.push_back({where,
                   published,
                   {"KV per token, " + shape->name, as_double(kv_cache_bytes_per_token(*shape)), "B",
                    "2 * kv_heads * head_dim * layers * 2", kPaper},
                   Agreement::kExact,
                   0,
                   ""});
  }
  out.push_back({where,
                 4.66,
                 {"KV, Qwen-2.5 72B over V3", as_double(kv_cache_bytes_per_token(in.qwen)) / v3, "",
                  "KV per token of Qwen / of V3", kPaper},
                 Agreement::kWithin,
                 0.002,
                 ""});
  out.push_back({where,
                 7.28,
                 {"KV, LLaMA-3.1 405B over V3", llama / v3, "", "KV per token of LLaMA / of V3", kPaper},
                 Agreement::kWithin,
                 0.01,
                 "the paper contradicts itself: its own bytes give 7.344"});
}

void add_parameters(const PaperInput& in, Figures& out) {
  const ParameterCount count = count_parameters(in.v3);
  const std::string sum = "sum over the checkpoint's tensors", where = "README of V3";
  const auto add = [&](double published, const char* name, int64_t ours, double tolerance, const char* note) {
    out.push_back(
        {where, published, {name, as_double(ours) / 1e9, "B", sum, kReadme}, Agreement::kWithin, tolerance, note});
  };
  add(671, "parameters of V3", count.total, 0.001, "");
  add(36.7, "activated parameters of V3", count.active_with_head, 0.003,
      "with the head and without the embedding; \"37 B\" rounds it");
  add(11.5, "parameters of its MTP module", count.mtp, 0.01, "without its copies of embedding and head");
  add(685, "parameters as stored", count.total + count.mtp + 2 * in.v3.vocab_size * in.v3.hidden_size, 0.001,
      "with MTP and those copies");
}

void add_training_cost(const PaperInput& in, Figures& out) {
  const std::string where = "table 2";
  const std::string moe =
      "6 * active parameters with the head + 3 * layers * heads * 4096 * (qk_head_dim + v_head_dim)";
  const std::string dense = "72 * layers * hidden^2 + 6 * vocab * hidden";
  const std::string two = "the table counts attention for MoE models and not for dense ones";
  out.push_back(
      {where,
       155,
       {"training FLOPs per token, DeepSeek-V2", training_flops(in.v2, 4096).causal() / 1e9, "GFLOP", moe, kPaper},
       Agreement::kWithin,
       0.003,
       two});
  out.push_back(
      {where,
       250,
       {"training FLOPs per token, DeepSeek-V3", training_flops(in.v3, 4096).causal() / 1e9, "GFLOP", moe, kPaper},
       Agreement::kWithin,
       0.003,
       two});
  out.push_back({where,
                 394,
                 {"training FLOPs per token, Qwen 72B", dense_training_flops(in.qwen) / 1e9, "GFLOP", dense, kPaper},
                 Agreement::kWithin,
                 0.003,
                 two});
  out.push_back({where,
                 2448,
                 {"training FLOPs per token, LLaMA 405B", dense_training_flops(in.llama) / 1e9, "GFLOP", dense, kPaper},
                 Agreement::kWithin,
                 0.003,
                 two});
}

}  // namespace fathom::paper
