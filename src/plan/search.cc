#include "plan/search.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <limits>
#include <map>
#include <optional>
#include <tuple>

#include "base/figure.h"
#include "plan/expert_traffic.h"
#include "plan/limits.h"

namespace fathom {
namespace {

// More are not timed: no run has so many in a step, and a search must end.
constexpr int64_t kMostChunks = int64_t{1} << 17;
constexpr double kWeightBytes = 2, kGradientBytes = 4;

// Seconds per token of a stage of mean size, and how the stages differ from it.
struct StageCosts {
  double forward = 0, input = 0, weight = 0;
  double moe_layers = 0;
  double experts = 0, others = 0;  // elements of a stage of mean size: all routed experts, everything else
  std::vector<double> scale;
};

StageCosts stage_costs(const CountedModel& model, const Hardware& h, const PlanSettings& settings, int64_t stages) {
  const ModelConfig& c = model.config;
  const TrainingFlops flops = training_flops(model.parameters, c, settings.training.sequence_tokens);
  const double rate = settings.search.utilisation * h.bf16_tflops * 1e12 * as_double(stages);
  const double matrices = flops.matrices / 3, attention = flops.causal_attention / 3;
  StageCosts out{(matrices + attention) / rate,
                 (matrices + 2 * attention) / rate,
                 matrices / rate,
                 as_double(model.moe_layers()) / as_double(stages),
                 0,
                 0,
                 {}};
  // Active elements of each stage; attention between tokens is the same in every layer.
  const double per_expert =
      c.n_routed_experts > 0 ? as_double(c.num_experts_per_tok) / as_double(c.n_routed_experts) : 0;
  const double between_tokens = 3 * attention / as_double(c.num_hidden_layers) / 6;  // as elements
  double sum = 0;
  size_t layer = 0;
  for (int64_t held : layers_of_stages(c.num_hidden_layers, stages)) {
    double active = 0;
    for (int64_t i = 0; i < held; ++i, ++layer) {
      active += model.elements.layers[layer].other + per_expert * model.elements.layers[layer].expert + between_tokens;
      out.experts += model.elements.layers[layer].expert / as_double(stages);
      out.others += model.elements.layers[layer].other / as_double(stages);
    }
    out.scale.push_back(active);
  }
  out.scale.back() += model.elements.head;
  for (double active : out.scale) sum += active;
  for (double& active : out.scale) active *= as_double(stages) / sum;
  return out;
}

// Everything about a run that does not depend on the layout.
struct Run {
  const CountedModel& model;
  const Hardware& hardware;
  const PlanSettings& settings;
};

// Seconds of the data-parallel reduction: a ring over the replicas of each parameter.
double reduce_seconds(const Run& run, const RankedLayout& r, const Schedule& schedule) {
  const auto ring = [](double copies) { return copies > 1 ? (copies - 1) / copies : 0; };
  // Every stream of DualPipe has its own copy of each stage.
  const double copies = as_double(schedule.num_streams());
  const double data = copies * as_double(r.layout.data), expert = data / as_double(r.layout.expert);
  const double elements = r.bytes.weights / kWeightBytes, experts = elements * r.bytes.expert_share;
  const double numbers = experts * ring(expert) + (elements - experts) * ring(data);
  const bool in_node = r.layout.num_gpus() <= run.hardware.gpus_per_node;
  const double gbps = in_node ? run.hardware.scale_up_effective_gbps : run.hardware.nic_effective_gbps;
  return numbers * (kGradientBytes + kWeightBytes) / (gbps * 1e9);
}

// A chunk's own work: the longer of its products and what they read and write.
struct Work {
  double seconds = 0;
  bool is_hbm = false;
};
Work work_of(double products, double hbm) { return {std::max(products, hbm), hbm > products}; }

// Seconds of one instruction of a stage of mean size, by what takes them.
struct InstructionParts {
  double compute = 0, hbm = 0, exchange = 0;
  void add(const Work& work) { (work.is_hbm ? hbm : compute) += work.seconds; }
  double total() const { return compute + hbm + exchange; }
};

struct ChunkWork {
  Work forward, input, weight;
  double exchange = 0;  // of one direction
  double overlap = 0;   // share of it that a pair may hide

  InstructionParts parts(const Instruction& instruction) const {
    InstructionParts out;
    const Op op = instruction.chunks[0].op;
    if (instruction.is_pair()) {
      const double hidden = overlap * 2 * exchange;
      for (const Work& work : {forward, input, weight}) out.add(work);
      if (hidden > out.total()) out = {0, 0, hidden};
      out.exchange += (1 - overlap) * 2 * exchange;
      return out;
    }
    if (op == Op::kForward) out.add(forward);
    if (op == Op::kBackward || op == Op::kBackwardInput) out.add(input);
    if (op == Op::kBackward || op == Op::kBackwardWeight) out.add(weight);
    if (op != Op::kBackwardWeight) out.exchange = exchange;
    return out;
  }
};

// Where the time of the busiest rank goes.
void set_parts(const ChunkWork& work, const Schedule& schedule, const PipelineRun& timed, RankedLayout& r) {
  size_t busiest = 0;
  for (size_t rank = 1; rank < timed.busy.size(); ++rank) {
    if (timed.busy[rank] > timed.busy[busiest]) busiest = rank;
  }
  for (size_t i = 0; i < timed.spans[busiest].size(); ++i) {
    const InstructionParts parts = work.parts(schedule.ranks[busiest][i]);
    const double total = parts.total(), seconds = timed.spans[busiest][i].end - timed.spans[busiest][i].start;
    if (total == 0) continue;
    r.compute_s += seconds * parts.compute / total;
    r.hbm_s += seconds * parts.hbm / total;
    r.exchange_s += seconds * parts.exchange / total;
  }
  r.wait_s = timed.makespan - timed.busy[busiest];
}

Status time_layout(const Run& run, const Schedule& schedule, const StageCosts& costs, RankedLayout& r) {
  const Hardware& h = run.hardware;
  const ModelConfig& c = run.model.config;
  const auto& search = run.settings.search;
  const double tokens = as_double(r.layout.micro_batch_tokens), hidden = as_double(c.hidden_size);
  const double held = costs.others + costs.experts / as_double(r.layout.expert), hbm = h.memory_gbps * 1e9;
  const double read = held * kWeightBytes / hbm, accumulate = held * 2 * kGradientBytes / hbm;
  const ExchangeCost link =
      exchange_cost(run.model.gate, r.layout.expert, h.gpus_per_node, h.nic_effective_gbps, h.scale_up_effective_gbps);
  const double exchange =
      costs.moe_layers * tokens * hidden * (bytes_on_wire("fp8") + bytes_on_wire("bf16")) * link.seconds_per_byte;
  const ChunkWork work{work_of(tokens * costs.forward, read), work_of(tokens * costs.input, read),
                       work_of(tokens * costs.weight, accumulate), exchange, search.overlap};
  const double forward = work.forward.seconds, input = work.input.seconds, weight = work.weight.seconds;
  r.is_exchange_on_nic = link.is_nic;
  r.times.forward = forward + exchange;
  r.times.backward_input = input + exchange;
  r.times.backward_weight = weight;
  r.times.pair =
      std::max(forward + input + weight, search.overlap * 2 * exchange) + (1 - search.overlap) * 2 * exchange;
  const bool in_node = r.layout.num_gpus() <= h.gpus_per_node;
  const double boundary = tokens * hidden * 2;
  r.hop_s = r.layout.pipeline == 1 ? 0
                                   : boundary / ((in_node ? h.scale_up_effective_gbps : h.nic_effective_gbps) * 1e9) +
                                         (in_node ? kLatencies[2].same_leaf_us : kLatencies[1].cross_leaf_us) * 1e-6;
  const auto timed = simulate_pipeline(schedule, {r.times, r.hop_s, costs.scale});
  if (!timed) return timed.error();
  set_parts(work, schedule, *timed, r);
  r.stage_scale = costs.scale;
  r.bubble = bubble_of(*timed);
  r.reduce_s = reduce_seconds(run, r, schedule);
  r.is_reduce_on_nic = !in_node;
  r.step_s = timed->makespan + r.reduce_s;
  return {};
}

// Tokens per second, price, power and carbon.
void set_costs(const Run& run, RankedLayout& r) {
  const auto& t = run.settings.training;
  const double gpus = as_double(r.layout.num_gpus());
  r.tokens_per_s = as_double(run.settings.search.batch) * as_double(t.sequence_tokens) / r.step_s;
  r.dollars_per_trillion_tokens = gpu_hours(1e12, r.tokens_per_s, gpus) * t.gpu_hour_dollars;
  r.kw = site_kw(run.hardware, run.settings, gpus);
  r.kgco2 = r.kw * t.tokens / r.tokens_per_s / 3600 * run.settings.energy.kg_per_kwh;
}

std::string text_of(const RankedLayout& r) {
  return "PP " + std::to_string(r.layout.pipeline) + ", EP " + std::to_string(r.layout.expert) + ", DP " +
         std::to_string(r.layout.data) + ", " + r.layout.schedule + ", " + std::to_string(r.sequences) +
         " sequences a micro-batch";
}

// What memory costs: of each number of GPUs the fastest layout that does not fit over the fastest that does.
// `search.layouts` are sorted.
void set_capacity(const std::vector<RankedLayout>& too_big, TrainingSearch& search) {
  std::map<int64_t, double> fastest;  // GPUs: seconds
  for (const RankedLayout& r : search.layouts) fastest.try_emplace(r.layout.num_gpus(), r.step_s);
  std::map<int64_t, const RankedLayout*> larger;
  for (const RankedLayout& r : too_big) {
    const auto at = larger.try_emplace(r.layout.num_gpus(), &r).first;
    if (r.step_s < at->second->step_s) at->second = &r;
  }
  for (RankedLayout& r : search.layouts) {
    const auto at = larger.find(r.layout.num_gpus());
    if (at != larger.end()) r.capacity_s = std::max(0.0, fastest[at->first] - at->second->step_s);
  }
  const RankedLayout& best = search.layouts.front();
  if (best.capacity_s == 0) return;
  const RankedLayout& r = *larger[best.layout.num_gpus()];
  search.too_big = text_of(r) + ", " + figure_text(r.bytes.total() / 1e9, 4) + " GB";
}

}  // namespace

std::string RankedLayout::limit() const {
  const double on_nic = (is_exchange_on_nic ? exchange_s : 0) + (is_reduce_on_nic ? reduce_s : 0);
  const std::pair<double, const char*> parts[] = {
      {compute_s, "compute"},        {hbm_s, "HBM bandwidth"},    {exchange_s + reduce_s - on_nic, "scale-up network"},
      {on_nic, "scale-out network"}, {wait_s, "pipeline bubble"}, {capacity_s, "memory capacity"}};
  return std::max_element(std::begin(parts), std::end(parts),
                          [](const auto& a, const auto& b) { return a.first < b.first; })
      ->second;
}

Status check_site(const PlanSettings& settings) {
  const double pue = settings.energy.pue;
  if (pue == 0 || pue >= 1) return {};
  return invalid("energy.pue is " + figure_text(pue) + "; a site needs at least what its GPUs need: 1 or more");
}

Status check_search(const PlanSettings& settings, bool has_tokens) {
  const auto& s = settings.search;
  const auto& e = settings.energy;
  if (s.gpus.empty()) return invalid("search.gpus is missing: the GPUs of the cluster, as 2048 (--gpus)");
  if (s.max_kw > 0 && e.pue == 0) {
    return invalid("search.max_kw needs energy.pue: the site's power over that of its GPUs, as 1.3");
  }
  if (auto ok = check_site(settings); !ok) return ok;
  if (s.max_kgco2 > 0 && (e.pue == 0 || e.kg_per_kwh == 0 || !has_tokens)) {
    return invalid("search.max_kgco2 needs energy.pue, energy.kg_per_kwh" +
                   std::string(has_tokens ? "" : " and training.tokens"));
  }
  return {};
}

double site_kw(const Hardware& h, const PlanSettings& settings, double gpus) {
  return gpus * h.power_w * settings.energy.pue / 1e3;
}

namespace {

constexpr const char* kNoUtilisation =
    "search.utilisation is missing: the share of the BF16 peak that products reach, as 0.5";

}  // namespace

Result<RankedLayout> time_training(const CountedModel& model, const Hardware& hardware, const PlanSettings& settings,
                                   const TrainingLayout& layout) {
  if (settings.search.utilisation == 0) return invalid(kNoUtilisation);
  if (auto ok = check_layout(model.config, layout); !ok) return ok.error();
  const auto schedule =
      make_schedule(layout.schedule, static_cast<int>(layout.pipeline), static_cast<int>(layout.num_micro_batches));
  if (!schedule) return schedule.error();
  const auto bytes = training_bytes(model.config, model.elements, *schedule, layout);
  if (!bytes) return bytes.error();
  RankedLayout r;
  r.layout = layout;
  r.bytes = *bytes;
  const StageCosts costs = stage_costs(model, hardware, settings, schedule->num_stages);
  if (auto ok = time_layout({model, hardware, settings}, *schedule, costs, r); !ok) return ok.error();
  return r;
}

Result<TrainingSearch> search_training(const CountedModel& model, const Hardware& hardware,
                                       const PlanSettings& settings) {
  const auto& s = settings.search;
  if (auto ok = check_search(settings, settings.training.tokens > 0); !ok) return ok.error();
  if (s.batch == 0) return invalid("search.batch is missing: sequences of a training step, as 15360");
  if (s.utilisation == 0) return invalid(kNoUtilisation);
  const ModelConfig& c = model.config;
  const Run run{model, hardware, settings};
  const int64_t experts = std::max<int64_t>(c.n_routed_experts, 1);
  TrainingSearch out;
  RankedLayout nearest;
  nearest.bytes.weights = std::numeric_limits<double>::infinity();
  std::map<int64_t, StageCosts> costs;
  std::map<std::tuple<std::string, int64_t, int64_t>, std::optional<Schedule>> schedules;
  std::vector<RankedLayout> too_big;
  const auto consider = [&](const RankedLayout& candidate) -> Status {
    RankedLayout r = candidate;
    auto& schedule = schedules[{r.layout.schedule, r.layout.pipeline, r.layout.num_micro_batches}];
    if (!schedule) {
      auto made = make_schedule(r.layout.schedule, static_cast<int>(r.layout.pipeline),
                                static_cast<int>(r.layout.num_micro_batches));
      if (!made) return {};  // a schedule that cannot have this size
      schedule = *std::move(made);
    }
    if (schedule->num_stages > c.num_hidden_layers) return {};
    ++out.num_divide;
    const auto bytes = training_bytes(c, model.elements, *schedule, r.layout);
    if (!bytes) return bytes.error();
    r.bytes = *bytes;
    const auto [at, is_new] = costs.try_emplace(schedule->num_stages);
    if (is_new) at->second = stage_costs(model, hardware, settings, schedule->num_stages);
    if (auto ok = time_layout(run, *schedule, at->second, r); !ok) return ok;
    set_costs(run, r);
    if (r.bytes.total() > hardware.memory_gb * 1e9 * s.memory_share) {
      ++out.num_too_big;
      if (r.bytes.total() < nearest.bytes.total()) nearest = r;
      too_big.push_back(std::move(r));
      return {};
    }
    if ((s.max_kw > 0 && r.kw > s.max_kw) || (s.max_kgco2 > 0 && r.kgco2 > s.max_kgco2)) {
      ++out.num_over_bounds;
      return {};
    }
    out.layouts.push_back(std::move(r));
    return {};
  };
  for (int64_t gpus : s.gpus) {
    for (int64_t pipeline = 1; pipeline <= std::min(gpus, c.num_hidden_layers); ++pipeline) {
      if (gpus % pipeline != 0) continue;
      const int64_t data = gpus / pipeline;
      for (int64_t sequences : s.sequences) {
        if (s.batch % (data * sequences) != 0) continue;
        const int64_t micro_batches = s.batch / (data * sequences);
        if (micro_batches * pipeline > kMostChunks) continue;
        for (int64_t expert = 1; expert <= std::min(data, experts); ++expert) {
          if (data % expert != 0 || experts % expert != 0) continue;
          for (const char* schedule : {"1f1b", "zb1p", "dualpipe", "dualpipev"}) {
            // One rank has no pipeline to arrange.
            if (pipeline == 1 && std::string_view(schedule) != "1f1b") continue;
            RankedLayout r;
            r.sequences = sequences;
            r.layout = {pipeline, expert, data, schedule, sequences * settings.training.sequence_tokens, micro_batches};
            if (auto ok = consider(r); !ok) return ok.error();
          }
        }
      }
    }
  }
  if (out.num_divide == 0) {
    return invalid("search: no layout of " + std::to_string(s.gpus.front()) + " GPUs divides a batch of " +
                   std::to_string(s.batch) + " sequences; give a batch that is a multiple of GPUs / pipeline");
  }
  if (out.num_too_big == out.num_divide) {
    return invalid("search: none of " + std::to_string(out.num_divide) + " layouts fits into " +
                   figure_text(hardware.memory_gb * s.memory_share) + " GB; the nearest (" + text_of(nearest) +
                   ") needs " + figure_text(nearest.bytes.total() / 1e9) + " GB; give more GPUs");
  }
  if (out.layouts.empty()) {
    return invalid("search: none of " + std::to_string(out.num_over_bounds) +
                   " layouts that fit is within search.max_kw and search.max_kgco2; give fewer GPUs or wider bounds");
  }
  const auto order = [](const RankedLayout& r) {  // total: sorting needs no stability
    return std::tuple(-r.tokens_per_s_per_gpu(), r.layout.num_gpus(), r.bytes.total(), r.layout.pipeline,
                      r.layout.expert, r.sequences, r.layout.schedule);
  };
  std::sort(out.layouts.begin(), out.layouts.end(),
            [&](const RankedLayout& x, const RankedLayout& y) { return order(x) < order(y); });
  set_capacity(too_big, out);
  return out;
}

FigureGroup summary(const TrainingSearch& search, const PlanSettings& settings) {
  const RankedLayout& best = search.layouts.front();
  const std::string of = "the best: " + text_of(best) + ", limit: " + best.limit();
  const std::string source = "FLOPs at search.utilisation, timed schedule, links as measured";
  const auto part = [&](const char* name, double seconds, const char* formula) {
    return Figure{name, 100 * seconds / best.step_s, "%", formula, source};
  };
  FigureGroup g{"training layouts", {}};
  g.figures = {
      {"layouts that divide", as_double(search.num_divide), "", "pipeline, expert, data, micro-batch and schedule",
       "settings"},
      {"layouts that fit", as_double(search.num_divide - search.num_too_big), "",
       "bytes of the fullest rank <= memory * search.memory_share", "settings"},
      {"GPUs", as_double(best.layout.num_gpus()), "", of, source},
      {"step", best.step_s, "s", of, source},
      {"time of the pipeline", best.pipeline_s(), "s", "the schedule, timed: step - data-parallel reduction", source},
      {"bubble", 100 * best.bubble, "%", std::string(kBubbleFormula) + "; that of the busiest is waiting", source},
      {"tokens per day", best.tokens_per_s * 86400 / 1e9, "B", "batch * tokens / step", source},
      {"tokens per second and GPU", best.tokens_per_s_per_gpu(), "", "batch * tokens / step / GPUs", source},
      part("computation", best.compute_s, "of the busiest rank: FLOPs / (utilisation * BF16 peak)"),
      part("HBM", best.hbm_s,
           "weights and gradients / HBM bandwidth, of chunks that take longer for it than for products"),
      part("exposed expert exchange", best.exchange_s,
           "dispatch FP8, combine BF16, less what F&B pairs hide (search.overlap)"),
      part("waiting", best.wait_s,
           "idle share of the step, of the busiest rank, whose parts these are; the bubble is of the one that waits "
           "most"),
      part("data-parallel reduction", best.reduce_s,
           "(4 + 2) B * parameters * (n - 1) / n / NIC, nothing of it hidden"),
      {"memory of the fullest rank", best.bytes.total() / 1e9, "GB", "training_bytes", source}};
  if (best.capacity_s > 0) {
    g.figures.push_back({"step that memory costs", 100 * best.capacity_s / best.step_s, "%",
                         "1 - step of the fastest that does not fit / step: " + search.too_big, source});
  }
  if (best.kw > 0) {
    g.figures.push_back({"power of the site", best.kw, "kW", "GPUs * power * PUE", "settings"});
    if (settings.training.tokens > 0) {
      const double hours = settings.training.tokens / best.tokens_per_s / 3600;
      g.figures.push_back({"energy of the run", best.kw * hours / 1e3, "MWh", "power * tokens / rate", "settings"});
    }
  }
  if (best.kgco2 > 0) {
    g.figures.push_back({"carbon of the run", best.kgco2 / 1e3, "t CO2", "energy * kg_per_kwh", "settings"});
  }
  if (settings.training.gpu_hour_dollars > 0) {
    const auto cheapest = std::min_element(
        search.layouts.begin(), search.layouts.end(),
        [](const auto& a, const auto& b) { return a.dollars_per_trillion_tokens < b.dollars_per_trillion_tokens; });
    g.figures.push_back({"price per trillion tokens", cheapest->dollars_per_trillion_tokens / 1e6, "M$",
                         "the cheapest: " + text_of(*cheapest), "settings"});
  }
  return g;
}

Json to_json(const TrainingSearch& search, int64_t rows) {
  Json list = Json::array();
  for (const RankedLayout& r : search.layouts) {
    if (rows-- == 0) break;
    Json item = Json::object();
    item.set("gpus", r.layout.num_gpus())
        .set("pipeline", r.layout.pipeline)
        .set("expert", r.layout.expert)
        .set("data", r.layout.data)
        .set("schedule", r.layout.schedule)
        .set("sequences", r.sequences)
        .set("micro_batches", r.layout.num_micro_batches)
        .set("step_s", r.step_s)
        .set("compute_s", r.compute_s)
        .set("hbm_s", r.hbm_s)
        .set("exchange_s", r.exchange_s)
        .set("wait_s", r.wait_s)
        .set("reduce_s", r.reduce_s)
        .set("limit", r.limit())
        .set("tokens_per_s_per_gpu", r.tokens_per_s_per_gpu())
        .set("memory_gb", r.bytes.total() / 1e9);
    if (r.dollars_per_trillion_tokens > 0) item.set("dollars_per_trillion_tokens", r.dollars_per_trillion_tokens);
    if (r.kw > 0) item.set("kw", r.kw);
    if (r.kgco2 > 0) item.set("kgco2", r.kgco2);
    list.push(std::move(item));
  }
  return Json::object().set("layouts", std::move(list));
}

std::vector<std::vector<std::string>> table(const TrainingSearch& search, int64_t rows) {
  std::vector<std::vector<std::string>> out = {{"GPUs", "PP", "EP", "DP", "sequences", "micro-batches", "schedule",
                                                "step s", "tokens/s/GPU", "compute", "HBM", "exchange", "waiting",
                                                "reduce", "memory GB", "limit"}};
  for (const RankedLayout& r : search.layouts) {
    if (rows-- == 0) break;
    const auto share = [&](double seconds) { return figure_text(100 * seconds / r.step_s, 3) + " %"; };
    out.push_back({std::to_string(r.layout.num_gpus()), std::to_string(r.layout.pipeline),
                   std::to_string(r.layout.expert), std::to_string(r.layout.data), std::to_string(r.sequences),
                   std::to_string(r.layout.num_micro_batches), r.layout.schedule, figure_text(r.step_s, 4),
                   figure_text(r.tokens_per_s_per_gpu(), 4), share(r.compute_s), share(r.hbm_s), share(r.exchange_s),
                   share(r.wait_s), share(r.reduce_s), figure_text(r.bytes.total() / 1e9, 3), r.limit()});
  }
  return out;
}

PlanSettings chosen(PlanSettings settings, const RankedLayout& r) {
  auto& t = settings.training;
  t.pipeline = r.layout.pipeline;
  t.expert = r.layout.expert;
  t.data = r.layout.data;
  t.schedule = r.layout.schedule;
  t.micro_batches = r.layout.num_micro_batches;
  t.sequences = r.sequences;
  t.chunk_times = {r.times.forward, r.times.backward_input, r.times.backward_weight, r.times.pair};
  t.hop = r.hop_s;
  t.stage_scale = r.stage_scale;
  settings.search.kind = "none";
  return settings;
}

}  // namespace fathom
