#include "report/svg.h"

#include <algorithm>
#include <cmath>

#include "base/figure.h"
#include "report/markup.h"

namespace fathom {
namespace {

// Explicit colours, not CSS variables: programs that draw a lone SVG file know only the former. Pairs for light and
// dark ground, and pale ones for boxes that carry dark text on either.
constexpr const char* kLight[kNumColors] = {"#0b63b0", "#c2410c", "#15803d", "#a21caf",
                                            "#92600a", "#0e7490", "#be123c", "#475569"};
constexpr const char* kDark[kNumColors] = {"#6cb2f5", "#fb8f57", "#5fd38a", "#e38af0",
                                           "#e5b64d", "#5fd0e3", "#fb7f98", "#a5b4c8"};
constexpr const char* kPale[kNumColors] = {"#9cc4ec", "#8fd3a5", "#c7e59b", "#f3cf86",
                                           "#c5b3ec", "#f0a79b", "#9fdbe3", "#c3cad5"};

std::string style() {
  std::string light, dark, pale;
  for (size_t i = 0; i < kNumColors; ++i) {
    const std::string id = std::to_string(i);
    light += ".fc-s" + id + "{stroke:" + kLight[i] + "}.fc-d" + id + "{fill:" + kLight[i] + "}";
    dark += ".fc-s" + id + "{stroke:" + kDark[i] + "}.fc-d" + id + "{fill:" + kDark[i] + "}";
    pale += ".fc-p" + id + "{fill:" + kPale[i] + "}";
  }
  return "<style>.fc{font:12px system-ui,sans-serif}.fc text{fill:#3b4351}.fc .fc-title{font-size:15px;font-weight:600;"
         "fill:#111827}.fc-grid{stroke:#e2e5ea;stroke-width:1}.fc-axis{stroke:#8a93a1;stroke-width:1}.fc-line{fill:"
         "none;stroke-width:2;stroke-linejoin:round;stroke-linecap:round}.fc-limit{stroke:#b91c1c;stroke-width:1.5;"
         "stroke-dasharray:5 4}.fc-idle{fill:#eef0f3}.fc .fc-box{font-size:9px;fill:#1b2430}.fc-faded{fill-opacity:.6}"
         ".fc-edge{stroke:#fff;stroke-width:.5}.fc-none{fill:#d4d8de}" +
         light + pale +
         "@media(prefers-color-scheme:dark){.fc text{fill:#c3cad5}.fc .fc-title{fill:#f1f4f8}.fc-grid{stroke:#333b48}"
         ".fc-axis{stroke:#7b8594}.fc-limit{stroke:#fca5a5}.fc-idle{fill:#2a313c}.fc .fc-box{fill:#1b2430}"
         ".fc-edge{stroke:#12161d}.fc-none{fill:#4a525f}" +
         dark +
         // Paper is light.
         "}@media print{.fc text{fill:#3b4351}.fc .fc-title{fill:#111827}.fc-grid{stroke:#e2e5ea}.fc-axis{stroke:"
         "#8a93a1}.fc-limit{stroke:#b91c1c}.fc-idle{fill:#eef0f3}.fc .fc-box{fill:#1b2430}.fc-edge{stroke:#fff}"
         ".fc-none{fill:#d4d8de}" +
         light + "}</style>";
}

// The stride at which labels of `each` px fit into `room` px each.
size_t stride_of(double room, double each) {
  return room > 0 ? std::max<size_t>(1, static_cast<size_t>(std::ceil(std::min(each / room, 1e6)))) : 1;
}

}  // namespace

std::string hover_number(double v) { return std::isfinite(v) ? figure_text(v) : "no value"; }

double text_width(std::string_view text) {
  const auto count = std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xC0) != 0x80; });
  return static_cast<double>(count) * kCharacterWidth;
}

std::string shortened(const std::string& text, size_t max_characters) {
  size_t count = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    if ((text[i] & 0xC0) != 0x80 && count++ == max_characters) return text.substr(0, i) + "\xE2\x80\xA6";
  }
  return text;
}

std::string text_element(double x, double y, const char* anchor, std::string_view text, std::string_view extra) {
  return "<text x=\"" + coordinate_text(x) + "\" y=\"" + coordinate_text(y) + "\" text-anchor=\"" + anchor + "\"" +
         std::string(extra) + ">" + escape_markup(text) + "</text>";
}

std::string line_element(std::string_view kind, double x1, double y1, double x2, double y2) {
  return "<line class=\"" + std::string(kind) + "\" x1=\"" + coordinate_text(x1) + "\" y1=\"" + coordinate_text(y1) +
         "\" x2=\"" + coordinate_text(x2) + "\" y2=\"" + coordinate_text(y2) + "\"/>";
}

std::string rect_element(std::string_view kind, double x, double y, double width, double height,
                         std::string_view extra) {
  return "<rect class=\"" + std::string(kind) + "\" x=\"" + coordinate_text(x) + "\" y=\"" + coordinate_text(y) +
         "\" width=\"" + coordinate_text(width) + "\" height=\"" + coordinate_text(height) + "\"" + std::string(extra) +
         "/>";
}

std::string hover_element(std::string_view text, const Origin& origin) {
  std::string out = "<title>" + escape_markup(text);
  if (!origin.formula.empty()) out += "\n" + escape_markup(origin.formula);
  if (!origin.source.empty()) out += "\n" + escape_markup(origin.source);
  return out + "</title>";
}

std::string svg_head(std::string_view kind, const std::string& title, double width, double height) {
  std::string out =
      "<svg class=\"fc\" data-kind=\"" + std::string(kind) + "\" xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 " +
      coordinate_text(width) + " " + coordinate_text(height) + "\" width=\"" + coordinate_text(width) + "\" height=\"" +
      coordinate_text(height) + "\" role=\"img\" aria-label=\"" + escape_markup(title) + "\">" + style() + "\n";
  if (!title.empty()) out += text_element(16, 22, "start", shortened(title, 84), " class=\"fc-title\"") + "\n";
  return out;
}

double add_legend(std::span<const LegendEntry> entries, double left, double y, double right, std::string& out) {
  if (entries.empty()) return y;
  double x = left;
  for (const LegendEntry& entry : entries) {
    const std::string name = shortened(entry.name, 40);
    const double mark = entry.box.empty() ? 26 : 18, width = mark + text_width(name) + 18;
    if (x > left && x + width > right) {
      x = left;
      y += 18;
    }
    if (entry.box.empty()) {
      const std::string color = std::to_string(entry.index % kNumColors);
      out += "<path class=\"fc-line fc-s" + color + "\"" + dash_of(entry.index) + " d=\"M" + coordinate_text(x) + " " +
             coordinate_text(y - 4) + "h20\"/>";
    } else {
      out += rect_element(entry.box, x, y - 10, 12, 12);
    }
    out += text_element(x + mark, y, "start", name, " class=\"fc-legend\"") + "\n";
    x += width;
  }
  return y + 18;
}

std::string dash_of(size_t index) {
  constexpr const char* kDashes[] = {"", " stroke-dasharray=\"7 4\"", " stroke-dasharray=\"2 4\""};
  return kDashes[index / kNumColors % 3];
}

std::string x_axis_element(const Axis& axis, const Frame& frame, const std::string& label, bool grid) {
  std::string out;
  for (const Axis::Tick& tick : axis.ticks()) {
    const double x = frame.left + axis.position(tick.value) * frame.width;
    if (grid) out += line_element("fc-grid", x, frame.top, x, frame.bottom());
    out += line_element("fc-axis", x, frame.bottom(), x, frame.bottom() + 5) +
           text_element(x, frame.bottom() + 19, "middle", tick.text,
                        " class=\"fc-xt\" data-v=\"" + exact_text(tick.value) + "\"") +
           "\n";
  }
  out += line_element("fc-axis", frame.left, frame.bottom(), frame.right(), frame.bottom()) + "\n";
  if (label.empty()) return out;
  return out +
         text_element(frame.left + frame.width / 2, frame.bottom() + 40, "middle", shortened(label, 80),
                      " class=\"fc-xl\"") +
         "\n";
}

std::string y_axis_element(const Axis& axis, const Frame& frame, const std::string& label) {
  std::string out;
  for (const Axis::Tick& tick : axis.ticks()) {
    const double y = frame.bottom() - axis.position(tick.value) * frame.height;
    out += line_element("fc-grid", frame.left, y, frame.right(), y) +
           text_element(frame.left - 8, y + 4, "end", tick.text,
                        " class=\"fc-yt\" data-v=\"" + exact_text(tick.value) + "\"") +
           "\n";
  }
  return out + turned_label_element(frame, label);
}

std::string turned_label_element(const Frame& frame, const std::string& label) {
  if (label.empty()) return "";
  const double middle = frame.top + frame.height / 2;
  return text_element(22, middle, "middle", shortened(label, 40),
                      " class=\"fc-yl\" transform=\"rotate(-90 22 " + coordinate_text(middle) + ")\"") +
         "\n";
}

std::string row_names_element(const std::vector<std::string>& names, const Frame& frame, size_t max_characters) {
  const double row = frame.height / static_cast<double>(std::max<size_t>(names.size(), 1));
  std::string out;
  for (size_t i = 0; i < names.size(); i += stride_of(row, 13)) {
    out += text_element(frame.left - 8, frame.top + (static_cast<double>(i) + 0.5) * row + 4, "end",
                        shortened(names[i], max_characters), " class=\"fc-row\"") +
           "\n";
  }
  return out;
}

double row_names_width(const std::vector<std::string>& names, size_t max_characters) {
  double width = 0;
  for (const std::string& name : names) width = std::max(width, text_width(shortened(name, max_characters)));
  return width + 8;
}

std::string data_attributes(double x, double y) {
  return " data-x=\"" + exact_text(x) + "\" data-y=\"" + exact_text(y) + "\"";
}

}  // namespace fathom
