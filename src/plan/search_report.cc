#include "plan/search_report.h"

#include <algorithm>
#include <map>
#include <set>

#include "base/figure.h"

namespace fathom {
namespace {

constexpr int64_t kMostRows = 24;
constexpr const char* kTraining = "FLOPs at search.utilisation, timed schedule, links as measured";
constexpr const char* kServing = "decode bounds, nothing waits in a queue";

std::string name_of(const RankedLayout& r) {
  const TrainingLayout& l = r.layout;
  return "PP " + std::to_string(l.pipeline) + ", EP " + std::to_string(l.expert) + ", DP " + std::to_string(l.data) +
         ", " + l.schedule + ", " + std::to_string(r.sequences) + (r.sequences == 1 ? " sequence" : " sequences");
}

/// Short enough for a row: "1: PP 16 EP 64".
std::string row_name(size_t rank, const RankedLayout& r) {
  const TrainingLayout& l = r.layout;
  return std::to_string(rank + 1) + ": PP " + std::to_string(l.pipeline) + " EP " + std::to_string(l.expert);
}

std::string name_of(const DecodePoint& p) {
  return std::to_string(p.gpus) + (p.gpus == 1 ? " GPU" : " GPUs") + ", batch " + std::to_string(p.batch) +
         (p.redundant_experts > 0 ? ", " + std::to_string(p.redundant_experts) + " redundant experts" : "") +
         ", TPOT " + figure_text(p.step.tpot_ms(), 4) + " ms";
}

struct StepPart {
  const char* name;
  double RankedLayout::*seconds;
  const char* formula;
};
constexpr StepPart kParts[] = {
    {"compute", &RankedLayout::compute_s, "of the busiest rank: FLOPs / (utilisation * BF16 peak)"},
    {"HBM", &RankedLayout::hbm_s,
     "weights and gradients / HBM bandwidth, of chunks that take longer for it than for products"},
    {"expert exchange", &RankedLayout::exchange_s,
     "dispatch FP8, combine BF16, less what F&B pairs hide (search.overlap)"},
    {"waiting", &RankedLayout::wait_s, "of the busiest rank in the pipeline: its time - busy time"},
    {"data reduce", &RankedLayout::reduce_s, "(4 + 2) B * parameters * (n - 1) / n / NIC, nothing of it hidden"}};

struct MemoryPart {
  const char* name;
  double RankBytes::*bytes;
  const char* formula;
};
constexpr MemoryPart kMemory[] = {
    {"weights", &RankBytes::weights, "2 B per parameter"},
    {"gradients", &RankBytes::gradients, "4 B per parameter"},
    {"optimizer", &RankBytes::optimizer, "(4 + 4) B per parameter over the ranks that share it"},
    {"activations", &RankBytes::activations,
     "live micro-batches of the schedule * saved bytes per token (an estimate, without allocator slack)"},
    {"communication buffers", &RankBytes::buffers,
     "experts: 2 * tokens * top-k * hidden * (1 + 4 / 128 + 2) B; pipeline: 4 * tokens * hidden * 2 B"}};

template <class Layouts, class Part, class Value>
void add_parts(BarChart& chart, const Layouts& shown, const Part& parts, const char* source, const Value& value) {
  for (const auto& part : parts) {
    BarChart::Part out{part.name, {}, {part.formula, source}};
    for (const RankedLayout& r : shown) out.values.push_back(value(r, part));
    chart.parts.push_back(std::move(out));
  }
}

/// Speed against memory; a series per limiting resource.
LineChart speed_chart(const TrainingSearch& search) {
  LineChart chart{.title = "All layouts that fit: speed against memory",
                  .x_label = "memory of the fullest rank (GB)",
                  .y_label = "tokens/s per GPU",
                  .log_y = true,
                  .series = {},
                  .log_x = false,
                  .origin = {"batch * tokens / (compute + HBM + exchange + waiting + reduce) / GPUs; the limit is what "
                             "takes most of the step, or memory, where a layout that does not fit would save more",
                             kTraining}};
  std::map<std::string, Series> by_limit;
  for (const RankedLayout& r : search.layouts) {
    Series& series =
        by_limit.try_emplace(r.limit(), Series{.name = "limit: " + r.limit(), .x = {}, .y = {}, .points_only = true})
            .first->second;
    series.x.push_back(r.bytes.total() / 1e9);
    series.y.push_back(r.tokens_per_s_per_gpu());
    series.labels.push_back(name_of(r));
  }
  for (auto& [limit, series] : by_limit) chart.series.push_back(std::move(series));
  const RankedLayout& best = search.layouts.front();
  chart.series.push_back({.name = "the fastest",
                          .x = {best.bytes.total() / 1e9},
                          .y = {best.tokens_per_s_per_gpu()},
                          .labels = {name_of(best)},
                          .points_only = true});
  return chart;
}

struct Bound {
  const char* name;
  double DecodeStep::*ms;
  const char* formula;
};
constexpr Bound kBounds[] = {
    {"memory", &DecodeStep::memory_ms, "(weights read + batch * context * KV per token) / HBM bandwidth"},
    {"compute", &DecodeStep::compute_ms, "batch * FLOPs per generated token / FP8 peak"},
    {"network", &DecodeStep::network_ms, "2 * layers with experts * dispatch and combine of half the batch / network"},
    {"host link", &DecodeStep::host_ms, "sequences in the host's pool * context * KV per token / host_gbps"}};

}  // namespace

Report::Section search_section(const TrainingSearch& search, const Hardware& hardware, const PlanSettings& settings) {
  const auto num_shown = static_cast<int64_t>(search.layouts.size());
  const std::vector<RankedLayout> shown(
      search.layouts.begin(), search.layouts.begin() + std::min({num_shown, settings.search.rows, kMostRows}));
  BarChart time{.title = "Step of the fastest layouts",
                .row_label = "place and layout",
                .value_label = "step (s)",
                .rows = {},
                .parts = {},
                .origin = {"compute + HBM + expert exchange + waiting + data reduce, of the busiest rank", kTraining}};
  BarChart memory{
      .title = "Memory of their fullest rank",
      .row_label = "place and layout",
      .value_label = "memory (GB)",
      .rows = {},
      .parts = {},
      .limit = BarChart::Limit{hardware.name, hardware.memory_gb * settings.search.memory_share},
      .origin = {"weights + gradients + optimizer (ZeRO-1) + activations + buffers", "V3 report, 3.2.3 and 3.3.3"}};
  Grid grid{.title = "The fastest layouts",
            .row_label = "layout; what limits it",
            .columns = {{"GPUs", "", {"pipeline * data", "settings"}},
                        {"micro-batches", "", {"batch / (data * sequences)", "settings"}},
                        {"step", "s", time.origin},
                        {"tokens/s per GPU", "", {"batch * tokens / step / GPUs", kTraining}},
                        {"memory", "GB", memory.origin}},
            .rows = {}};
  for (size_t i = 0; i < shown.size(); ++i) {
    const RankedLayout& r = shown[i];
    time.rows.push_back(row_name(i, r));
    grid.rows.push_back({std::to_string(i + 1) + ": " + name_of(r) + "; " + r.limit(),
                         {as_double(r.layout.num_gpus()), as_double(r.layout.num_micro_batches), r.step_s,
                          r.tokens_per_s_per_gpu(), r.bytes.total() / 1e9}});
  }
  memory.rows = time.rows;
  add_parts(time, shown, kParts, kTraining,
            [](const RankedLayout& r, const StepPart& part) { return r.*part.seconds; });
  add_parts(memory, shown, kMemory, "V3 report, 3.2.3 and 3.3.3",
            [](const RankedLayout& r, const MemoryPart& part) { return r.bytes.*part.bytes / 1e9; });
  return {"Layouts",
          "Every layout that divides and fits, the fastest per GPU first: " + figure_text(as_double(num_shown)) +
              " of " + figure_text(as_double(search.num_divide)) +
              " that divide. Below, the fastest of them in detail.",
          {speed_chart(search), std::move(time), std::move(memory), std::move(grid)}};
}

Report::Section search_section(const ServingSearch& search, const PlanSettings& settings) {
  LineChart chart{
      .title = "Tokens per GPU against tokens per user, all that fit",
      .x_label = "tokens per second and user (tokens/s)",
      .y_label = "tokens/s per GPU",
      .log_y = true,
      .series = {},
      .log_x = true,
      .origin = {"1 / TPOT across, batch / TPOT up; TPOT is the largest of the bounds by memory, compute and "
                 "network; on the front nothing is better in both",
                 kServing}};
  std::map<std::string, Series> by_limit;
  const auto add = [](Series& series, const DecodePoint& p) {
    series.x.push_back(p.per_user());
    series.y.push_back(p.per_gpu());
    series.labels.push_back(name_of(p));
  };
  std::set<std::pair<int64_t, int64_t>> on_front;
  for (const DecodePoint& p : search.front) on_front.emplace(p.gpus, p.batch);
  for (const DecodePoint& p : search.points) {
    if (on_front.contains({p.gpus, p.batch})) continue;
    add(by_limit.try_emplace(p.limit(), Series{.name = "limit: " + p.limit(), .x = {}, .y = {}, .points_only = true})
            .first->second,
        p);
  }
  for (auto& [limit, series] : by_limit) chart.series.push_back(std::move(series));
  constexpr size_t kMostDots = 64;  // that a line shows
  Series front{.name = "front", .x = {}, .y = {}, .labels = {}, .points_only = search.front.size() > kMostDots};
  Series best{.name = "the best", .x = {}, .y = {}, .labels = {}, .points_only = true};
  for (const DecodePoint& p : search.front) add(front, p);
  add(best, search.best);
  if (settings.search.max_tpot_ms > 0) {
    best.name += " within " + figure_text(settings.search.max_tpot_ms) + " ms a token";
  }
  chart.series.push_back(std::move(front));
  chart.series.push_back(std::move(best));

  LineChart bounds{.title = "What limits the front",
                   .x_label = "tokens per second and user (tokens/s)",
                   .y_label = "a step at least (ms)",
                   .log_y = true,
                   .series = {},
                   .log_x = true,
                   .origin = {"the bounds of every point of the front", kServing}};
  for (const Bound& bound : kBounds) {
    Series series{.name = bound.name, .x = {}, .y = {}, .labels = {}, .origin = {bound.formula, kServing}};
    for (const DecodePoint& p : search.front) {
      series.x.push_back(p.per_user());
      series.y.push_back(p.step.*bound.ms);
      series.labels.push_back(name_of(p));
    }
    const bool is_there = std::any_of(series.y.begin(), series.y.end(), [](double ms) { return ms > 0; });
    if (is_there || bound.ms != &DecodeStep::host_ms) bounds.series.push_back(std::move(series));
  }
  return {"Layouts",
          figure_text(as_double(search.num_tried)) + " groups and batches were tried, " +
              figure_text(as_double(static_cast<int64_t>(search.points.size()))) + " fit, " +
              figure_text(as_double(static_cast<int64_t>(search.front.size()))) + " are on the front. Below, the best.",
          {std::move(chart), std::move(bounds)}};
}

}  // namespace fathom
