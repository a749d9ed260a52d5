#include "sim/sweep.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>
#include <optional>
#include <set>

#include "base/check.h"
#include "base/figure.h"

namespace fathom {
namespace {

constexpr size_t kMostLines = 12;
constexpr const char* kFluid = "fluid flows, max-min fair";

std::optional<double> number_of(const std::string& text) {
  double value = 0;
  const char* end = text.data() + text.size();
  const auto [at, error] = std::from_chars(text.data(), end, value);
  if (error != std::errc() || at != end || !std::isfinite(value)) return {};
  return value;
}

/// All values of a key as numbers; nothing where one is not.
std::optional<std::vector<double>> numbers_of(const SweepKey& key) {
  std::vector<double> out;
  for (const std::string& text : key.values) {
    const auto value = number_of(text);
    if (!value) return {};
    out.push_back(*value);
  }
  return out;
}

std::string shown(const std::string& text) {
  return "\"" + text.substr(0, 100) + (text.size() > 100 ? "..." : "") + "\"";
}

std::string axis_label(const std::string& key) {
  const auto ends = [&](std::string_view tail) { return key.ends_with(tail); };
  if (ends(".bytes")) return key + " (B)";
  if (key == "network.gpus" || ends(".ranks")) return key + " (GPUs)";
  if (ends("_gbps")) return key + " (GB/s)";
  if (ends("_us")) return key + " (us)";
  if (ends("_min")) return key + " (min)";
  if (ends("_mtbf_h")) return key + " (h)";
  return key;
}

/// What a job is judged by. Every job has one of them.
const Figure& bandwidth_of(const JobAnswer& job) {
  for (const char* name : {"busbw", "logical bandwidth", "algbw"}) {
    if (const Figure* found = find_figure(job.figures, name)) return *found;
  }
  return job.figures.front();
}

/// The name that the bandwidths of one job share over all points, or "bandwidth".
std::string bandwidth_name(const Sweep& sweep, size_t job) {
  const std::string name = bandwidth_of(sweep.points.front().answer.jobs[job]).name;
  for (const SweepPoint& point : sweep.points) {
    if (bandwidth_of(point.answer.jobs[job]).name != name) return "bandwidth";
  }
  return name;
}

/// Of the job's time under the scenario's failures; nothing where it has none.
const Figure* goodput_of(const SweepPoint& point) { return find_figure(point.answer.failures, "goodput"); }

const std::string& limit_of(const SweepPoint& point) { return point.answer.jobs.front().limit.resource; }

/// One of the figures that are drawn.
struct Drawn {
  std::string title;  // "busbw"
  std::string label;  // "busbw (GB/s)"
  bool is_log = false;
  Origin origin;
  double (*value)(const SweepPoint& point, size_t job) = nullptr;
  bool is_of_job = true;  // else the same of all jobs of a point
};

/// Of every point: a goodput of some of them only is a sweep from no failures to some, and stands in the table.
bool has_goodput(const Sweep& sweep) {
  return std::all_of(sweep.points.begin(), sweep.points.end(), [](const auto& point) { return goodput_of(point); });
}

std::vector<Drawn> drawn_figures(const Sweep& sweep) {
  const std::vector<JobAnswer>& jobs = sweep.points.front().answer.jobs;
  std::string name = bandwidth_name(sweep, 0);
  for (size_t j = 1; j < jobs.size(); ++j) {
    if (bandwidth_name(sweep, j) != name) name = "bandwidth";
  }
  const Figure& bandwidth = bandwidth_of(jobs.front());
  const std::string formula = name == "bandwidth" ? "busbw, of dispatch and combine logical bandwidth, of send algbw"
                                                  : bandwidth.formula + "; time: bytes on links + latency + software";
  const Figure& time = jobs.front().figures.front();
  std::vector<Drawn> out = {
      {name,
       name + " (GB/s)",
       false,
       {formula, bandwidth.source},
       [](const SweepPoint& point, size_t job) { return bandwidth_of(point.answer.jobs[job]).value; }},
      {"Time", "time (us)", true, {time.formula, time.source}, [](const SweepPoint& point, size_t job) {
         return point.answer.jobs[job].seconds * 1e6;
       }}};
  if (has_goodput(sweep)) {
    const Figure& goodput = *goodput_of(sweep.points.front());
    out.push_back({"Goodput",
                   "goodput (%)",
                   false,
                   {goodput.formula, goodput.source},
                   [](const SweepPoint& point, size_t) { return goodput_of(point)->value; },
                   false});
  }
  return out;
}

/// A line of a chart: the points that share what is not on its axis.
struct Line {
  size_t job = 0;
  std::optional<size_t> other;  // value of the other key
  std::string name;
};

size_t num_jobs_of(const Sweep& sweep, const Drawn& drawn) {
  return drawn.is_of_job ? sweep.points.front().answer.jobs.size() : 1;
}

std::vector<Line> lines_of(const Sweep& sweep, const Drawn& drawn, size_t key) {
  const auto& jobs = sweep.points.front().answer.jobs;
  const bool has_other = sweep.keys.size() > 1;
  std::vector<Line> lines;
  for (size_t job = 0; job < num_jobs_of(sweep, drawn); ++job) {
    const size_t count = has_other ? sweep.keys[1 - key].values.size() : 1;
    for (size_t value = 0; value < count; ++value) {
      Line line{job, has_other ? std::optional(value) : std::nullopt,
                jobs.size() > 1 && drawn.is_of_job ? jobs[job].name + " " + jobs[job].op : ""};
      if (has_other) {
        line.name +=
            (line.name.empty() ? "" : ", ") + sweep.keys[1 - key].key + "=" + sweep.keys[1 - key].values[value];
      }
      if (line.name.empty()) line.name = drawn.is_of_job ? jobs[job].op : "goodput";
      lines.push_back(std::move(line));
    }
  }
  return lines;
}

const SweepPoint& point_at(const Sweep& sweep, size_t key, size_t value, size_t other) {
  if (sweep.keys.size() == 1) return sweep.points[value];
  const size_t first = key == 0 ? value : other, second = key == 0 ? other : value;
  return sweep.points[first * sweep.keys[1].values.size() + second];
}

std::string title_of(const Sweep& sweep, const Drawn& drawn, size_t key) {
  return drawn.title + " against " + sweep.keys[key].key;
}

LineChart line_chart(const Sweep& sweep, const Drawn& drawn, size_t key, const std::vector<double>& xs) {
  std::vector<size_t> order(xs.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::sort(order.begin(), order.end(), [&](size_t a, size_t b) { return std::pair(xs[a], a) < std::pair(xs[b], b); });
  const double low = xs[order.front()], high = xs[order.back()];
  LineChart chart{.title = title_of(sweep, drawn, key),
                  .x_label = axis_label(sweep.keys[key].key),
                  .y_label = drawn.label,
                  .log_y = drawn.is_log,
                  .series = {},
                  .log_x = low > 0 && high >= 8 * low,
                  .origin = drawn.origin};
  for (const Line& line : lines_of(sweep, drawn, key)) {
    Series series{.name = line.name, .x = {}, .y = {}, .labels = {}};
    for (const size_t value : order) {
      const SweepPoint& point = point_at(sweep, key, value, line.other.value_or(0));
      series.x.push_back(xs[value]);
      series.y.push_back(drawn.value(point, line.job));
      series.labels.push_back("limit: " + limit_of(point));
    }
    chart.series.push_back(std::move(series));
  }
  return chart;
}

/// Two keys with many values: a cell each.
HeatMap heat_map(const Sweep& sweep, const Drawn& drawn, size_t job) {
  HeatMap map{.title = drawn.title + " against " + sweep.keys[0].key + " and " + sweep.keys[1].key +
                       (job > 0 ? ", " + sweep.points.front().answer.jobs[job].name : ""),
              .row_label = axis_label(sweep.keys[1].key),
              .column_label = axis_label(sweep.keys[0].key),
              .value_label = drawn.label,
              .rows = sweep.keys[1].values,
              .columns = sweep.keys[0].values,
              .values = {},
              .origin = drawn.origin};
  for (size_t row = 0; row < map.rows.size(); ++row) {
    auto& line = map.values.emplace_back();
    for (size_t column = 0; column < map.columns.size(); ++column) {
      line.push_back(drawn.value(point_at(sweep, 0, column, row), job));
    }
  }
  return map;
}

BarChart bar_chart(const Sweep& sweep, const Drawn& drawn, size_t job) {
  BarChart chart{.title = drawn.title + (drawn.is_of_job ? " of " + sweep.points.front().answer.jobs[job].op : "") +
                          (job > 0 ? ", " + sweep.points.front().answer.jobs[job].name : ""),
                 .row_label = sweep.keys[0].key + (sweep.keys.size() > 1 ? ", " + sweep.keys[1].key : ""),
                 .value_label = drawn.label,
                 .rows = {},
                 .parts = {{drawn.title, {}}},
                 .origin = drawn.origin};
  for (const SweepPoint& point : sweep.points) {
    chart.rows.push_back(point.values[0] + (point.values.size() > 1 ? ", " + point.values[1] : ""));
    chart.parts[0].values.push_back(drawn.value(point, job));
  }
  return chart;
}

double or_none(const Figure* figure) { return figure ? figure->value : std::numeric_limits<double>::quiet_NaN(); }

Origin goodput_origin(const Sweep& sweep) {
  for (const SweepPoint& point : sweep.points) {
    if (const Figure* goodput = goodput_of(point)) return {goodput->formula, goodput->source};
  }
  return {};
}

/// The columns of a job: name, unit, and where the number is.
struct Column {
  std::string name, unit;
  Origin origin;
  double (*value)(const JobAnswer& job) = nullptr;
};

std::vector<Column> columns_of(const Sweep& sweep, size_t job) {
  const JobAnswer& first = sweep.points.front().answer.jobs[job];
  const Figure &time = first.figures.front(), &bandwidth = bandwidth_of(first);
  const std::string name = bandwidth_name(sweep, job);
  std::vector<Column> out = {
      {"time", "us", {time.formula, time.source}, [](const JobAnswer& j) { return j.seconds * 1e6; }},
      {"bytes on links", "us", {"from the first byte to the last", kFluid}, [](const JobAnswer& j) {
         return or_none(find_figure(j.figures, "of it bytes on links"));
       }}};
  out.push_back({name,
                 "GB/s",
                 {name == "bandwidth" ? "busbw, logical bandwidth or algbw" : bandwidth.formula, bandwidth.source},
                 [](const JobAnswer& j) { return bandwidth_of(j).value; }});
  const auto is_broken = [&](const SweepPoint& point) {
    return find_figure(point.answer.jobs[job].figures, "bandwidth against healthy");
  };
  if (std::any_of(sweep.points.begin(), sweep.points.end(), is_broken)) {
    out.push_back(
        {"against healthy", "%", {"healthy time / time - 1, of bytes on links", kFluid}, [](const JobAnswer& j) {
           return or_none(find_figure(j.figures, "bandwidth against healthy"));
         }});
  }
  return out;
}

std::string job_prefix(const Sweep& sweep, size_t job) {
  if (sweep.points.front().answer.jobs.size() == 1) return "";
  return sweep.points.front().answer.jobs[job].name + ": ";
}

Grid grid_of(const Sweep& sweep) {
  Grid grid{.title = "All points", .row_label = "settings", .columns = {}, .rows = {}};
  const size_t num_jobs = sweep.points.front().answer.jobs.size();
  for (size_t job = 0; job < num_jobs; ++job) {
    for (const Column& column : columns_of(sweep, job)) {
      grid.columns.push_back({job_prefix(sweep, job) + column.name, column.unit, column.origin});
    }
  }
  const bool has_stops = std::any_of(sweep.points.begin(), sweep.points.end(), goodput_of);
  if (has_stops) grid.columns.push_back({"goodput", "%", goodput_origin(sweep)});
  for (const SweepPoint& point : sweep.points) {
    Grid::Row row{text_of(sweep, point) + "; limit: " + limit_of(point), {}};
    for (size_t job = 0; job < num_jobs; ++job) {
      for (const Column& column : columns_of(sweep, job)) row.values.push_back(column.value(point.answer.jobs[job]));
    }
    if (has_stops) row.values.push_back(or_none(goodput_of(point)));
    grid.rows.push_back(std::move(row));
  }
  return grid;
}

}  // namespace

std::string text_of(const Sweep& sweep, const SweepPoint& point) {
  std::string text;
  for (size_t k = 0; k < sweep.keys.size(); ++k) {
    text += (k > 0 ? ", " : "") + sweep.keys[k].key + "=" + point.values[k];
  }
  return text;
}

Result<std::vector<SweepKey>> parse_sweep(const std::vector<std::string>& texts) {
  if (texts.size() > kMostSweepKeys) {
    return invalid("--sweep is given " + std::to_string(texts.size()) + " times; accepted: one or two keys");
  }
  std::vector<SweepKey> keys;
  size_t num_points = 1;
  for (const std::string& text : texts) {
    const size_t equals = text.find('=');
    if (equals == 0 || equals == std::string::npos || equals + 1 == text.size()) {
      return invalid("--sweep " + shown(text) + "; accepted: KEY=a,b,c, as job.bytes=1e6,1e7,1e8");
    }
    SweepKey key{text.substr(0, equals), {}};
    std::set<std::string> seen;
    for (size_t from = equals + 1; from <= text.size();) {
      const size_t comma = std::min(text.find(',', from), text.size());
      key.values.push_back(text.substr(from, comma - from));
      from = comma + 1;
      if (key.values.back().empty()) {
        return invalid("--sweep " + shown(text) + " has an empty value; accepted: KEY=a,b,c");
      }
      if (!seen.insert(key.values.back()).second) {
        return invalid("--sweep " + shown(text) + " has the value " + shown(key.values.back()) + " twice");
      }
    }
    if (!keys.empty() && keys.front().key == key.key) {
      return invalid("--sweep has the key " + shown(key.key) + " twice; give all its values at once");
    }
    num_points *= key.values.size();
    if (num_points > kMostSweepPoints) {
      return invalid("--sweep has " + std::to_string(num_points) +
                     " points; accepted: " + std::to_string(kMostSweepPoints) + " at most");
    }
    keys.push_back(std::move(key));
  }
  return keys;
}

Result<Sweep> run_sweep(const ConfigSources& base, std::vector<SweepKey> keys, FlowEngine engine) {
  check(!keys.empty() && keys.size() <= kMostSweepKeys, "a sweep has one or two keys");
  for (const SweepKey& key : keys) {
    for (const std::string& given : base.overrides) {
      if (given.starts_with(key.key + "=")) {
        return invalid(key.key + " is in --set and in --sweep; leave one of them out");
      }
    }
  }
  Sweep sweep{std::move(keys), {}};
  const size_t inner = sweep.keys.size() > 1 ? sweep.keys[1].values.size() : 1;
  for (size_t i = 0; i < sweep.keys[0].values.size() * inner; ++i) {
    SweepPoint point{{sweep.keys[0].values[i / inner]}, {}, {}};
    if (sweep.keys.size() > 1) point.values.push_back(sweep.keys[1].values[i % inner]);
    ConfigSources sources = base;
    for (size_t k = 0; k < sweep.keys.size(); ++k) {
      sources.overrides.push_back(sweep.keys[k].key + "=" + point.values[k]);
    }
    auto scenario = load_config<Scenario>(sources);
    if (!scenario) return scenario.error();
    point.scenario = *std::move(scenario);
    sweep.points.push_back(std::move(point));
  }
  for (SweepPoint& point : sweep.points) {
    auto answer = simulate(point.scenario, engine);
    if (!answer) {
      return Error{answer.error().code, "--sweep " + text_of(sweep, point) + ": " + answer.error().text};
    }
    point.answer = *std::move(answer);
    point.answer.loads = {};
    const auto names = [](const SweepPoint& p) {
      std::vector<std::string> out;
      for (const JobAnswer& job : p.answer.jobs) out.push_back(job.name);
      return out;
    };
    if (names(point) != names(sweep.points.front())) {
      return invalid("--sweep " + text_of(sweep, point) +
                     ": not all points have the same jobs; sweep also.op over operations only");
    }
  }
  return sweep;
}

Table to_table(const Sweep& sweep, bool is_exact) {
  Table table;
  for (const SweepKey& key : sweep.keys) table.header.push_back(key.key);
  const size_t num_jobs = sweep.points.front().answer.jobs.size();
  const auto text = [&](double v) {
    if (!std::isfinite(v)) return std::string(is_exact ? "" : "-");
    return is_exact ? exact_text(v) : figure_text(v);
  };
  for (size_t job = 0; job < num_jobs; ++job) {
    for (const Column& column : columns_of(sweep, job)) {
      table.header.push_back(job_prefix(sweep, job) + column.name +
                             (is_exact ? " (" + column.unit + ")" : " " + column.unit));
    }
  }
  const bool has_stops = std::any_of(sweep.points.begin(), sweep.points.end(), goodput_of);
  if (has_stops) table.header.push_back(is_exact ? "goodput (%)" : "goodput %");
  table.header.push_back("limit");
  for (const SweepPoint& point : sweep.points) {
    std::vector<std::string> row = point.values;
    for (size_t job = 0; job < num_jobs; ++job) {
      for (const Column& column : columns_of(sweep, job)) row.push_back(text(column.value(point.answer.jobs[job])));
    }
    if (has_stops) row.push_back(text(or_none(goodput_of(point))));
    row.push_back(limit_of(point));
    table.rows.push_back(std::move(row));
  }
  return table;
}

Json to_json(const Sweep& sweep) {
  Json keys = Json::object(), points = Json::array();
  for (const SweepKey& key : sweep.keys) keys.set(key.key, text_json(key.values));
  for (const SweepPoint& point : sweep.points) {
    Json set = Json::object();
    for (size_t k = 0; k < sweep.keys.size(); ++k) set.set(sweep.keys[k].key, point.values[k]);
    points.push(to_json(point.answer).set("set", std::move(set)));
  }
  return Json::object().set("sweep", std::move(keys)).set("points", std::move(points));
}

Report::Section sweep_section(const Sweep& sweep) {
  Report::Section section{"Sweep", "", {}};
  for (const SweepKey& key : sweep.keys)
    section.text +=
        (section.text.empty() ? "" : "; ") + key.key + " at " + std::to_string(key.values.size()) + " values";
  section.text += ". Everything else as in the scenario.";
  for (const Drawn& drawn : drawn_figures(sweep)) {
    const size_t num_jobs = num_jobs_of(sweep, drawn);
    bool is_drawn = false, is_crowded = false;
    for (size_t key = 0; key < sweep.keys.size(); ++key) {
      const auto xs = numbers_of(sweep.keys[key]);
      if (!xs) continue;
      if (lines_of(sweep, drawn, key).size() > kMostLines) {
        is_crowded = true;
        continue;
      }
      section.blocks.push_back(line_chart(sweep, drawn, key, *xs));
      is_drawn = true;
    }
    for (size_t job = 0; job < num_jobs && !is_drawn; ++job) {
      if (is_crowded && sweep.keys.size() > 1) {
        section.blocks.push_back(heat_map(sweep, drawn, job));
      } else {
        section.blocks.push_back(bar_chart(sweep, drawn, job));
      }
    }
  }
  section.blocks.push_back(grid_of(sweep));
  return section;
}

}  // namespace fathom
