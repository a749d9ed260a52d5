// fathom plan: what a model costs on a machine and what a network costs, each number with its formula and its source.
#include <algorithm>
#include <cstdio>
#include <optional>

#include "apps/console.h"
#include "apps/machine_plan.h"
#include "apps/outputs.h"
#include "apps/verbs.h"
#include "base/file.h"
#include "checkpoint/hf_hub.h"
#include "model/config.h"
#include "plan/answers.h"
#include "plan/paper.h"
#include "plan/plan_report.h"
#include "plan/search.h"
#include "plan/search_report.h"
#include "plan/service.h"
#include "plan/serving_search.h"
#include "plan/unused_settings.h"
#include "plan/what_if.h"
#include "report/bench_lines.h"
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

void print_keys(const std::vector<ConfigKey>& keys) {
  std::vector<std::vector<std::string>> rows = {{"setting", "default", "meaning", "accepted"}};
  for (const ConfigKey& key : keys) rows.push_back({key.key, key.default_value, key.help, key.accepted});
  std::printf("%s", aligned(rows, 4).c_str());
}

std::string percent_text(double difference) {
  char text[32];
  std::snprintf(text, sizeof text, "%+.2f %%", 100 * difference);
  return text;
}

const char* agreement_name(Agreement agreement) {
  switch (agreement) {
    case Agreement::kExact: return "exact";
    case Agreement::kWithin: return "within";
    case Agreement::kEstimate: return "estimate";
    case Agreement::kAtLeast: return "at least";
    case Agreement::kAtMost: return "at most";
    case Agreement::kOrder: return "order";
    case Agreement::kRetelling: return "retelling";
  }
  return "";
}

/// A figure from other inputs than the published says what it was, and nothing of agreement.
Json to_json(const PaperFigure& f) {
  Json item = to_json(f.ours);
  item.set("where", f.where).set("published", f.published).set("comparable", f.is_comparable);
  if (!f.is_comparable) return item.set("with_published_inputs", f.with_published_inputs);
  item.set("difference", f.difference());
  item.set("agreement", agreement_name(f.agreement));
  if (f.tolerance > 0) item.set("tolerance", f.tolerance);
  return item.set("holds", f.holds()).set("note", f.note);
}

std::string agreement_text(const PaperFigure& f) {
  if (!f.is_comparable) return "other";
  if (f.agreement == Agreement::kRetelling) return "not so";
  return f.difference() == 0 ? "equal" : percent_text(f.difference());
}

Status print_paper(const PlanOptions& options) {
  const auto input = paper_input({.file = options.config, .overrides = options.overrides});
  if (!input) return input.error();
  const auto figures = paper_figures(*input);
  if (!figures) return figures.error();
  if (options.json) {
    Json list = Json::array();
    for (const PaperFigure& f : *figures) list.push(to_json(f));
    std::printf("%s\n", list.dump(2).c_str());
    return {};
  }
  std::string where, last;
  size_t num_held = 0, num_compared = 0;
  for (const PaperFigure& f : *figures) {
    if (f.where != where) std::printf("%s\n", styled(where = f.where, "1").c_str());
    num_compared += f.is_comparable;
    num_held += f.is_comparable && f.holds();
    const std::string note = f.is_comparable ? f.note
                                             : "not to be compared, the inputs differ; with the published ones " +
                                                   figure_text(f.with_published_inputs);
    std::printf("  %-44s %12s %12s %-8s %10s  %s\n", f.ours.name.c_str(), figure_text(f.published).c_str(),
                figure_text(f.ours.value).c_str(), f.ours.unit.c_str(), agreement_text(f).c_str(),
                styled(note == last ? "" : note, "2").c_str());
    last = note;
  }
  std::printf(
      "published, ours, difference; %zu of %zu within their tolerance or bound. --json has every formula and source.\n",
      num_held, num_compared);
  if (const size_t num_moved = figures->size() - num_compared; num_moved > 0) {
    std::printf("%zu follow the inputs that were changed and are not compared; what was measured stays as published.\n",
                num_moved);
  }
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
  if (settings.training.pipeline > 0) return "Plan: pipeline " + settings.training.schedule;
  return settings.failures.gpu_mtbf_h > 0 ? "Plan: failures" : "Plan: service";
}

/// The settings that flags stand for.
std::vector<std::string> overrides_of(const PlanOptions& options) {
  std::vector<std::string> out = options.overrides;
  for (const auto& [key, value] : {std::pair{"search.kind", &options.search},
                                   {"search.gpus", &options.gpus},
                                   {"search.max_kw", &options.max_kw},
                                   {"search.max_kgco2", &options.max_kgco2}}) {
    if (!value->empty()) out.push_back(std::string(key) + "=" + *value);
  }
  return out;
}

Result<Hardware> read_hardware(const PlanOptions& options, const PlanSettings& settings) {
  if (options.hardware.empty()) {
    std::string names;
    for (const std::string& name : hardware_names()) names += name + ", ";
    return invalid("--hardware is missing: " + names + "or this");
  }
  const auto preset = find_hardware(options.hardware);
  if (!preset) return Error{preset.error().code, preset.error().text + "; or this, the machine at hand"};
  return changed_hardware(*preset, settings);
}

void print_rows(const std::vector<std::vector<std::string>>& rows) { std::printf("%s", aligned(rows, 0).c_str()); }

/// A search's best as settings, with the command that reads them.
Status emit(const PlanSettings& best, const PlanOptions& options) {
  if (options.emit.empty()) return {};
  const std::string head = "# fathom plan " + options.model + " --hardware " + options.hardware + " --config " +
                           Path(options.emit).filename().string() + "\n";
  return write_file(options.emit, head + to_toml(best));
}

/// The page of a search: what it found, and its best layout as if that had been asked for.
Status report_search(const PlanCase& c, const PlanOptions& options, FigureGroup found, Report::Section section,
                     const PlanSettings& best) {
  const PlanCase of_best{c.model, c.hardware, best};
  auto groups = answer(of_best);
  if (!groups) return groups.error();
  section.blocks.insert(section.blocks.begin(), std::move(found));
  const auto page = plan_report(report_title(options, c.settings), of_best, *groups, std::move(section), "time (s)");
  if (!page) return page.error();
  return write_report(*page, options.report);
}

Status show_search(const PlanCase& c, const PlanOptions& options) {
  const CountedModel model(*c.model);
  const PlanSettings& s = c.settings;
  std::vector<FigureGroup> groups;
  Json json;
  std::vector<std::vector<std::string>> rows;
  PlanSettings best;
  std::optional<Report::Section> section;
  if (s.search.kind == "training") {
    const auto found = search_training(model, c.hardware, s);
    if (!found) return found.error();
    groups = {summary(*found, s)};
    json = to_json(*found, s.search.rows);
    rows = table(*found, s.search.rows);
    best = chosen(s, found->layouts.front());
    section = search_section(*found, c.hardware, s);
  } else {
    const auto found = search_serving(model, c.hardware, s);
    if (!found) return found.error();
    groups = {summary(*found, c.hardware, s)};
    json = to_json(*found);
    rows = table(*found, s.search.rows);
    best = chosen(s, found->best);
    section = search_section(*found, s);
  }
  if (auto written = emit(best, options); !written) return written;
  if (!options.report.empty()) {
    if (auto drawn = report_search(c, options, groups[0], *std::move(section), best); !drawn) return drawn;
  }
  if (options.json) {
    std::printf("%s\n", json.set("summary", to_json(groups)).dump(2).c_str());
    return {};
  }
  print_rows(rows);
  print_groups(groups);
  return {};
}

Status show_what_if(const PlanCase& before, const PlanOptions& options) {
  auto after = changed(options.what_if, before);
  if (!after) return after.error();
  const auto old = answer(before), now = answer(*after);
  if (!old) return old.error();
  if (!now) return now.error();
  const std::vector<ChangedFigure> figures = compare(*old, *now);
  const auto& all = what_ifs();
  const auto what = std::find_if(all.begin(), all.end(), [&](const WhatIf& w) { return options.what_if == w.name; });
  if (figures.empty()) {
    return invalid("--what-if " + options.what_if + " (" + what->change +
                   "): nothing that was asked depends on it, or it is so already; give the settings it is about, as "
                   "serving.gpus, fabric.kind or --search");
  }
  if (options.json) {
    std::printf("%s\n", Json::object()
                            .set("what_if", options.what_if)
                            .set("change", what->change)
                            .set("source", what->source)
                            .set("figures", to_json(figures))
                            .dump(2)
                            .c_str());
    return {};
  }
  std::printf("%s: %s\n%s\n", options.what_if.c_str(), what->change, styled(what->source, "2").c_str());
  std::vector<std::vector<std::string>> rows = {{"group", "figure", "before", "after", "ratio"}};
  for (const ChangedFigure& f : figures) {
    const Figure& shown = f.after ? *f.after : *f.before;
    const auto text = [&](const std::optional<Figure>& figure) {
      return figure ? figure_text(figure->value) + (shown.unit.empty() ? "" : " " + shown.unit) : std::string("-");
    };
    const auto ratio = f.ratio();
    rows.push_back({f.group, shown.name, text(f.before), text(f.after), ratio ? figure_text(*ratio, 4) : "-"});
  }
  std::printf("%s", aligned(rows, 2).c_str());
  return {};
}

Status show(const std::vector<FigureGroup>& groups, const PlanOptions& options, const PlanSettings& settings) {
  if (options.json) {
    std::printf("%s\n", to_json(groups).dump(2).c_str());
    return {};
  }
  print_groups(groups);
  if (settings.failures.gpu_mtbf_h == 0) return {};
  if (const auto run = plan_failure_run(settings)) {
    std::printf(
        "%s\n%s  = kept work, c checkpoint, ! stop, x work lost, r restart; whichever takes most of a character\n",
        styled("the drawn run's first stops", "1").c_str(), to_text(*run).c_str());
  }
  return {};
}

/// Writes the page, and answers what is on it. A pipeline is drawn without a model; nothing else is said of it.
Result<std::vector<FigureGroup>> report(const PlanCase& c, const PlanOptions& options) {
  PlanCase asked = c;
  if (!c.model) asked.settings.training.pipeline = 0;
  const PlanSettings& s = asked.settings;
  const bool has_only_pipeline = !c.model && c.settings.training.pipeline > 0 && s.serving.gpus == 0 &&
                                 s.fabric.kind == "none" && s.failures.gpu_mtbf_h == 0 && !has_service(s);
  Result<std::vector<FigureGroup>> groups = std::vector<FigureGroup>();
  if (!has_only_pipeline) groups = answer(asked);
  if (!groups) return groups.error();
  const auto page = plan_report(report_title(options, c.settings), c, *groups);
  if (!page) return page.error();
  if (auto written = write_report(*page, options.report); !written) return written.error();
  return groups;
}

Status show_this_machine(const PlanSettings& settings, const PlanOptions& options) {
  if (options.model.empty()) return invalid("MODEL is missing: --hardware this is about a checkpoint");
  if (settings.search.kind != "none" || !options.what_if.empty()) {
    return invalid("--hardware this is about the machine at hand; --search and --what-if need a preset, as h800");
  }
  const auto groups = plan_this_machine(options.model, settings);
  if (!groups) return groups.error();
  return show(*groups, options, {});
}

}  // namespace

Status plan(const PlanOptions& options) {
  if (options.keys) {
    print_keys(options.paper ? list_config_keys(paper_input()) : list_config_keys<PlanSettings>());
    return {};
  }
  if (options.paper) return print_paper(options);
  const auto settings = load_config<PlanSettings>({.file = options.config, .overrides = overrides_of(options)});
  if (!settings) return settings.error();
  const Asked asked{.has_model = !options.model.empty(),
                    .is_this_machine = options.hardware == "this",
                    .has_report = !options.report.empty(),
                    .has_what_if = !options.what_if.empty()};
  if (auto used = check_used(*settings, options.overrides, asked); !used) return used;
  if (!options.report.empty() && options.hardware == "this") {
    return invalid("--report draws layouts on a preset, as h800; --hardware this is about the machine at hand");
  }
  const auto outputs_differ = check_outputs(
      {{"--svg", options.svg}, {"--trace", options.trace}, {"--emit", options.emit}, {"--report", options.report}},
      {options.config, options.model, options.model.empty() ? "" : (Path(options.model) / "config.json").string()});
  if (!outputs_differ) return outputs_differ;
  if (!options.report.empty()) {  // before a search is made
    if (auto writable = check_report_path(options.report); !writable) return writable;
  }
  if (options.timeline || !options.svg.empty() || !options.trace.empty()) {
    if (auto s = show_timeline(*settings, options); !s || (options.model.empty() && options.report.empty())) return s;
  }
  if (options.hardware == "this") return show_this_machine(*settings, options);
  PlanCase plan_case{{}, {}, *settings};
  if (!options.model.empty()) {
    auto config = read_config(options.model);
    if (!config) return config.error();
    plan_case.model = *std::move(config);
    auto hardware = read_hardware(options, *settings);
    if (!hardware) return hardware.error();
    plan_case.hardware = *std::move(hardware);
  }
  if (!options.what_if.empty()) return show_what_if(plan_case, options);
  if (plan_case.model && settings->search.kind != "none") return show_search(plan_case, options);
  const auto groups = options.report.empty() ? answer(plan_case) : report(plan_case, options);
  if (!groups) return groups.error();
  return groups->empty() ? Status() : show(*groups, options, *settings);
}

}  // namespace fathom::apps
