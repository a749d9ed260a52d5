// PlanSettings: everything that `fathom plan` can be told, with the section of the TOML file each value lies in.
// What is 0 and documented so was not given: no figure is made from it.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/config.h"
#include "parallel/schedule.h"

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
    std::vector<double> stage_scale = {};  // empty: all alike
    double mfu = 0;                        // 0: not known
    double tokens = 0;                     // 0: not known
    double gpu_hour_dollars = 0;
  } training;
  struct Serving {
    int64_t gpus = 0;  // 0: no serving
    int64_t redundant_experts = 0, batch = 1, context = 4096;
    std::string weights = "fp8", kv = "bf16", dispatch = "fp8", combine = "bf16";
    bool in_network = false;
    double dispatch_us = 0, combine_us = 0;
    double mtp_acceptance = 0;         // 0: no drafts
    int64_t full_attention_every = 1;  // 1: every layer
    double codec_overhead = 0.5;       // of a transfer in LogFMT
    double host_gbps = 0;              // 0: no pool in the host
    double host_gb = 0;                // 0: not known
    bool host_shares_nic = false;
    double gpu_hour_dollars = 0;
  } serving;
  struct Search {
    std::string kind = "none";
    std::vector<int64_t> gpus;
    double max_kw = 0, max_kgco2 = 0;  // 0: no bound
    int64_t rows = 10;
    double utilisation = 0;  // 0: not known
    int64_t batch = 0;       // 0: not known
    std::vector<int64_t> sequences = {1, 2, 4};
    double overlap = 1, memory_share = 1;
    double qps = 0, isl = 0, osl = 0, max_tpot_ms = 0, max_ttft_ms = 0, cache_hits = 0;
  } search;
  struct Energy {
    double pue = 0, kg_per_kwh = 0;  // 0: not known
  } energy;
  struct ThisMachine {
    std::string quant;
    int64_t context = 0, prompt = 512, threads = 0;
  } machine;
  struct FabricSettings {
    std::string kind = "none";
    int64_t radix = 64, planes = 8, endpoints = 0, groups = 0, q = 0;
    // -1: not given. No price given: table 3's.
    double switch_base_dollars = 0, switch_port_dollars = -1, link_dollars = -1, endpoint_dollars = -1;
  } fabric;

  struct Service {  // 0: not known
    double input_tokens_per_day = 0, output_tokens_per_day = 0;
    double node_input_tokens_per_s = 0, node_output_tokens_per_s = 0;  // both 0: no service
    int64_t gpus_per_node = 8;
    double gpu_hour_dollars = 0;
  } service;

  struct Failures {
    double gpu_mtbf_h = 0;  // 0: not known
    double gpus = 0, checkpoint_min = 0, restart_min = 0, interval_min = 0;
    int64_t stops = 100, seed = 1;  // of the drawn run
  } failures;

  template <class V>
  void fields(V& v) {
    v("hardware.memory_gb", hardware.memory_gb, "HBM of a GPU, GB; 0: as the preset, as in all of hardware",
      at_least(0));
    v("hardware.memory_gbps", hardware.memory_gbps, "HBM bandwidth, GB/s", at_least(0));
    v("hardware.bf16_tflops", hardware.bf16_tflops, "dense BF16 peak, TFLOP/s", at_least(0));
    v("hardware.fp8_tflops", hardware.fp8_tflops, "dense FP8 peak, TFLOP/s", at_least(0));
    v("hardware.scale_up_gbps", hardware.scale_up_gbps,
      "NVLink line rate, one direction, GB/s; alone it keeps the preset's efficiency", at_least(0));
    v("hardware.scale_up_effective_gbps", hardware.scale_up_effective_gbps, "NVLink as measured, at most its line rate",
      at_least(0));
    v("hardware.nic_gbps", hardware.nic_gbps,
      "line rate of one GPU's NIC, GB/s; alone it keeps the preset's efficiency", at_least(0));
    v("hardware.nic_effective_gbps", hardware.nic_effective_gbps, "NIC as measured, at most its line rate",
      at_least(0));
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
    v("training.stage_scale", training.stage_scale, "slowness of each stage, 1 as chunk_times; empty: all alike",
      between(0, 1e6));
    v("training.mfu", training.mfu, "causal model FLOP utilisation, for time and price; 0: not known", between(0, 1));
    v("training.tokens", training.tokens, "to train on; 0: not known", between(0, 1e18));
    v("training.gpu_hour_dollars", training.gpu_hour_dollars, "price of a GPU-hour; 0: not known", between(0, 1e6));
    v("serving.gpus", serving.gpus, "GPUs of an expert-parallel decode group; 0: no serving", between(0, 1 << 20));
    v("serving.redundant_experts", serving.redundant_experts, "replicas of busy experts", between(0, 1 << 20));
    v("serving.batch", serving.batch, "sequences per GPU", between(1, 1 << 20));
    v("serving.context", serving.context, "tokens of a sequence", between(1, 1 << 24));
    v("serving.weights", serving.weights, "of the matrices; fp4: 4.25 bits with MX scales", one_of({"fp8", "fp4"}));
    v("serving.kv", serving.kv, "KV cache; fp8: latent in E4M3 with a scale per 128, rope part in BF16",
      one_of({"bf16", "fp8"}));
    v("serving.dispatch", serving.dispatch, "numbers sent to experts", one_of({"fp8", "bf16", "logfmt8"}));
    v("serving.combine", serving.combine, "numbers sent back by experts",
      one_of({"bf16", "fp8", "logfmt10", "logfmt8"}));
    v("serving.in_network", serving.in_network,
      "switches copy a token to its GPUs and add what comes back: a GPU sends it once and receives one sum");
    v("serving.dispatch_us", serving.dispatch_us, "fixed latency of one dispatch, us", between(0, 1e6));
    v("serving.combine_us", serving.combine_us, "fixed latency of one combine, us", between(0, 1e6));
    v("serving.mtp_acceptance", serving.mtp_acceptance, "of one drafted token per step; 0: no drafts", between(0, 1));
    v("serving.full_attention_every", serving.full_attention_every,
      "one layer in so many keeps softmax attention, the others are linear; 1: all keep it", between(1, 1024));
    v("serving.codec_overhead", serving.codec_overhead,
      "time that encoding and decoding add to a transfer in LogFMT, as a share of it: 0.5 to 1 where the GPU does it "
      "(arXiv 2505.09343, section 3.2), 0 where the NIC does",
      between(0, 100));
    v("serving.host_gbps", serving.host_gbps, "from host or CXL memory to a GPU, GB/s; 0: no KV pool there",
      between(0, 1e6));
    v("serving.host_gb", serving.host_gb,
      "KV pool there of each GPU, GB, for sequences that HBM has no room for: a step reads them over the link; 0: not "
      "known",
      between(0, 1e6));
    v("serving.host_shares_nic", serving.host_shares_nic,
      "what the NIC carries crosses that link too, as over one PCIe port of the GPU");
    v("serving.gpu_hour_dollars", serving.gpu_hour_dollars, "price of a GPU-hour; 0: not known", between(0, 1e6));
    v("search.kind", search.kind, "rank layouts", one_of({"none", "training", "serving"}));
    v("search.gpus", search.gpus, "of the cluster; several sizes are compared", between(1, 1 << 20));
    v("search.rows", search.rows, "layouts that are printed", between(1, 1000000));
    v("search.utilisation", search.utilisation,
      "share of the peak that products reach (BF16 peak in training, FP8 peak in prefill), without waits; 0: not known",
      between(0, 1));
    v("search.batch", search.batch, "sequences of a training step; 0: not known", between(0, 1 << 24));
    v("search.sequences", search.sequences, "of a micro-batch: sizes to try", between(1, 4096));
    v("search.overlap", search.overlap, "share of the expert exchange that an F&B pair can hide behind computation",
      between(0, 1));
    v("search.memory_share", search.memory_share, "of the GPU's memory that a layout may fill", between(0.01, 1));
    v("search.max_kw", search.max_kw, "power of the site at most, kW; 0: any", between(0, 1e9));
    v("search.max_kgco2", search.max_kgco2, "carbon of the training run, or of a year of serving, at most, kg; 0: any",
      between(0, 1e15));
    v("search.qps", search.qps, "requests per second to serve; 0: only the best layouts", between(0, 1e9));
    v("search.isl", search.isl, "tokens of a prompt", between(0, 1 << 24));
    v("search.osl", search.osl, "tokens of an answer", between(0, 1 << 24));
    v("search.max_tpot_ms", search.max_tpot_ms, "time per output token at most; 0: any", between(0, 1e9));
    v("search.max_ttft_ms", search.max_ttft_ms, "time of a prompt alone at most; 0: any", between(0, 1e9));
    v("search.cache_hits", search.cache_hits, "share of prompt tokens whose KV is there already", between(0, 0.999));
    v("energy.pue", energy.pue, "power of the site over that of its GPUs; 0: not known", between(0, 100));
    v("energy.kg_per_kwh", energy.kg_per_kwh, "kg of CO2 per kWh; 0: not known", between(0, 100));
    v("machine.quant", machine.quant,
      "format of the weights on this machine, as --quant of generate; empty: as stored");
    v("machine.context", machine.context, "tokens of a sequence on this machine; 0: as generate", between(0, 1 << 24));
    v("machine.prompt", machine.prompt, "tokens of a prompt on this machine", between(1, 1 << 24));
    v("machine.threads", machine.threads, "on this machine; 0: all", between(0, 4096));
    v("service.input_tokens_per_day", service.input_tokens_per_day, "tokens of prompts; 0: not known",
      between(0, 1e18));
    v("service.output_tokens_per_day", service.output_tokens_per_day, "tokens of answers; 0: not known",
      between(0, 1e18));
    v("service.node_input_tokens_per_s", service.node_input_tokens_per_s,
      "tokens of prompts that a prefill node takes in a second, as measured; 0: not known", between(0, 1e12));
    v("service.node_output_tokens_per_s", service.node_output_tokens_per_s,
      "tokens that a decode node gives in a second, as measured; 0: not known", between(0, 1e12));
    v("service.gpus_per_node", service.gpus_per_node, "of such a node", between(1, 1024));
    v("service.gpu_hour_dollars", service.gpu_hour_dollars, "price of a GPU-hour; 0: not known", between(0, 1e6));
    v("failures.gpu_mtbf_h", failures.gpu_mtbf_h, "hours between stops of one GPU's job; 0: no answer",
      between(0, 1e12));
    v("failures.gpus", failures.gpus, "of the job, that stops when one of them does", between(0, 1e9));
    v("failures.checkpoint_min", failures.checkpoint_min, "minutes that the job stands still for a checkpoint",
      between(0, 1e6));
    v("failures.restart_min", failures.restart_min, "minutes from a stop to running again", between(0, 1e6));
    v("failures.interval_min", failures.interval_min, "minutes of work between checkpoints; 0: the best",
      between(0, 1e6));
    v("failures.stops", failures.stops, "of the run that is drawn", between(1, 10000));
    v("failures.seed", failures.seed, "of the run that is drawn", between(0, 1e18));
    v("fabric.kind", fabric.kind, "network", one_of({"none", "ft2", "ft3", "mpft", "mrft", "dragonfly", "slimfly"}));
    v("fabric.radix", fabric.radix, "ports of a switch", between(4, 1024));
    v("fabric.planes", fabric.planes, "planes of mpft, rails of mrft", between(1, 8));
    v("fabric.endpoints", fabric.endpoints, "NICs; 0: as many as fit", between(0, 1e9));
    v("fabric.groups", fabric.groups, "of the dragonfly; 0: the most", between(0, 1e6));
    v("fabric.q", fabric.q, "of the Slim Fly", between(0, 512));
    v("fabric.switch_base_dollars", fabric.switch_base_dollars, "price of a switch without ports", between(-1e9, 1e12));
    v("fabric.switch_port_dollars", fabric.switch_port_dollars, "price per port of a switch; -1: not given",
      at_least(-1));
    v("fabric.link_dollars", fabric.link_dollars, "price of a link between switches; -1: not given", at_least(-1));
    v("fabric.endpoint_dollars", fabric.endpoint_dollars,
      "price of an endpoint's link; -1: not given; no price given: those that fit table 3 of arXiv 2505.09343",
      at_least(-1));
  }
};

}  // namespace fathom
