#include "plan/paper.h"

#include <cmath>
#include <tuple>

#include "cluster/dragonfly.h"
#include "cluster/fat_tree.h"
#include "cluster/mpft.h"
#include "cluster/price.h"
#include "cluster/slim_fly.h"
#include "model/tensor_plan.h"
#include "parallel/dualpipe.h"
#include "plan/expert_traffic.h"
#include "plan/limits.h"
#include "sim/pipeline_sim.h"

namespace fathom {
namespace {

constexpr const char* kPaper = "arXiv 2505.09343";
constexpr const char* kReport = "arXiv 2412.19437";
constexpr const char* kInfra = "open-infra-index, day 6";
constexpr const char* kReadme = "DeepSeek-V3, README_WEIGHTS.md";
constexpr const char* kDeepEp = "DeepEP V1, docs/legacy.md";

using Figures = std::vector<PaperFigure>;

double as_double(int64_t v) { return static_cast<double>(v); }

void kv_cache(const PaperInput& in, Figures& out) {
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
  out.push_back(
      {where,
       4.66,
       {"KV, Qwen-2.5 72B over V3", as_double(kv_cache_bytes_per_token(in.qwen)) / v3, "", "327680 / 70272", kPaper},
       Agreement::kWithin,
       0.002,
       ""});
  out.push_back({where,
                 7.28,
                 {"KV, LLaMA-3.1 405B over V3", llama / v3, "", "516096 / 70272", kPaper},
                 Agreement::kWithin,
                 0.01,
                 "the paper contradicts itself: its own bytes give 7.344"});
}

void parameters(const PaperInput& in, Figures& out) {
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

void training_cost(const PaperInput& in, Figures& out) {
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

Status networks(const PaperInput& in, Figures& out) {
  const std::string where = "table 3";
  struct Column {
    Result<Fabric> fabric;
    double endpoints, switches, links, million, thousand;
    std::string note;
  };
  const std::string fit = "the unit prices are not published: link and endpoint prices are fitted to the table";
  const Column columns[] = {
      {fat_tree2(in.radix), 2048, 96, 2048, 9, 4.39, ""},
      {mpft(in.radix, in.planes), 16384, 768, 16384, 72, 4.39, ""},
      {fat_tree3(in.radix), 65536, 5120, 131072, 491, 7.5, ""},
      {slim_fly_counts(28), 32928, 1568, 32928, 146, 4.4,
       "28 is no prime power: this Slim Fly cannot be built (27 or 25 can)"},
      {dragonfly(16, 511), 261632, 16352, 384272, 1522, 5.8, "511 groups; the largest balanced dragonfly has 513"}};
  for (const Column& c : columns) {
    if (!c.fabric) return c.fabric.error();
    const Fabric& f = *c.fabric;
    const auto price = price_of(f, paper_table3_prices());
    if (!price) return price.error();
    const auto exact = [&](const char* what, double published, int64_t ours) {
      out.push_back({where,
                     published,
                     {f.name + " " + what, as_double(ours), "", f.formula, kPaper},
                     Agreement::kExact,
                     0,
                     c.note});
    };
    exact("endpoints", c.endpoints, f.endpoints);
    exact("switches", c.switches, f.switches);
    exact("links", c.links, f.switch_links());
    const std::string formula = "switches * (350.4 ports - 892.3) + links * 2398 + endpoints * 994";
    out.push_back({where,
                   c.million,
                   {f.name + " cost", price->total() / 1e6, "M$", formula, paper_table3_prices().source},
                   Agreement::kWithin,
                   0.008,
                   fit});
    out.push_back({where,
                   c.thousand,
                   {f.name + " cost per endpoint", price->total() / as_double(f.endpoints) / 1e3, "k$", formula,
                    paper_table3_prices().source},
                   Agreement::kWithin,
                   0.008,
                   fit});
  }
  const auto per_endpoint = [](const Fabric& f) {
    const auto price = price_of(f, paper_table3_prices());
    return price ? price->total() / as_double(f.endpoints) : 0;
  };
  out.push_back({where,
                 41.5,
                 {"MPFT saves per endpoint against FT3",
                  100 * (1 - per_endpoint(*columns[1].fabric) / per_endpoint(*columns[2].fabric)), "%",
                  "1 - cost per endpoint of MPFT / of FT3; 1 - 4.39 / 7.5 in the table", kPaper},
                 Agreement::kWithin,
                 0.015,
                 fit});
  return {};
}

// Table 4: the parts of a step are those of rank 0 (the table does not say whose), so chunk times follow from its
// counts.
Status training_run(const PaperInput& in, Figures& out) {
  const std::string where = "table 4";
  constexpr int kStages = 16, kMicroBatches = 120;
  constexpr double kForward = 1.13, kBackward = 1.99, kWeight = 0.48, kPairs = 13.95, kOptimizer = 0.29, kHop = 0.0079;
  const double tokens_per_step = 15360.0 * 4096, tokens_per_s = tokens_per_step / in.step_s,
               gpus = as_double(in.num_gpus);
  const TrainingFlops flops = training_flops(in.v3, 4096);
  out.push_back({where,
                 272.80,
                 {"tokens per day", tokens_per_s * 86400 / 1e9, "B", "15360 * 4096 / 19.926 s * 86400", kPaper},
                 Agreement::kWithin,
                 0.0002,
                 ""});
  const std::string rounded = "the table's 432 and 385 are rounded, and its FLOPs per token 0.2 % lower than ours";
  const std::string rate = "FLOPs per token * tokens per second / GPUs";
  out.push_back({where,
                 432,
                 {"rate, attention without mask", flops.full() * tokens_per_s / gpus / 1e12, "TFLOP/s", rate, kPaper},
                 Agreement::kWithin,
                 0.005,
                 rounded});
  out.push_back({where,
                 385,
                 {"rate, causal attention", flops.causal() * tokens_per_s / gpus / 1e12, "TFLOP/s", rate, kPaper},
                 Agreement::kWithin,
                 0.005,
                 rounded});
  const std::string mfu = rate + " / 989.4 TFLOP/s (BF16 peak, though products run in FP8)";
  out.push_back({where,
                 43.73,
                 {"MFU, attention without mask",
                  100 * model_flops_utilisation(flops.full(), tokens_per_s, gpus, in.peak_tflops), "%", mfu, kPaper},
                 Agreement::kWithin,
                 0.005,
                 rounded});
  out.push_back({where,
                 38.94,
                 {"MFU, causal attention",
                  100 * model_flops_utilisation(flops.causal(), tokens_per_s, gpus, in.peak_tflops), "%", mfu, kPaper},
                 Agreement::kWithin,
                 0.005,
                 rounded});

  // The same run on a multi-rail tree.
  const double on_rails = tokens_per_step / in.step_mrft_s;
  out.push_back({where,
                 272.52,
                 {"tokens per day, MRFT", on_rails * 86400 / 1e9, "B", "15360 * 4096 / 19.946 s * 86400", kPaper},
                 Agreement::kWithin,
                 0.0002,
                 ""});
  for (const auto& [published, name, per_token] : {std::tuple{43.68, "MFU, attention without mask, MRFT", flops.full()},
                                                   {38.90, "MFU, causal attention, MRFT", flops.causal()}}) {
    out.push_back({where,
                   published,
                   {name, 100 * model_flops_utilisation(per_token, on_rails, gpus, in.peak_tflops), "%", mfu, kPaper},
                   Agreement::kWithin,
                   0.005,
                   rounded});
  }

  const auto schedule = make_dualpipe(kStages, kMicroBatches);
  if (!schedule) return schedule.error();
  double lone_f = 0, pairs = 0, whole_b = 0, split_b = 0;
  for (const Instruction& instruction : schedule->ranks[0]) {
    const Op op = instruction.chunks[0].op;
    if (instruction.is_pair())
      ++pairs;
    else if (op == Op::kForward)
      ++lone_f;
    else if (op == Op::kBackward)
      ++whole_b;
    else if (op == Op::kBackwardInput)
      ++split_b;
  }
  PipelineCosts costs;
  costs.times.forward = kForward / lone_f;
  costs.times.pair = kPairs / pairs;
  costs.times.backward_weight = kWeight / split_b;
  costs.times.backward_input = (kBackward - whole_b * costs.times.backward_weight) / (whole_b + split_b);
  costs.hop = kHop;
  const auto run = simulate_pipeline(*schedule, costs);
  if (!run) return run.error();
  const std::string one = "one parameter is fitted: 7.9 ms per stage hop; without it the ideal schedule takes 18.80 s";
  const std::string formula = "DualPipe, 16 stages, 120 micro-batches, chunk times from the table's parts as rank 0's";
  out.push_back({where,
                 19.926,
                 {"time per step", run->makespan + kOptimizer, "s", formula, kPaper},
                 Agreement::kWithin,
                 0.02,
                 one});
  out.push_back({where, 2.06, {"bubble", run->idle(0), "s", formula, kPaper}, Agreement::kWithin, 0.01, one});
  return {};
}

void expert_parallel_bounds(const PaperInput& in, Figures& out) {
  out.push_back({"section 4.3",
                 4,
                 {"NVLink over NIC", in.nvlink_gbps / in.nic_effective_gbps, "", "160 / 40 GB/s", kPaper},
                 Agreement::kExact,
                 0,
                 "effective rates; the V3 report says 3.2: it divides by the line rate of 50 GB/s"});
  const std::string formula = "2 micro-batches * layers * (1 B + 2 B) * 32 tokens * 9 experts * 7000 / bandwidth";
  const double layers = as_double(in.v3.num_hidden_layers);
  const std::string rounded =
      "the paper takes 7000 for a hidden size of 7168 and counts the shared expert as sent; with 7168: 15.11 ms";
  const NetworkTpot ib = network_tpot({.bandwidth_gbps = in.nic_gbps, .layers = layers});
  const NetworkTpot nvl = network_tpot({.bandwidth_gbps = in.scale_up_gbps, .layers = layers});
  const std::string where = "section 2.3.2";
  out.push_back({where,
                 120.96,
                 {"one micro-batch, 400G InfiniBand", ib.stage_us, "us", formula, kPaper},
                 Agreement::kWithin,
                 1e-4,
                 rounded});
  out.push_back({where,
                 241.92,
                 {"one layer, 400G InfiniBand", ib.layer_us, "us", formula, kPaper},
                 Agreement::kWithin,
                 1e-4,
                 rounded});
  out.push_back(
      {where, 14.76, {"TPOT, 400G InfiniBand", ib.tpot_ms, "ms", formula, kPaper}, Agreement::kWithin, 0.001, rounded});
  out.push_back({where,
                 67,
                 {"tokens per second, 400G InfiniBand", ib.tokens_per_s(), "", formula, kPaper},
                 Agreement::kWithin,
                 0.02,
                 "the paper truncates 67.8"});
  out.push_back({where,
                 6.72,
                 {"one micro-batch, GB200 NVL72", nvl.stage_us, "us", formula, kPaper},
                 Agreement::kWithin,
                 1e-4,
                 "one expert a device needs 256 devices, NVL72 has 72"});
  out.push_back(
      {where, 0.82, {"TPOT, GB200 NVL72", nvl.tpot_ms, "ms", formula, kPaper}, Agreement::kWithin, 0.001, ""});
  out.push_back({where,
                 1200,
                 {"tokens per second, GB200 NVL72", nvl.tokens_per_s(), "", formula, kPaper},
                 Agreement::kWithin,
                 0.02,
                 "the paper says \"about\""});
  out.push_back({"section 2.3.3",
                 1.8,
                 {"MTP speed-up at 80 % acceptance", 1 + 0.8, "", "1 + acceptance, steps equally long", kPaper},
                 Agreement::kWithin,
                 1e-9,
                 "arithmetic of the paper's own acceptance, nothing of ours; at 90 % it would be 1.9"});
}

void deepep(const PaperInput& in, Figures& out) {
  const struct {
    int64_t nodes;
    double dispatch, combine;
  } rows[] = {{2, 43.05, 42.47}, {4, 58.02, 56.96}, {8, 50.58, 48.54}, {16, 45.34, 41.60}};
  const std::string formula =
      "nodes / max(remote nodes / NIC rate, GPUs * 7/8 / NVLink rate), expectations over the gate";
  for (const auto& row : rows) {
    const NormalBandwidth b = normal_bandwidth({}, row.nodes, kDeepEpNicGbps, kDeepEpNvlinkGbps);
    const std::string ep = "EP" + std::to_string(8 * row.nodes);
    const std::string note = std::string(b.is_nvlink_bound ? "NVLink" : "NIC") +
                             " is the limit; two rates are fitted (NIC 43.5, NVLink 126 GB/s)";
    out.push_back({"figure 7",
                   row.dispatch,
                   {"DeepEP dispatch, " + ep, b.gbps, "GB/s", formula, kPaper},
                   Agreement::kWithin,
                   0.05,
                   note});
    out.push_back(
        {"figure 7",
         row.combine,
         {"DeepEP combine, " + ep, b.gbps * kCombineShare, "GB/s", formula, kPaper},
         Agreement::kWithin,
         0.05,
         note + "; combine at 0.94 of both; sources disagree which of 42.47 and 41.60 is EP16's and which EP128's"});
  }
  const AlphaBeta dispatch = fit_dispatch(), combine = fit_combine();
  const std::string line =
      "alpha + 128 tokens * 8 experts * bytes * (1 - 8 / ranks) / rate, least squares over EP16 to EP256";
  for (const LowLatency& row : kLowLatency) {
    if (row.ranks == 8) {  // NVLink alone; 7 of 8 copies leave the GPU
      const double copies = 128 * 8 * 7 / 8.0;
      const std::string nvlink = "alpha of the line + 128 tokens * 8 experts * 7/8 * bytes / NVLink rate";
      out.push_back(
          {"DeepEP",
           row.dispatch_us,
           {"low-latency dispatch, EP8", AlphaBeta{dispatch.alpha_us, in.nvlink_gbps}.latency_us(copies * (7168 + 224)),
            "us", nvlink, kDeepEp},
           Agreement::kWithin,
           0.06,
           "one node: NVLink alone, at the 160 GB/s of section 4.3; combine is calibrated separately"});
      out.push_back(
          {"DeepEP",
           row.combine_us,
           {"low-latency combine, EP8", AlphaBeta{combine.alpha_us, kDeepEpNvlinkGbps}.latency_us(copies * 14336), "us",
            nvlink, kDeepEp},
           Agreement::kWithin,
           0.06,
           "one node: NVLink alone, at the 126 GB/s of forwarding (figure 7); dispatch is calibrated separately"});
      continue;
    }
    const std::string ep = "EP" + std::to_string(row.ranks);
    out.push_back(
        {"DeepEP",
         row.dispatch_us,
         {"low-latency dispatch, " + ep,
          dispatch.latency_us(low_latency_bytes(128, 8, 7168 + 224, as_double(row.ranks))), "us", line, kDeepEp},
         Agreement::kWithin,
         0.06,
         "fitted"});
    out.push_back({"DeepEP",
                   row.combine_us,
                   {"low-latency combine, " + ep,
                    combine.latency_us(low_latency_bytes(128, 8, 14336, as_double(row.ranks))), "us", line, kDeepEp},
                   Agreement::kWithin,
                   0.06,
                   "fitted"});
  }
}

void money(const PaperInput& in, Figures& out) {
  const double tokens_per_s = 15360.0 * 4096 / in.step_s, gpus = as_double(in.num_gpus);
  const double per_trillion = gpu_hours(1e12, tokens_per_s, gpus);
  const std::string where = "V3 report, table 1";
  out.push_back(
      {where,
       180,
       {"GPU-hours per trillion tokens", per_trillion / 1e3, "k", "10^12 / tokens per second / 3600 * GPUs", kReport},
       Agreement::kWithin,
       0.002,
       ""});
  out.push_back({where,
                 3.7,
                 {"days per trillion tokens", per_trillion / 24 / gpus, "d", "GPU-hours / 24 / GPUs", kReport},
                 Agreement::kWithin,
                 0.01,
                 ""});
  const double training = 14.8 * per_trillion;
  const std::string from4 = "from table 4 of the paper; the report multiplies its rounded 180 k";
  out.push_back({where,
                 2.664,
                 {"GPU-hours of pre-training", training / 1e6, "M", "14.8 * GPU-hours per trillion tokens", kReport},
                 Agreement::kWithin,
                 0.002,
                 from4});
  const double all = training + 119e3 + 5e3;
  out.push_back({where,
                 2.788,
                 {"GPU-hours in all", all / 1e6, "M", "+ 119 k (context) + 5 k (post-training)", kReport},
                 Agreement::kWithin,
                 0.002,
                 from4});
  out.push_back({where,
                 5.576,
                 {"price of the run", all * 2 / 1e6, "M$", "GPU-hours * 2 dollars", kReport},
                 Agreement::kWithin,
                 0.002,
                 from4});

  const double nodes = serving_nodes(608e9, 168e9, 73.7e3, 14.8e3);
  const std::string counted = "a sum of averages; the service counted its nodes";
  out.push_back({"service, 24 h",
                 226.75,
                 {"nodes", nodes, "", "608e9 / 86400 / 73.7e3 + 168e9 / 86400 / 14.8e3", kInfra},
                 Agreement::kWithin,
                 0.001,
                 counted});
  out.push_back({"service, 24 h",
                 87072,
                 {"cost per day", nodes * 8 * 24 * 2, "$", "our nodes * 8 GPUs * 24 h * 2 dollars", kInfra},
                 Agreement::kWithin,
                 0.001,
                 counted});
  const double revenue = 0.342e6 * 0.14 + (0.608e6 - 0.342e6) * 0.55 + 0.168e6 * 2.19;
  out.push_back({"service, 24 h",
                 562027,
                 {"theoretical revenue per day", revenue, "$",
                  "342 B hits * 0.14 + 266 B misses * 0.55 + 168 B output * 2.19 per million", kInfra},
                 Agreement::kWithin,
                 0.0005,
                 "token counts are rounded to billions"});
  out.push_back(
      {"service, 24 h",
       545,
       {"margin", 100 * (revenue / (nodes * 8 * 24 * 2) - 1), "%", "our revenue / our cost per day - 1", kInfra},
       Agreement::kWithin,
       0.001,
       "of the two figures above, with their differences"});
  out.push_back({"SGLang, 2025-05",
                 0.20,
                 {"dollars per million output tokens", dollars_per_million(16, 22.3e3), "$",
                  "8 GPUs * 2 dollars / (22.3e3 tokens per second * 3600)", "SGLang's report on 12 nodes of 8 H100"},
                 Agreement::kWithin,
                 0.01,
                 ""});
}

// What is often said of this system, and what its sources say.
Status retellings(const PaperInput& in, Figures& out) {
  const double parameters = as_double(count_parameters(in.v3).total);
  out.push_back(
      {"retold",
       2.0,
       {"training state of V3", parameters * 12 / 1e12, "TB",
        "(4 FP32 master + 4 FP32 gradient + 4 BF16 moments) * parameters, without the working weights", kReport},
       Agreement::kRetelling,
       0,
       "\"3 bytes per parameter\""});
  const auto weights = serving_weight_bytes(in.v3, 144, 32);
  if (!weights) return weights.error();
  out.push_back({"retold",
                 0.328,
                 {"weights per decode GPU", *weights / 1e9, "GB",
                  "2 routed of 288 experts and everything else on each of 144 GPUs", kInfra},
                 Agreement::kRetelling,
                 0,
                 "\"671 GB / 2048\": serving units are 32 and 144 GPUs"});
  const NetworkTpot nvl =
      network_tpot({.bandwidth_gbps = in.scale_up_gbps, .layers = as_double(in.v3.num_hidden_layers)});
  out.push_back({"retold",
                 830,
                 {"one layer on GB200 NVL72", nvl.layer_us, "us", "2 * 6.72 us", kPaper},
                 Agreement::kRetelling,
                 0,
                 "\"0.83 ms per layer\" is the whole token"});
  const auto three = fat_tree3(in.radix, 16384), planes = mpft(in.radix, 8, 16384);
  if (!three) return three.error();
  if (!planes) return planes.error();
  out.push_back({"retold",
                 73,
                 {"switches that MPFT saves", 100 * (1 - as_double(planes->switches) / as_double(three->switches)), "%",
                  "1 - 768 / 1280 at 16,384 endpoints", kPaper},
                 Agreement::kRetelling,
                 0,
                 "\"-73 %\" compares fabrics of different size"});
  const double own_mha = 2.0 * as_double(in.v3.num_attention_heads * in.v3.v_head_dim * in.v3.num_hidden_layers) * 2;
  out.push_back({"retold",
                 7.3,
                 {"compression of the KV cache by MLA", own_mha / as_double(kv_cache_bytes_per_token(in.v3)), "",
                  "2 * heads * v_head_dim * layers * 2 B / KV per token", kPaper},
                 Agreement::kRetelling,
                 0,
                 "\"7.3 times\" compares two models; its own heads would cache this much more"});
  const NetworkTpot ib = network_tpot({.bandwidth_gbps = in.nic_gbps, .layers = as_double(in.v3.num_hidden_layers)});
  out.push_back({"retold",
                 120.96,
                 {"dispatch alone of one micro-batch, 400G InfiniBand", ib.stage_us / 3, "us",
                  "1 of the 3 bytes per number that dispatch and combine move", kPaper},
                 Agreement::kRetelling,
                 0,
                 "\"120.96 us one way\" is dispatch and combine together"});
  const double per_day = training_flops(in.v3, 4096).causal() * 15360 * 4096 / in.step_s * 86400;
  out.push_back({"retold",
                 68.2,
                 {"FLOPs of a training day", per_day / 1e18, "EFLOP", "250 GFLOP * 272.8e9 tokens", kPaper},
                 Agreement::kRetelling,
                 0,
                 "\"68.2 EFLOP a day\" is short of a factor of 1000"});
  return {};
}

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
  in.v2 = deepseek(60, 1, 5120, 12288, 1536, 160, 2, 6, 102400);
  in.v2.model_type = "deepseek_v2";
  in.qwen = {"Qwen-2.5 72B", 80, 8192, 8, 128, 152064};
  in.llama = {"LLaMA-3.1 405B", 126, 16384, 8, 128, 128256};
  return in;
}

bool PaperFigure::holds() const {
  switch (agreement) {
    case Agreement::kExact: return ours.value == published;
    case Agreement::kWithin: return std::abs(difference()) <= tolerance;
    case Agreement::kRetelling: return std::abs(difference()) > 0.01;
  }
  return false;
}

Result<Figures> paper_figures(const PaperInput& in) {
  Figures out;
  kv_cache(in, out);
  parameters(in, out);
  training_cost(in, out);
  expert_parallel_bounds(in, out);
  if (auto s = networks(in, out); !s) return s.error();
  if (auto s = training_run(in, out); !s) return s.error();
  deepep(in, out);
  money(in, out);
  if (auto s = retellings(in, out); !s) return s.error();
  return out;
}

}  // namespace fathom
