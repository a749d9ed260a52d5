#include "plan/plan_report.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <iterator>
#include <optional>

#include "base/figure.h"
#include "cluster/dragonfly.h"
#include "cluster/fat_tree.h"
#include "cluster/mpft.h"
#include "cluster/mrft.h"
#include "cluster/price.h"
#include "cluster/slim_fly.h"
#include "plan/decode.h"
#include "plan/footprint.h"
#include "sim/pipeline_picture.h"

namespace fathom {
namespace {

constexpr double kChange = 0.2;  // of every input in turn
constexpr int64_t kMostBars = 5000;
constexpr const char* kPaper = "arXiv 2505.09343";
constexpr const char* kRoofline = "roofline";

// ---- serving -------------------------------------------------------------------------------------------------------

// One decode step as a function of its inputs, with what the settings cannot say: a share of a sequence or a weight.
struct Decode {
  const CountedModel& model;
  Hardware hardware;
  PlanSettings::Serving serving;
  double batch_factor = 1;
  double weight_factor = 1;

  // What decode_step refuses (the group, drafts) does not depend on what is changed here.
  DecodeStep step() const {
    DecodeStep out = *decode_step(model, hardware, serving, batch_factor * as_double(serving.batch));
    out.memory_ms += (weight_factor - 1) * out.read_bytes / (hardware.memory_gbps * 1e6);
    return out;
  }
};

double sum_ms(const DecodeStep& s) { return (s.memory_ms + s.compute_ms + s.network_ms) / s.tokens_per_sequence; }

// Bounds of the step with one figure of the hardware from an eighth to eight times its value. TPOT is drawn as points:
// a line would hide the bound that it follows.
LineChart bounds_against(const Decode& decode, const char* fact, double value, const std::string& title,
                         const std::string& x_label) {
  LineChart chart{
      .title = title,
      .x_label = x_label,
      .y_label = "a step at least (ms)",
      .log_y = true,
      .series = {{.name = "memory", .x = {}, .y = {}},
                 {.name = "compute", .x = {}, .y = {}},
                 {.name = "network", .x = {}, .y = {}},
                 {.name = "host link", .x = {}, .y = {}},
                 {.name = "TPOT at least", .x = {}, .y = {}, .labels = {}, .points_only = true}},
      .log_x = true,
      .origin = {
          "the largest of: (weights read + batch * context * KV per token) / HBM bandwidth; batch * FLOPs per "
          "generated token / FP8 peak; 2 * layers with experts * (dispatch and combine bytes of half the batch "
          "/ network bandwidth + latencies); what crosses the host's link; over the tokens per step and sequence",
          std::string(kPaper) + ", section 2.3.2; the other inputs as given"}};
  for (int k = -6; k <= 6; ++k) {
    Decode changed = decode;
    const double x = value * std::exp2(k / 2.0);
    if (!changed.hardware.set(fact, x)) continue;
    const DecodeStep s = changed.step();
    const double ys[] = {s.memory_ms, s.compute_ms, s.network_ms, s.host_ms, s.tpot_ms()};
    for (size_t i = 0; i < std::size(ys); ++i) {
      chart.series[i].x.push_back(x);
      chart.series[i].y.push_back(ys[i]);
    }
    chart.series.back().labels.push_back(k == 0 ? "as given, limited by " + s.limit() : "limited by " + s.limit());
  }
  if (decode.step().host_ms == 0) chart.series.erase(chart.series.begin() + 3);
  if (decode.step().network_ms == 0) chart.series.erase(chart.series.begin() + 2);
  return chart;
}

// Throughput against speed over the batch, from one sequence to as many as fit.
LineChart throughput_over_batch(const Decode& decode) {
  LineChart chart{.title = "Throughput against speed, by sequences per GPU",
                  .x_label = "tokens per second and user (tokens/s), at most",
                  .y_label = "tokens/s per GPU, at most",
                  .log_y = true,
                  .series = {{.name = "batch from 1 to what fits", .x = {}, .y = {}, .labels = {}},
                             {.name = "as planned", .x = {}, .y = {}, .labels = {}, .points_only = true}},
                  .log_x = false,
                  .origin = {"1 / TPOT across, batch / TPOT up; TPOT is the largest of the step's bounds over the "
                             "tokens per step and sequence; the last batch is the largest that fits beside the weights "
                             "and the buffers that it needs itself",
                             kRoofline}};
  const auto add = [&](Series& series, int64_t batch) {
    Decode changed = decode;
    changed.serving.batch = batch;
    const double speed = 1e3 / changed.step().tpot_ms();
    series.x.push_back(speed);
    series.y.push_back(as_double(batch) * speed);
    series.labels.push_back("batch " + std::to_string(batch));
  };
  const int64_t most = most_sequences(decode.model, decode.hardware, decode.serving);
  for (int64_t batch = 1; batch < most; batch *= 2) add(chart.series[0], batch);
  add(chart.series[0], most);
  add(chart.series[1], decode.serving.batch);
  return chart;
}

// The figure with one input 20 % lower and higher; inputs that do not move it are left out.
void add_row(Tornado& chart, const std::string& name, const std::function<std::optional<double>(double)>& figure) {
  const auto low = figure(1 - kChange), high = figure(1 + kChange);
  if (low && high && (*low != chart.base || *high != chart.base)) chart.rows.push_back({name, *low, *high});
}

Tornado sensitivity(std::string title, std::string value_label, double base, Origin origin) {
  return {.title = std::move(title),
          .value_label = std::move(value_label),
          .base = base,
          .low_name = "input -20 %",
          .high_name = "input +20 %",
          .rows = {},
          .origin = std::move(origin)};
}

Tornado step_sensitivity(const Decode& decode, std::string title, std::string value_label, Origin origin,
                         double (*figure)(const DecodeStep&)) {
  Tornado chart = sensitivity(std::move(title), std::move(value_label), figure(decode.step()), std::move(origin));
  for (const Figure& fact : decode.hardware.facts) {
    if (fact.value <= 0) continue;
    const std::string name = fact.unit.empty() ? fact.name : fact.name + " (" + fact.unit + ")";
    add_row(chart, name, [&](double factor) -> std::optional<double> {
      Decode changed = decode;
      if (!changed.hardware.set(fact.name, fact.value * factor)) return std::nullopt;
      return figure(changed.step());
    });
  }
  for (const auto& [name, member] :
       {std::pair{"serving.batch", &Decode::batch_factor}, {"weights per GPU", &Decode::weight_factor}}) {
    add_row(chart, name, [&, field = member](double factor) -> std::optional<double> {
      Decode changed = decode;
      changed.*field = factor;
      return figure(changed.step());
    });
  }
  add_row(chart, "serving.context", [&](double factor) -> std::optional<double> {
    Decode changed = decode;
    changed.serving.context = std::llround(factor * as_double(decode.serving.context));
    return figure(changed.step());
  });
  return chart;
}

Result<Report::Section> serving_section(const CountedModel& model, const Hardware& h, const PlanSettings::Serving& s) {
  const auto step = decode_step(model, h, s);
  if (!step) return step.error();
  if (auto fits = check_fits(model, *step, h, s); !fits) return fits.error();
  const Decode decode{model, h, s};
  Report::Section out{"Serving",
                      "Decode steps of " + std::to_string(s.batch) +
                          (s.batch == 1 ? " sequence of " : " sequences of ") + std::to_string(s.context) +
                          " tokens on each of " + std::to_string(s.gpus) +
                          " GPUs. These are bounds: no imbalance, communication hidden, no latency but the given.",
                      {}};
  if (step->network_ms > 0) {
    const bool in_node = step->is_in_node;
    out.blocks.push_back(bounds_against(decode, in_node ? "scale_up_effective_gbps" : "nic_effective_gbps",
                                        in_node ? h.scale_up_effective_gbps : h.nic_effective_gbps,
                                        "TPOT against network bandwidth",
                                        in_node ? "NVLink, effective (GB/s)" : "NIC, effective (GB/s per GPU)"));
  }
  out.blocks.push_back(
      bounds_against(decode, "memory_gbps", h.memory_gbps, "TPOT against memory bandwidth", "HBM bandwidth (GB/s)"));
  out.blocks.push_back(throughput_over_batch(decode));
  out.blocks.push_back(step_sensitivity(decode, "What moves the bound on TPOT", "TPOT at least (ms)",
                                        {"the largest of the bounds by memory, compute and network", kRoofline},
                                        [](const DecodeStep& changed) { return changed.tpot_ms(); }));
  out.blocks.push_back(step_sensitivity(decode, "What moves a step that overlaps nothing",
                                        "memory + compute + network (ms per token)",
                                        {"the sum of the bounds by memory, compute and network", kRoofline}, sum_ms));
  return out;
}

// ---- training ------------------------------------------------------------------------------------------------------

Result<BarChart> memory_chart(const CountedModel& model, const Hardware& h, const Schedule& schedule,
                              const PlanSettings::Training& t) {
  const auto ranks = training_bytes_by_rank(model.config, model.elements, schedule,
                                            {.pipeline = t.pipeline,
                                             .expert = t.expert,
                                             .data = t.data,
                                             .schedule = t.schedule,
                                             .micro_batch_tokens = t.sequences * t.sequence_tokens,
                                             .num_micro_batches = t.micro_batches});
  if (!ranks) return ranks.error();
  const struct {
    const char* name;
    double RankBytes::*bytes;
    const char* formula;
  } classes[] = {{"weights", &RankBytes::weights, "2 B per parameter"},
                 {"gradients", &RankBytes::gradients, "4 B per parameter"},
                 {"optimizer", &RankBytes::optimizer, "(4 + 4) B per parameter over the ranks that share it"},
                 {"activations", &RankBytes::activations,
                  "live micro-batches of the schedule * saved bytes per token (an estimate, without allocator slack)"},
                 {"communication buffers", &RankBytes::buffers,
                  "experts: 2 * tokens * top-k * hidden * (1 + 4 / 128 + 2) B; pipeline: 4 * tokens * hidden * 2 B; "
                  "balanced load"}};
  BarChart chart{
      .title = "Memory of each pipeline rank",
      .row_label = "pipeline rank",
      .value_label = "memory (GB)",
      .rows = {},
      .parts = {},
      .limit = BarChart::Limit{h.name, h.memory_gb},
      .origin = {"weights + gradients + optimizer (ZeRO-1) + activations + buffers", "V3 report, 3.2.3 and 3.3.3"}};
  for (const RankBytes& rank : *ranks) chart.rows.push_back(std::to_string(rank.rank));
  for (const auto& [name, bytes, formula] : classes) {
    BarChart::Part part{name, {}, {formula, chart.origin.source}};
    for (const RankBytes& rank : *ranks) part.values.push_back(rank.*bytes / 1e9);
    chart.parts.push_back(std::move(part));
  }
  return chart;
}

// Seconds of a step at a known utilisation; every factor scales one input.
Tornado training_sensitivity(const CountedModel& model, const Hardware& h, const PlanSettings::Training& t) {
  const auto seconds = [&](double mfu, double tflops, double micro_batches, double sequence_tokens) {
    const auto whole_tokens = std::max<int64_t>(std::llround(sequence_tokens), 1);
    const double tokens = micro_batches * as_double(t.sequences) * as_double(whole_tokens);  // of one data rank
    const double flops = training_flops(model.parameters, model.config, whole_tokens).causal();
    return tokens * flops / (mfu * as_double(t.pipeline) * tflops * 1e12);
  };
  const double micro_batches = as_double(t.micro_batches), length = as_double(t.sequence_tokens);
  Tornado chart =
      sensitivity("What moves the training step", "step (s)", seconds(t.mfu, h.bf16_tflops, micro_batches, length),
                  {"tokens per step * FLOPs per token / (MFU * GPUs * BF16 peak)", "settings"});
  add_row(chart, "training.mfu", [&](double f) { return seconds(t.mfu * f, h.bf16_tflops, micro_batches, length); });
  add_row(chart, "bf16_tflops (TFLOP/s)",
          [&](double f) { return seconds(t.mfu, h.bf16_tflops * f, micro_batches, length); });
  add_row(chart, "training.micro_batches",
          [&](double f) { return seconds(t.mfu, h.bf16_tflops, micro_batches * f, length); });
  add_row(chart, "training.sequence_tokens",
          [&](double f) { return seconds(t.mfu, h.bf16_tflops, micro_batches, length * f); });
  return chart;
}

// `model` may be absent: a pipeline needs none.
Result<Report::Section> training_section(const std::optional<CountedModel>& model, const Hardware& h,
                                         const PlanSettings& settings, const std::string& time_label) {
  const auto& t = settings.training;
  const auto timeline = plan_timeline(settings);
  if (!timeline) return timeline.error();
  Report::Section out{"Training", "", {}};
  if (model) {
    auto memory = memory_chart(*model, h, timeline->schedule, t);
    if (!memory) return memory.error();
    out.blocks.push_back(*std::move(memory));
  }
  Gantt gantt = to_gantt(timeline->schedule, timeline->run, time_label);
  gantt.title = "Pipeline " + gantt.title;
  gantt.origin = {"every rank runs its list in order; an instruction waits for its inputs; F, I, W, F&B take " +
                      figure_text(t.chunk_times[0]) + ", " + figure_text(t.chunk_times[1]) + ", " +
                      figure_text(t.chunk_times[2]) + ", " + figure_text(t.chunk_times[3]) + ", a hop " +
                      figure_text(t.hop),
                  "simulated"};
  out.blocks.push_back(first_bars(gantt, kMostBars));
  if (model && t.mfu > 0) out.blocks.push_back(training_sensitivity(*model, h, t));
  return out;
}

// ---- fabrics -------------------------------------------------------------------------------------------------------

// The sizes of one kind that exist at the settings' radix, from small to large.
std::vector<Fabric> sizes_of(const std::string& kind, int64_t radix, int64_t planes) {
  std::vector<Fabric> out;
  const auto add = [&](Result<Fabric> fabric) {
    if (fabric && (out.empty() || fabric->endpoints > out.back().endpoints)) out.push_back(*std::move(fabric));
  };
  if (kind == "dragonfly") {
    const int64_t p = (radix + 1) / 4;
    const auto full = dragonfly(p, 0);
    if (!full) return out;
    const int64_t most = 2 * p * p + 1;
    for (int64_t groups = 2; groups < most; groups = std::max(groups + 1, groups * 3 / 2)) add(dragonfly(p, groups));
    add(full);
    return out;
  }
  if (kind == "slimfly") {
    for (int64_t q = 3; q <= 2 * radix / 3 + 1; ++q) add(slim_fly(q, radix));
    return out;
  }
  const auto build = [&](int64_t endpoints) {
    return kind == "ft2"    ? fat_tree2(radix, endpoints)
           : kind == "ft3"  ? fat_tree3(radix, endpoints)
           : kind == "mpft" ? mpft(radix, planes, endpoints)
                            : mrft(radix, planes, endpoints);
  };
  const auto full = build(0);
  if (!full) return out;
  // Sizes of whole pods and leaves exist for every kind; others are refused, and left out.
  for (int64_t endpoints = radix; endpoints < full->endpoints; endpoints *= 2) add(build(endpoints));
  add(full);
  return out;
}

Result<Report::Section> fabric_section(const PlanSettings& settings) {
  const auto& f = settings.fabric;
  const auto given = fabric_prices(settings);
  if (!given) return given.error();
  const PriceTable& prices = *given;
  const Origin price_origin{"(switches * (base + ports * price) + links * price + endpoints * price) / endpoints",
                            prices.source};
  LineChart chart{.title = "Price of a network per endpoint",
                  .x_label = "endpoints (NICs)",
                  .y_label = "price per endpoint ($)",
                  .log_y = false,
                  .series = {},
                  .log_x = true,
                  .origin = price_origin};
  Grid grid{.title = "The largest of each kind with " + std::to_string(f.radix) + "-port switches",
            .row_label = "network",
            .columns = {{"endpoints", "", {"of the kind, as its builder counts", kPaper}},
                        {"switches", "", {"of the kind, as its builder counts", kPaper}},
                        {"links between switches", "", {"of the kind, as its builder counts", kPaper}},
                        {"price",
                         "M$",
                         {"switches * (base + ports * price) + links * price + endpoints * price", prices.source}},
                        {"per endpoint", "$", price_origin}},
            .rows = {}};
  for (const char* kind : {"ft2", "ft3", "mpft", "mrft", "dragonfly", "slimfly"}) {
    Series series{.name = kind, .x = {}, .y = {}, .labels = {}};
    const auto sizes = sizes_of(kind, f.radix, f.planes);
    for (const Fabric& fabric : sizes) {
      const auto price = price_of(fabric, prices);
      if (!price) return price.error();
      const double endpoints = as_double(fabric.endpoints);
      series.name = fabric.name;
      series.origin = {fabric.formula + "; " + price_origin.formula, price_origin.source};
      series.x.push_back(endpoints);
      series.y.push_back(price->total() / endpoints);
      series.labels.push_back(figure_text(as_double(fabric.switches)) +
                              (fabric.switches == 1 ? " switch" : " switches"));
      if (&fabric != &sizes.back()) continue;
      grid.rows.push_back({fabric.name,
                           {endpoints, as_double(fabric.switches), as_double(fabric.switch_links()),
                            price->total() / 1e6, price->total() / endpoints}});
    }
    if (!series.x.empty()) chart.series.push_back(std::move(series));
  }
  return Report::Section{"Networks",
                         "All kinds with switches of " + std::to_string(f.radix) + " ports, MPFT and MRFT with " +
                             std::to_string(f.planes) + " planes or rails.",
                         {std::move(chart), std::move(grid)}};
}

}  // namespace

Result<Report> plan_report(std::string title, const PlanCase& c, const std::vector<FigureGroup>& groups,
                           std::optional<Report::Section> found, const std::string& time_label) {
  const PlanSettings& settings = c.settings;
  std::optional<CountedModel> model;
  if (c.model) model.emplace(*c.model);
  Report report{std::move(title), "Numbers say their formula and source when a pointer rests on them.", {}};
  const auto add = [&](Result<Report::Section> section) -> Status {
    if (!section) return section.error();
    report.sections.push_back(*std::move(section));
    return {};
  };
  const bool is_search = found.has_value();
  if (found) report.sections.push_back(*std::move(found));
  if (!groups.empty()) {
    Report::Section figures{is_search ? "The best" : "Figures", "", {}};
    for (const FigureGroup& group : groups) figures.blocks.push_back(group);
    report.sections.push_back(std::move(figures));
  }
  if (settings.serving.gpus > 0 && model) {
    if (auto s = add(serving_section(*model, c.hardware, settings.serving)); !s) return s.error();
  }
  if (settings.training.pipeline > 0) {
    if (auto s = add(training_section(model, c.hardware, settings, time_label)); !s) return s.error();
  }
  if (settings.fabric.kind != "none") {
    if (auto s = add(fabric_section(settings)); !s) return s.error();
  }
  if (settings.failures.gpu_mtbf_h > 0) {
    const auto failures = failure_case(settings);
    if (!failures) return failures.error();
    if (auto s = add(failure_section(*failures)); !s) return s.error();
  }
  return report;
}

}  // namespace fathom
