// HeatMap: a value for every pair of a row and a column (the load of a link by plane and leaf), as colour.
#pragma once

#include <string>
#include <vector>

#include "base/json.h"
#include "report/table.h"

namespace fathom {

struct HeatMap {
  std::string title;
  std::string row_label;     // "plane"
  std::string column_label;  // "leaf"
  std::string value_label;   // with its unit
  std::vector<std::string> rows;
  std::vector<std::string> columns;
  std::vector<std::vector<double>> values;  // [row][column]; not finite: no value, drawn grey
  Origin origin = {};
};

/// Cells of one hue, darker for more, from the smaller of 0 and the least value to the largest, with the scale beside
/// them. A cell says its row, column, value and origin on hover and carries data-row, data-column and data-v. More than
/// 64 rows or 128 columns: neighbours share a cell, which shows the largest of them, and the title says so.
std::string to_svg(const HeatMap& map);
/// {"kind": "heat", "title", "row_label", "column_label", "value_label", "rows": [], "columns": [], "values": [[]],
/// ...}
Json to_json(const HeatMap& map);
/// A row a row, a column a column.
Table to_table(const HeatMap& map);

}  // namespace fathom
