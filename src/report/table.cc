#include "report/table.h"

#include <charconv>
#include <cmath>

#include "base/check.h"

namespace fathom {

std::string to_csv(const Table& table) {
  std::string out;
  const auto line = [&](const std::vector<std::string>& cells) {
    check(cells.size() == table.header.size(), "every row of a table is as long as its header");
    for (size_t i = 0; i < cells.size(); ++i) {
      if (i > 0) out += ',';
      if (cells[i].find_first_of(",\"\r\n") == std::string::npos) {
        out += cells[i];
        continue;
      }
      out += '"';
      for (const char c : cells[i]) {
        if (c == '"') out += '"';
        out += c;
      }
      out += '"';
    }
    out += '\n';
  };
  line(table.header);
  for (const auto& row : table.rows) line(row);
  return out;
}

std::string label_of(const Grid::Column& column) {
  return column.unit.empty() ? column.name : column.name + " (" + column.unit + ")";
}

Json to_json(const Grid& grid) {
  Json columns = Json::array(), rows = Json::array();
  for (const Grid::Column& column : grid.columns) {
    Json item = Json::object();
    item.set("name", column.name);
    if (!column.unit.empty()) item.set("unit", column.unit);
    set_origin(item, column.origin);
    columns.push(std::move(item));
  }
  for (const Grid::Row& row : grid.rows) {
    check(row.values.size() == grid.columns.size(), "a row of a grid has a value per column");
    Json item = Json::object();
    rows.push(item.set("name", row.name).set("values", number_json(row.values)));
  }
  Json out = Json::object();
  out.set("kind", "grid").set("title", grid.title).set("row_label", grid.row_label);
  return out.set("columns", std::move(columns)).set("rows", std::move(rows));
}

Table to_table(const Grid& grid) {
  Table table{.header = {grid.row_label}, .rows = {}};
  for (const Grid::Column& column : grid.columns) table.header.push_back(label_of(column));
  for (const Grid::Row& row : grid.rows) {
    check(row.values.size() == grid.columns.size(), "a row of a grid has a value per column");
    std::vector<std::string> cells = {row.name};
    for (const double v : row.values) cells.push_back(exact_text(v));
    table.rows.push_back(std::move(cells));
  }
  return table;
}

std::string exact_text(double v) {
  if (!std::isfinite(v)) return "";
  char buffer[32];
  return std::string(buffer, std::to_chars(buffer, buffer + sizeof(buffer), v + 0.0).ptr);
}

Json number_json(double v) { return std::isfinite(v) ? Json(v) : Json(); }

Json number_json(const std::vector<double>& values) {
  Json out = Json::array();
  for (const double v : values) out.push(number_json(v));
  return out;
}

Json text_json(const std::vector<std::string>& texts) {
  Json out = Json::array();
  for (const std::string& text : texts) out.push(text);
  return out;
}

void set_origin(Json& json, const Origin& origin) {
  if (!origin.formula.empty()) json.set("formula", origin.formula);
  if (!origin.source.empty()) json.set("source", origin.source);
}

}  // namespace fathom
