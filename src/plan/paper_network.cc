#include <algorithm>

#include "base/figure.h"
#include "cluster/dragonfly.h"
#include "cluster/fat_tree.h"
#include "cluster/mpft.h"
#include "cluster/price.h"
#include "cluster/slim_fly.h"
#include "plan/expert_traffic.h"
#include "plan/limits.h"
#include "plan/paper_rows.h"

namespace fathom::paper {
namespace {}  // namespace

Status add_networks(const PaperInput& in, Figures& out) {
  const std::string where = "table 3";
  struct Column {
    Result<Fabric> fabric;
    double endpoints, switches, links, million, thousand;
    std::string note;
  };
  const std::string fit = "the unit prices are not published: link and endpoint prices are fitted to the table";
  // The table fills the ports of its switches as far as its formulas go: q = 28 is the largest whose routers have at
  // most 64 ports, p = 16 likewise, and two groups fewer than the most.
  int64_t q = in.slim_fly_q;
  if (q == 0) {
    for (int64_t at = 3; at <= in.radix; ++at) {
      if (const auto f = slim_fly_counts(at); f && f->radix <= in.radix) q = at;
    }
  }
  const int64_t p = (in.radix + 1) / 4;
  const int64_t groups = in.dragonfly_groups > 0 ? in.dragonfly_groups : std::max<int64_t>(2, 2 * p * p + 1 - 2);
  const Column columns[] = {
      {fat_tree2(in.radix), 2048, 96, 2048, 9, 4.39, ""},
      {mpft(in.radix, in.planes), 16384, 768, 16384, 72, 4.39, ""},
      {fat_tree3(in.radix), 65536, 5120, 131072, 491, 7.5, ""},
      {slim_fly_counts(q), 32928, 1568, 32928, 146, 4.4,
       "28 is no prime power: this Slim Fly cannot be built (27 or 25 can)"},
      {dragonfly(p, groups), 261632, 16352, 384272, 1522, 5.8, "511 groups; the largest balanced dragonfly has 513"}};
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

NetworkTpot paper_tpot(const PaperInput& in, double bandwidth_gbps) {
  constexpr double kRounded = 7000, kHidden = 7168;  // the paper takes the one for the other
  return network_tpot({.bandwidth_gbps = bandwidth_gbps,
                       .experts = as_double(in.v3.num_experts_per_tok + in.v3.n_shared_experts),
                       .hidden = kRounded * as_double(in.v3.hidden_size) / kHidden,
                       .layers = as_double(in.v3.num_hidden_layers)});
}

void add_expert_parallel_bounds(const PaperInput& in, Figures& out) {
  out.push_back(
      {"section 4.3",
       4,
       {"NVLink over NIC", in.nvlink_gbps / in.nic_effective_gbps, "", "NVLink / NIC, effective rates", kPaper},
       Agreement::kExact,
       0,
       "effective rates; the V3 report says 3.2: it divides by the line rate of 50 GB/s"});
  // DeepSeek's experts lie on 8 nodes, a group each.
  constexpr int64_t kNodes = 8;
  Gate limited = node_limited_gate_of(in.v3), anywhere = limited;
  anywhere.max_nodes = in.v3.n_routed_experts;
  const double forwarded = in.nvlink_gbps / in.nic_gbps, groups = as_double(limited.max_nodes);
  const std::string free_gate = "m (1 - C(N - e, K) / C(N, K)) of m = 8 nodes, every choice as likely";
  const struct {
    const char* where;
    double published;
    const char* name;
    double ours;
    const char* formula;
    Agreement agreement;
    double tolerance;
    const char* note;
    const char* source;
  } routing[] = {
      {"section 4.3", 8, "NIC copies of a token at most, any 8 experts",
       as_double(std::min<int64_t>(in.v3.num_experts_per_tok, kNodes)), "min(top-k, nodes)", Agreement::kExact, 0, "",
       kPaper},
      {"section 4.3", 4, "NIC copies of a token at most, 4 nodes",
       std::min(as_double(in.v3.num_experts_per_tok), groups), "min(top-k, topk_group)", Agreement::kExact, 0, "",
       kPaper},
      {"section 4.3", 8, "NIC copies expected, any 8 experts", destinations_of(anywhere, kNodes).nodes,
       free_gate.c_str(), Agreement::kAtMost, 0,
       "8 is the worst case; experts that share a node share a copy (5.25 if a token could draw one twice)", kPaper},
      {"section 4.3", 4, "NIC copies expected, at most 4 nodes", destinations_of(limited, kNodes).nodes,
       "the same of m = topk_group nodes", Agreement::kAtMost, 0,
       "4 is the worst case; against any 8 experts the NIC carries 31 % less, not half", kPaper},
      {"V3 report, 3.2", 3.2, "experts per node that NVLink forwards", forwarded, "NVLink / line rate of the NIC",
       Agreement::kWithin, 1e-9, "at the line rate of the NIC; section 4.3 divides by its effective rate", kReport},
      {"V3 report, 3.2", 13, "experts of a token in the same time", groups * forwarded, "nodes * experts per node",
       Agreement::kWithin, 0.02, "4 * 3.2 = 12.8, which the report rounds up", kReport}};
  for (const auto& row : routing) {
    out.push_back({row.where,
                   row.published,
                   {row.name, row.ours, "", row.formula, row.source},
                   row.agreement,
                   row.tolerance,
                   row.note});
  }
  const std::string of_a_micro_batch = "(1 B + 2 B) * 32 tokens * (top-k + shared) experts * hidden * 7000 / 7168 / ";
  const std::string stage = of_a_micro_batch + "line rate of the NIC",
                    nvl_stage = of_a_micro_batch + "line rate of NVLink";
  const std::string layer = "2 micro-batches * " + stage, nvl_layer = "2 micro-batches * " + nvl_stage;
  const std::string tpot = "layers * " + layer, nvl_tpot = "layers * " + nvl_layer, per_second = "1 / (" + tpot + ")",
                    nvl_per_second = "1 / (" + nvl_tpot + ")";
  const std::string rounded =
      "the paper takes 7000 for a hidden size of 7168 and counts the shared expert as sent; with 7168: 15.11 ms";
  const NetworkTpot ib = paper_tpot(in, in.nic_gbps), nvl = paper_tpot(in, in.scale_up_gbps);
  const std::string where = "section 2.3.2";
  out.push_back({where,
                 120.96,
                 {"one micro-batch, 400G InfiniBand", ib.stage_us, "us", stage, kPaper},
                 Agreement::kWithin,
                 1e-4,
                 rounded});
  out.push_back({where,
                 241.92,
                 {"one layer, 400G InfiniBand", ib.layer_us, "us", layer, kPaper},
                 Agreement::kWithin,
                 1e-4,
                 rounded});
  out.push_back(
      {where, 14.76, {"TPOT, 400G InfiniBand", ib.tpot_ms, "ms", tpot, kPaper}, Agreement::kWithin, 0.001, rounded});
  out.push_back({where,
                 67,
                 {"tokens per second, 400G InfiniBand", ib.tokens_per_s(), "", per_second, kPaper},
                 Agreement::kWithin,
                 0.02,
                 "the paper truncates 67.8"});
  out.push_back({where,
                 6.72,
                 {"one micro-batch, GB200 NVL72", nvl.stage_us, "us", nvl_stage, kPaper},
                 Agreement::kWithin,
                 1e-4,
                 "one expert a device needs 256 devices, NVL72 has 72"});
  out.push_back(
      {where, 0.82, {"TPOT, GB200 NVL72", nvl.tpot_ms, "ms", nvl_tpot, kPaper}, Agreement::kWithin, 0.001, ""});
  out.push_back({where,
                 1200,
                 {"tokens per second, GB200 NVL72", nvl.tokens_per_s(), "", nvl_per_second, kPaper},
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

void add_deepep(const PaperInput& in, Figures& out) {
  const struct {
    int64_t nodes;
    double dispatch, combine;
  } rows[] = {{2, 43.05, 42.47}, {4, 58.02, 56.96}, {8, 50.58, 48.54}, {16, 45.34, 41.60}};
  const std::string formula =
      "nodes / max(remote nodes / NIC rate, GPUs * 7/8 / NVLink rate), expectations over the gate; the rates are 43.5 "
      "/ "
      "50 of the NIC's line rate and 126 / 160 of the effective NVLink";
  // Fitted to NICs of 50 GB/s and NVLink of 160 GB/s; others are taken to be as efficient.
  const double nic_scale = in.nic_gbps / kDeepEpLineGbps, nvlink_scale = in.nvlink_gbps / 160;
  const double nic_rate = kDeepEpNicGbps * nic_scale, nvlink_rate = kDeepEpNvlinkGbps * nvlink_scale;
  const Gate gate = node_limited_gate_of(in.v3);
  for (const auto& row : rows) {
    const NormalBandwidth b = normal_bandwidth(gate, row.nodes, nic_rate, nvlink_rate);
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
  AlphaBeta dispatch = fit_dispatch(), combine = fit_combine();
  dispatch.gbps *= nic_scale;
  combine.gbps *= nic_scale;
  const double experts = as_double(in.v3.num_experts_per_tok), hidden = as_double(in.v3.hidden_size);
  const double dispatch_bytes = hidden + 4 * hidden / 128, combine_bytes = 2 * hidden;  // of a copy
  const std::string line =
      "alpha + 128 tokens * top-k * bytes * (1 - 8 / ranks) / rate, least squares over EP16 to EP256";
  for (const LowLatency& row : kLowLatency) {
    if (row.ranks == 8) {  // NVLink alone; 7 of 8 copies leave the GPU
      const double copies = 128 * experts * 7 / 8.0;
      const std::string nvlink = "alpha of the line + 128 tokens * top-k * 7/8 * bytes / NVLink rate";
      out.push_back(
          {"DeepEP",
           row.dispatch_us,
           {"low-latency dispatch, EP8",
            AlphaBeta{dispatch.alpha_us, in.nvlink_gbps}.latency_us(copies * dispatch_bytes), "us", nvlink, kDeepEp},
           Agreement::kWithin,
           0.06,
           "one node: NVLink alone, at the 160 GB/s of section 4.3; combine is calibrated separately"});
      out.push_back(
          {"DeepEP",
           row.combine_us,
           {"low-latency combine, EP8", AlphaBeta{combine.alpha_us, nvlink_rate}.latency_us(copies * combine_bytes),
            "us", nvlink, kDeepEp},
           Agreement::kWithin,
           0.06,
           "one node: NVLink alone, at the 126 GB/s of forwarding (figure 7); dispatch is calibrated separately"});
      continue;
    }
    const std::string ep = "EP" + std::to_string(row.ranks);
    out.push_back({"DeepEP",
                   row.dispatch_us,
                   {"low-latency dispatch, " + ep,
                    dispatch.latency_us(low_latency_bytes(128, experts, dispatch_bytes, as_double(row.ranks))), "us",
                    line, kDeepEp},
                   Agreement::kWithin,
                   0.06,
                   "fitted"});
    out.push_back({"DeepEP",
                   row.combine_us,
                   {"low-latency combine, " + ep,
                    combine.latency_us(low_latency_bytes(128, experts, combine_bytes, as_double(row.ranks))), "us",
                    line, kDeepEp},
                   Agreement::kWithin,
                   0.06,
                   "fitted"});
  }
}

}  // namespace fathom::paper
