// Bars: amounts side by side. BarChart stacks the parts of each row; Tornado shows how far one figure moves when each
// of its inputs does.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/json.h"
#include "report/table.h"

namespace fathom {

/// Rows of stacked parts, to the right from 0.
struct BarChart {
  struct Part {
    std::string name;            // "weights"
    std::vector<double> values;  // [row]; a value that is not finite or below 0 has no bar
    Origin origin = {};          // empty: the chart's
  };
  struct Limit {
    std::string name;
    double value = 0;
  };
  std::string title;
  std::string row_label;    // "pipeline rank"
  std::string value_label;  // with its unit
  std::vector<std::string> rows;
  std::vector<Part> parts;
  std::optional<Limit> limit = {};  // a line across all rows: what must not be passed
  Origin origin = {};
};

/// Each bar says row, part, value and origin on hover and carries data-row and data-v. More than 64 rows: the first 64,
/// and the title says so.
std::string to_svg(const BarChart& chart);
/// {"kind": "bars", "title", "row_label", "value_label", "rows": [], "limit": {"name", "value"}, "parts": [{"name",
/// "values": [], ...}], ...}
Json to_json(const BarChart& chart);
/// A row a row, a column a part.
Table to_table(const BarChart& chart);

/// What a figure becomes when one input at a time is lower or higher.
struct Tornado {
  struct Row {
    std::string name;  // the input
    double low = 0;    // the figure with the input at its low value
    double high = 0;
    Origin origin = {};  // empty: the chart's
  };
  std::string title;
  std::string value_label;  // of the figure, with its unit
  double base = 0;
  std::string low_name;  // "-20 %"
  std::string high_name;
  std::vector<Row> rows;  // in any order; drawn with the widest first
  Origin origin = {};
};

/// As to_svg(BarChart). Rows that are not finite are left out, more than 64 likewise.
std::string to_svg(const Tornado& chart);
/// {"kind": "tornado", "title", "value_label", "base", "low_name", "high_name", "rows": [{"name", "low", "high", ...}]}
Json to_json(const Tornado& chart);
/// A row an input: name, low, base, high.
Table to_table(const Tornado& chart);

}  // namespace fathom
