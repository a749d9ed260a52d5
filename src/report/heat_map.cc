#include "report/heat_map.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <limits>

#include "base/check.h"
#include "report/axis.h"
#include "report/markup.h"
#include "report/svg.h"

namespace fathom {
namespace {

constexpr size_t kMaxRows = 64, kMaxColumns = 128, kMaxNameCharacters = 18;
constexpr double kBottom = 52, kScaleWidth = 14, kScaleRoom = 96;
constexpr double kLargest = 1e300;

// From little to much, readable on light and dark ground and in grey: lightness falls evenly.
struct Rgb {
  double r, g, b;
};
constexpr Rgb kRamp[] = {{226, 238, 248}, {158, 202, 228}, {84, 158, 205}, {28, 104, 170}, {10, 48, 104}};

std::string color_at(double share) {
  constexpr size_t kLast = std::size(kRamp) - 1;
  const double at = std::clamp(share, 0.0, 1.0) * static_cast<double>(kLast);
  const size_t below = std::min(static_cast<size_t>(at), kLast - 1);
  const double part = at - static_cast<double>(below);
  const Rgb &a = kRamp[below], &b = kRamp[below + 1];
  char text[8];
  std::snprintf(text, sizeof text, "#%02x%02x%02x", static_cast<unsigned>(std::lround(std::lerp(a.r, b.r, part))),
                static_cast<unsigned>(std::lround(std::lerp(a.g, b.g, part))),
                static_cast<unsigned>(std::lround(std::lerp(a.b, b.b, part))));
  return text;
}

// Neighbours merged until at most `most` are left: how many share one.
size_t share_of(size_t count, size_t most) { return std::max<size_t>(1, (count + most - 1) / most); }

std::vector<std::string> merged_names(const std::vector<std::string>& names, size_t share) {
  std::vector<std::string> out;
  for (size_t i = 0; i < names.size(); i += share) {
    const size_t last = std::min(i + share, names.size()) - 1;
    out.push_back(last == i ? names[i] : names[i] + " to " + names[last]);
  }
  return out;
}

HeatMap merged(const HeatMap& map) {
  const size_t down = share_of(map.rows.size(), kMaxRows), across = share_of(map.columns.size(), kMaxColumns);
  if (down == 1 && across == 1) return map;
  HeatMap out{
      .title = map.title + " (a cell is the largest of " + std::to_string(down) + " x " + std::to_string(across) + ")",
      .row_label = map.row_label,
      .column_label = map.column_label,
      .value_label = map.value_label,
      .rows = merged_names(map.rows, down),
      .columns = merged_names(map.columns, across),
      .values = {},
      .origin = map.origin};
  out.values.assign(out.rows.size(), std::vector<double>(out.columns.size(), std::numeric_limits<double>::quiet_NaN()));
  for (size_t row = 0; row < map.rows.size(); ++row) {
    for (size_t column = 0; column < map.columns.size(); ++column) {
      double& cell = out.values[row / down][column / across];
      const double value = map.values[row][column];
      if (std::isfinite(value) && !(cell >= value)) cell = value;
    }
  }
  return out;
}

void check_shape(const HeatMap& map) {
  check(map.values.size() == map.rows.size(), "a heat map has a line of values per row");
  for (const auto& line : map.values) check(line.size() == map.columns.size(), "a heat map has a value per column");
}

// The scale right of the cells: from the lowest value at the bottom to the highest at the top.
std::string scale_element(const Axis& axis, const Frame& frame, const std::string& label) {
  constexpr int kSteps = 32;
  const double x = frame.right() + 16, step = frame.height / kSteps;
  std::string out = "<g class=\"fc-scale\">";
  for (int i = 0; i < kSteps; ++i) {
    out += rect_element("fc-step", x, frame.bottom() - step * (i + 1), kScaleWidth, step + 0.5,
                        " fill=\"" + color_at((i + 0.5) / kSteps) + "\"");
  }
  for (const Axis::Tick& tick : axis.ticks()) {
    out += text_element(x + kScaleWidth + 6, frame.bottom() - axis.position(tick.value) * frame.height + 4, "start",
                        tick.text, " class=\"fc-vt\" data-v=\"" + exact_text(tick.value) + "\"");
  }
  out += "</g>\n";
  if (label.empty()) return out;
  return out +
         text_element(frame.right() + 16 + kScaleWidth, frame.top - 10, "end", shortened(label, 60),
                      " class=\"fc-vl\"") +
         "\n";
}

}  // namespace

std::string to_svg(const HeatMap& given) {
  check_shape(given);
  const HeatMap map = merged(given);
  double low = 0, high = -kLargest;
  for (const auto& line : map.values) {
    for (const double v : line) {
      if (!(std::abs(v) <= kLargest)) continue;
      low = std::min(low, v);
      high = std::max(high, v);
    }
  }
  const double row_height = std::clamp(300 / static_cast<double>(std::max<size_t>(map.rows.size(), 1)), 8.0, 28.0);
  Frame frame{16 + (map.row_label.empty() ? 0 : 20) + row_names_width(map.rows, kMaxNameCharacters), 64, 0,
              std::max(row_height * static_cast<double>(map.rows.size()), 90.0)};
  frame.width = kDrawingWidth - kScaleRoom - frame.left;
  std::string out = svg_head("heat", map.title, kDrawingWidth, frame.bottom() + kBottom);
  if (high < low) return out + text_element(kDrawingWidth / 2, 100, "middle", "no data") + "\n</svg>\n";

  const Axis axis(low, high, false, true, frame.height > 150 ? 5 : 3);
  const double wide = frame.width / static_cast<double>(map.columns.size());
  const double tall = frame.height / static_cast<double>(map.rows.size());
  const double gap = wide > 8 && tall > 8 ? 1 : 0;
  out += row_names_element(map.rows, frame, kMaxNameCharacters);
  for (size_t row = 0; row < map.rows.size(); ++row) {
    for (size_t column = 0; column < map.columns.size(); ++column) {
      const double value = map.values[row][column];
      const bool good = std::abs(value) <= kLargest;
      const std::string data = " data-row=\"" + std::to_string(row) + "\" data-column=\"" + std::to_string(column) +
                               "\" data-v=\"" + exact_text(value) + "\"" +
                               (good ? " fill=\"" + color_at(axis.position(value)) + "\"" : "");
      out += "<g>" +
             hover_element(map.row_label + " " + map.rows[row] + ", " + map.column_label + " " + map.columns[column] +
                               "\n" + map.value_label + ": " + hover_number(value),
                           map.origin) +
             rect_element(good ? "fc-cell" : "fc-none", frame.left + static_cast<double>(column) * wide,
                          frame.top + static_cast<double>(row) * tall, wide - gap, tall - gap, data) +
             "</g>\n";
    }
  }
  double widest = 0;
  for (const std::string& name : map.columns) widest = std::max(widest, text_width(shortened(name, 12)));
  const auto stride = static_cast<size_t>(std::max(1.0, std::ceil((widest + 8) / wide)));
  for (size_t column = 0; column < map.columns.size(); column += stride) {
    out += text_element(frame.left + (static_cast<double>(column) + 0.5) * wide, frame.bottom() + 17, "middle",
                        shortened(map.columns[column], 12), " class=\"fc-xt\"") +
           "\n";
  }
  if (!map.column_label.empty()) {
    out += text_element(frame.left + frame.width / 2, frame.bottom() + 38, "middle", shortened(map.column_label, 80),
                        " class=\"fc-xl\"") +
           "\n";
  }
  out += turned_label_element(frame, map.row_label);
  return out + scale_element(axis, frame, map.value_label) + "</svg>\n";
}

Json to_json(const HeatMap& map) {
  check_shape(map);
  Json out = Json::object();
  out.set("kind", "heat").set("title", map.title).set("row_label", map.row_label);
  out.set("column_label", map.column_label).set("value_label", map.value_label);
  set_origin(out, map.origin);
  out.set("rows", text_json(map.rows)).set("columns", text_json(map.columns));
  Json lines = Json::array();
  for (const auto& line : map.values) lines.push(number_json(line));
  return out.set("values", std::move(lines));
}

Table to_table(const HeatMap& map) {
  check_shape(map);
  Table table{.header = {map.row_label + " \\ " + map.column_label}, .rows = {}};
  for (const std::string& column : map.columns) table.header.push_back(column);
  for (size_t row = 0; row < map.rows.size(); ++row) {
    std::vector<std::string> cells = {map.rows[row]};
    for (const double value : map.values[row]) cells.push_back(exact_text(value));
    table.rows.push_back(std::move(cells));
  }
  return table;
}

}  // namespace fathom
