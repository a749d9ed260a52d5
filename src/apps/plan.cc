// fathom plan: what a model costs on a machine and what a network costs, each number with its formula and its source.
#include <algorithm>
#include <cstdio>
#include <optional>

#include "apps/console.h"
#include "apps/verbs.h"
#include "base/file.h"
#include "checkpoint/hf_hub.h"
#include "model/config.h"
#include "plan/answers.h"
#include "plan/paper.h"
#include "plan/plan_report.h"
#include "sim/pipeline_picture.h"

namespace fathom::apps {
namespace {

constexpr int64_t kMostTextColumns = 240;

Result<ModelConfig> read_config(const std::string& model) {
  constexpr int64_t kMostBytes = 1 << 24;
  if (Path(model).extension() != ".json") {
    const auto dir = resolve_model_dir(model, HubEnvironment::of_process());
    if (!dir) return dir.error();
    return ModelConfig::load(*dir);
  }
  const auto text = read_file(model, kMostBytes);
  if (!text) return text.error();
  const auto json = Json::parse(*text, model);
  if (!json) return json.error();
  return ModelConfig::parse(*json, model);
}

void print_groups(const std::vector<FigureGroup>& groups) {
  for (const FigureGroup& group : groups) {
    std::printf("%s\n", styled(group.title, "1").c_str());
    for (const Figure& f : group.figures) {
      const std::string value = figure_text(f.value) + (f.unit.empty() ? "" : " " + f.unit);
      const std::string why = f.formula.empty() ? f.source : f.formula;
      std::printf("  %-36s %18s  %s\n", f.name.c_str(), value.c_str(), styled(why, "2").c_str());
    }
  }
}

std::string percent_text(double difference) {
  char text[32];
  std::snprintf(text, sizeof text, "%+.2f %%", 100 * difference);
  return text;
}

Status print_paper(bool as_json) {
  const auto figures = paper_figures();
  if (!figures) return figures.error();
  if (as_json) {
    Json list = Json::array();
    for (const PaperFigure& f : *figures) {
      Json item = to_json(f.ours);
      item.set("where", f.where).set("published", f.published).set("difference", f.difference());
      item.set("agreement", f.agreement == Agreement::kExact    ? "exact"
                            : f.agreement == Agreement::kWithin ? "within"
                                                                : "retelling");
      if (f.agreement == Agreement::kWithin) item.set("tolerance", f.tolerance);
      item.set("holds", f.holds()).set("note", f.note);
      list.push(std::move(item));
    }
    std::printf("%s\n", list.dump(2).c_str());
    return {};
  }
  std::string where, note;
  size_t num_held = 0;
  for (const PaperFigure& f : *figures) {
    if (f.where != where) std::printf("%s\n", styled(where = f.where, "1").c_str());
    num_held += f.holds();
    const std::string difference = f.agreement == Agreement::kRetelling ? "not so"
                                   : f.difference() == 0                ? "equal"
                                                                        : percent_text(f.difference());
    std::printf("  %-44s %12s %12s %-8s %10s  %s\n", f.ours.name.c_str(), figure_text(f.published).c_str(),
                figure_text(f.ours.value).c_str(), f.ours.unit.c_str(), difference.c_str(),
                styled(f.note == note ? "" : f.note, "2").c_str());
    note = f.note;
  }
  std::printf("published, ours, difference; %zu of %zu within their tolerance. --json has every formula and source.\n",
              num_held, figures->size());
  return {};
}

Status show_timeline(const PlanSettings& settings, const PlanOptions& options) {
  const auto timeline = plan_timeline(settings);
  if (!timeline) return timeline.error();
  const ChunkTimes& t = timeline->costs.times;
  double unit = 0;
  for (double time : {t.forward, t.backward_input, t.backward_weight, t.pair}) {
    if (time > 0 && (unit == 0 || time < unit)) unit = time;
  }
  if (options.timeline) {
    std::printf("%s", to_text(timeline->schedule, timeline->run, unit, kMostTextColumns).c_str());
    double idle = 0;
    for (int rank = 0; rank < timeline->schedule.num_ranks(); ++rank) idle = std::max(idle, timeline->run.idle(rank));
    std::printf("time %s, of which the rank that waits most idles %s; at most %d micro-batches alive on a rank\n",
                figure_text(timeline->run.makespan).c_str(), figure_text(idle).c_str(),
                *std::max_element(timeline->schedule.live_bound.begin(), timeline->schedule.live_bound.end()));
  }
  const Gantt gantt = to_gantt(timeline->schedule, timeline->run, "time (unit of training.chunk_times)");
  if (!options.svg.empty()) {
    if (auto s = write_file(options.svg, to_svg(gantt)); !s) return s;
  }
  if (options.trace.empty()) return {};
  return write_file(options.trace, to_trace(gantt, 1));  // one unit is shown as a microsecond
}

std::string report_title(const PlanOptions& options, const PlanSettings& settings) {
  if (!options.model.empty()) return "Plan: " + Path(options.model).filename().string() + " on " + options.hardware;
  if (settings.fabric.kind != "none") return "Plan: network " + settings.fabric.kind;
  return settings.training.pipeline > 0 ? "Plan: pipeline " + settings.training.schedule : "Plan: failures";
}

}  // namespace

Status plan(const PlanOptions& options) {
  if (options.paper) return print_paper(options.json);
  const auto settings = load_config<PlanSettings>({.file = options.config, .overrides = options.overrides});
  if (!settings) return settings.error();
  const bool shows_timeline = options.timeline || !options.svg.empty() || !options.trace.empty();
  if (shows_timeline) {
    if (auto s = show_timeline(*settings, options); !s || (options.model.empty() && options.report.empty())) return s;
  }
  std::vector<FigureGroup> groups;
  std::optional<ModelConfig> model_config;
  std::optional<Hardware> machine;
  if (!options.model.empty()) {
    const auto config = read_config(options.model);
    if (!config) return config.error();
    if (options.hardware.empty()) {
      std::string names;
      for (const std::string& name : hardware_names()) names += (names.empty() ? "" : ", ") + name;
      return invalid("--hardware is missing: " + names);
    }
    const auto preset = find_hardware(options.hardware);
    if (!preset) return preset.error();
    const auto hardware = changed_hardware(*preset, *settings);
    if (!hardware) return hardware.error();
    auto model = plan_model(*config, *hardware, *settings);
    if (!model) return model.error();
    groups = *std::move(model);
    model_config = *config;
    machine = *hardware;
  } else if ((settings->training.pipeline > 0 && options.report.empty()) || settings->serving.gpus > 0) {
    return invalid("MODEL is missing: the settings of training and serving are of a model");
  }
  if (settings->fabric.kind != "none") {
    auto fabric = plan_fabric(*settings);
    if (!fabric) return fabric.error();
    groups.push_back(*std::move(fabric));
  }
  if (settings->failures.gpu_mtbf_h > 0) {
    auto failures = plan_failures(*settings);
    if (!failures) return failures.error();
    groups.push_back(*std::move(failures));
  }
  if (groups.empty() && (options.report.empty() || settings->training.pipeline == 0)) {
    return invalid("nothing to plan: give a MODEL, --timeline, --paper, or --set fabric.kind or failures.gpu_mtbf_h");
  }
  if (!options.report.empty()) {
    const PlanSubject subject{report_title(options, *settings), model_config ? &*model_config : nullptr,
                              machine ? &*machine : nullptr};
    const auto report = plan_report(subject, groups, *settings);
    if (!report) return report.error();
    if (auto s = write_report(*report, options.report); !s) return s;
  }
  if (groups.empty()) return {};
  if (options.json) {
    std::printf("%s\n", to_json(groups).dump(2).c_str());
  } else {
    print_groups(groups);
  }
  return {};
}

}  // namespace fathom::apps
