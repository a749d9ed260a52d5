#include "report/chart.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>

#include "base/check.h"
#include "report/axis.h"
#include "report/markup.h"

namespace fathom {
namespace {

constexpr double kWidth = 720, kHeight = 380;
constexpr double kRight = 20, kBottom = 52;
constexpr double kCharacter = 6.6;  // mean width of a 12 px character
constexpr size_t kMaxDots = 40;     // lines with at most this many points show them
constexpr size_t kNumColors = 8;
constexpr double kLargest = 1e300;

// Explicit colours, not CSS variables: programs that draw a lone SVG file know only the former. Pairs for light and
// dark.
constexpr const char* kLight[kNumColors] = {"#0b63b0", "#c2410c", "#15803d", "#a21caf",
                                            "#92600a", "#0e7490", "#be123c", "#475569"};
constexpr const char* kDark[kNumColors] = {"#6cb2f5", "#fb8f57", "#5fd38a", "#e38af0",
                                           "#e5b64d", "#5fd0e3", "#fb7f98", "#a5b4c8"};

std::string style() {
  std::string light, dark;
  for (size_t i = 0; i < kNumColors; ++i) {
    const std::string id = std::to_string(i);
    light += ".fc-s" + id + "{stroke:" + kLight[i] + "}.fc-d" + id + "{fill:" + kLight[i] + "}";
    dark += ".fc-s" + id + "{stroke:" + kDark[i] + "}.fc-d" + id + "{fill:" + kDark[i] + "}";
  }
  return "<style>.fc{font:12px system-ui,sans-serif}.fc text{fill:#3b4351}.fc .fc-title{font-size:15px;font-weight:600;"
         "fill:#111827}.fc-grid{stroke:#e2e5ea;stroke-width:1}.fc-axis{stroke:#8a93a1;stroke-width:1}.fc-line{fill:"
         "none;"
         "stroke-width:2;stroke-linejoin:round;stroke-linecap:round}" +
         light +
         "@media(prefers-color-scheme:dark){.fc text{fill:#c3cad5}.fc .fc-title{fill:#f1f4f8}.fc-grid{stroke:#333b48}"
         ".fc-axis{stroke:#7b8594}" +
         dark + "}</style>";
}

struct Point {
  double x = 0;
  double y = 0;
};

// A series as the runs of points that can be drawn, each an unbroken line.
struct Drawn {
  std::vector<std::vector<Point>> runs;
  size_t num_points = 0;
};

Drawn drawable(const Series& series, bool log_y) {
  check(series.x.size() == series.y.size(), "a series has as many x as y values");
  Drawn out;
  bool open = false;
  for (size_t i = 0; i < series.x.size(); ++i) {
    const double x = series.x[i], y = series.y[i];
    const bool good = std::abs(x) <= kLargest && std::abs(y) <= kLargest && (!log_y || y >= 1 / kLargest);
    if (good) {
      if (!open) out.runs.emplace_back();
      out.runs.back().push_back({x, y});
      ++out.num_points;
    }
    open = good;
  }
  return out;
}

// The drawing area and the two axes.
struct Frame {
  Axis x, y;
  double left, top, width, height;

  Point place(Point p) const { return {left + x.position(p.x) * width, top + height - y.position(p.y) * height}; }
};

// Keeps the first, lowest, highest and last point of every pixel column of a run, in order.
std::vector<Point> thinned(const std::vector<Point>& run, const Frame& frame) {
  std::vector<Point> out;
  for (size_t begin = 0; begin < run.size();) {
    const double column = std::floor(frame.place(run[begin]).x);
    size_t end = begin + 1, low = begin, high = begin;
    for (; end < run.size() && std::floor(frame.place(run[end]).x) == column; ++end) {
      if (run[end].y < run[low].y) low = end;
      if (run[end].y > run[high].y) high = end;
    }
    size_t kept[] = {begin, std::min(low, high), std::max(low, high), end - 1};
    const auto last = std::unique(std::begin(kept), std::end(kept));
    for (auto it = std::begin(kept); it != last; ++it) out.push_back(frame.place(run[*it]));
    begin = end;
  }
  return out;
}

std::string text_element(double x, double y, const char* anchor, const std::string& escaped, const char* extra = "") {
  return "<text x=\"" + coordinate_text(x) + "\" y=\"" + coordinate_text(y) + "\" text-anchor=\"" + anchor + "\"" +
         extra + ">" + escaped + "</text>";
}

std::string line_element(const char* kind, double x1, double y1, double x2, double y2) {
  return std::string("<line class=\"") + kind + "\" x1=\"" + coordinate_text(x1) + "\" y1=\"" + coordinate_text(y1) +
         "\" x2=\"" + coordinate_text(x2) + "\" y2=\"" + coordinate_text(y2) + "\"/>";
}

// Lines beyond the number of colours repeat them with another dash.
std::string dash_of(size_t index) {
  constexpr const char* kDashes[] = {"", " stroke-dasharray=\"7 4\"", " stroke-dasharray=\"2 4\""};
  return kDashes[index / kNumColors % 3];
}

std::string series_element(const Series& series, const Drawn& drawn, const Frame& frame, size_t index) {
  const std::string color = std::to_string(index % kNumColors);
  std::string path, dots;
  for (const auto& run : drawn.runs) {
    const auto points = thinned(run, frame);
    for (size_t i = 0; i < points.size(); ++i) {
      path += i ? 'L' : 'M';
      path += coordinate_text(points[i].x) + " " + coordinate_text(points[i].y);
    }
    // A lone point has no line to be seen by.
    if (drawn.num_points > kMaxDots && run.size() > 1) continue;
    for (const Point& p : points) {
      dots += "<circle class=\"fc-d" + color + "\" cx=\"" + coordinate_text(p.x) + "\" cy=\"" + coordinate_text(p.y) +
              "\" r=\"3\"/>";
    }
  }
  if (path.empty()) return "";
  return "<g><title>" + escape_markup(series.name) + "</title><path class=\"fc-line fc-s" + color + "\"" +
         dash_of(index) + " d=\"" + path + "\"/>" + dots + "</g>\n";
}

// The number of characters as a reader counts them: UTF-8 continuation bytes do not count.
double text_width(const std::string& text) {
  const auto count = std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xC0) != 0x80; });
  return static_cast<double>(count) * kCharacter;
}

std::string shortened(const std::string& text, size_t max_characters) {
  size_t count = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    if ((text[i] & 0xC0) != 0x80 && count++ == max_characters) return text.substr(0, i) + "\xE2\x80\xA6";
  }
  return text;
}

// Legend entries in rows below the title; returns the y below the last row. One line needs no legend.
double add_legend(const LineChart& chart, double left, double y, std::string& out) {
  if (chart.series.size() < 2) return y;
  double x = left;
  for (size_t i = 0; i < chart.series.size(); ++i) {
    const std::string name = shortened(chart.series[i].name, 40);
    const double width = 26 + text_width(name) + 18;
    if (x > left && x + width > kWidth - kRight) {
      x = left;
      y += 18;
    }
    const std::string color = std::to_string(i % kNumColors);
    out += "<path class=\"fc-line fc-s" + color + "\"" + dash_of(i) + " d=\"M" + coordinate_text(x) + " " +
           coordinate_text(y - 4) + "h20\"/>" + text_element(x + 26, y, "start", escape_markup(name)) + "\n";
    x += width;
  }
  return y + 18;
}

}  // namespace

std::string to_svg(const LineChart& chart) {
  std::vector<Drawn> drawn;
  double x_low = kLargest, x_high = -kLargest, y_low = kLargest, y_high = -kLargest;
  size_t num_points = 0, num_given = 0;
  for (const Series& series : chart.series) {
    drawn.push_back(drawable(series, chart.log_y));
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

  std::string body;
  const double legend_end = add_legend(chart, 16, chart.title.empty() ? 20 : 46, body);
  // Many series: the picture grows, the drawing area does not shrink.
  const double height = kHeight + std::max(0.0, legend_end - 64);
  std::string out = "<svg class=\"fc\" xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 " + coordinate_text(kWidth) +
                    " " + coordinate_text(height) + "\" width=\"" + coordinate_text(kWidth) + "\" height=\"" +
                    coordinate_text(height) + "\" role=\"img\" aria-label=\"" + escape_markup(chart.title) + "\">" +
                    style() + "\n";
  if (!chart.title.empty()) {
    out += text_element(16, 22, "start", escape_markup(shortened(chart.title, 80)), " class=\"fc-title\"") + "\n";
  }
  out += body;
  if (num_points == 0) {
    const std::string why = num_given == 0 ? "no data" : "no data that this axis can show";
    return out + text_element(kWidth / 2, height / 2, "middle", why) + "\n</svg>\n";
  }

  const Axis x_axis(x_low, x_high, false, false, 7);
  const Axis y_axis(y_low, y_high, chart.log_y, true, 5);
  double label_width = 0;
  for (const Axis::Tick& tick : y_axis.ticks()) label_width = std::max(label_width, text_width(tick.text));
  const double left = 16 + (chart.y_label.empty() ? 0 : 20) + label_width + 8;
  const double top = legend_end + 6;
  const Frame frame{x_axis, y_axis, left, top, kWidth - kRight - left, height - kBottom - top};

  for (const Axis::Tick& tick : y_axis.ticks()) {
    const double y = frame.place({x_axis.low(), tick.value}).y;
    out += line_element("fc-grid", left, y, left + frame.width, y) + text_element(left - 8, y + 4, "end", tick.text) +
           "\n";
  }
  const double floor_y = top + frame.height;
  for (const Axis::Tick& tick : x_axis.ticks()) {
    const double x = frame.place({tick.value, y_axis.low()}).x;
    out +=
        line_element("fc-axis", x, floor_y, x, floor_y + 5) + text_element(x, floor_y + 19, "middle", tick.text) + "\n";
  }
  out += line_element("fc-axis", left, floor_y, left + frame.width, floor_y) + "\n";
  if (!chart.x_label.empty()) {
    out += text_element(left + frame.width / 2, floor_y + 40, "middle", escape_markup(shortened(chart.x_label, 80))) +
           "\n";
  }
  if (!chart.y_label.empty()) {
    const double middle = top + frame.height / 2;
    const std::string turn = " transform=\"rotate(-90 22 " + coordinate_text(middle) + ")\"";
    out += text_element(22, middle, "middle", escape_markup(shortened(chart.y_label, 40)), turn.c_str()) + "\n";
  }
  for (size_t i = 0; i < drawn.size(); ++i) out += series_element(chart.series[i], drawn[i], frame, i);
  return out + "</svg>\n";
}

}  // namespace fathom
