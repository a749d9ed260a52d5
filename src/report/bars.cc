#include "report/bars.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "base/check.h"
#include "report/axis.h"
#include "report/markup.h"
#include "report/svg.h"

namespace fathom {
namespace {

constexpr size_t kMaxRows = 64;
constexpr size_t kMaxNameCharacters = 28;
constexpr double kRight = 24, kBottom = 52;
constexpr double kLargest = 1e300;

double row_height(size_t num_rows) { return num_rows > 24 ? 15 : 26; }

bool is_drawable(double v) { return v >= 0 && v <= kLargest; }

const Origin& either(const Origin& own, const Origin& other) {
  return own.formula.empty() && own.source.empty() ? other : own;
}

std::string cut_title(const std::string& title, size_t num_rows) {
  return num_rows <= kMaxRows
             ? title
             : title + " (the first " + std::to_string(kMaxRows) + " of " + std::to_string(num_rows) + " rows)";
}

std::string empty_drawing(std::string out) {
  out += text_element(kDrawingWidth / 2, 100, "middle", "no data") + "\n</svg>\n";
  return out;
}

// The frame for `names` below `top`, the axis of values below it, the names beside it.
Frame frame_of(const std::vector<std::string>& names, const std::string& row_label, double top) {
  const double left = 16 + (row_label.empty() ? 0 : 20) + row_names_width(names, kMaxNameCharacters);
  return {left, top, kDrawingWidth - kRight - left, row_height(names.size()) * static_cast<double>(names.size())};
}

std::string bar_element(const std::string& kind, const Frame& frame, size_t row, size_t num_rows, double x1, double x2,
                        double value, const std::string& hover, const Origin& origin) {
  const double height = row_height(num_rows), y = frame.top + static_cast<double>(row) * height;
  const std::string data = " data-row=\"" + std::to_string(row) + "\" data-v=\"" + exact_text(value) + "\"";
  return "<g>" + hover_element(hover, origin) +
         rect_element(kind, std::min(x1, x2), y + 2, std::abs(x2 - x1), height - 4, data) + "</g>\n";
}

}  // namespace

std::string to_svg(const BarChart& chart) {
  for (const BarChart::Part& part : chart.parts) {
    check(part.values.size() == chart.rows.size(), "a part has a value per row");
  }
  const std::vector<std::string> names(
      chart.rows.begin(), chart.rows.begin() + static_cast<int64_t>(std::min(chart.rows.size(), kMaxRows)));
  double most = 0;
  size_t num_values = 0;
  for (size_t row = 0; row < names.size(); ++row) {
    double sum = 0;
    for (const BarChart::Part& part : chart.parts) {
      if (!is_drawable(part.values[row])) continue;
      sum = std::min(sum + part.values[row], kLargest);
      ++num_values;
    }
    most = std::max(most, sum);
  }
  const bool has_limit = chart.limit && is_drawable(chart.limit->value);
  if (has_limit) most = std::max(most, chart.limit->value);

  std::vector<LegendEntry> entries;
  for (size_t i = 0; i < chart.parts.size() && chart.parts.size() > 1; ++i) {
    entries.push_back({chart.parts[i].name, "fc-d" + std::to_string(i % kNumColors), i});
  }
  std::string legend;
  const double legend_end = add_legend(entries, 16, 46, kDrawingWidth - kRight, legend);
  const Frame frame = frame_of(names, chart.row_label, legend_end + (has_limit ? 20 : 4));
  std::string out = svg_head("bars", cut_title(chart.title, chart.rows.size()), kDrawingWidth,
                             std::max(frame.bottom() + kBottom, 160.0)) +
                    legend;
  if (num_values == 0) return empty_drawing(std::move(out));

  const Axis axis(0, most, false, true, 7);
  const auto x_of = [&](double v) { return frame.left + axis.position(v) * frame.width; };
  out += x_axis_element(axis, frame, chart.value_label, true) + row_names_element(names, frame, kMaxNameCharacters) +
         turned_label_element(frame, chart.row_label);
  std::vector<double> sums(names.size());
  for (size_t i = 0; i < chart.parts.size(); ++i) {
    const BarChart::Part& part = chart.parts[i];
    out += "<g data-series=\"" + std::to_string(i) + "\">\n";
    for (size_t row = 0; row < names.size(); ++row) {
      const double value = part.values[row];
      if (!is_drawable(value)) continue;
      const double from = sums[row];
      sums[row] = std::min(from + value, kLargest);
      out += bar_element("fc-d" + std::to_string(i % kNumColors), frame, row, names.size(), x_of(from), x_of(sums[row]),
                         value, part.name + ", " + names[row] + "\n" + chart.value_label + ": " + hover_number(value),
                         either(part.origin, chart.origin));
    }
    out += "</g>\n";
  }
  if (has_limit) {
    const double x = x_of(chart.limit->value);
    const std::string text = chart.limit->name + ": " + hover_number(chart.limit->value);
    const bool on_left = x > frame.left + frame.width / 2;
    out += line_element("fc-limit", x, frame.top - 4, x, frame.bottom()) +
           text_element(x + (on_left ? 6 : -6), frame.top - 7, on_left ? "end" : "start", shortened(text, 60)) + "\n";
  }
  return out + "</svg>\n";
}

Json to_json(const BarChart& chart) {
  Json out = Json::object();
  out.set("kind", "bars").set("title", chart.title).set("row_label", chart.row_label);
  out.set("value_label", chart.value_label).set("rows", text_json(chart.rows));
  if (chart.limit) {
    Json limit = Json::object();
    out.set("limit", limit.set("name", chart.limit->name).set("value", number_json(chart.limit->value)));
  }
  set_origin(out, chart.origin);
  Json list = Json::array();
  for (const BarChart::Part& part : chart.parts) {
    Json item = Json::object();
    item.set("name", part.name).set("values", number_json(part.values));
    set_origin(item, part.origin);
    list.push(std::move(item));
  }
  return out.set("parts", std::move(list));
}

Table to_table(const BarChart& chart) {
  Table table{.header = {chart.row_label}, .rows = {}};
  for (const BarChart::Part& part : chart.parts) table.header.push_back(part.name + ": " + chart.value_label);
  for (size_t row = 0; row < chart.rows.size(); ++row) {
    std::vector<std::string> cells = {chart.rows[row]};
    for (const BarChart::Part& part : chart.parts) {
      check(part.values.size() == chart.rows.size(), "a part has a value per row");
      cells.push_back(exact_text(part.values[row]));
    }
    table.rows.push_back(std::move(cells));
  }
  return table;
}

std::string to_svg(const Tornado& chart) {
  const auto good = [](double v) { return std::abs(v) <= kLargest; };
  std::vector<size_t> order;
  for (size_t i = 0; i < chart.rows.size(); ++i) {
    if (good(chart.rows[i].low) && good(chart.rows[i].high) && good(chart.base)) order.push_back(i);
  }
  const auto reach = [&](size_t i) { return std::abs(chart.rows[i].high / 2 - chart.rows[i].low / 2); };
  std::sort(order.begin(), order.end(),
            [&](size_t a, size_t b) { return std::pair(-reach(a), a) < std::pair(-reach(b), b); });
  std::vector<Tornado::Row> rows;
  for (const size_t i : order) rows.push_back(chart.rows[i]);
  double low = chart.base, high = chart.base;
  const size_t num_given = rows.size();
  rows.resize(std::min(rows.size(), kMaxRows));
  std::vector<std::string> names;
  for (const Tornado::Row& row : rows) {
    names.push_back(row.name);
    low = std::min({low, row.low, row.high});
    high = std::max({high, row.low, row.high});
  }
  std::string legend;
  const std::vector<LegendEntry> entries = {{chart.low_name, "fc-d0", 0}, {chart.high_name, "fc-d1", 1}};
  const double legend_end = add_legend(entries, 16, 46, kDrawingWidth - kRight, legend);
  const Frame frame = frame_of(names, "", legend_end + 20);
  std::string out =
      svg_head("tornado", cut_title(chart.title, num_given), kDrawingWidth, std::max(frame.bottom() + kBottom, 160.0)) +
      legend;
  if (rows.empty()) return empty_drawing(std::move(out));

  const Axis axis(low, high, false, true, 7);
  const auto x_of = [&](double v) { return frame.left + axis.position(v) * frame.width; };
  out += x_axis_element(axis, frame, chart.value_label, true) + row_names_element(names, frame, kMaxNameCharacters);
  for (size_t row = 0; row < rows.size(); ++row) {
    const auto add = [&](const char* kind, const std::string& change, double value) {
      out += bar_element(kind, frame, row, rows.size(), x_of(chart.base), x_of(value), value,
                         rows[row].name + " " + change + "\n" + chart.value_label + ": " + hover_number(value),
                         either(rows[row].origin, chart.origin));
    };
    add("fc-d0", chart.low_name, rows[row].low);
    add("fc-d1", chart.high_name, rows[row].high);
  }
  const double x = x_of(chart.base);
  const bool on_left = x > frame.left + frame.width / 2;
  return out + line_element("fc-axis", x, frame.top - 4, x, frame.bottom()) +
         text_element(x + (on_left ? 6 : -6), frame.top - 7, on_left ? "end" : "start",
                      "as given: " + hover_number(chart.base)) +
         "\n</svg>\n";
}

Json to_json(const Tornado& chart) {
  Json out = Json::object();
  out.set("kind", "tornado").set("title", chart.title).set("value_label", chart.value_label);
  out.set("base", number_json(chart.base)).set("low_name", chart.low_name).set("high_name", chart.high_name);
  set_origin(out, chart.origin);
  Json list = Json::array();
  for (const Tornado::Row& row : chart.rows) {
    Json item = Json::object();
    item.set("name", row.name).set("low", number_json(row.low)).set("high", number_json(row.high));
    set_origin(item, row.origin);
    list.push(std::move(item));
  }
  return out.set("rows", std::move(list));
}

Table to_table(const Tornado& chart) {
  Table table{.header = {"input", chart.low_name + ": " + chart.value_label, "as given: " + chart.value_label,
                         chart.high_name + ": " + chart.value_label},
              .rows = {}};
  for (const Tornado::Row& row : chart.rows) {
    table.rows.push_back({row.name, exact_text(row.low), exact_text(chart.base), exact_text(row.high)});
  }
  return table;
}

}  // namespace fathom
