#include <algorithm>

#include "base/figure.h"
#include "base/integers.h"
#include "cluster/fat_tree.h"
#include "cluster/mpft.h"
#include "model/tensor_plan.h"
#include "plan/limits.h"
#include "plan/paper_rows.h"

namespace fathom::paper {
namespace {

double per_endpoint(const Fabric& f) { return as_double(f.switches) / as_double(f.endpoints); }

}  // namespace

// What is often said of this system, and what its sources say.
Status add_retellings(const PaperInput& in, Figures& out) {
  const double parameters = as_double(count_parameters(in.v3).total);
  out.push_back(
      {"retold",
       2.0,
       {"training state of V3", parameters * 12 / 1e12, "TB",
        "(4 FP32 master + 4 FP32 gradient + 4 BF16 moments) * parameters, without the working weights", kReport},
       Agreement::kRetelling,
       0,
       "\"3 bytes per parameter\""});
  constexpr int64_t kDecodeGpus = 144;
  const auto weights = serving_weight_bytes(
      in.v3, kDecodeGpus, ceil_div(in.v3.n_routed_experts, kDecodeGpus) * kDecodeGpus - in.v3.n_routed_experts);
  if (!weights) return weights.error();
  out.push_back(
      {"retold",
       0.328,
       {"weights per decode GPU", *weights / 1e9, "GB",
        "a 144th of the routed experts and of the replicas that make them divide, everything else on each of 144 GPUs",
        kInfra},
       Agreement::kRetelling,
       0,
       "\"671 GB / 2048\": serving units are 32 and 144 GPUs"});
  const NetworkTpot nvl = paper_tpot(in, in.scale_up_gbps);
  out.push_back({"retold",
                 830,
                 {"one layer on GB200 NVL72", nvl.layer_us, "us", "2 * one micro-batch", kPaper},
                 Agreement::kRetelling,
                 0,
                 "\"0.83 ms per layer\" is the whole token"});
  const auto planes = mpft(in.radix, in.planes);
  if (!planes) return planes.error();
  // With as many endpoints, as far as a tree of three layers has them and needs its third (a pod has half a plane's).
  const int64_t most = in.radix * in.radix * in.radix / 4;
  const auto three = fat_tree3(in.radix, std::min(planes->endpoints, most));
  if (!three) return three.error();
  out.push_back({"retold",
                 73,
                 {"switches that MPFT saves", 100 * (1 - per_endpoint(*planes) / per_endpoint(*three)), "%",
                  "1 - switches per endpoint of MPFT / of FT3 with as many endpoints", kPaper},
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
  const NetworkTpot ib = paper_tpot(in, in.nic_gbps);
  out.push_back({"retold",
                 120.96,
                 {"dispatch alone of one micro-batch, 400G InfiniBand", ib.stage_us / 3, "us",
                  "1 of the 3 bytes per number that dispatch and combine move", kPaper},
                 Agreement::kRetelling,
                 0,
                 "\"120.96 us one way\" is dispatch and combine together"});
  const double per_day = training_flops(in.v3, 4096).causal() * 15360 * 4096 / in.step_s * 86400;
  out.push_back(
      {"retold",
       68.2,
       {"FLOPs of a training day", per_day / 1e18, "EFLOP", "training FLOPs per token * tokens per day", kPaper},
       Agreement::kRetelling,
       0,
       "\"68.2 EFLOP a day\" is short of a factor of 1000"});
  return {};
}

}  // namespace fathom::paper
