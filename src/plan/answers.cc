#include "plan/answers.h"

#include <algorithm>
#include <cmath>

#include "base/figure.h"
#include "cluster/dragonfly.h"
#include "cluster/fat_tree.h"
#include "cluster/mpft.h"
#include "cluster/mrft.h"
#include "cluster/slim_fly.h"
#include "plan/expert_traffic.h"
#include "plan/footprint.h"
#include "plan/limits.h"
#include "plan/search.h"
#include "plan/service.h"
#include "plan/serving_search.h"

namespace fathom {
namespace {

constexpr const char* kConfig = "config.json";
constexpr const char* kPaper = "arXiv 2505.09343";
constexpr const char* kGiven = "settings";

FigureGroup model_group(const CountedModel& model, const PlanSettings& settings) {
  const ModelConfig& c = model.config;
  const ParameterCount& count = model.parameters;
  const TrainingFlops flops = training_flops(count, c, settings.training.sequence_tokens);
  const std::string tokens = std::to_string(settings.training.sequence_tokens);
  return {"model",
          {{"parameters", as_double(count.total), "", "elements of all tensors, without MTP", kConfig},
           {"active parameters", as_double(count.active_with_head), "", "that one token multiplies with, head included",
            kConfig},
           {"MTP parameters", as_double(count.mtp), "", "without copies of embedding and head", kConfig},
           {"KV cache per token", as_double(kv_cache_bytes_per_token(c)), "B",
            "(kv_lora_rank + qk_rope_head_dim) * layers * 2", kPaper},
           {"training FLOPs per token, causal", flops.causal() / 1e9, "GFLOP",
            "6 * active + 3 * layers * heads * " + tokens +
                " * (qk_head_dim + v_head_dim); without the MTP module, as published",
            std::string(kPaper) + ", table 2"},
           {"training FLOPs per token, full", flops.full() / 1e9, "GFLOP",
            "the same with attention twice: no mask used", kPaper},
           {"FLOPs per generated token", decode_flops(model, settings.serving) / 1e9, "GFLOP",
            "2 * active + " + std::to_string(full_attention_layers(c, settings.serving)) + " layers * heads * " +
                std::to_string(settings.serving.context) + " * 2 (2 kv_lora_rank + qk_rope_head_dim)" +
                (settings.serving.full_attention_every > 1
                     ? " + " + std::to_string(c.num_hidden_layers - full_attention_layers(c, settings.serving)) +
                           " linear layers * 4 * heads * qk_nope_head_dim * v_head_dim"
                     : ""),
            "V3 report, eq. 1 to 11, absorbed"}}};
}

/// What is divided by: below, the answer is no number at last.
constexpr double kLeast = 1e-6;
Error too_small(const std::string& key, double value) {
  return invalid(key + " is " + figure_text(value) + "; accepted: 1e-6 or more, or 0: not known");
}

Result<FigureGroup> training_group(const CountedModel& model, const Hardware& h, const PlanSettings& settings) {
  const ModelConfig& c = model.config;
  const auto& t = settings.training;
  const TrainingLayout layout{.pipeline = t.pipeline,
                              .expert = t.expert,
                              .data = t.data,
                              .schedule = t.schedule,
                              .micro_batch_tokens = t.sequences * t.sequence_tokens,
                              .num_micro_batches = t.micro_batches};
  if (auto ok = check_layout(c, layout); !ok) return ok.error();
  const auto timeline = plan_timeline(settings);
  if (!timeline) return timeline.error();
  const auto bytes = training_bytes(c, model.elements, timeline->schedule, layout);
  if (!bytes) return bytes.error();
  const double gpus = as_double(layout.num_gpus());
  const double step_tokens = as_double(t.data) * as_double(t.micro_batches) * as_double(layout.micro_batch_tokens);
  FigureGroup g{"training", {}};
  const auto add = [&](std::string name, double value, std::string unit, std::string formula, std::string source) {
    g.figures.push_back({std::move(name), value, std::move(unit), std::move(formula), std::move(source)});
  };
  const std::string recipe = "V3 report, 3.2.3 and 3.3.3";
  add("GPUs", gpus, "", "pipeline * data", kGiven);
  add("GPUs at least", as_double(least_gpus(t.pipeline, 1, 1, t.expert, 1)), "",
      "pipeline * max(tensor * context, expert * expert tensor), the three not given here 1: data = expert",
      "not the product of all");
  add("tokens per step", step_tokens, "", "data * micro-batches * sequences * tokens", kGiven);
  add("weights", bytes->weights / 1e9, "GB",
      "2 B per parameter on the rank that needs most, rank " + std::to_string(bytes->rank), recipe);
  add("gradients", bytes->gradients / 1e9, "GB", "4 B per parameter", recipe);
  add("optimizer", bytes->optimizer / 1e9, "GB", "(4 + 4) B per parameter over the ranks that share it", recipe);
  add("activations", bytes->activations / 1e9, "GB",
      std::to_string(max_live(timeline->schedule, static_cast<int>(bytes->rank))) +
          " live micro-batches * saved bytes per token (an estimate, without allocator slack); with the head also 4 B "
          "* "
          "tokens * vocab of logits",
      recipe);
  add("communication buffers", bytes->buffers / 1e9, "GB",
      "experts: 2 * tokens * top-k * hidden * (1 + 4 / 128 + 2) B; pipeline: 4 * tokens * hidden * 2 B; balanced load",
      "FP8 dispatch and BF16 combine of the V3 report, 3.3.3");
  add("memory of the rank", bytes->total() / 1e9, "GB", "their sum", recipe);
  if (bytes->total() > h.memory_gb * 1e9) {
    return invalid("training: rank " + std::to_string(bytes->rank) + " needs " + figure_text(bytes->total() / 1e9, 4) +
                   " GB, more than the " + figure_text(h.memory_gb, 4) + " GB of " + h.name +
                   "; spread it with more training.pipeline, expert or data, or --search training");
  }
  add("memory of the GPU", h.memory_gb, "GB", "", h.facts[0].source);
  add("time of the pipeline", timeline->run.makespan, "units", "of training.chunk_times, with hop and stage_scale",
      "simulated");
  add("bubble", 100 * bubble_of(timeline->run), "%", kBubbleFormula, "simulated");
  if (t.mfu > 0) {
    if (t.mfu < kLeast) return too_small("training.mfu", t.mfu);
    const double rate =
        t.mfu * gpus * h.bf16_tflops * 1e12 / training_flops(model.parameters, c, t.sequence_tokens).causal();
    add("tokens per day", rate * 86400 / 1e9, "B", "MFU * GPUs * BF16 peak / FLOPs per token", kGiven);
    add("step", step_tokens / rate, "s", "tokens per step / rate", kGiven);
    if (t.tokens > 0) {
      const double hours = gpu_hours(t.tokens, rate, gpus);
      add("days", t.tokens / rate / 86400, "d", "tokens / rate", kGiven);
      add("GPU-hours", hours, "h", "tokens / rate * GPUs", kGiven);
      add("energy of the GPUs", hours * h.power_w / 1e6, "MWh", "GPU-hours * power, without the rest of the site",
          h.facts[8].source);
      const auto& e = settings.energy;
      if (e.pue > 0) {
        if (auto ok = check_site(settings); !ok) return ok.error();
        const double mwh = hours * h.power_w * e.pue / 1e6;
        add("energy of the site", mwh, "MWh", "GPU-hours * power * PUE", kGiven);
        if (e.kg_per_kwh > 0) add("carbon of the run", mwh * e.kg_per_kwh, "t CO2", "energy * kg_per_kwh", kGiven);
      }
      if (t.gpu_hour_dollars > 0) add("price", hours * t.gpu_hour_dollars, "$", "GPU-hours * dollars", kGiven);
    }
  }
  return g;
}

// The exchange's bound, and the same as the paper counts it and with latencies.
void add_network(const CountedModel& model, const Hardware& h, const PlanSettings::Serving& s, const DecodeStep& step,
                 FigureGroup& g) {
  const ModelConfig& c = model.config;
  const TokenCopies copies = token_copies(model, h, s);
  const std::string received = s.in_network ? "distinct GPUs a token" : "top-k";
  const bool drafts = s.mtp_acceptance > 0;
  const std::string positions = drafts ? " * 2 positions" : "";
  const double latency_us = s.dispatch_us + s.combine_us;
  const auto bytes_text = [&](const std::string& format) {
    const bool has_codec = format.starts_with("logfmt") && s.codec_overhead > 0;
    return figure_text(bytes_on_wire(format)) + " B" +
           (has_codec ? " * (1 + codec_overhead " + figure_text(s.codec_overhead) + ")" : "");
  };
  // Both links are at work at once: the slower counts.
  const bool over_nvlink = copies.nvlink / h.scale_up_effective_gbps >= copies.nic / h.nic_effective_gbps;
  g.figures.push_back({"step bound by network", step.network_ms, "ms",
                       "2 * " + std::to_string(model.moe_layers() + (drafts ? 1 : 0)) + " layers with experts" +
                           (drafts ? ", MTP's among them, * (" : " * (") +
                           (latency_us > 0 ? figure_text(latency_us) + " us + (" : "") + bytes_text(s.dispatch) +
                           " + " + bytes_text(s.combine) + ") * batch / 2" + positions +
                           " * hidden * copies that a GPU receives (" +
                           (over_nvlink ? figure_text(copies.nvlink, 4) + " of " + received + " over NVLink) / "
                                        : figure_text(copies.nic, 4) + " of " + received + " over the NIC) / ") +
                           figure_text(over_nvlink ? h.scale_up_effective_gbps : h.nic_effective_gbps) + " GB/s" +
                           (latency_us > 0 ? ")" : ""),
                       "arXiv 2505.09343, section 2.3.2, less copies that stay where they are"});
  const double rate = step.is_in_node ? h.scale_up_gbps : h.nic_gbps;  // line rates, as there
  const NetworkTpot counted = network_tpot({.bandwidth_gbps = rate,
                                            .tokens = as_double(s.batch) / 2 * (drafts ? 2 : 1),
                                            .experts = as_double(c.num_experts_per_tok + c.n_shared_experts),
                                            .hidden = as_double(c.hidden_size),
                                            .layers = as_double(c.num_hidden_layers) + (drafts ? 1 : 0),
                                            .dispatch_bytes = s.dispatch == "fp8" ? 1 : bytes_on_wire(s.dispatch),
                                            .combine_bytes = s.combine == "fp8" ? 1 : bytes_on_wire(s.combine)});
  g.figures.push_back({"one micro-batch as the paper counts it", counted.stage_us, "us",
                       "bytes * batch / 2" + positions + " * (top-k + shared) copies * hidden / line rate; two a layer",
                       "arXiv 2505.09343, section 2.3.2"});
  g.figures.push_back({"the same as the paper counts it", counted.tpot_ms, "ms",
                       "2 * " + std::string(drafts ? "(all layers + MTP's)" : "all layers") + " * bytes * batch / 2" +
                           positions +
                           " * (top-k + shared) copies * hidden / line rate, FP8 without scales, no latency: no bound; "
                           "its 14.76 ms for V3 take 7000 for a hidden size of 7168",
                       "arXiv 2505.09343, section 2.3.2"});
  if (step.is_in_node) return;
  PlanSettings::Serving slow = s;
  slow.dispatch_us = std::max(s.dispatch_us, fit_dispatch().alpha_us);
  slow.combine_us = std::max(s.combine_us, fit_combine().alpha_us);
  g.figures.push_back({"the same with DeepEP's latencies", decode_step(model, h, slow)->network_ms, "ms",
                       "the bound with " + figure_text(slow.dispatch_us, 3) + " us a dispatch and " +
                           figure_text(slow.combine_us, 3) + " us a combine",
                       "latencies fitted to DeepEP V1, docs/legacy.md: H800, 400G InfiniBand"});
}

Result<FigureGroup> serving_group(const CountedModel& model, const Hardware& h, const PlanSettings& settings) {
  const ModelConfig& c = model.config;
  const auto& s = settings.serving;
  const auto step = decode_step(model, h, s);
  if (!step) return step.error();
  FigureGroup g{"serving", {}};
  const bool drafts = s.mtp_acceptance > 0, has_states = s.full_attention_every > 1;
  const std::string positions = drafts ? " * 2 positions" : "";
  const std::string cache = has_states ? "(context * KV per token + states)" : "context * KV per token";
  const std::string layers = std::to_string(full_attention_layers(c, s));
  const auto add = [&](std::string name, double value, std::string unit, std::string formula, std::string source) {
    g.figures.push_back({std::move(name), value, std::move(unit), std::move(formula), std::move(source)});
  };
  const auto largest = [&](const DecodeStep& of) {
    const std::string most = "the largest of the step's bounds, " + figure_text(of.most_ms()) + " ms by " + of.limit();
    return drafts ? most + ", / tokens per step and sequence" : most;
  };
  add("weights per GPU", step->weight_bytes / 1e9, "GB",
      "attention, dense and shared experts whole, routed experts / GPUs; " +
          std::string(s.weights == "fp4" ? "FP4" : "FP8") + ", gates, norms, embedding and head BF16" +
          (drafts ? "; the MTP module as one more layer, its eh_proj BF16" : ""),
      kConfig);
  if (step->buffer_bytes > 0) {
    add("communication buffers per GPU", step->buffer_bytes / 1e9, "GB",
        "2 (max(T Sd, E T Sc) + E T max(Sd, Sc)), T half the batch" + positions +
            ", E experts, Sd = 2 hidden + 16, Sc = 2 hidden + hidden / 32",
        "DeepEP, low-latency kernels");
  }
  if (auto fits = check_fits(model, *step, h, s); !fits) return fits.error();
  add("KV cache per token as served", serving_kv_bytes(c, s), "B",
      s.kv + ", " + layers + " layers with softmax attention" + (drafts ? " and the MTP module" : ""),
      s.kv == "fp8" ? "FlashMLA: scales per 128, rope in BF16" : kPaper);
  if (s.full_attention_every > 1) {
    add("states of linear attention per sequence", linear_state_bytes(c, s) / 1e6, "MB",
        "4 B * heads * qk_nope_head_dim * v_head_dim * linear layers", "arXiv 2401.04658 (Lightning Attention)");
  }
  const auto most = as_double(most_sequences(model, h, s));
  add("sequences that fit", most, "",
      "(memory - weights - buffers of so many) / (" + cache + "), nothing else in memory" +
          (step->pool_bytes > 0 ? "; and the pool of the host" : ""),
      h.facts[0].source);
  const auto full = decode_step(model, h, s, most);
  if (!full) return full.error();
  if (step->pool_bytes > 0) {
    add("of them in the host's pool", full->host_sequences, "", "what HBM has no room for", kGiven);
  }
  add("TPOT of so many at least", full->tpot_ms(), "ms", largest(*full), "roofline");
  const double most_tokens = most * 1e3 / full->tpot_ms();
  add("tokens per second and GPU of so many", most_tokens, "", "sequences that fit / their TPOT", "roofline");
  if (s.gpu_hour_dollars > 0) {
    add("price per million tokens of so many", dollars_per_million(s.gpu_hour_dollars, most_tokens), "$",
        "GPU-hour / their tokens per second and GPU; of a pool's memory nothing is in it", kGiven);
  }
  add("weights read in a step", step->read_bytes / 1e9, "GB",
      "P (1 - (1 - top-k / P)^tokens of the group) / GPUs of P = experts + replicas a layer, a row of the embedding a "
      "token, the rest whole; the gate chooses evenly" +
          std::string(drafts ? "; tokens are 2 positions of each sequence" : ""),
      kConfig);
  add("step bound by memory", step->memory_ms, "ms",
      std::string("(weights read + batch") + (step->host_sequences > 0 ? " in HBM" : "") + " * " +
          (has_states ? "(context * KV per token + 2 * states, read and written back)" : cache) + ") / HBM bandwidth",
      h.facts[1].source);
  add("step bound by compute", step->compute_ms, "ms",
      "batch" + positions + " * FLOPs per generated token" + (drafts ? " * (layers + 1, MTP's) / layers" : "") +
          " / FP8 peak",
      h.facts[3].source);
  if (step->network_ms > 0) add_network(model, h, s, *step, g);
  if (step->host_ms > 0) {
    add("step bound by the host's link", step->host_ms, "ms",
        "(sequences in the pool * " + cache + (s.host_shares_nic ? " + bytes of the NIC" : "") + ") / host_gbps",
        s.host_shares_nic ? "arXiv 2505.09343, section 4.5: KV and the NIC share PCIe" : kGiven);
  }
  if (s.mtp_acceptance > 0) {
    add("tokens per step and sequence", step->tokens_per_sequence, "", "1 + mtp_acceptance, one draft", kGiven);
  }
  add("TPOT at least", step->tpot_ms(), "ms", largest(*step), "roofline");
  add("tokens per second and user at most", 1e3 / step->tpot_ms(), "", "1 / TPOT", "roofline");
  add("tokens per second and GPU at most", as_double(s.batch) * 1e3 / step->tpot_ms(), "", "batch / TPOT", "roofline");
  if (s.gpu_hour_dollars > 0) {
    add("price per million tokens at least",
        dollars_per_million(s.gpu_hour_dollars, as_double(s.batch) * 1e3 / step->tpot_ms()), "$",
        "GPU-hour / tokens per second and GPU", kGiven);
  }
  if (s.host_gbps > 0) {
    const double back = step->sequence_bytes / (s.host_gbps * 1e6);
    // A prompt of the context's length, forward, causal.
    const TrainingFlops three = training_flops(model.parameters, c, s.context);
    const double again = three.causal() / 3 * as_double(s.context) / (h.fp8_tflops * 1e9);
    add("a sequence back from the host's pool", back, "ms", cache + " / host_gbps", kGiven);
    add("the same computed again at least", again, "ms", "context * FLOPs per prompt token / FP8 peak, on one GPU",
        h.facts[3].source);
    add("first token sooner by", again / back, "", "computed again / back from the pool, all of the prompt there",
        "roofline");
  }
  return g;
}

Result<Fabric> build(const PlanSettings::FabricSettings& f) {
  if (f.kind == "ft2") return fat_tree2(f.radix, f.endpoints);
  if (f.kind == "ft3") return fat_tree3(f.radix, f.endpoints);
  if (f.kind == "mpft") return mpft(f.radix, f.planes, f.endpoints);
  if (f.kind == "mrft") return mrft(f.radix, f.planes, f.endpoints);
  if (f.endpoints != 0) {
    return invalid("fabric.endpoints: the size of a " + f.kind + " follows from its " +
                   (f.kind == "dragonfly" ? "radix and fabric.groups" : "fabric.q") + "; leave it 0");
  }
  if (f.kind == "dragonfly") return dragonfly((f.radix + 1) / 4, f.groups);
  if (f.kind != "slimfly") {
    return invalid("fabric.kind is \"" + f.kind + "\"; accepted: ft2, ft3, mpft, mrft, dragonfly, slimfly");
  }
  if (f.q == 0) return invalid("fabric.q is missing: a prime power, as 27");
  return slim_fly(f.q, f.radix);
}

}  // namespace

Json to_json(const std::vector<FigureGroup>& groups) {
  Json out = Json::object();
  for (const FigureGroup& group : groups) {
    Json list = Json::array();
    for (const Figure& figure : group.figures) list.push(to_json(figure));
    out.set(group.title, std::move(list));
  }
  return out;
}

Status check_effective_rate(const std::string& name, double effective, const std::string& line_name, double line) {
  if (effective <= line) return {};
  std::string given = figure_text(effective, 10);
  std::erase(given, ',');  // as a setting has it
  return invalid("hardware." + name + " is " + figure_text(effective) + " GB/s, more than the line rate of " +
                 figure_text(line) + "; give at most that, or the line rate too, as hardware." + line_name + "=" +
                 given);
}

Result<Hardware> changed_hardware(Hardware h, const PlanSettings& settings) {
  const auto& c = settings.hardware;
  const Hardware preset = h;
  const std::pair<const char*, double> changes[] = {{"memory_gb", c.memory_gb},
                                                    {"memory_gbps", c.memory_gbps},
                                                    {"bf16_tflops", c.bf16_tflops},
                                                    {"fp8_tflops", c.fp8_tflops},
                                                    {"scale_up_gbps", c.scale_up_gbps},
                                                    {"scale_up_effective_gbps", c.scale_up_effective_gbps},
                                                    {"nic_gbps", c.nic_gbps},
                                                    {"nic_effective_gbps", c.nic_effective_gbps},
                                                    {"power_w", c.power_w}};
  for (const auto& [name, value] : changes) {
    if (value == 0) continue;
    if (auto s = h.set(name, value); !s) return s.error();
  }
  // A line rate alone keeps the preset's efficiency.
  const struct {
    const char* line;
    double Hardware::*rate;
    double given, of_preset;
    const char* effective;
    double Hardware::*effective_rate;
    double effective_given;
  } links[] = {{"nic_gbps", &Hardware::nic_gbps, c.nic_gbps, preset.nic_gbps, "nic_effective_gbps",
                &Hardware::nic_effective_gbps, c.nic_effective_gbps},
               {"scale_up_gbps", &Hardware::scale_up_gbps, c.scale_up_gbps, preset.scale_up_gbps,
                "scale_up_effective_gbps", &Hardware::scale_up_effective_gbps, c.scale_up_effective_gbps}};
  for (const auto& link : links) {
    const double line = h.*link.rate;
    if (link.given > 0 && link.effective_given == 0) {
      if (auto s = h.set(link.effective, line * (h.*link.effective_rate / link.of_preset)); !s) return s.error();
      for (Figure& fact : h.facts) {
        if (fact.name == link.effective) fact.source = "given line rate times the preset's effective / line rate";
      }
    }
    if (auto s = check_effective_rate(link.effective, h.*link.effective_rate, link.line, line); !s) return s.error();
  }
  return h;
}

Result<std::vector<FigureGroup>> plan_model(const CountedModel& model, const Hardware& h,
                                            const PlanSettings& settings) {
  std::vector<FigureGroup> groups = {model_group(model, settings), {"hardware " + h.name, h.facts}};
  if (settings.training.pipeline > 0) {
    auto g = training_group(model, h, settings);
    if (!g) return g.error();
    groups.push_back(*std::move(g));
  }
  if (settings.serving.gpus > 0) {
    auto g = serving_group(model, h, settings);
    if (!g) return g.error();
    groups.push_back(*std::move(g));
  }
  return groups;
}

Result<PriceTable> fabric_prices(const PlanSettings& settings) {
  const auto& s = settings.fabric;
  return prices_of({s.switch_base_dollars, s.switch_port_dollars, s.link_dollars, s.endpoint_dollars}, "fabric");
}

Result<FigureGroup> plan_fabric(const PlanSettings& settings) {
  const auto fabric = build(settings.fabric);
  if (!fabric) return fabric.error();
  const auto prices = fabric_prices(settings);
  if (!prices) return prices.error();
  auto figures = fabric_figures(*fabric, *prices);
  if (!figures) return figures.error();
  return FigureGroup{"fabric " + fabric->name, *std::move(figures)};
}

Result<FailureCase> failure_case(const PlanSettings& settings) {
  const auto& f = settings.failures;
  if (f.gpus == 0) return invalid("failures.gpus is missing: the GPUs of the job");
  if (f.gpus != std::floor(f.gpus)) {
    return invalid("failures.gpus is " + figure_text(f.gpus, 10) + "; accepted: a whole number, as " +
                   std::to_string(static_cast<int64_t>(std::ceil(f.gpus))));
  }
  // By the names that the user gave: what goodput refuses is a quotient.
  if (f.gpu_mtbf_h / f.gpus == 0 || f.gpu_mtbf_h / f.gpus > 1e9) {
    return invalid("failures.gpu_mtbf_h / failures.gpus is " + figure_text(f.gpu_mtbf_h / f.gpus) +
                   " h between stops of the job; accepted: more than 0 to 1e9");
  }
  return FailureCase{.model = {f.gpu_mtbf_h / f.gpus, f.checkpoint_min, f.restart_min},
                     .interval_min = f.interval_min,
                     .stops = f.stops,
                     .seed = static_cast<uint64_t>(f.seed),
                     .mtbf_formula = "gpu_mtbf_h / gpus",
                     .stops_when = "one of its " + figure_text(f.gpus) + " GPUs does"};
}

Result<FigureGroup> plan_failures(const PlanSettings& settings) {
  const auto failures = failure_case(settings);
  if (!failures) return failures.error();
  return failure_figures(*failures);
}

Result<FailureRun> plan_failure_run(const PlanSettings& settings) {
  const auto failures = failure_case(settings);
  if (!failures) return failures.error();
  return drawn_run(*failures);
}

Result<std::vector<FigureGroup>> answer(const PlanCase& c) {
  const PlanSettings& s = c.settings;
  std::vector<FigureGroup> groups;
  if (c.model) {
    const CountedModel model(*c.model);
    auto of_model = plan_model(model, c.hardware, s);
    if (!of_model) return of_model.error();
    groups = *std::move(of_model);
    if (s.search.kind == "training") {
      const auto found = search_training(model, c.hardware, s);
      if (!found) return found.error();
      groups.push_back(summary(*found, s));
    } else if (s.search.kind == "serving") {
      const auto found = search_serving(model, c.hardware, s);
      if (!found) return found.error();
      groups.push_back(summary(*found, c.hardware, s));
    }
  } else if (s.training.pipeline > 0 || s.serving.gpus > 0 || s.search.kind != "none") {
    return invalid("MODEL is missing: the settings of training, serving and search are of a model");
  }
  if (s.fabric.kind != "none") {
    auto fabric = plan_fabric(s);
    if (!fabric) return fabric.error();
    groups.push_back(*std::move(fabric));
  }
  if (s.failures.gpu_mtbf_h > 0) {
    auto failures = plan_failures(s);
    if (!failures) return failures.error();
    groups.push_back(*std::move(failures));
  }
  if (has_service(s)) {
    auto service = plan_service(s);
    if (!service) return service.error();
    groups.push_back(*std::move(service));
  }
  if (groups.empty()) {
    return invalid(
        "nothing to plan: give a MODEL, --timeline, --paper, or --set fabric.kind, failures.gpu_mtbf_h or "
        "service.node_output_tokens_per_s");
  }
  return groups;
}

double bubble_of(const PipelineRun& run) {
  double idle = 0;
  for (size_t rank = 0; rank < run.busy.size(); ++rank) idle = std::max(idle, run.idle(static_cast<int>(rank)));
  return idle / run.makespan;
}

Result<Timeline> plan_timeline(const PlanSettings& settings) {
  const auto& t = settings.training;
  if (t.pipeline < 1) return invalid("training.pipeline is missing: the number of pipeline ranks");
  if (t.chunk_times.size() != 4) {
    return invalid("training.chunk_times has " + std::to_string(t.chunk_times.size()) +
                   " numbers; it must have 4: F, input gradient, W, overlapped F&B");
  }
  auto schedule = make_schedule(t.schedule, static_cast<int>(t.pipeline), static_cast<int>(t.micro_batches));
  if (!schedule) return schedule.error();
  PipelineCosts costs;
  costs.times = {t.chunk_times[0], t.chunk_times[1], t.chunk_times[2], t.chunk_times[3]};
  costs.hop = t.hop;
  costs.stage_scale = t.stage_scale;
  const int64_t scales = static_cast<int64_t>(t.stage_scale.size());
  if (scales > 0 && scales != schedule->num_stages) {
    return invalid("training.stage_scale has " + std::to_string(scales) + " numbers; " + t.schedule + " on " +
                   std::to_string(t.pipeline) + " ranks has " + std::to_string(schedule->num_stages) + " stages");
  }
  auto run = simulate_pipeline(*schedule, costs);
  if (!run) return run.error();
  if (!(run->makespan > 0)) return invalid("training.chunk_times are all 0: nothing takes time");
  return Timeline{*std::move(schedule), costs, *std::move(run)};
}

}  // namespace fathom
