// Table: rows of text as a page and a CSV file show them, and the small things that every part of a report says of its
// numbers: how they come about, where from, and what they are exactly.
#pragma once

#include <string>
#include <vector>

#include "base/json.h"

namespace fathom {

/// How a number comes about and who says so.
struct Origin {
  std::string formula = {};
  std::string source = {};
};

/// Rows of cells under a header; every row is as long as the header.
struct Table {
  std::vector<std::string> header;
  std::vector<std::vector<std::string>> rows;
};

/// The table as RFC 4180 has it, with line feeds: a cell with a comma, a quote or a line break stands in quotes.
std::string to_csv(const Table& table);

/// Numbers under columns with units, a named row each: the cost of fabrics.
struct Grid {
  struct Column {
    std::string name;
    std::string unit = {};
    Origin origin = {};
  };
  struct Row {
    std::string name;
    std::vector<double> values;  // [column]; not finite: none
  };
  std::string title;
  std::string row_label;  // "fabric"
  std::vector<Column> columns;
  std::vector<Row> rows;
};

/// "name (unit)", or the name alone.
std::string label_of(const Grid::Column& column);

/// {"kind": "grid", "title", "row_label", "columns": [{"name", "unit", "formula", "source"}], "rows": [{"name",
/// "values": []}]}
Json to_json(const Grid& grid);
Table to_table(const Grid& grid);

/// "1", "1.5", "1e+20": the shortest text that reads back as `v`; empty for a value that is not finite.
std::string exact_text(double v);

/// The number, or null for a value that is not finite.
Json number_json(double v);
Json number_json(const std::vector<double>& values);

/// An array of strings.
Json text_json(const std::vector<std::string>& texts);

/// Adds "formula" and "source" to `json` where the origin has them.
void set_origin(Json& json, const Origin& origin);

}  // namespace fathom
