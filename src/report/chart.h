// Chart: a line chart as one SVG element that can stand in an HTML page or in a file of its own. It carries its style,
// readable on light and dark backgrounds, and loads nothing.
#pragma once

#include <string>
#include <vector>

namespace fathom {

/// One line: y over x, of equal length. A point that is not finite (or not positive on a log axis) breaks the line.
struct Series {
  std::string name;
  std::vector<double> x;
  std::vector<double> y;
};

struct LineChart {
  std::string title;
  std::string x_label;  // with its unit: "step", "sequence length (tokens)"
  std::string y_label;
  bool log_y = false;
  std::vector<Series> series;
};

/// The chart as an <svg> element, 720 x 380. Lines with many points are thinned to the lowest and highest of each pixel
/// column, so the size does not grow with the data.
std::string to_svg(const LineChart& chart);

}  // namespace fathom
