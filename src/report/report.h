// Report: an answer as data, and the files that show it: one self-contained page, JSON with the same numbers, and a CSV
// file for each table and drawing.
#pragma once

#include <string>
#include <variant>
#include <vector>

#include "base/figure.h"
#include "base/file.h"
#include "base/json.h"
#include "base/result.h"
#include "report/bars.h"
#include "report/chart.h"
#include "report/gantt.h"
#include "report/heat_map.h"
#include "report/table.h"

namespace fathom {

struct Report {
  using Block = std::variant<FigureGroup, Grid, LineChart, BarChart, Tornado, HeatMap, Gantt>;
  struct Section {
    std::string title;
    std::string text;  // may be empty
    std::vector<Block> blocks;
  };
  std::string title;
  std::string text;  // may be empty
  std::vector<Section> sections;
};

/// {"title", "text", "sections": [{"title", "text", "blocks": [...]}]}; a block is what its to_json says, figures are
/// {"kind": "figures", "title", "figures": [...]}. Numbers that are not finite are null.
Json to_json(const Report& report);

/// The page: no scripts, nothing loaded, every number with its formula and source on hover, readable on paper and on a
/// phone, light and dark. Its size does not grow with the points of lines and heat maps.
std::string to_html(const Report& report);

/// A file of a report without its directory and stem.
struct ReportFile {
  std::string name;  // ".html", ".json", "-training-memory.csv"
  std::string text;
};
/// All files: the CSV files, named by the titles of their blocks, the JSON, and the page last.
std::vector<ReportFile> report_files(const Report& report);

/// Whether write_report can write there, for asking before a long computation. Errors: another ending than ".html";
/// what AtomicFile refuses.
Status check_report_path(const Path& path);

/// Writes the files beside each other; `path` names the page and ends in ".html". Nothing appears before everything is
/// written. Errors: check_report_path's.
Status write_report(const Report& report, const Path& path);

}  // namespace fathom
