#include "report/chart.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "base/check.h"
#include "report/axis.h"
#include "report/markup.h"
#include "report/svg.h"

namespace fathom {
namespace {

constexpr double kHeight = 380;
constexpr double kRight = 20, kBottom = 52;
constexpr size_t kMaxDots = 64;  // lines with at most this many points show them
constexpr size_t kCrowd = 2000;  // dots without a line: of more, one is drawn per 6 x 6 pixels
constexpr double kLargest = 1e300;

struct Point {
  double x = 0;
  double y = 0;
  size_t index = 0;  // in its series
};

// A series as the runs of points that can be drawn, each an unbroken line.
struct Drawn {
  std::vector<std::vector<Point>> runs;
  size_t num_points = 0;
};

Drawn drawable(const Series& series, bool log_x, bool log_y) {
  check(series.x.size() == series.y.size(), "a series has as many x as y values");
  check(series.labels.empty() || series.labels.size() == series.x.size(), "a series has a label per point, or none");
  Drawn out;
  bool open = false;
  for (size_t i = 0; i < series.x.size(); ++i) {
    const double x = series.x[i], y = series.y[i];
    const bool good = std::abs(x) <= kLargest && std::abs(y) <= kLargest && (!log_y || y >= 1 / kLargest) &&
                      (!log_x || x >= 1 / kLargest);
    if (good) {
      if (!open) out.runs.emplace_back();
      out.runs.back().push_back({x, y, i});
      ++out.num_points;
    }
    open = good;
  }
  return out;
}

// The drawing area and the two axes.
struct Plane {
  Axis x, y;
  Frame frame;

  double x_of(const Point& p) const { return frame.left + x.position(p.x) * frame.width; }
  double y_of(const Point& p) const { return frame.bottom() - y.position(p.y) * frame.height; }
};

// Keeps the first, lowest, highest and last point of every pixel column of a run, in order.
std::vector<Point> thinned(const std::vector<Point>& run, const Plane& plane) {
  std::vector<Point> out;
  for (size_t begin = 0; begin < run.size();) {
    const double column = std::floor(plane.x_of(run[begin]));
    size_t end = begin + 1, low = begin, high = begin;
    for (; end < run.size() && std::floor(plane.x_of(run[end])) == column; ++end) {
      if (run[end].y < run[low].y) low = end;
      if (run[end].y > run[high].y) high = end;
    }
    size_t kept[] = {begin, std::min(low, high), std::max(low, high), end - 1};
    const auto last = std::unique(std::begin(kept), std::end(kept));
    for (auto it = std::begin(kept); it != last; ++it) out.push_back(run[*it]);
    begin = end;
  }
  return out;
}

// One point per 6 x 6 pixels: a cloud of any size looks as it would, and stays bounded.
std::vector<Point> uncrowded(std::vector<Point> points, const Plane& plane) {
  const auto cell = [&](const Point& p) {
    return std::pair(std::floor(plane.x_of(p) / 6), std::floor(plane.y_of(p) / 6));
  };
  std::sort(points.begin(), points.end(),
            [&](const Point& a, const Point& b) { return std::pair(cell(a), a.index) < std::pair(cell(b), b.index); });
  const auto same = [&](const Point& a, const Point& b) { return cell(a) == cell(b); };
  points.erase(std::unique(points.begin(), points.end(), same), points.end());
  return points;
}

std::string dot_element(const LineChart& chart, const Series& series, const Point& p, const Plane& plane,
                        const std::string& color) {
  const std::string label = series.labels.empty() ? "" : ", " + series.labels[p.index];
  const std::string text = series.name + label + "\n" + chart.x_label + ": " + hover_number(p.x) + "\n" +
                           chart.y_label + ": " + hover_number(p.y);
  const bool own = !series.origin.formula.empty() || !series.origin.source.empty();
  return "<circle class=\"fc-d" + color + "\" cx=\"" + coordinate_text(plane.x_of(p)) + "\" cy=\"" +
         coordinate_text(plane.y_of(p)) + "\" r=\"" + (series.points_only ? "4" : "3") + "\"" +
         data_attributes(p.x, p.y) + ">" + hover_element(text, own ? series.origin : chart.origin) + "</circle>";
}

std::string series_element(const LineChart& chart, const Drawn& drawn, const Plane& plane, size_t index) {
  const Series& series = chart.series[index];
  const std::string color = std::to_string(index % kNumColors);
  std::string path, dots;
  if (series.points_only) {
    std::vector<Point> points;
    for (const auto& run : drawn.runs) points.insert(points.end(), run.begin(), run.end());
    if (points.size() > kCrowd) points = uncrowded(std::move(points), plane);
    for (const Point& p : points) dots += dot_element(chart, series, p, plane, color);
  }
  for (const auto& run : drawn.runs) {
    if (series.points_only) break;
    const auto points = thinned(run, plane);
    for (size_t i = 0; i < points.size(); ++i) {
      path += i ? 'L' : 'M';
      path += coordinate_text(plane.x_of(points[i])) + " " + coordinate_text(plane.y_of(points[i]));
    }
    // A lone point has no line to be seen by.
    if (drawn.num_points > kMaxDots && run.size() > 1) continue;
    for (const Point& p : points) dots += dot_element(chart, series, p, plane, color);
  }
  if (path.empty() && dots.empty()) return "";
  if (!path.empty()) {
    path = "<path class=\"fc-line fc-s" + color + "\"" + dash_of(index) + " d=\"" + path + "\"/>";
  }
  return "<g data-series=\"" + std::to_string(index) + "\">" + hover_element(series.name) + path + dots + "</g>\n";
}

}  // namespace

std::string to_svg(const LineChart& chart) {
  std::vector<Drawn> drawn;
  double x_low = kLargest, x_high = -kLargest, y_low = kLargest, y_high = -kLargest;
  size_t num_points = 0, num_given = 0;
  for (const Series& series : chart.series) {
    drawn.push_back(drawable(series, chart.log_x, chart.log_y));
    num_points += drawn.back().num_points;
    num_given += series.x.size();
    for (const auto& run : drawn.back().runs) {
      for (const Point& p : run) {
        x_low = std::min(x_low, p.x);
        x_high = std::max(x_high, p.x);
        y_low = std::min(y_low, p.y);
        y_high = std::max(y_high, p.y);
      }
    }
  }

  std::vector<LegendEntry> entries;
  for (size_t i = 0; i < chart.series.size() && chart.series.size() > 1; ++i) {  // one line needs no legend
    const std::string dot = "fc-d" + std::to_string(i % kNumColors);
    entries.push_back({chart.series[i].name, chart.series[i].points_only ? dot : "", i});
  }
  std::string body;
  const double legend_end = add_legend(entries, 16, chart.title.empty() ? 20 : 46, kDrawingWidth - kRight, body);
  // Many series: the picture grows, the drawing area does not shrink.
  const double height = kHeight + std::max(0.0, legend_end - 64);
  std::string out = svg_head("line", chart.title, kDrawingWidth, height) + body;
  if (num_points == 0) {
    const char* why = num_given == 0 ? "no data" : "no data that this axis can show";
    return out + text_element(kDrawingWidth / 2, height / 2, "middle", why) + "\n</svg>\n";
  }

  const Axis x_axis(x_low, x_high, chart.log_x, false, 7);
  const Axis y_axis(y_low, y_high, chart.log_y, true, 5);
  double label_width = 0;
  for (const Axis::Tick& tick : y_axis.ticks()) label_width = std::max(label_width, text_width(tick.text));
  const double left = 16 + (chart.y_label.empty() ? 0 : 20) + label_width + 8;
  const double top = legend_end + 6;
  const Plane plane{x_axis, y_axis, {left, top, kDrawingWidth - kRight - left, height - kBottom - top}};
  out += y_axis_element(y_axis, plane.frame, chart.y_label) + x_axis_element(x_axis, plane.frame, chart.x_label, false);
  for (size_t i = 0; i < drawn.size(); ++i) out += series_element(chart, drawn[i], plane, i);
  return out + "</svg>\n";
}

Json to_json(const LineChart& chart) {
  Json out = Json::object();
  out.set("kind", "line").set("title", chart.title).set("x_label", chart.x_label).set("y_label", chart.y_label);
  out.set("log_x", chart.log_x).set("log_y", chart.log_y);
  set_origin(out, chart.origin);
  Json list = Json::array();
  for (const Series& series : chart.series) {
    Json item = Json::object();
    item.set("name", series.name).set("x", number_json(series.x)).set("y", number_json(series.y));
    if (!series.labels.empty()) item.set("labels", text_json(series.labels));
    set_origin(item, series.origin);
    list.push(std::move(item));
  }
  return out.set("series", std::move(list));
}

Table to_table(const LineChart& chart) {
  const bool labelled = std::any_of(chart.series.begin(), chart.series.end(),
                                    [](const Series& series) { return !series.labels.empty(); });
  Table table{.header = {"series", chart.x_label, chart.y_label}, .rows = {}};
  if (labelled) table.header.insert(table.header.begin() + 1, "label");
  for (const Series& series : chart.series) {
    check(series.x.size() == series.y.size(), "a series has as many x as y values");
    for (size_t i = 0; i < series.x.size(); ++i) {
      table.rows.push_back({series.name, exact_text(series.x[i]), exact_text(series.y[i])});
      if (!labelled) continue;
      auto& row = table.rows.back();
      row.insert(row.begin() + 1, i < series.labels.size() ? series.labels[i] : "");
    }
  }
  return table;
}

}  // namespace fathom
