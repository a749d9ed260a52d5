#include "report/gantt.h"

#include <algorithm>
#include <cmath>

#include "base/check.h"
#include "report/axis.h"
#include "report/markup.h"
#include "report/svg.h"

namespace fathom {
namespace {

constexpr size_t kMaxRows = 1024, kMaxNameCharacters = 18;
constexpr double kRight = 20, kTop = 64, kRow = 22, kBottom = 52;

void check_bars(const Gantt& gantt) {
  check(gantt.kinds.size() <= kNumColors, "a Gantt chart has a colour per kind");
  for (const Gantt::Bar& bar : gantt.bars) {
    check(bar.row < gantt.rows.size() && bar.kind < gantt.kinds.size(), "a bar has a row and a kind");
    check(bar.start <= bar.end && std::abs(bar.start) <= 1e300 && std::abs(bar.end) <= 1e300,
          "a bar ends after it starts");
  }
}

}  // namespace

Gantt first_bars(const Gantt& gantt, int64_t max_bars) {
  check_bars(gantt);
  check(max_bars > 0, "a picture has bars");
  Gantt out = gantt;
  const auto most = static_cast<size_t>(max_bars);
  if (out.rows.size() > kMaxRows) {
    out.title += ", the first " + std::to_string(kMaxRows) + " of " + std::to_string(out.rows.size()) + " rows";
    out.rows.resize(kMaxRows);
    std::erase_if(out.bars, [](const Gantt::Bar& bar) { return bar.row >= kMaxRows; });
  }
  if (out.bars.size() <= most) return out;
  std::vector<double> ends;
  for (const Gantt::Bar& bar : out.bars) ends.push_back(bar.end);
  std::nth_element(ends.begin(), ends.begin() + static_cast<int64_t>(most), ends.end());
  const double last = ends[most];
  std::erase_if(out.bars, [&](const Gantt::Bar& bar) { return bar.end > last; });
  out.bars.resize(std::min(out.bars.size(), most));  // more may end at the very same moment
  out.title += ", the first " + std::to_string(out.bars.size()) + " of " + std::to_string(gantt.bars.size()) + " bars";
  return out;
}

std::string to_svg(const Gantt& given, int64_t max_bars) {
  const Gantt gantt = first_bars(given, max_bars);
  const double num_bars = static_cast<double>(gantt.bars.size());
  const double num_rows = static_cast<double>(std::max<size_t>(gantt.rows.size(), 1));
  double first = 0, last = 0;
  for (const Gantt::Bar& bar : gantt.bars) {
    first = std::min(first, bar.start);
    last = std::max(last, bar.end);
  }
  const double left = 16 + row_names_width(gantt.rows, kMaxNameCharacters);
  const double drawn = std::clamp(num_bars / num_rows * 30, kDrawingWidth - kRight - left, 4000.0);
  std::vector<LegendEntry> entries;
  for (size_t i = 0; i < gantt.kinds.size(); ++i) entries.push_back({gantt.kinds[i], "fc-p" + std::to_string(i), i});
  if (!gantt.idle.empty()) entries.push_back({gantt.idle, "fc-idle", 0});
  std::string legend;
  const double top = std::max(add_legend(entries, 16, 46, kDrawingWidth - kRight, legend), kTop);
  const Frame frame{left, top, drawn, kRow * num_rows};
  std::string out = svg_head("gantt", gantt.title, left + drawn + kRight, frame.bottom() + kBottom) + legend +
                    row_names_element(gantt.rows, frame, kMaxNameCharacters);
  if (gantt.bars.empty()) {
    return out + text_element(kDrawingWidth / 2, top + 14, "middle", "no data") + "\n</svg>\n";
  }

  const Axis axis(first, std::max(last, first + 1e-12), false, false,
                  static_cast<int>(std::clamp(drawn / 70, 4.0, 40.0)));
  const auto x_of = [&](double t) { return frame.left + frame.width * axis.position(t); };
  for (size_t row = 0; row < gantt.rows.size(); ++row) {
    out += rect_element("fc-idle", x_of(first), frame.top + kRow * static_cast<double>(row), x_of(last) - x_of(first),
                        kRow - 3) +
           "\n";
  }
  for (const Gantt::Bar& bar : gantt.bars) {
    const double x = x_of(bar.start), width = x_of(bar.end) - x;
    const double y = frame.top + kRow * static_cast<double>(bar.row);
    out +=
        "<g>" +
        hover_element(bar.name + ": " + hover_number(bar.start) + " to " + hover_number(bar.end), gantt.origin) +
        rect_element((width < 3 ? "fc-p" : "fc-edge fc-p") + std::to_string(bar.kind) + (bar.faded ? " fc-faded" : ""),
                     x, y, width, kRow - 3,
                     " data-row=\"" + std::to_string(bar.row) + "\" data-start=\"" + exact_text(bar.start) +
                         "\" data-end=\"" + exact_text(bar.end) + "\"");
    if (width > 5.5 * static_cast<double>(bar.name.size())) {
      out += text_element(x + width / 2, y + 13, "middle", bar.name, " class=\"fc-box\"");
    }
    out += "</g>\n";
  }
  return out + x_axis_element(axis, frame, gantt.time_label, false) + "</svg>\n";
}

Json to_json(const Gantt& gantt) {
  check_bars(gantt);
  Json row = Json::array(), kind = Json::array(), start = Json::array(), end = Json::array(), name = Json::array();
  for (const Gantt::Bar& bar : gantt.bars) {
    row.push(static_cast<int64_t>(bar.row));
    kind.push(static_cast<int64_t>(bar.kind));
    start.push(bar.start);
    end.push(bar.end);
    name.push(bar.name);
  }
  Json bars = Json::object();
  bars.set("row", std::move(row)).set("kind", std::move(kind)).set("start", std::move(start));
  bars.set("end", std::move(end)).set("name", std::move(name));
  Json out = Json::object();
  out.set("kind", "gantt").set("title", gantt.title).set("time_label", gantt.time_label);
  set_origin(out, gantt.origin);
  out.set("rows", text_json(gantt.rows)).set("kinds", text_json(gantt.kinds));
  return out.set("bars", std::move(bars));
}

Table to_table(const Gantt& gantt) {
  check_bars(gantt);
  Table table{.header = {"row", "kind", "name", "start: " + gantt.time_label, "end: " + gantt.time_label}, .rows = {}};
  for (const Gantt::Bar& bar : gantt.bars) {
    table.rows.push_back(
        {gantt.rows[bar.row], gantt.kinds[bar.kind], bar.name, exact_text(bar.start), exact_text(bar.end)});
  }
  return table;
}

std::string to_trace(const Gantt& gantt, double us_per_unit) {
  check_bars(gantt);
  check(us_per_unit > 0 && us_per_unit <= 1e300, "a unit of time has a length");
  // Written as text, an event a line: a long run has a million of them.
  std::string out = "{\"displayTimeUnit\": \"ms\", \"traceEvents\": [\n";
  out +=
      "{\"ph\": \"M\", \"pid\": 1, \"name\": \"process_name\", \"args\": {\"name\": " + Json(gantt.title).dump() + "}}";
  for (size_t row = 0; row < gantt.rows.size(); ++row) {
    const std::string track = std::to_string(row + 1);  // Perfetto hides thread 0
    out += ",\n{\"ph\": \"M\", \"pid\": 1, \"tid\": " + track +
           ", \"name\": \"thread_name\", \"args\": {\"name\": " + Json(gantt.rows[row]).dump() + "}}";
    out += ",\n{\"ph\": \"M\", \"pid\": 1, \"tid\": " + track +
           ", \"name\": \"thread_sort_index\", \"args\": {\"sort_index\": " + track + "}}";
  }
  std::vector<std::string> kinds;
  for (const std::string& kind : gantt.kinds) kinds.push_back(Json(kind).dump());
  for (const Gantt::Bar& bar : gantt.bars) {
    out += ",\n{\"ph\": \"X\", \"pid\": 1, \"tid\": " + std::to_string(bar.row + 1) +
           ", \"ts\": " + exact_text(bar.start * us_per_unit) +
           ", \"dur\": " + exact_text((bar.end - bar.start) * us_per_unit) + ", \"name\": " + Json(bar.name).dump() +
           ", \"cat\": " + kinds[bar.kind] + "}";
  }
  return out + "\n]}\n";
}

}  // namespace fathom
