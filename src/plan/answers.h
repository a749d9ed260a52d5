// Answers: what `fathom plan` says of a model, a machine, a layout and a fabric, as figures in groups. Settings come
// from a TOML file or key=value overrides; a group whose settings are absent is left out, nothing is assumed in its
// place.
#pragma once

#include <string>
#include <vector>

#include "base/config.h"
#include "base/figure.h"
#include "base/result.h"
#include "cluster/hardware.h"
#include "cluster/price.h"
#include "model/config.h"
#include "parallel/schedule.h"
#include "sim/pipeline_sim.h"

namespace fathom {

struct PlanSettings {
  struct HardwareChanges {  // 0: as the preset
    double memory_gb = 0, memory_gbps = 0, bf16_tflops = 0, fp8_tflops = 0, scale_up_gbps = 0,
           scale_up_effective_gbps = 0, nic_gbps = 0, nic_effective_gbps = 0, power_w = 0;
  } hardware;
  struct Training {
    int64_t pipeline = 0;  // 0: no training
    int64_t expert = 1, data = 1, micro_batches = 1, sequences = 1, sequence_tokens = 4096;
    std::string schedule = "1f1b";
    std::vector<double> chunk_times = {1, 1, 1, 3};  // F, I, W, F&B
    double hop = 0;
    double mfu = 0;     // 0: not known
    double tokens = 0;  // 0: not known
    double gpu_hour_dollars = 0;
  } training;
  struct Serving {
    int64_t gpus = 0;  // 0: no serving
    int64_t redundant_experts = 0, batch = 1, context = 4096;
  } serving;
  struct FabricSettings {
    std::string kind = "none";
    int64_t radix = 64, planes = 8, endpoints = 0, groups = 0, q = 0;
    double switch_base_dollars = 0, switch_port_dollars = 0, link_dollars = 0,
           endpoint_dollars = 0;  // all 0: table 3's
  } fabric;

  struct Failures {
    double gpu_mtbf_h = 0;  // 0: not known
    double gpus = 0, checkpoint_min = 0, restart_min = 0, interval_min = 0;
  } failures;

  template <class V>
  void fields(V& v) {
    v("hardware.memory_gb", hardware.memory_gb, "HBM of a GPU, GB; 0: as the preset, as in all of hardware",
      at_least(0));
    v("hardware.memory_gbps", hardware.memory_gbps, "HBM bandwidth, GB/s", at_least(0));
    v("hardware.bf16_tflops", hardware.bf16_tflops, "dense BF16 peak, TFLOP/s", at_least(0));
    v("hardware.fp8_tflops", hardware.fp8_tflops, "dense FP8 peak, TFLOP/s", at_least(0));
    v("hardware.scale_up_gbps", hardware.scale_up_gbps, "NVLink line rate, one direction, GB/s", at_least(0));
    v("hardware.scale_up_effective_gbps", hardware.scale_up_effective_gbps, "NVLink as measured", at_least(0));
    v("hardware.nic_gbps", hardware.nic_gbps, "line rate of one GPU's NIC, GB/s", at_least(0));
    v("hardware.nic_effective_gbps", hardware.nic_effective_gbps, "NIC as measured", at_least(0));
    v("hardware.power_w", hardware.power_w, "power of a GPU, W", at_least(0));
    v("training.pipeline", training.pipeline, "pipeline ranks; 0: no training", between(0, kMaxPipelineRanks));
    v("training.expert", training.expert, "expert-parallel ranks, inside the data-parallel ones", between(1, 1 << 20));
    v("training.data", training.data, "data-parallel ranks", between(1, 1 << 20));
    v("training.schedule", training.schedule, "of the pipeline", one_of({"1f1b", "zb1p", "dualpipe", "dualpipev"}));
    v("training.micro_batches", training.micro_batches, "per data rank and step", between(1, kMaxMicroBatches));
    v("training.sequences", training.sequences, "in a micro-batch", between(1, 4096));
    v("training.sequence_tokens", training.sequence_tokens, "tokens of a sequence", between(1, 1 << 20));
    v("training.chunk_times", training.chunk_times, "of a stage: F, input gradient, W, overlapped F&B, in one unit",
      between(0, 1e9));
    v("training.hop", training.hop, "between two stages, in the unit of chunk_times", between(0, 1e9));
    v("training.mfu", training.mfu, "causal model FLOP utilisation, for time and price; 0: not known", between(0, 1));
    v("training.tokens", training.tokens, "to train on; 0: not known", between(0, 1e18));
    v("training.gpu_hour_dollars", training.gpu_hour_dollars, "price of a GPU-hour; 0: not known", between(0, 1e6));
    v("serving.gpus", serving.gpus, "GPUs of an expert-parallel decode group; 0: no serving", between(0, 1 << 20));
    v("serving.redundant_experts", serving.redundant_experts, "replicas of busy experts", between(0, 1 << 20));
    v("serving.batch", serving.batch, "sequences per GPU", between(1, 1 << 20));
    v("serving.context", serving.context, "tokens of a sequence", between(1, 1 << 24));
    v("failures.gpu_mtbf_h", failures.gpu_mtbf_h, "hours between stops of one GPU's job; 0: no answer",
      between(0, 1e12));
    v("failures.gpus", failures.gpus, "of the job, that stops when one of them does", between(0, 1e9));
    v("failures.checkpoint_min", failures.checkpoint_min, "minutes that the job stands still for a checkpoint",
      between(0, 1e6));
    v("failures.restart_min", failures.restart_min, "minutes from a stop to running again", between(0, 1e6));
    v("failures.interval_min", failures.interval_min, "minutes of work between checkpoints; 0: the best",
      between(0, 1e6));
    v("fabric.kind", fabric.kind, "network", one_of({"none", "ft2", "ft3", "mpft", "mrft", "dragonfly", "slimfly"}));
    v("fabric.radix", fabric.radix, "ports of a switch", between(4, 1024));
    v("fabric.planes", fabric.planes, "planes of mpft, rails of mrft", between(1, 8));
    v("fabric.endpoints", fabric.endpoints, "NICs; 0: as many as fit", between(0, 1e9));
    v("fabric.groups", fabric.groups, "of the dragonfly; 0: the most", between(0, 1e6));
    v("fabric.q", fabric.q, "of the Slim Fly", between(0, 512));
    v("fabric.switch_base_dollars", fabric.switch_base_dollars, "price of a switch without ports");
    v("fabric.switch_port_dollars", fabric.switch_port_dollars, "price per port of a switch", at_least(0));
    v("fabric.link_dollars", fabric.link_dollars, "price of a link between switches", at_least(0));
    v("fabric.endpoint_dollars", fabric.endpoint_dollars,
      "price of an endpoint's link; all four 0: the prices that fit table 3 of arXiv 2505.09343", at_least(0));
  }
};

/// {TITLE: [figures]}.
Json to_json(const std::vector<FigureGroup>& groups);

/// The preset with the settings' changes.
Result<Hardware> changed_hardware(Hardware preset, const PlanSettings& settings);

/// Parameters, KV cache, FLOPs; with settings also the training layout's bytes per rank, its bubble, time and price,
/// and the serving group's weights, room and decode bounds. Errors: what training_bytes, serving_weight_bytes and the
/// simulator refuse.
Result<std::vector<FigureGroup>> plan_model(const ModelConfig& config, const Hardware& hardware,
                                            const PlanSettings& settings);

/// Counts and price of the fabric that the settings name (kind is not "none"). Errors: what its builder refuses.
Result<FigureGroup> plan_fabric(const PlanSettings& settings);

/// The settings' prices, or those that fit table 3 of arXiv 2505.09343 where none is given.
PriceTable fabric_prices(const PlanSettings& settings);

/// The share of time that a job keeps working under the settings' failures (gpu_mtbf_h is not 0). Errors: gpus is 0,
/// what goodput refuses.
Result<FigureGroup> plan_failures(const PlanSettings& settings);

/// The pipeline of the settings, timed (training.pipeline is not 0).
struct Timeline {
  Schedule schedule;
  PipelineCosts costs;
  PipelineRun run;
};
Result<Timeline> plan_timeline(const PlanSettings& settings);

}  // namespace fathom
