// Svg: what all drawings of a report share: size and style, text that fits, the drawing area with its two axes,
// legends.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "report/axis.h"
#include "report/table.h"

namespace fathom {

inline constexpr double kDrawingWidth = 720;    // of a drawing whose data do not ask for more
inline constexpr double kCharacterWidth = 6.6;  // mean of a 12 px character
inline constexpr size_t kNumColors = 8;         // that series take in turn

/// `v` with at most five digits, for people: "70,272", "14.76"; "no value" for what is not finite.
std::string hover_number(double v);

/// The width of `text` at 12 px, as a reader counts its characters: UTF-8 continuation bytes do not count.
double text_width(std::string_view text);

/// The first `max_characters` of `text` and an ellipsis, or all of it.
std::string shortened(const std::string& text, size_t max_characters);

/// A <text> element; `text` is escaped here. `anchor` is start, middle or end; `extra` are further attributes.
std::string text_element(double x, double y, const char* anchor, std::string_view text, std::string_view extra = "");

/// A <line> or <rect> of a class.
std::string line_element(std::string_view kind, double x1, double y1, double x2, double y2);
std::string rect_element(std::string_view kind, double x, double y, double width, double height,
                         std::string_view extra = "");

/// A <title> element: what a pointer that rests on the mark around it reads. Formula and source follow on lines of
/// their own where the origin has them.
std::string hover_element(std::string_view text, const Origin& origin = {});

/// The start of an <svg> element with its style, readable on light and dark ground without anything from outside, its
/// title, and for machines its kind ("line", "bars", ...) as data-kind. Ends with text "</svg>\n" of the caller.
std::string svg_head(std::string_view kind, const std::string& title, double width, double height);

/// One entry of a legend. `is_line`: drawn as a line of series colour `index`, otherwise as a box of class `box`.
struct LegendEntry {
  std::string name;
  std::string box = {};  // class of the box; empty: a line
  size_t index = 0;      // of the series
};

/// Entries in rows from (left, y); appends to `out` and returns the y below the last row. None: y.
double add_legend(std::span<const LegendEntry> entries, double left, double y, double right, std::string& out);

/// The dash of a line: lines beyond the number of colours repeat them with another one.
std::string dash_of(size_t index);

/// Where data lie on the drawing.
struct Frame {
  double left = 0, top = 0, width = 0, height = 0;

  double bottom() const { return top + height; }
  double right() const { return left + width; }
};

/// The x axis below `frame`: line, ticks, their text, the label. With `grid`, lines through the frame.
std::string x_axis_element(const Axis& axis, const Frame& frame, const std::string& label, bool grid);

/// The y axis left of `frame`: grid lines, tick text, and the turned label.
std::string y_axis_element(const Axis& axis, const Frame& frame, const std::string& label);

/// A label of the vertical axis, turned by 90 degrees, at x = 22; nothing for an empty one.
std::string turned_label_element(const Frame& frame, const std::string& label);

/// Names of rows left of `frame`, each in the middle of its share of the height; with more rows than there is room for,
/// every n-th.
std::string row_names_element(const std::vector<std::string>& names, const Frame& frame, size_t max_characters);

/// The room that row_names_element needs.
double row_names_width(const std::vector<std::string>& names, size_t max_characters);

/// The numbers that lie on the axes, as machines read them back: data-x and data-y, exact.
std::string data_attributes(double x, double y);

}  // namespace fathom
