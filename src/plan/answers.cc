#include "plan/answers.h"

#include <algorithm>
#include <cmath>

#include "cluster/dragonfly.h"
#include "cluster/fat_tree.h"
#include "cluster/mpft.h"
#include "cluster/mrft.h"
#include "cluster/slim_fly.h"
#include "model/tensor_plan.h"
#include "plan/footprint.h"
#include "plan/goodput.h"
#include "plan/limits.h"

namespace fathom {
namespace {

constexpr const char* kConfig = "config.json";
constexpr const char* kPaper = "arXiv 2505.09343";
constexpr const char* kGiven = "settings";

double as_double(int64_t v) { return static_cast<double>(v); }

FigureGroup model_group(const ModelConfig& c, const PlanSettings& settings) {
  const ParameterCount count = count_parameters(c);
  const TrainingFlops flops = training_flops(c, settings.training.sequence_tokens);
  const std::string tokens = std::to_string(settings.training.sequence_tokens);
  return {"model",
          {{"parameters", as_double(count.total), "", "elements of all tensors, without MTP", kConfig},
           {"active parameters", as_double(count.active_with_head), "", "that one token multiplies with, head included",
            kConfig},
           {"MTP parameters", as_double(count.mtp), "", "without copies of embedding and head", kConfig},
           {"KV cache per token", as_double(kv_cache_bytes_per_token(c)), "B",
            "(kv_lora_rank + qk_rope_head_dim) * layers * 2", kPaper},
           {"training FLOPs per token, causal", flops.causal() / 1e9, "GFLOP",
            "6 * active + 3 * layers * heads * " + tokens + " * (qk_head_dim + v_head_dim)",
            std::string(kPaper) + ", table 2"},
           {"training FLOPs per token, full", flops.full() / 1e9, "GFLOP",
            "the same with attention twice: no mask used", kPaper},
           {"FLOPs per generated token", decode_flops(c, settings.serving.context) / 1e9, "GFLOP",
            "2 * active + layers * heads * " + std::to_string(settings.serving.context) +
                " * 2 (2 kv_lora_rank + qk_rope_head_dim)",
            "V3 report, eq. 1 to 11, absorbed"}}};
}

Result<FigureGroup> training_group(const ModelConfig& c, const Hardware& h, const PlanSettings& settings) {
  const auto& t = settings.training;
  const TrainingLayout layout{.pipeline = t.pipeline,
                              .expert = t.expert,
                              .data = t.data,
                              .schedule = t.schedule,
                              .micro_batch_tokens = t.sequences * t.sequence_tokens,
                              .num_micro_batches = t.micro_batches};
  const auto bytes = training_bytes(c, layout);
  if (!bytes) return bytes.error();
  const auto timeline = plan_timeline(settings);
  if (!timeline) return timeline.error();
  const double gpus = as_double(layout.num_gpus());
  const double step_tokens = as_double(t.data) * as_double(t.micro_batches) * as_double(layout.micro_batch_tokens);
  FigureGroup g{"training", {}};
  const auto add = [&](std::string name, double value, std::string unit, std::string formula, std::string source) {
    g.figures.push_back({std::move(name), value, std::move(unit), std::move(formula), std::move(source)});
  };
  const std::string recipe = "V3 report, 3.2.3 and 3.3.3";
  add("GPUs", gpus, "", "pipeline * data", kGiven);
  add("tokens per step", step_tokens, "", "data * micro-batches * sequences * tokens", kGiven);
  add("weights", bytes->weights / 1e9, "GB",
      "2 B per parameter on the rank that needs most, rank " + std::to_string(bytes->rank), recipe);
  add("gradients", bytes->gradients / 1e9, "GB", "4 B per parameter", recipe);
  add("optimizer", bytes->optimizer / 1e9, "GB", "(4 + 4) B per parameter over the ranks that share it", recipe);
  add("activations", bytes->activations / 1e9, "GB",
      std::to_string(max_live(timeline->schedule, static_cast<int>(bytes->rank))) +
          " live micro-batches * saved bytes per token (an estimate, without allocator slack)",
      recipe);
  add("memory of the rank", bytes->total() / 1e9, "GB", "their sum", recipe);
  add("memory of the GPU", h.memory_gb, "GB", "", h.facts[0].source);
  double idle = 0;
  for (int rank = 0; rank < timeline->schedule.num_ranks(); ++rank) idle = std::max(idle, timeline->run.idle(rank));
  add("bubble", 100 * idle / timeline->run.makespan, "%",
      "idle share of the rank that waits most, with chunk_times and hop", "simulated");
  if (t.mfu > 0) {
    const double rate = t.mfu * gpus * h.bf16_tflops * 1e12 / training_flops(c, t.sequence_tokens).causal();
    add("tokens per day", rate * 86400 / 1e9, "B", "MFU * GPUs * BF16 peak / FLOPs per token", kGiven);
    add("step", step_tokens / rate, "s", "tokens per step / rate", kGiven);
    if (t.tokens > 0) {
      const double hours = gpu_hours(t.tokens, rate, gpus);
      add("days", t.tokens / rate / 86400, "d", "tokens / rate", kGiven);
      add("GPU-hours", hours, "h", "tokens / rate * GPUs", kGiven);
      add("energy of the GPUs", hours * h.power_w / 1e6, "MWh", "GPU-hours * power, without the rest of the site",
          h.facts[8].source);
      if (t.gpu_hour_dollars > 0) add("price", hours * t.gpu_hour_dollars, "$", "GPU-hours * dollars", kGiven);
    }
  }
  return g;
}

Result<FigureGroup> serving_group(const ModelConfig& c, const Hardware& h, const PlanSettings& settings) {
  const auto& s = settings.serving;
  const auto weights = serving_weight_bytes(c, s.gpus, s.redundant_experts);
  if (!weights) return weights.error();
  const double room = h.memory_gb * 1e9 - *weights;
  FigureGroup g{"serving", {}};
  const auto add = [&](std::string name, double value, std::string unit, std::string formula, std::string source) {
    g.figures.push_back({std::move(name), value, std::move(unit), std::move(formula), std::move(source)});
  };
  add("weights per GPU", *weights / 1e9, "GB",
      "attention, dense and shared experts whole, routed experts / GPUs; FP8, embedding and head BF16", kConfig);
  if (room <= 0) {
    return invalid("serving: the weights of one GPU are " + figure_text(*weights / 1e9, 4) + " GB, more than the " +
                   figure_text(h.memory_gb, 4) + " GB of " + h.name + "; spread them over more GPUs");
  }
  const double per_sequence = as_double(kv_cache_bytes_per_token(c)) * as_double(s.context);
  add("sequences that fit", std::floor(room / per_sequence), "",
      "(memory - weights) / (KV per token * context), nothing else in memory", h.facts[0].source);
  const DecodeBounds b = decode_bounds(c, h, *weights, as_double(s.batch), s.context, s.gpus);
  add("step bound by memory", b.memory_ms, "ms", "(weights + batch * context * KV per token) / HBM bandwidth",
      h.facts[1].source);
  add("step bound by compute", b.compute_ms, "ms", "batch * FLOPs per generated token / FP8 peak", h.facts[3].source);
  if (b.network_ms > 0) {
    add("step bound by network", b.network_ms, "ms",
        "2 * layers with experts * (1 B + 2 B) * batch / 2 * top-k * hidden / rate of " +
            std::string(s.gpus <= h.gpus_per_node ? "NVLink" : "the NIC"),
        "arXiv 2505.09343, section 2.3.2");
  }
  add("TPOT at least", b.most_ms(), "ms", "the largest of them: " + b.limit(), "roofline");
  add("tokens per second and user at most", b.tokens_per_s_per_user(), "", "1 / TPOT", "roofline");
  add("tokens per second and GPU at most", as_double(s.batch) * b.tokens_per_s_per_user(), "", "batch / TPOT",
      "roofline");
  if (as_double(s.batch) > std::floor(room / per_sequence)) {
    return invalid("serving: " + std::to_string(s.batch) + " sequences of " + std::to_string(s.context) +
                   " tokens do not fit beside the weights; at most " + figure_text(std::floor(room / per_sequence)));
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

Result<Hardware> changed_hardware(Hardware h, const PlanSettings& settings) {
  const auto& c = settings.hardware;
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
  return h;
}

Result<std::vector<FigureGroup>> plan_model(const ModelConfig& c, const Hardware& h, const PlanSettings& settings) {
  std::vector<FigureGroup> groups = {model_group(c, settings), {"hardware " + h.name, h.facts}};
  if (settings.training.pipeline > 0) {
    auto g = training_group(c, h, settings);
    if (!g) return g.error();
    groups.push_back(*std::move(g));
  }
  if (settings.serving.gpus > 0) {
    auto g = serving_group(c, h, settings);
    if (!g) return g.error();
    groups.push_back(*std::move(g));
  }
  return groups;
}

PriceTable fabric_prices(const PlanSettings& settings) {
  const auto& s = settings.fabric;
  if (s.switch_base_dollars == 0 && s.switch_port_dollars == 0 && s.link_dollars == 0 && s.endpoint_dollars == 0) {
    return paper_table3_prices();
  }
  return {s.switch_base_dollars, s.switch_port_dollars, s.link_dollars, s.endpoint_dollars, kGiven};
}

Result<FigureGroup> plan_fabric(const PlanSettings& settings) {
  const auto& s = settings.fabric;
  const auto fabric = build(s);
  if (!fabric) return fabric.error();
  const PriceTable prices = fabric_prices(settings);
  const auto price = price_of(*fabric, prices);
  if (!price) return price.error();
  const double endpoints = as_double(fabric->endpoints);
  FigureGroup g{"fabric " + fabric->name, {}};
  g.figures = {{"endpoints", endpoints, "", fabric->formula, kGiven},
               {"endpoints at most", as_double(fabric->max_endpoints), "", fabric->formula, kGiven},
               {"switches", as_double(fabric->switches), "", fabric->formula, kGiven},
               {"ports used of a switch", as_double(fabric->radix), "", fabric->formula, kGiven}};
  for (const LinkCount& link : fabric->links) {
    g.figures.push_back({"links " + link.kind, as_double(link.count), "", fabric->formula, kGiven});
  }
  g.figures.push_back({"price", price->total() / 1e6, "M$",
                       "switches * (base + ports * price) + links * price + endpoints * price", prices.source});
  g.figures.push_back({"price per endpoint", price->total() / endpoints, "$", "price / endpoints", prices.source});
  return g;
}

Result<FigureGroup> plan_failures(const PlanSettings& settings) {
  const auto& f = settings.failures;
  if (f.gpus == 0) return invalid("failures.gpus is missing: the GPUs of the job");
  const FailureModel model{f.gpu_mtbf_h / f.gpus, f.checkpoint_min, f.restart_min};
  const auto result = goodput(model, f.interval_min);
  if (!result) return result.error();
  return FigureGroup{"failures",
                     {{"time between stops", model.mtbf_h, "h", "gpu_mtbf_h / gpus", kGiven},
                      {"work between checkpoints", result->interval_min, "min",
                       f.interval_min > 0 ? "as given" : "the best, near sqrt(2 * checkpoint * time between stops)",
                       "Young 1974, Daly 2006"},
                      {"goodput", 100 * result->share, "%", "t / (M exp(r / M) (exp((t + c) / M) - 1))", "Daly 2006"}}};
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
  auto run = simulate_pipeline(*schedule, costs);
  if (!run) return run.error();
  if (!(run->makespan > 0)) return invalid("training.chunk_times are all 0: nothing takes time");
  return Timeline{*std::move(schedule), costs, *std::move(run)};
}

}  // namespace fathom
