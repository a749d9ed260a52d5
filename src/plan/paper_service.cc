#include <algorithm>

#include "base/figure.h"
#include "base/integers.h"
#include "cluster/topology.h"
#include "plan/decode.h"
#include "plan/expert_traffic.h"
#include "plan/paper_rows.h"
#include "sim/goodput.h"

namespace fathom::paper {
namespace {}  // namespace

Result<Hardware> h800_of(const PaperInput& in) {
  auto h = find_hardware("h800");
  if (!h) return h.error();
  for (const auto& [fact, value] : {std::pair{"nic_gbps", in.nic_gbps},
                                    {"nic_effective_gbps", in.nic_effective_gbps},
                                    {"scale_up_effective_gbps", in.nvlink_gbps},
                                    {"bf16_tflops", in.peak_tflops}}) {
    if (auto s = h->set(fact, value); !s) return s.error();
  }
  return h;
}

// The "GB/s" of DeepEP's tables are not those of a link: what is counted, by which rule, and what a link gives.
void add_deepep_bandwidth(const PaperInput& in, Figures& out) {
  constexpr double kLow[][2] = {{98, 127}, {63, 74}, {48, 53}, {43, 46}, {39, 39}, {39, 40}};  // as kLowLatency
  const double copies = 128 * as_double(in.v3.num_experts_per_tok), hidden = as_double(in.v3.hidden_size);
  const double dispatch = copies * (hidden + 4 * hidden / 128 + 16), combine = copies * 2 * hidden;
  for (size_t i = 0; i < kLowLatency.size(); ++i) {
    const std::string ep = "EP" + std::to_string(kLowLatency[i].ranks);
    const struct {
      std::string name;
      double published, bytes, us;
    } rows[] = {{"bandwidth of low-latency dispatch, " + ep, kLow[i][0], dispatch, kLowLatency[i].dispatch_us},
                {"bandwidth of low-latency combine, " + ep, kLow[i][1], combine, kLowLatency[i].combine_us}};
    for (const auto& row : rows) {
      out.push_back({"DeepEP",
                     row.published,
                     {row.name, row.bytes / row.us / 1e3, "GB/s",
                      "128 tokens * top-k * bytes of a copy / the latency of the same table", kDeepEp},
                     Agreement::kWithin,
                     0.03,
                     "copies to the own node are counted too: no link carries so much"});
    }
  }
  for (const auto& [name, published] :
       {std::pair{"normal dispatch, EP8, NVLink", 153.0}, {"normal combine, EP8, NVLink", 158.0}}) {
    out.push_back({"DeepEP",
                   published,
                   {name, in.nvlink_gbps, "GB/s", "NVLink, effective", kDeepEp},
                   Agreement::kAtLeast,
                   0,
                   "a bound: one node, so NVLink alone"});
  }
  const Gate gate = node_limited_gate_of(in.v3);
  for (const auto& [nodes, there, back] : {std::tuple{int64_t{2}, 90.0, 81.0}, {int64_t{4}, 61.0, 61.0}}) {
    // Its kernels forward less over NVLink: the NIC alone.
    const double share = as_double(nodes - 1) / as_double(nodes);
    for (const auto& [kernel, published] : {std::pair{"dispatch", there}, {"combine", back}}) {
      out.push_back({"DeepEP V2",
                     published,
                     {std::string(kernel) + ", EP" + std::to_string(8 * nodes), in.nic_gbps / share, "GB/s",
                      "line rate of the NIC / (1 - 1 / nodes)", "DeepEP V2, README"},
                     Agreement::kAtLeast,
                     0,
                     "a bound: the copies to the own node are counted and do not cross the NIC"});
    }
  }
  double least = 1e300;
  for (int64_t nodes : {2, 4, 8, 16}) {
    const NormalBandwidth b = normal_bandwidth(gate, nodes, kDeepEpNicGbps * in.nic_gbps / kDeepEpLineGbps,
                                               kDeepEpNvlinkGbps * in.nvlink_gbps / 160);
    least = std::min(least, b.gbps * kCombineShare);
  }
  out.push_back(
      {"section 5.1.2",
       40,
       {"DeepEP on MPFT, the slowest of EP16 to EP128", least, "GB/s", "the least of the rows of figure 7", kPaper},
       Agreement::kAtLeast,
       0,
       "published: \"more than 40 GB/s\"; often retold of NCCL's all-to-all, whose values are not in the text"});
}

Status add_service(const PaperInput& in, const CountedModel& v3, Figures& out) {
  const std::string where = "service, 24 h";
  out.push_back({where,
                 56.3,
                 {"prompt tokens from the KV cache on disk", 100 * 342.0 / 608, "%", "342 B / 608 B", kInfra},
                 Agreement::kWithin,
                 0.002,
                 ""});
  const struct {
    const char* name;
    double published;
    int64_t spare, gpus;  // of a GPU, beside those that make the experts spread evenly
    const char* source;
  } units[] = {{"routed experts per GPU, prefill EP32", 9, 1, 32, kInfra},
               {"routed experts per GPU, decode EP144", 2, 0, 144, kInfra},
               {"routed experts per GPU, decode EP320", 1, 0, 320, kReport}};
  for (const auto& unit : units) {
    const int64_t each = ceil_div(in.v3.n_routed_experts, unit.gpus) + (in.v3.n_routed_experts > 0 ? unit.spare : 0);
    out.push_back(
        {where,
         unit.published,
         {unit.name, as_double(each), "",
          "(experts + " + std::to_string(each * unit.gpus - in.v3.n_routed_experts) + " replicas) / GPUs", unit.source},
         Agreement::kExact,
         0,
         unit.gpus == 320 ? "64 GPUs hold replicas and the shared expert; the report and the service of 2025 differ"
                          : "beside them the shared expert on every GPU"});
  }
  // 14.8 k tokens per second and node at 21 of each user.
  constexpr double kPerNode = 14.8e3, kUser = 21, kContext = 4989;
  const auto h = h800_of(in);
  if (!h) return h.error();
  PlanSettings::Serving s;
  s.gpus = 144;
  s.redundant_experts = (144 - in.v3.n_routed_experts % 144) % 144;
  s.context = static_cast<int64_t>(kContext);
  const double batch = kPerNode / 8 / kUser;
  const auto bound = decode_step(v3, *h, s, batch);
  if (!bound) return bound.error();
  s.dispatch_us = fit_dispatch().alpha_us;
  s.combine_us = fit_combine().alpha_us;
  const auto slow = decode_step(v3, *h, s, batch);
  if (!slow) return slow.error();
  const std::string group = "144 GPUs, 4,989 tokens of context, 14.8 k / 8 / 21 = 88 sequences a GPU";
  out.push_back({where,
                 kPerNode,
                 {"decode tokens per second and node at most", 8 * batch * 1e3 / bound->tpot_ms(), "",
                  "8 * batch / max(memory, compute, network): " + group, kInfra},
                 Agreement::kAtLeast,
                 0,
                 "a bound: all overlapped, no latency, no imbalance, all nodes busy"});
  out.push_back({where,
                 kUser,
                 {"tokens per second and user at most", 1e3 / bound->tpot_ms(), "",
                  "1 / max(memory, compute, network): " + group, kInfra},
                 Agreement::kAtLeast,
                 0,
                 "published: 20 to 22; the same bound"});
  out.push_back(
      {where,
       kUser,
       {"tokens/s and user, nothing overlapped", 1e3 / (slow->memory_ms + slow->compute_ms + slow->network_ms), "",
        "1 / (memory + compute + network with DeepEP's latencies): " + group, kInfra},
       Agreement::kEstimate,
       0.25,
       "published: 20 to 22; the service overlaps two micro-batches, but waits for the busiest GPU and for queues"});
  return {};
}

Status add_others(Figures& out) {
  out.push_back(
      {"section 6.2",
       640,
       {"160 lanes of PCIe 5.0", 160 * 32.0 * 128 / 130 / 8, "GB/s", "lanes * 32 GT/s * 128 / 130 / 8", kPaper},
       Agreement::kWithin,
       0.02,
       "the paper takes 4 GB/s a lane: without the line code"});
  out.push_back({"V3 report, 3.2",
                 1024,
                 {"GPUs at least, PP16 and EP64", as_double(least_gpus(16, 1, 1, 64, 1)), "",
                  "pipeline * max(tensor * context, expert * expert tensor)", "Megatron-Bridge #3509"},
                 Agreement::kExact,
                 0,
                 "the run had 2,048: two such groups"});
  // Half a minute for a checkpoint and four for a restart are ours.
  constexpr double kGpuHours = 54 * 24 * 16384, kStops = 419;
  const auto kept = goodput({kGpuHours / kStops / 16384, 0.5, 4});
  if (!kept) return kept.error();
  out.push_back({"Llama 3, 16,384 H100",
                 90,
                 {"effective training time", 100 * kept->share, "%",
                  "t / (M exp(r / M) (exp((t + c) / M) - 1)), M = 54 d / 419 stops, c = 0.5 min, r = 4 min",
                  "arXiv 2407.21783, section 3.3.4; Daly 2006"},
                 Agreement::kAtLeast,
                 0,
                 "published: \"over 90 %\"; checkpoint and restart are not, ours are assumed"});
  return {};
}

}  // namespace fathom::paper
