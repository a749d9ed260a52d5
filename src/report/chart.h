// Chart: lines or points over two axes as one SVG element that can stand in an HTML page or in a file of its own. It
// carries its style, readable on light and dark backgrounds, and loads nothing.
#pragma once

#include <string>
#include <vector>

#include "base/json.h"
#include "report/table.h"

namespace fathom {

/// One line: y over x, of equal length. A point that is not finite (or not positive on a log axis) breaks the line.
struct Series {
  std::string name;
  std::vector<double> x;
  std::vector<double> y;
  std::vector<std::string> labels = {};  // of the points ("batch 64"), as many as there are, or none
  bool points_only = false;              // dots without a line between them
  Origin origin = {};                    // empty: the chart's
};

struct LineChart {
  std::string title;
  std::string x_label;  // with its unit: "step", "sequence length (tokens)"
  std::string y_label;
  bool log_y = false;
  std::vector<Series> series;
  bool log_x = false;
  Origin origin = {};
};

/// The chart as an <svg> element, 720 x 380. Lines with many points are thinned to the lowest and highest of each pixel
/// column, so the size does not grow with the data. Few points are dots that say their values and origin on hover and
/// carry the exact numbers in data-x and data-y.
std::string to_svg(const LineChart& chart);

/// {"kind": "line", "title", "x_label", "y_label", "log_x", "log_y", "formula", "source", "series": [{"name", "x": [],
/// "y": [], "labels", "formula", "source"}]}: every value.
Json to_json(const LineChart& chart);

/// A row a point: series, label (where there are any), x, y.
Table to_table(const LineChart& chart);

}  // namespace fathom
