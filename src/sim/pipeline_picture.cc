#include "sim/pipeline_picture.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "base/check.h"
#include "report/axis.h"
#include "report/markup.h"

namespace fathom {
namespace {

std::string number_text(double v) {
  char text[32];
  std::snprintf(text, sizeof text, "%.6g", v);
  return text;
}

// The class of a box: by op, and by stream or leg, as its letter tells.
std::string box_class(const Schedule& s, const Instruction& instruction) {
  if (instruction.is_pair()) return "pair";
  const Chunk& c = instruction.chunks[0];
  const std::string op = c.op == Op::kForward         ? "f"
                         : c.op == Op::kBackward      ? "b"
                         : c.op == Op::kBackwardInput ? "i"
                                                      : "w";
  const bool is_second = s.num_streams() > 1 ? c.stream == 1 : c.stage >= s.num_ranks();
  return op + (is_second ? " second" : "");
}

constexpr const char* kStyle =
    "<style>.fp{font:12px system-ui,sans-serif}.fp text{fill:#3b4351}.fp rect{stroke:#fff;stroke-width:.5}"
    ".fp .f{fill:#9cc4ec}.fp .b{fill:#8fd3a5}.fp .i{fill:#c7e59b}.fp .w{fill:#f3cf86}.fp .pair{fill:#c5b3ec}"
    ".fp .second{fill-opacity:.6}.fp .idle{fill:#eef0f3}.fp .box{font-size:9px;fill:#1b2430}"
    ".fp-axis{stroke:#8a93a1;stroke-width:1}@media(prefers-color-scheme:dark){.fp text{fill:#c3cad5}"
    ".fp .box{fill:#1b2430}.fp .idle{fill:#2a313c}}</style>";

}  // namespace

std::string to_text(const Schedule& s, const PipelineRun& run, double unit, int max_columns) {
  check(unit > 0 && run.spans.size() == s.ranks.size(), "a run of the schedule, and a unit of time");
  size_t longest = 0;  // characters of a label per unit of time that must hold it
  for (size_t rank = 0; rank < s.ranks.size(); ++rank) {
    for (size_t i = 0; i < s.ranks[rank].size(); ++i) {
      const double units = (run.spans[rank][i].end - run.spans[rank][i].start) / unit;
      const double width = static_cast<double>(label(s, s.ranks[rank][i]).size() + 1);
      if (units > 0) longest = std::max(longest, static_cast<size_t>(std::ceil(width / units - 1e-9)));
    }
  }
  const double columns = static_cast<double>(std::clamp<size_t>(longest, 4, 16)) / unit;
  const auto column = [&](double t) {
    return static_cast<size_t>(std::min(std::llround(t * columns), static_cast<long long>(max_columns)));
  };
  std::string text;
  for (size_t rank = 0; rank < s.ranks.size(); ++rank) {
    std::string line(column(run.makespan), '.');
    for (size_t i = 0; i < s.ranks[rank].size(); ++i) {
      const size_t begin = column(run.spans[rank][i].start), end = column(run.spans[rank][i].end);
      const std::string name = label(s, s.ranks[rank][i]);
      for (size_t k = begin; k < end; ++k)
        line[k] = k - begin < name.size() ? name[k - begin] : k + 1 < end ? '-' : ' ';
    }
    if (line.size() == static_cast<size_t>(max_columns)) line.back() = '>';
    char head[32];
    std::snprintf(head, sizeof head, "rank %-3d ", static_cast<int>(rank));
    text += head + line + "\n";
  }
  return text;
}

std::string to_svg(const Schedule& s, const PipelineRun& run, const std::string& time_label, int64_t max_boxes) {
  check(run.spans.size() == s.ranks.size(), "a run of the schedule");
  constexpr double kLeft = 70, kRight = 20, kTop = 58, kRow = 22, kBottom = 50;
  // Time is cut, not ranks, so that every row ends at the same moment.
  double last = run.makespan;
  std::vector<double> ends;
  for (const auto& spans : run.spans) {
    for (const Span& span : spans) ends.push_back(span.end);
  }
  const bool is_cut = static_cast<int64_t>(ends.size()) > max_boxes;
  if (is_cut) {
    std::nth_element(ends.begin(), ends.begin() + max_boxes, ends.end());
    last = ends[static_cast<size_t>(max_boxes)];
  }
  const Axis axis(0, std::max(last, 1e-12), false, false, 10);
  const double drawn = std::clamp(static_cast<double>(std::min<int64_t>(static_cast<int64_t>(ends.size()), max_boxes)) /
                                      static_cast<double>(std::max<size_t>(s.ranks.size(), 1)) * 30,
                                  620.0, 4000.0);
  const auto x_of = [&](double t) { return kLeft + drawn * axis.position(t); };
  const double height = kTop + kRow * static_cast<double>(s.ranks.size()) + kBottom, width = kLeft + drawn + kRight;
  const auto text_at = [](double x, double y, const char* anchor, const std::string& text, const char* extra = "") {
    return "<text x=\"" + coordinate_text(x) + "\" y=\"" + coordinate_text(y) + "\" text-anchor=\"" + anchor + "\"" +
           extra + ">" + escape_markup(text) + "</text>";
  };
  const std::string title = s.name + ": " + std::to_string(s.num_ranks()) + " ranks, " +
                            std::to_string(s.num_micro_batches()) + " micro-batches" +
                            (is_cut ? ", the first " + std::to_string(max_boxes) + " instructions" : "");
  std::string out = "<svg class=\"fp\" xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 " + coordinate_text(width) +
                    " " + coordinate_text(height) + "\" width=\"" + coordinate_text(width) + "\" height=\"" +
                    coordinate_text(height) + "\" role=\"img\" aria-label=\"" + escape_markup(title) + "\">" + kStyle +
                    "\n" + text_at(16, 20, "start", title, " font-size=\"15\" font-weight=\"600\"") + "\n";
  double x = kLeft;
  for (const auto& [kind, name] : {std::pair{"f", "F forward"},
                                   {"b", "B backward"},
                                   {"i", "I input gradient"},
                                   {"w", "W weight gradient"},
                                   {"pair", "F&B overlapped"},
                                   {"idle", "idle"}}) {
    out += "<rect class=\"" + std::string(kind) + "\" x=\"" + coordinate_text(x) +
           "\" y=\"32\" width=\"12\" height=\"12\"/>" + text_at(x + 16, 42, "start", name) + "\n";
    x += 100;
  }
  for (size_t rank = 0; rank < s.ranks.size(); ++rank) {
    const double y = kTop + kRow * static_cast<double>(rank);
    out += text_at(kLeft - 8, y + 14, "end", "rank " + std::to_string(rank)) + "<rect class=\"idle\" x=\"" +
           coordinate_text(x_of(0)) + "\" y=\"" + coordinate_text(y) + "\" width=\"" +
           coordinate_text(x_of(last) - x_of(0)) + "\" height=\"" + coordinate_text(kRow - 3) + "\"/>\n";
    for (size_t i = 0; i < s.ranks[rank].size(); ++i) {
      const Span span = run.spans[rank][i];
      if (span.end > last) break;
      const std::string name = label(s, s.ranks[rank][i]);
      const double left = x_of(span.start), wide = x_of(span.end) - left;
      out += "<g><title>" + escape_markup(name) + ": " + number_text(span.start) + " to " + number_text(span.end) +
             "</title><rect class=\"" + box_class(s, s.ranks[rank][i]) + "\" x=\"" + coordinate_text(left) + "\" y=\"" +
             coordinate_text(y) + "\" width=\"" + coordinate_text(wide) + "\" height=\"" + coordinate_text(kRow - 3) +
             "\"/>";
      if (wide > 5.5 * static_cast<double>(name.size())) {
        out += text_at(left + wide / 2, y + 13, "middle", name, " class=\"box\"");
      }
      out += "</g>\n";
    }
  }
  const double floor_y = kTop + kRow * static_cast<double>(s.ranks.size()) + 4;
  out += "<path class=\"fp-axis\" d=\"M" + coordinate_text(kLeft) + " " + coordinate_text(floor_y) + "h" +
         coordinate_text(drawn) + "\"/>";
  for (const Axis::Tick& tick : axis.ticks()) out += text_at(x_of(tick.value), floor_y + 18, "middle", tick.text);
  return out + text_at(kLeft + drawn / 2, floor_y + 38, "middle", time_label) + "\n</svg>\n";
}

}  // namespace fathom
